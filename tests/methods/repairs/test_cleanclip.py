"""CleanCLIP and its variants: their pairs, their losses."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import TrainingError
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.cleanclip import CleanCLIP, cleaning_pairs, shrink_and_perturb
from clipmend.methods.repairs.deep_clustering import DeepClustering, clustered, clusters_of
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Schedule, Task, fit
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
def assets(trusted: Pairs, poisoned: Pairs) -> Assets:
    texts = {*trusted.captions, *poisoned.captions, *synonym_words()}

    return Assets(
        model=build("scene_resnet", seed=0).prune_vocabulary(texts),
        train=poisoned.blind,
        trusted=lambda: trusted,
        fresh=lambda seed: build("scene_resnet", seed=seed).prune_vocabulary(texts),
        is_poisoned=lambda: poisoned.is_poisoned,
    )


def loss_of(cleaning: CleanCLIP, assets: Assets) -> tuple[Task, Batch]:
    """Return the one task of a variant, and its first pairs as a batch."""
    (task,) = cleaning.tasks(assets, stream(0, "test"))
    rows = torch.arange(16)
    tokens = assets.model.tokenize(task.pairs.captions)
    return task, Batch(rows, task.pairs.images[rows], tokens[rows])


def test_it_uses_all_trusted_pairs_or_the_first_ones(assets: Assets) -> None:
    assert loss_of(CleanCLIP(), assets)[0].pairs is assets.trusted()
    assert loss_of(CleanCLIP(pairs=20), assets)[0].pairs.ids == assets.trusted().ids[:20]


def test_poisons_replace_the_last_pairs(assets: Assets, poisoned: Pairs) -> None:
    pairs = loss_of(CleanCLIP(pairs=20, poisons=3), assets)[0].pairs
    assert pairs.ids == assets.trusted().ids[:17] + poisoned.ids[:3]
    assert pairs.captions[17:] == poisoned.captions[:3]
    assert torch.equal(pairs.images[17:], poisoned.images[:3])
    assert not pairs.is_poisoned.any()  # the repair cannot tell them apart
    assert (pairs.label == -1).all()


@pytest.mark.parametrize(
    ("pairs", "poisons", "line"),
    [(65, 0, "the corpus has 64; lower `pairs`"), (4, 5, "it uses only 4 pairs; lower `poisons`")],
)
def test_too_many_pairs_or_poisons_are_refused(
    assets: Assets, pairs: int, poisons: int, line: str
) -> None:
    with pytest.raises(TrainingError, match=line):
        cleaning_pairs(assets, pairs=pairs, poisons=poisons)


def test_more_poisons_than_the_victim_saw_are_refused(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    with pytest.raises(TrainingError, match=r"training pairs have 26; lower `poisons`"):
        world.run("baselines/greedy/cleanclip", "cleanclip", inputs, {"poisons": 27})


def test_poisons_make_it_a_control_that_reads_the_training_pairs() -> None:
    assert (CleanCLIP().control, CleanCLIP().needs) == (False, ("trusted",))
    assert (CleanCLIP(poisons=1).control, CleanCLIP(poisons=1).needs) == (
        True,
        ("trusted", "train"),
    )


def test_shrink_and_perturb_match_a_computation_by_hand(assets: Assets) -> None:
    before = {name: value.clone() for name, value in assets.model.net.state_dict().items()}
    untrained: list[Clip] = []

    def fresh(seed: int) -> Clip:
        untrained.append(assets.fresh(seed))
        return untrained[-1]

    watched = replace(assets, fresh=fresh)
    shrink_and_perturb(watched, shrink=0.5, perturb=0.25, generator=stream(0, "test"))
    other = untrained[0].net.state_dict()
    parameters = dict(assets.model.net.named_parameters())
    assert not torch.equal(other["visual.conv1.weight"], before["visual.conv1.weight"])
    for name, value in assets.model.net.state_dict().items():
        expected = 0.5 * before[name] + 0.25 * other[name] if name in parameters else before[name]
        torch.testing.assert_close(value, expected)


def test_without_shrink_and_perturb_no_random_number_is_used(assets: Assets) -> None:
    generator = stream(0, "test")
    shrink_and_perturb(assets, shrink=1.0, perturb=0.0, generator=generator)
    assert torch.equal(generator.get_state(), stream(0, "test").get_state())


def test_without_ssl_the_loss_is_mmcl_and_no_random_number_is_used(assets: Assets) -> None:
    assets.model.eval()
    task, batch = loss_of(CleanCLIP(ssl_weight=0.0, mmcl_weight=2.0), assets)
    generator = stream(1, "test")
    expected = 2 * multimodal(assets.model, batch, generator)
    torch.testing.assert_close(task.loss(assets.model, batch, generator), expected)
    assert torch.equal(generator.get_state(), stream(1, "test").get_state())
    assert CleanCLIP(ssl_weight=0.0).texts() == ()


def test_without_mmcl_the_loss_is_the_full_loss_minus_mmcl(assets: Assets) -> None:
    assets.model.eval()
    both, batch = loss_of(CleanCLIP(), assets)
    alone, _ = loss_of(CleanCLIP(mmcl_weight=0.0), assets)
    embeds = assets.model.encode_image(batch.images), assets.model.encode_text(batch.tokens)
    mmcl = mmcl_loss(*embeds, assets.model.logit_scale())
    difference = both.loss(assets.model, batch, stream(2, "test")) - alone.loss(
        assets.model, batch, stream(2, "test")
    )
    torch.testing.assert_close(difference, mmcl, rtol=1e-3, atol=1e-3)


def test_two_zero_weights_are_refused(assets: Assets) -> None:
    with pytest.raises(TrainingError, match="both 0"):
        list(CleanCLIP(mmcl_weight=0.0, ssl_weight=0.0).tasks(assets, stream(0, "test")))


def nothing(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
    return torch.zeros(())


def two_kinds(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Return unit rows around two directions at right angles, and which each is of."""
    kind = torch.arange(count) % 2
    noise = 0.05 * torch.randn(count, 3, generator=stream(0, "two kinds"))
    return F.normalize(torch.eye(3)[kind] + noise, dim=1), kind


