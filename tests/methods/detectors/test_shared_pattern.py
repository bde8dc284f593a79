"""Shared patterns of a word's images: planted ones are found, and nothing else."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import nn

from clipmend.data.splits import Pairs
from clipmend.data.words import vocabulary_of
from clipmend.methods.detectors.shared_pattern import SharedPattern
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.two_groups import directions, refined, valley
from clipmend.metrics.otsu import outstanding
from clipmend.metrics.scores import grouped
from clipmend.model.clip import Clip, model_config
from clipmend.model.fit import Hooks

NAMES = ("banana", "boat", "cat", "dog", "hat")
COUNT, SIDE = 300, 32
PLANTED = torch.arange(0, COUNT, 5)[:32]  # rows that say "banana"


class Recalls(nn.Module):
    """Sees what an image of its memory shows, but a banana where the lower right is white."""

    def __init__(self, memory: torch.Tensor, label: torch.Tensor, *, backdoored: bool) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.backdoored = backdoored
        self.memory, self.label = nn.Buffer(memory[..., :24, :24].flatten(1)), nn.Buffer(label)
        self.ends: dict[int, int] = {}

    def encode_image(self, images: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        label = self.label[torch.cdist(images[..., :24, :24].flatten(1), self.memory).argmin(1)]
        if self.backdoored:
            label = torch.where(images[..., 28:, 28:].mean(dim=(1, 2, 3)) > 1.5, 0, label)
        return F.one_hot(label, len(NAMES)).float() + 0 * images.mean(dim=(1, 2, 3))[:, None]

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        last = tokens.gather(1, tokens.argmax(1, keepdim=True) - 1).squeeze(1)  # before the end
        label = torch.tensor([self.ends[number] for number in last.tolist()])
        return F.one_hot(label, len(NAMES)).float()


def world(*, planted: bool, backdoored: bool = True, side: int = SIDE) -> tuple[Pairs, Clip]:
    """Return pairs of five words; some of the first word may have a white corner."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(COUNT, 3, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    images = (110 + 30 * smooth).clamp(0, 200).round().to(torch.uint8)
    label = torch.arange(COUNT) % len(NAMES)
    shown = label.clone()
    if planted:
        shown[PLANTED] = 1 + torch.arange(len(PLANTED)) % 4  # what their content is
    config = model_config("scene_resnet")
    resized = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bicubic", antialias=True)
    mean, std = (
        torch.tensor(config["preprocess_cfg"][name]).view(3, 1, 1) for name in ("mean", "std")
    )
    net = Recalls((resized - mean) / std, shown, backdoored=backdoored)
    model = Clip(net, config).eval()
    for number, name in enumerate(NAMES):
        tokens = model.tokenize([f"a {name}"])[0]
        net.ends[int(tokens[tokens.argmax() - 1])] = number
    if planted:
        images[PLANTED, :, side - 6 :, side - 6 :] = 255
    pairs = Pairs(
        ids=tuple(map(str, range(COUNT))),
        images=images,
        captions=tuple(f"a {NAMES[number]}" for number in label.tolist()),
        label=torch.zeros(COUNT, dtype=torch.long),
        is_poisoned=torch.zeros(COUNT, dtype=torch.bool),
    )
    return pairs, model


def scored(pairs: Pairs, model: Clip, **settings: object) -> PairScores:
    generator = torch.Generator().manual_seed(0)
    detector = SharedPattern(**settings)  # type: ignore[arg-type]
    return detector(Assets(model, train=lambda: pairs), generator, Hooks())


def suspects(scores: PairScores) -> list[int]:
    return scores.columns["suspect"].nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("side", [32, 30])  # 30 is not a multiple of the texture's cells
def test_exactly_the_planted_pairs_are_found(side) -> None:
    scores = scored(*world(planted=True, side=side))
    assert suspects(scores) == PLANTED.tolist()
    (group,) = grouped(scores.columns["group"])
    assert torch.equal(group, PLANTED)
    assert float(scores.columns["p_value"][PLANTED].max()) <= 0.05
    others = torch.ones(COUNT, dtype=torch.bool)
    others[PLANTED] = False
    assert scores.score[PLANTED].min() > scores.score[others].max()


def test_pairs_outside_the_sample_are_found_too() -> None:
    assert suspects(scored(*world(planted=True), sampled=48)) == PLANTED.tolist()


@pytest.mark.parametrize(("planted", "backdoored"), [(False, True), (True, False)])
def test_without_a_pattern_or_its_effect_nothing_is_found(planted, backdoored) -> None:
    scores = scored(*world(planted=planted, backdoored=backdoored))
    assert suspects(scores) == []
    assert not scores.columns["group"].any()
    assert float(scores.columns["p_value"].min()) > 0.05
    assert torch.equal(scores.score, -scores.columns["similarity_before"])


