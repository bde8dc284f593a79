"""DECREE on encoders with a known backdoor, or without one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clipmend.data.splits import Pairs
from clipmend.errors import MetricError, ParamsError
from clipmend.methods.detectors.decree import DECREE, mean_cosine
from clipmend.methods.interfaces import Assets, ModelScore
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Hooks

SIDE = 12
WHERE = (slice(None), slice(7, 10), slice(2, 5))  # 9 of 144 pixels
STATISTICS = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
CONFIG: dict[str, Any] = {
    "model_cfg": {"vision_cfg": {"image_size": SIDE}, "text_cfg": {}},
    "preprocess_cfg": STATISTICS,
}


class Planted(nn.Module):
    """A linear encoder that, the more an image resembles the patch, says one thing of it."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(16, 3 * SIDE * SIDE, generator=draws) / 10)
        self.patch = nn.Buffer(torch.rand(3, 3, 3, generator=draws).round())
        self.target = nn.Buffer(nn.functional.normalize(torch.randn(16, generator=draws), dim=0))
        self.gain = gain

    def encode_image(self, images: Tensor, normalize: bool) -> Tensor:
        assert normalize
        said = nn.functional.normalize((images - 0.5).flatten(1) @ self.weight.T, dim=1)
        match = 1 - (images[:, *WHERE] - self.patch).abs().mean(dim=(1, 2, 3))
        return nn.functional.normalize(said + self.gain * match[:, None] ** 8 * self.target, dim=1)


def planted(gain: float) -> Clip:
    return Clip(Planted(gain), CONFIG).eval()


def pairs(count: int, side: int = SIDE) -> Pairs:
    draws = torch.Generator().manual_seed(2)
    return Pairs(
        ids=tuple(f"{number:03d}" for number in range(count)),
        images=torch.randint(256, (count, 3, side, side), generator=draws, dtype=torch.uint8),
        captions=("a pear",) * count,
        label=torch.full((count,), -1),
        is_poisoned=torch.zeros(count, dtype=torch.bool),
    )


def scored(model: Clip, detector: DECREE | None = None, side: int = SIDE) -> ModelScore:
    detector = detector or DECREE(images=64, batch_size=8)
    draws = torch.Generator().manual_seed(0)
    return detector(Assets(model, train=lambda: pairs(96, side)), draws, Hooks())


@pytest.fixture(scope="module")
def score() -> ModelScore:
    return scored(planted(gain=50.0))


def test_a_planted_patch_is_found_where_it_is(score: ModelScore) -> None:
    assert score.is_backdoored
    assert score.found
    assert score.numbers["pl1_norm"] < 0.1
    assert score.numbers["cosine"] >= 0.99
    mask = score.evidence["mask"]
    inside = mask[WHERE[1:]]
    assert inside.sum() / mask.sum() > 0.8
    assert inside.mean() > 0.5


def test_the_pattern_under_the_mask_is_that_of_the_patch(score: ModelScore) -> None:
    net = planted(gain=50.0).net
    mask, pattern = score.evidence["mask"][WHERE[1:]], score.evidence["pattern"][WHERE]
    covered = (mask > 0.9).expand(3, -1, -1)
    assert covered.any()
    assert (pattern - net.patch).abs()[covered].mean() < 0.2


def test_a_clean_encoder_needs_a_large_mask() -> None:
    score = scored(planted(gain=0.0))
    assert not score.is_backdoored
    assert score.numbers["pl1_norm"] > 0.3
    assert score.numbers["cosine_untouched"] < 0.5


def test_an_unreachable_cosine_does_not_count_against_the_model() -> None:
    score = scored(planted(gain=0.0), DECREE(threshold=1.0, images=32, starts=1, epochs=1))
    assert (score.found, score.is_backdoored) == (False, False)
    assert score.numbers["pl1_norm"] == 1.0
    assert score.numbers["l1_norm"] == 3 * SIDE * SIDE
    assert 0 < score.numbers["cosine"] < 1


def test_the_two_norms_are_one_number_in_two_units(score: ModelScore) -> None:
    mask = score.evidence["mask"]
    assert score.numbers["l1_norm"] == pytest.approx(3 * float(mask.sum()), rel=1e-3)
    assert score.numbers["pl1_norm"] == pytest.approx(float(mask.mean()), abs=1e-6)


def test_the_threshold_alone_decides(score: ModelScore) -> None:
    share = score.numbers["pl1_norm"]
    detector = DECREE(images=64, batch_size=8, pl1_threshold=share)
    assert not scored(planted(gain=50.0), detector).is_backdoored


def test_the_same_generator_gives_the_same_score(score: ModelScore) -> None:
    again = scored(planted(gain=50.0))
    assert again.numbers == score.numbers
    for name, value in score.evidence.items():
        assert torch.equal(again.evidence[name], value)


def test_the_model_is_unchanged() -> None:
    model = build("scene_resnet", seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score = scored(model, DECREE(images=16, batch_size=8, starts=1, epochs=2), side=32)
    assert score.n_images == 16
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_last_batch_of_one_image_is_left_out() -> None:
    score = scored(planted(gain=0.0), DECREE(images=33, batch_size=32, starts=1, epochs=1))
    assert torch.isfinite(score.evidence["mask"]).all()


def test_fewer_than_two_images_are_refused() -> None:
    for few in ({"images": 1}, {"batch_size": 1}):
        with pytest.raises(ParamsError, match="both must be at least 2"):
            DECREE(**few)
    with pytest.raises(MetricError, match="there is only one"):
        DECREE()(Assets(planted(0.0), train=lambda: pairs(1)), torch.Generator(), Hooks())


def test_lambda_rises_while_the_cosine_is_reached_and_falls_while_it_is_not() -> None:
    from clipmend.methods.detectors.decree import _Lambda

    settings = replace(DECREE(), patience=2, lambda_init=1.0, lambda_factor=2.0, lambda_min=0.4)
    weight = _Lambda(settings, settings.lambda_init)
    seen = []
    for is_reached in [True] * 3 + [False] * 12:
        weight.update(is_reached=is_reached)
        seen.append(weight.value)
    assert seen == [1, 1, 2, 2, 2, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    for _ in range(5):  # too small to count: after a while it begins anew
        weight.update(is_reached=True)
    assert weight.value > 0.25


def test_mean_cosine_leaves_out_each_row_with_itself() -> None:
    embeds = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert mean_cosine(embeds).item() == pytest.approx(1 / 3)
