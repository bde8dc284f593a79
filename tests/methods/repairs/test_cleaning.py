"""Cleaning variants: what is cleaned with, what is minimized, and what a kill leaves."""

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.errors import TrainingError
from clipmend.methods.repairs.cleanclip import CleanCLIP
from clipmend.methods.repairs.cleaning import cleaning_pairs, shrink_and_perturb
from clipmend.methods.repairs.deep_clustering import DeepClustering, clustered, clusters_of
from clipmend.methods.repairs.repair import Means
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Hooks, Schedule, Task, fit, fit_all
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import synonym_words


@pytest.fixture(scope="module")
def trusted(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted").blind()


@pytest.fixture(scope="module")
def poisoned(corpus: Input, poison: Input) -> Pairs:
    train = load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")
    return train.take(train.is_poisoned.nonzero()[:, 0])


@pytest.fixture
def means(trusted: Pairs, poisoned: Pairs) -> Means:
    texts = {*trusted.captions, *poisoned.captions, *synonym_words()}

    def refused() -> Any:
        raise AssertionError("no cleaning variant asks for it")

    return Means(
        model=build("scene_resnet", seed=0).prune_vocabulary(texts),
        trusted=trusted,
        train=refused,
        fresh=lambda seed: build("scene_resnet", seed=seed).prune_vocabulary(texts),
        slipped=lambda count: poisoned.take(torch.arange(count)).blind(),
        detected=refused,
    )


def loss_of(cleaning: CleanCLIP, means: Means) -> tuple[Task, Batch]:
    """Return the one task of a variant, and its first pairs as a batch."""
    (task,) = cleaning.tasks(means, stream(0, "test"))
    rows = torch.arange(16)
    tokens = means.model.tokenize(task.pairs.captions)
    return task, Batch(rows, task.pairs.images[rows], tokens[rows])


def test_by_default_it_cleans_with_the_trusted_pairs_as_they_are(means: Means) -> None:
    assert cleaning_pairs(means, pairs=0, poisons=0) is means.trusted


def test_fewer_pairs_are_the_first_ones(means: Means) -> None:
    assert cleaning_pairs(means, pairs=5, poisons=0).ids == means.trusted.ids[:5]


def test_poisons_take_the_place_of_the_last_pairs_and_none_is_added(
    means: Means, poisoned: Pairs
) -> None:
    pairs = cleaning_pairs(means, pairs=20, poisons=3)
    assert pairs.ids == means.trusted.ids[:17] + poisoned.ids[:3]
    assert pairs.captions[17:] == poisoned.captions[:3]
    assert torch.equal(pairs.images[17:], poisoned.images[:3])
    assert not pairs.is_poisoned.any()  # the repair is told nothing
    assert (pairs.label == -1).all()


@pytest.mark.parametrize(
    ("pairs", "poisons", "line"),
    [
        (65, 0, "the corpus has 64; lower `pairs`"),
        (4, 5, "only 4 pairs are cleaned with; lower `poisons`"),
    ],
)
def test_more_pairs_than_there_are_is_refused(
    means: Means, pairs: int, poisons: int, line: str
) -> None:
    with pytest.raises(TrainingError, match=line):
        cleaning_pairs(means, pairs=pairs, poisons=poisons)


def test_more_poisons_than_the_victim_saw_are_refused(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    with pytest.raises(TrainingError, match=r"this victim saw 26; lower `poisons`"):
        world.run("baselines/greedy/cleanclip", "cleanclip", inputs, {"poisons": 27})


def test_poisons_make_it_a_control_that_reads_the_training_pairs() -> None:
    assert (CleanCLIP().control, CleanCLIP().needs) == (False, ("trusted",))
    assert (CleanCLIP(poisons=1).control, CleanCLIP(poisons=1).needs) == (
        True,
        ("trusted", "train"),
    )


def test_the_poison_that_slipped_in_is_trained_on(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    settings = {"epochs": 1, "poisons": 2}
    made = world.run("baselines/slipped/cleanclip", "cleanclip", inputs, settings)
    plain = world.run("baselines/plain/cleanclip", "cleanclip", inputs, {"epochs": 1})
    assert (made.folder / "model.safetensors").read_bytes() != (
        plain.folder / "model.safetensors"
    ).read_bytes()


def test_shrink_and_perturb_by_hand(means: Means) -> None:
    before = {name: value.clone() for name, value in means.model.net.state_dict().items()}
    drawn: list[Clip] = []

    def fresh(seed: int) -> Clip:
        drawn.append(means.fresh(seed))
        return drawn[-1]

    watched = replace(means, fresh=fresh)
    shrink_and_perturb(watched, shrink=0.5, perturb=0.25, generator=stream(0, "test"))
    other = drawn[0].net.state_dict()
    parameters = dict(means.model.net.named_parameters())
    assert not torch.equal(other["visual.conv1.weight"], before["visual.conv1.weight"])
    for name, value in means.model.net.state_dict().items():
        expected = 0.5 * before[name] + 0.25 * other[name] if name in parameters else before[name]
        torch.testing.assert_close(value, expected)


def test_without_shrink_and_perturb_nothing_is_drawn(means: Means) -> None:
    generator = stream(0, "test")
    shrink_and_perturb(means, shrink=1.0, perturb=0.0, generator=generator)
    assert torch.equal(generator.get_state(), stream(0, "test").get_state())


def test_cleaning_by_mmcl_alone_is_mmcl_and_draws_no_views(means: Means) -> None:
    means.model.eval()
    task, batch = loss_of(CleanCLIP(ssl_weight=0.0, mmcl_weight=2.0), means)
    generator = stream(1, "test")
    expected = 2 * multimodal(means.model, batch, generator)
    torch.testing.assert_close(task.loss(means.model, batch, generator), expected)
    assert torch.equal(generator.get_state(), stream(1, "test").get_state())
    assert CleanCLIP(ssl_weight=0.0).texts() == ()


def test_cleaning_by_ssl_alone_is_what_is_left_of_both_without_mmcl(means: Means) -> None:
    means.model.eval()
    both, batch = loss_of(CleanCLIP(), means)
    alone, _ = loss_of(CleanCLIP(mmcl_weight=0.0), means)
    embeds = means.model.encode_image(batch.images), means.model.encode_text(batch.tokens)
    mmcl = mmcl_loss(*embeds, means.model.logit_scale())
    difference = both.loss(means.model, batch, stream(2, "test")) - alone.loss(
        means.model, batch, stream(2, "test")
    )
    torch.testing.assert_close(difference, mmcl, rtol=1e-3, atol=1e-3)


def test_cleaning_by_nothing_is_refused(means: Means) -> None:
    with pytest.raises(TrainingError, match="both 0"):
        list(CleanCLIP(mmcl_weight=0.0, ssl_weight=0.0).tasks(means, stream(0, "test")))


def nothing(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
    return torch.zeros(())


def two_kinds(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Return unit rows around two directions at right angles, and which each is of."""
    kind = torch.arange(count) % 2
    noise = 0.05 * torch.randn(count, 3, generator=stream(0, "two kinds"))
    return F.normalize(torch.eye(3)[kind] + noise, dim=1), kind


def test_planted_clusters_are_found() -> None:
    embeds, kind = two_kinds()
    found = clusters_of(embeds, 2, seed=1)
    assert torch.equal(found, kind) or torch.equal(found, 1 - kind)


def test_the_head_of_planted_clusters_has_the_closed_form_of_its_loss() -> None:
    embeds, kind = two_kinds()
    images = torch.zeros(20, 3, 4, 4, dtype=torch.uint8)
    added = DeepClustering(nothing, images, clusters=2, dim=3, weight=5.0)
    added.cluster.copy_(kind)
    rows = torch.tensor([3, 0, 7])
    with torch.no_grad():
        # A head that tells nothing is as good as guessing one of two.
        assert float(added.cross_entropy(embeds[rows], rows)) == pytest.approx(log(2))
        added.slopes.copy_(50 * torch.eye(3)[:2].flatten())
        assert float(added.cross_entropy(embeds[rows], rows)) < 1e-6
        assert float(added.cross_entropy(embeds[rows], rows + 1)) > 10


def test_its_weight_is_that_of_the_cross_entropy(means: Means) -> None:
    means.model.eval()
    plain, batch = loss_of(CleanCLIP(ssl_weight=0.0), means)
    task, _ = loss_of(CleanCLIP(ssl_weight=0.0, clusters=4, clustering_weight=3.0), means)
    both = task.loss(means.model, batch, stream(0, "test"))
    torch.testing.assert_close(
        both - plain.loss(means.model, batch, stream(0, "test")),
        torch.tensor(3 * log(4)),  # the head is nought before the first epoch
        rtol=1e-3,
        atol=1e-3,
    )


def test_each_epoch_has_clusters_and_a_head_of_its_own(means: Means) -> None:
    images = means.trusted.images
    added = DeepClustering(nothing, images, clusters=4, dim=64, weight=1.0)
    generator = stream(0, "test")
    heads = []
    for epoch in range(2):
        added.before_epoch(means.model, epoch, generator)
        heads.append(added.slopes.detach().clone())
    assert not torch.equal(*heads)
    assert float(heads[0].std()) == pytest.approx(0.01, rel=0.2)
    assert set(added.cluster.tolist()) == set(range(4))


def test_more_clusters_than_images_are_refused(means: Means) -> None:
    task = Task(means.trusted, nothing, Schedule(1, 16, 1e-3))
    with pytest.raises(TrainingError, match="lower `clusters`"):
        clustered(task, means.model, 65, 1.0)


def test_the_head_is_trained_and_not_decayed(means: Means) -> None:
    task = Task(means.trusted, nothing, Schedule(1, 64, 1e-3, weight_decay=10.0))
    task = clustered(task, means.model, 4, 1.0)
    assert isinstance(task.loss, DeepClustering)
    fit(means.model, task, stream(0, "test"))
    assert task.loss.slopes.ndim == 1  # the loop decays what has two axes or more
    assert task.loss.biases.abs().max() > 0


def test_a_killed_run_with_everything_on_goes_on_to_the_same_bytes(
    means: Means, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(epoch: int, model: Clip) -> None:  # noqa: ARG001
        if epoch == 2:
            raise KilledError

    cleaning = CleanCLIP(
        epochs=3, lr=1e-3, pairs=48, poisons=4, shrink=0.9, perturb=0.1, clusters=4
    )
    start = means.model.net.state_dict()
    start = {name: value.clone() for name, value in start.items()}

    def cleaned(hooks: Hooks) -> dict[str, torch.Tensor]:
        means.model.net.load_state_dict(start)
        tasks = cleaning.tasks(means, stream(0, "views"))
        fit_all(means.model, tasks, stream(0, "fit"), hooks)
        return {name: value.clone() for name, value in means.model.net.state_dict().items()}

    whole = cleaned(Hooks())
    with pytest.raises(KilledError):
        cleaned(Hooks(work=tmp_path, keep=kill))
    resumed = cleaned(Hooks(work=tmp_path))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_corpus_names_the_classes_that_clusters_stand_for(corpus: Input) -> None:
    assert len(read_vocabulary(corpus.folder).classes) == 20  # params/objectives.yaml: clusters