def test_planted_clusters_are_found() -> None:
    embeds, kind = two_kinds()
    computed = clusters_of(embeds, 2, seed=1)
    assert torch.equal(computed, kind) or torch.equal(computed, 1 - kind)


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


def test_the_clustering_weight_multiplies_the_cross_entropy(assets: Assets) -> None:
    assets.model.eval()
    plain, batch = loss_of(CleanCLIP(ssl_weight=0.0), assets)
    task, _ = loss_of(CleanCLIP(ssl_weight=0.0, clusters=4, clustering_weight=3.0), assets)
    both = task.loss(assets.model, batch, stream(0, "test"))
    torch.testing.assert_close(
        both - plain.loss(assets.model, batch, stream(0, "test")),
        torch.tensor(3 * log(4)),  # the head is nought before the first epoch
        rtol=1e-3,
        atol=1e-3,
    )


def test_each_epoch_has_new_clusters_and_a_new_head(assets: Assets) -> None:
    images = assets.trusted().images
    added = DeepClustering(nothing, images, clusters=4, dim=64, weight=1.0)
    generator = stream(0, "test")
    heads = []
    for epoch in range(2):
        added.before_epoch(assets.model, epoch, generator)
        heads.append(added.slopes.detach().clone())
    assert not torch.equal(*heads)
    assert float(heads[0].std()) == pytest.approx(0.01, rel=0.2)
    assert set(added.cluster.tolist()) == set(range(4))


def test_more_clusters_than_images_are_refused(assets: Assets) -> None:
    task = Task(assets.trusted(), nothing, Schedule(1, 16, 1e-3))
    with pytest.raises(TrainingError, match="lower `clusters`"):
        clustered(task, assets.model, 65, 1.0)


def test_the_head_is_trained_and_not_decayed(assets: Assets) -> None:
    task = Task(assets.trusted(), nothing, Schedule(1, 64, 1e-3, weight_decay=10.0))
    task = clustered(task, assets.model, 4, 1.0)
    assert isinstance(task.loss, DeepClustering)
    fit(assets.model, task, stream(0, "test"))
    assert task.loss.slopes.ndim == 1  # the loop decays what has two axes or more
    assert task.loss.biases.abs().max() > 0
