"""The repair PUD: its bounded push, its mean teacher, and its result."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import TrainingError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.pud import PUD, MeanTeacher, disagreement, hinge
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, build, embed_texts, load
from clipmend.model.fit import Batch, Hooks, fit_all

QUICK = PUD(
    suspect_share=0.1, kept_share=0.5, batch_size=32, unlearning_epochs=2, epochs=2, steps=1
)


@pytest.fixture(scope="module")
def train(corpus: Input, poison: Input) -> Pairs:
    return load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")


@pytest.fixture
def assets(victim: Input, train: Pairs) -> Assets:
    """Assets with perfect scores, whose purified model is the victim itself."""
    return Assets(
        model=load(victim.folder),
        train=lambda: train.blind(),
        scores=lambda: Scores(train.is_poisoned.float(), torch.arange(len(train))),
        detector_model=lambda _: load(victim.folder),
    )


def repaired(assets: Assets, method: PUD, hooks: Hooks = Hooks()) -> Clip:  # noqa: B008
    fit_all(assets.model, method.tasks(assets, stream(0, "views")), stream(0, "fit"), hooks)
    return assets.model


def test_the_push_ends_at_the_margin() -> None:
    text = torch.tensor([[1.0, 0.0]] * 3)
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert float(hinge(image, text, 0.0)) == pytest.approx(1 / 3)
    assert float(hinge(image, text, 0.5)) == pytest.approx((1.5 + 0.5) / 3)
    away = image[2:].clone().requires_grad_()
    hinge(away, text[2:], 0.5).backward()
    assert torch.equal(away.grad, torch.zeros(1, 2))


def test_student_and_teacher_agree_where_their_logits_differ_by_a_constant() -> None:
    logits = torch.randn(4, 6, generator=stream(0, "test"))
    assert float(disagreement(logits, logits + 5)) == pytest.approx(0.0, abs=1e-10)


def test_two_models_that_are_sure_of_different_captions_disagree_by_2() -> None:
    sure = 100 * torch.eye(3)
    assert float(disagreement(sure, sure.roll(1, dims=1))) == pytest.approx(2.0)
    # One of the three images alone: softmax (1, 0, 0) against (1/3, 1/3, 1/3).
    unsure = torch.zeros(1, 3)
    assert float(disagreement(sure[:1], unsure)) == pytest.approx(4 / 9 + 2 / 9)


def test_the_teacher_is_first_a_plain_mean_of_the_students_then_a_running_mean() -> None:
    model = build("scene_resnet", seed=0)
    loss = MeanTeacher(model.frozen_copy(), torch.zeros(1, 64), replace(QUICK, decay=0.75))
    weight, teacher = model.net.visual.conv1.weight, loss.teacher.net.visual.conv1.weight
    expected = [1.0, 1.5, 2.0, 2.5]  # the means of 1; 1, 2; 1, 2, 3; 1 to 4
    expected += [0.75 * 2.5 + 0.25 * 5, 0.75 * (0.75 * 2.5 + 0.25 * 5) + 0.25 * 6]
    norm, averaged = model.net.visual.bn1, loss.teacher.net.visual.bn1
    for student, mean in enumerate(expected, start=1):
        weight.data.fill_(student)
        norm.running_mean.fill_(student)
        norm.num_batches_tracked.fill_(student)
        loss.follow(model)
        assert torch.allclose(teacher, torch.full_like(teacher, mean))
        assert torch.allclose(averaged.running_mean, torch.full((), mean))
        assert averaged.num_batches_tracked == student


def test_the_teacher_is_frozen_and_in_the_state_of_the_loss() -> None:
    loss = MeanTeacher(build("scene_resnet", seed=0).frozen_copy(), torch.zeros(1, 64), QUICK)
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert {"followed", "teacher.net.visual.conv1.weight"} <= loss.state_dict().keys()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_the_adversarial_share_of_a_batch_is_attacked(
    victim: Input, train: Pairs, share: float, count: int
) -> None:
    model, images = load(victim.folder), train.images[:6]
    texts = embed_texts(model, model.tokenize(train.captions[:6]))
    loss = MeanTeacher(
        model.frozen_copy(), texts, replace(QUICK, adversarial_share=share, epsilon=4.0)
    )
    shown = loss._attacked(model, images, texts)
    change = (shown - images.float() / 255).abs().amax(dim=(1, 2, 3))
    assert (change > 0).tolist() == [True] * count + [False] * (6 - count)
    assert float(change.max()) <= 4 / 255 + 1e-6


def test_a_student_equal_to_its_teacher_has_the_loss_of_clip(victim: Input, train: Pairs) -> None:
    model, rows = load(victim.folder), torch.arange(8)
    batch = Batch(rows, train.images[:8], model.tokenize(train.captions[:8]))
    texts = embed_texts(model, batch.tokens)
    plain = replace(QUICK, adversarial_share=0.0)
    loss = MeanTeacher(model.frozen_copy(), texts, replace(plain, consistency_weight=100.0))
    free = MeanTeacher(model.frozen_copy(), texts, replace(plain, consistency_weight=0.0))
    with torch.no_grad():
        ours = float(loss(model, batch, stream(0, "loss")))
        assert ours == pytest.approx(float(free(model, batch, stream(0, "loss"))), rel=1e-4)


def test_the_most_suspect_are_pushed_and_the_least_suspect_kept(assets: Assets) -> None:
    method, score = replace(QUICK, suspect_share=0.25, kept_share=0.5), torch.tensor([3.0, 1, 4, 2])
    four = assets.train().take(torch.arange(4))
    kept, suspects = method._chosen(four, score)
    assert kept.ids == (four.ids[1], four.ids[3])
    assert suspects.ids == (four.ids[2],)


def test_overlapping_shares_are_refused(assets: Assets) -> None:
    with pytest.raises(TrainingError, match="overlap"):
        repaired(assets, replace(QUICK, suspect_share=0.2, kept_share=0.9))


def test_unlearning_lowers_the_cosine_of_poisoned_pairs(assets: Assets, train: Pairs) -> None:
    poisoned = train.take(train.is_poisoned.nonzero().squeeze(1))
    before = similarity(assets.model, poisoned).mean()
    assert float(before) > 0.1
    method = replace(QUICK, unlearning_epochs=6, epochs=1, adversarial_share=0.0, lr=3e-3)
    after = similarity(repaired(assets, method), poisoned).mean()
    assert float(after) < 0.5 * float(before)


def test_the_start_is_the_purified_model(assets: Assets) -> None:
    other = build("scene_resnet", seed=5)
    full = with_tower(other, assets.model)
    started = replace(assets, detector_model=lambda _: full)
    next(QUICK.tasks(started, stream(0, "views")))
    assert torch.equal(started.model.net.visual.conv1.weight, other.net.visual.conv1.weight)


def test_a_detector_without_a_purified_model_is_refused(assets: Assets) -> None:
    without = replace(assets, detector_model=lambda _: None)
    with pytest.raises(TrainingError, match="saves none; name `detector: pud`"):
        next(QUICK.tasks(without, stream(0, "views")))


def with_tower(purified: Clip, victim: Clip) -> Clip:
    """Return the victim with another image tower, as the detector would leave it."""
    made = victim.frozen_copy()
    made.net.visual.load_state_dict(purified.net.visual.state_dict())
    return made


def test_the_result_is_the_student_or_its_running_mean(assets: Assets, victim: Input) -> None:
    last: list[dict[str, Tensor]] = []

    def keep(_: int, model: Clip) -> None:
        last.append({name: value.clone() for name, value in model.net.state_dict().items()})

    student = repaired(
        assets, replace(QUICK, result="student"), Hooks(after_epoch=keep)
    ).net.state_dict()
    assert all(torch.equal(value, last[-1][name]) for name, value in student.items())
    again = replace(assets, model=load(victim.folder))
    teacher = repaired(again, replace(QUICK, result="teacher"))
    left = teacher.net.state_dict()
    assert not torch.equal(left["visual.conv1.weight"], last[-1]["visual.conv1.weight"])
    texts = [name for name in left if not name.startswith("visual.")]
    assert all(torch.equal(left[name], student[name]) for name in texts)
