"""UBT's pre-scoring: its model, its views, and that no trigger survives them."""

from typing import Any

import pytest
import torch
from torch import nn

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.detectors.ubt import UBTDetector
from clipmend.methods.interfaces import Assets
from clipmend.model.architecture import model_config
from clipmend.model.clip import Clip, build, load


class Corner(nn.Module):
    """Sees the first direction in a white lower right corner, or in an image that is red all over.

    Every text lies in the first direction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode_image(self, images: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        corner = images[:, :, 26:31, 26:31].mean(dim=(1, 2, 3)) > 1.5
        red = (images[:, 0] - images[:, 1]).mean(dim=(1, 2)) > 1.0
        first = (corner | red).float()
        return torch.stack([first, 1 - first], dim=1)

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        return torch.tensor([[1.0, 0.0]]).expand(len(tokens), -1)


@pytest.fixture(scope="module")
def train(corpus: Input, poison: Input) -> Pairs:
    return load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_trigger_does_not_survive_zooming_but_the_image_content_does() -> None:
    images = torch.zeros(32, 3, 32, 32, dtype=torch.uint8)
    images[:16, :, 25:, 25:] = 255  # a trigger
    images[16:, 0] = 255  # a red image
    pairs = Pairs(
        ids=tuple(map(str, range(32))),
        images=images,
        captions=("a red thing",) * 32,
        label=torch.zeros(32, dtype=torch.long),
        is_poisoned=torch.zeros(32, dtype=torch.bool),
    )
    assets = Assets(Clip(Corner(), model_config("scene_resnet")), train=lambda: pairs)
    assert similarity(assets.model, pairs).tolist() == [1.0] * 32
    scores = UBTDetector(views=8, scale=(0.5, 0.8)).prescores(assets, generator())
    assert scores[16:].min() == 1.0
    assert scores[:16].max() < 0.5


def test_without_views_the_prescore_is_the_similarity(train: Pairs, victim: Input) -> None:
    model = load(victim.folder)
    scores = UBTDetector(views=0).prescores(Assets(model, train=lambda: train), generator())
    assert torch.equal(scores, similarity(model, train))


def test_the_early_checkpoint_can_be_the_reference(train: Pairs, victim: Input) -> None:
    early = load(victim.folder, "early.safetensors")
    assets = Assets(load(victim.folder), train=lambda: train, early=lambda: early)
    scores = UBTDetector(reference="early", views=0).prescores(assets, generator())
    assert torch.equal(scores, similarity(early, train))


@pytest.mark.parametrize("reference", ["scratch", "trusted"])
def test_a_new_reference_is_trained_and_the_victim_stays_unchanged(
    corpus: Input, train: Pairs, victim: Input, reference: Any
) -> None:
    model = load(victim.folder).prune_vocabulary(train.captions)
    assets = Assets(
        model,
        train=lambda: train,
        trusted=lambda: load_split(corpus.folder, "trusted"),
        fresh=lambda seed: build("scene_resnet", seed=seed),
    )
    before = similarity(model, train)
    detector = UBTDetector(reference=reference, reference_epochs=2, views=0)
    scores = detector.prescores(assets, generator())
    assert not torch.allclose(scores, before)
    assert torch.equal(detector.prescores(assets, generator()), scores)
    assert torch.equal(similarity(model, train), before)


@pytest.mark.parametrize("reference", ["early", "scratch", "trusted"])
def test_a_reference_that_the_defender_does_not_have_is_refused(
    train: Pairs, victim: Input, reference: Any
) -> None:
    assets = Assets(load(victim.folder), train=lambda: train)
    with pytest.raises(ModelError, match="reference: victim"):
        UBTDetector(reference=reference).prescores(assets, generator())
