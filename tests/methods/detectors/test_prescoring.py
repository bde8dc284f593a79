"""UBT's first look: whose, at what, and that a mark in its place does not survive it."""

from typing import Any

import pytest
import torch
from torch import nn

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ModelError
from clipmend.methods.detectors.detector import Victim, similarity
from clipmend.methods.detectors.prescoring import PreScoring
from clipmend.model.clip import Clip, build, load, model_config


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


def test_a_mark_in_its_place_does_not_survive_but_what_the_image_shows_does() -> None:
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
    victim = Victim(Clip(Corner(), model_config("scene_resnet")))
    assert similarity(victim.model, pairs).tolist() == [1.0] * 32
    fits = PreScoring("victim", epochs=1, views=8, scale=(0.5, 0.8))(victim, pairs, generator())
    assert fits[16:].min() == 1.0
    assert fits[:16].max() < 0.5


def test_without_views_it_is_the_similarity(train: Pairs, victim: Input) -> None:
    model = load(victim.folder)
    fits = PreScoring("victim", epochs=1, views=0, scale=(0.5, 0.8))(
        Victim(model), train, generator()
    )
    assert torch.equal(fits, similarity(model, train))


def test_the_early_checkpoint_looks_when_told(train: Pairs, victim: Input) -> None:
    early = load(victim.folder, "early.safetensors")
    given = Victim(load(victim.folder), early=early)
    fits = PreScoring("early", epochs=1, views=0, scale=(0.5, 0.8))(given, train, generator())
    assert torch.equal(fits, similarity(early, train))


@pytest.mark.parametrize("reference", ["scratch", "trusted"])
def test_a_reference_of_our_own_is_trained_and_leaves_the_victim_alone(
    corpus: Input, train: Pairs, victim: Input, reference: Any
) -> None:
    model = load(victim.folder).prune_vocabulary(train.captions)
    given = Victim(
        model,
        trusted=lambda: load_split(corpus.folder, "trusted"),
        fresh=lambda seed: build("scene_resnet", seed=seed),
    )
    before = similarity(model, train)
    look = PreScoring(reference, epochs=2, views=0, scale=(0.5, 0.8))
    fits = look(given, train, generator())
    assert not torch.allclose(fits, before)
    assert torch.equal(look(given, train, generator()), fits)
    assert torch.equal(similarity(model, train), before)


@pytest.mark.parametrize("reference", ["early", "scratch", "trusted"])
def test_a_reference_that_the_victim_comes_without_is_refused(
    train: Pairs, victim: Input, reference: Any
) -> None:
    look = PreScoring(reference, epochs=1, views=0, scale=(0.5, 0.8))
    with pytest.raises(ModelError, match="reference: victim"):
        look(Victim(load(victim.folder)), train, generator())
