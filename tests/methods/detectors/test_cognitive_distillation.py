"""Cognitive distillation: the mask is small where a small part determines the embedding."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.detectors.cognitive_distillation import CognitiveDistillation, total_variation
from clipmend.methods.interfaces import Assets
from clipmend.model.clip import Clip, load
from clipmend.model.fit import Hooks

PATCH = 8
# Of 1,024 pixels at the default weight, a mask's size outweighs how far this embedding can move.
GENTLE = 1e-4


class Backdoored(Clip):
    """Sees the whole image, unless its corner is white: then it sees the corner alone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(()))
        self.tokenizer = None

    def encode_image(self, images: Tensor) -> Tensor:
        whole = F.adaptive_avg_pool2d(images, 4).flatten(1) - 0.5
        corner = images[:, :, :PATCH, :PATCH].mean(dim=(1, 2, 3))
        is_marked = torch.sigmoid(40 * (corner - 0.8))[:, None]
        target = torch.ones_like(whole)
        mixed = is_marked * F.normalize(target, dim=1) + (1 - is_marked) * F.normalize(whole, dim=1)
        return F.normalize(mixed, dim=1) + 0 * self.weight


def pairs_of(images: Tensor) -> Pairs:
    n = len(images)
    return Pairs(
        ids=tuple(str(row) for row in range(n)),
        images=images,
        captions=("a thing",) * n,
        label=torch.full((n,), -1),
        is_poisoned=torch.zeros(n, dtype=torch.bool),
    )


@pytest.fixture
def planted() -> Pairs:
    """Eight images of colored blocks, the first four with the mark."""
    blocks = torch.randint(0, 256, (8, 3, 4, 4), generator=stream(0, "test"), dtype=torch.uint8)
    images = blocks.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    images[4:, :, :PATCH, :PATCH] = 90  # so that no clean one is marked by chance
    images[:4, :, :PATCH, :PATCH] = 255
    return pairs_of(images)


def scored(model: Clip, train: Pairs, method: CognitiveDistillation, seed: int = 0) -> Tensor:
    return method(Assets(model, train=lambda: train), stream(seed, "detect"), Hooks()).score


def test_images_whose_patch_determines_the_embedding_are_the_most_suspect(planted: Pairs) -> None:
    score = scored(Backdoored(), planted, CognitiveDistillation(gamma=GENTLE))
    assert score[:4].min() > score[4:].max()


def test_scores_are_in_the_order_of_the_images(planted: Pairs) -> None:
    score = scored(Backdoored(), planted, CognitiveDistillation(gamma=GENTLE, batch_size=3))
    assert score[:4].min() > score[4:].max()


def test_an_image_s_score_is_minus_the_mean_of_a_mask(planted: Pairs) -> None:
    untouched = CognitiveDistillation(steps=1, lr=1e-9)
    start = (torch.tensor(1.0).tanh() + 1) / 2
    assert scored(Backdoored(), planted, untouched).tolist() == pytest.approx([-float(start)] * 8)


def test_a_mask_shrinks_to_nothing_where_only_its_size_counts(planted: Pairs) -> None:
    score = scored(Backdoored(), planted, CognitiveDistillation(gamma=1e6, beta=0.0))
    assert score.tolist() == pytest.approx([0.0] * 8, abs=1e-3)


def test_the_same_generator_gives_the_same_scores(planted: Pairs) -> None:
    method = CognitiveDistillation(steps=5)
    first, again, other = (scored(Backdoored(), planted, method, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_model_gets_no_gradients_and_does_not_change(corpus: Input, victim: Input) -> None:
    model = load(victim.folder).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train = load_split(corpus.folder, "train").take(torch.arange(6))
    scored(model, train, CognitiveDistillation(steps=2))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_score_does_not_depend_on_the_captions(planted: Pairs) -> None:
    method = CognitiveDistillation(steps=2)
    renamed = replace(planted, captions=("another thing",) * 8)
    assert torch.equal(scored(Backdoored(), planted, method), scored(Backdoored(), renamed, method))


def test_total_variation_is_the_squares_of_neighbors_differences_over_the_pixels() -> None:
    masks = torch.tensor([[[[0.0, 1.0], [0.0, 0.5]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    across, down = 1.0 + 0.25, 0.0 + 0.25
    assert total_variation(masks).tolist() == [(across + down) / 4, 0.0]
