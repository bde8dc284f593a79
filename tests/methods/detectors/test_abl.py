"""The detector ABL: a pair's own loss under the victim's early checkpoint."""

from math import log

import pytest
import torch

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.methods.detectors import abl
from clipmend.methods.detectors.abl import ABL, pair_losses
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets
from clipmend.model.clip import embed_images, embed_texts, load
from clipmend.model.fit import Hooks
from clipmend.model.losses import mmcl_loss


@pytest.fixture(scope="module")
def train(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "train").take(torch.arange(100))


@pytest.fixture(scope="module")
def assets(victim: Input, train: Pairs) -> Assets:
    early = load(victim.folder, "early.safetensors")
    return Assets(load(victim.folder), train=lambda: train, early=lambda: early)


def scored(method: ABL, assets: Assets, seed: int = 0) -> torch.Tensor:
    return method(assets, stream(seed, "detect"), Hooks()).score


def test_over_all_pairs_the_mean_is_mmcl_of_the_early_model(assets: Assets, train: Pairs) -> None:
    early = assets.early()
    images = embed_images(early, train.images)
    texts = embed_texts(early, early.tokenize(train.captions))
    expected = mmcl_loss(images, texts, early.logit_scale().detach())
    computed = scored(ABL(), assets)
    assert float(-computed.mean()) == pytest.approx(float(expected), rel=1e-4)


def test_the_generator_determines_the_reference_set(assets: Assets) -> None:
    method = ABL(reference=10)
    first, again, other = (scored(method, assets, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_similarity_is_computed_with_the_early_model(assets: Assets, train: Pairs) -> None:
    score = scored(ABL(loss="similarity"), assets)
    assert torch.equal(score, similarity(assets.early(), train))


@pytest.mark.parametrize("loss", ["mmcl", "similarity"])
def test_a_missing_early_checkpoint_is_reported_in_one_line(assets: Assets, loss: str) -> None:
    finished = Assets(assets.model, train=assets.train)
    with pytest.raises(ModelError, match="needs an early checkpoint of the victim") as caught:
        scored(ABL(loss=loss), finished)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_pair_is_contrasted_with_the_reference_but_never_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(abl, "_BLOCK", 2)
    same = torch.nn.functional.normalize(torch.ones(5, 3), dim=1)
    computed = pair_losses(same, same, torch.tensor([0, 3, 4]), torch.tensor(7.0))
    # Indistinguishable: its own positive is one of as many as there are.
    expected = [log(3), log(4), log(4), log(3), log(3)]
    assert computed.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_learned_pair_is_more_suspect_than_an_unlearned_one() -> None:
    images = torch.eye(4)
    texts = torch.eye(4)[[0, 1, 3, 2]]  # the last two are each other's
    computed = pair_losses(images, texts, torch.arange(4), torch.tensor(10.0))
    assert computed[:2].max() < computed[2:].min()