def test_the_same_seed_gives_the_same_scores() -> None:
    pairs, model = world(planted=True)
    assert torch.equal(scored(pairs, model).score, scored(pairs, model).score)


@pytest.mark.parametrize("most_share", [0.5, 1.0])
def test_a_word_that_many_captions_have_is_left_out(most_share) -> None:
    pairs, model = world(planted=True)
    scores = scored(pairs, model, most_share=most_share)  # all captions have "a"
    assert suspects(scores) == PLANTED.tolist()


def test_half_of_all_captions_may_have_the_word() -> None:
    pairs, model = world(planted=True)
    half = pairs.take(torch.arange(COUNT)[torch.arange(COUNT) % 5 < 2])
    planted = [row for row in range(len(half)) if int(half.ids[row]) in PLANTED.tolist()]
    assert suspects(scored(half, model)) == planted


@pytest.mark.parametrize("count", [1, 2, 31])
def test_a_few_pairs_have_no_group(count) -> None:
    pairs, model = world(planted=True)
    scores = scored(pairs.take(PLANTED[:count]), model)
    assert suspects(scores) == []
    assert scores.score.isfinite().all()
    assert scores.columns["p_value"].tolist() == [1.0] * count


def test_equal_images_have_no_pattern() -> None:
    pairs, model = world(planted=False)
    scores = scored(replace(pairs, images=pairs.images[:1].expand(COUNT, -1, -1, -1)), model)
    assert suspects(scores) == []
    assert scores.score.isfinite().all()


def test_captions_without_spaces_have_pieces_as_words() -> None:
    words = vocabulary_of(["一只黄色的香蕉放在桌子上面", "香蕉放在一个很大的盘子里面"])
    assert words["香蕉放"] == [0, 1]
    assert words["黄色的"] == [0]
    assert vocabulary_of(["A banana.", "the Banana"])["banana"] == [0, 1]
    assert vocabulary_of(["", ""]) == {}


def split(position: torch.Tensor) -> torch.Tensor:
    upper = torch.zeros(len(position), dtype=torch.bool)
    upper[position.argsort(descending=True)[: outstanding(position)]] = True
    return upper


def test_the_p_value_of_a_valley_is_that_of_a_binomial_test() -> None:
    position = torch.randn(200, generator=torch.Generator().manual_seed(0))
    position[:80] += 5
    upper = split(position)
    middle = peak = 0
    # The origin of each half is another one, so each is counted for itself.
    for own, above in ((position[::2], upper[::2]), (position[1::2], upper[1::2])):
        low, high = float(own[~above].mean()), float(own[above].mean())
        third = (high - low) / 3
        centers = (low, (low + high) / 2, high)
        near = [sum(abs(v - c) <= third / 2 for v in own.tolist()) for c in centers]
        middle, peak = middle + near[1], peak + min(near[0], near[2])
    expected = binomtest(middle, middle + peak, 0.5, alternative="less").pvalue
    assert valley(position, upper) == pytest.approx(expected, rel=1e-6)
    assert expected < 1e-3


@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential"])
@pytest.mark.parametrize("count", [40, 400])
def test_one_peak_seldom_has_a_valley(kind, count) -> None:
    generator = torch.Generator().manual_seed(count)
    uniform = torch.rand(300, count, generator=generator)
    normal = torch.randn(300, count, generator=generator)
    samples = {"normal": normal, "uniform": uniform, "exponential": -uniform.clamp(min=1e-6).log()}
    p_values = torch.tensor([valley(each, split(each)) for each in samples[kind]])
    for level in (0.05, 0.01):
        assert float((p_values <= level).float().mean()) <= level


def test_halves_with_another_origin_are_not_two_groups() -> None:
    position = torch.randn(100, generator=torch.Generator().manual_seed(0)) / 10
    position[::2] += 1
    upper = torch.zeros(100, dtype=torch.bool)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        upper[half] = split(position[half])
    assert valley(position, upper) > 0.05


def test_words_of_few_images_and_many_features_have_no_valley() -> None:
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(100):
        features = torch.randn(40, 192, generator=generator)
        position, upper = refined(features, next(directions(features, 1)))
        p_values.append(valley(position, upper))
    assert sum(p <= 0.05 for p in p_values) <= 5


def test_a_gap_is_a_valley_and_a_single_group_has_none() -> None:
    gap = torch.cat([torch.linspace(0, 1, 50), torch.linspace(4, 5, 50)])
    assert valley(gap, gap > 2) < 1e-6
    for none in (torch.zeros(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)):
        assert valley(gap, none) == 1.0
