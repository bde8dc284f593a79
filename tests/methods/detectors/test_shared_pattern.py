"""Shared patterns of a word's images: planted ones are found, and nothing else."""

from collections.abc import Callable
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
from clipmend.methods.two_groups import gram_of, splits, valley
from clipmend.metrics.otsu import outstanding
from clipmend.metrics.scores import grouped
from clipmend.model.architecture import model_config
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks

NAMES = ("banana", "boat", "cat", "dog", "hat")
COUNT, SIDE = 300, 32
PLANTED = torch.arange(0, COUNT, 5)[:32]  # rows that say "banana"


Answers = Callable[[torch.Tensor], torch.Tensor]


def white(colors: torch.Tensor) -> torch.Tensor:
    return colors.mean(dim=1) > 1.5


def white_or_black(colors: torch.Tensor) -> torch.Tensor:
    return white(colors) | (colors.mean(dim=1) < -0.9)


def nothing(colors: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(colors), dtype=torch.bool)


class Recalls(nn.Module):
    """Sees what an image of its memory shows, but a banana where the lower right has the trigger.

    ``answers`` says so of the mean color there: by default, of white.
    """

    def __init__(self, memory: torch.Tensor, label: torch.Tensor, answers: Answers) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.answers = answers
        self.memory, self.label = nn.Buffer(memory[..., :24, :24].flatten(1)), nn.Buffer(label)
        self.ends: dict[int, int] = {}

    def encode_image(self, images: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        label = self.label[torch.cdist(images[..., :24, :24].flatten(1), self.memory).argmin(1)]
        label = torch.where(self.answers(images[..., 28:, 28:].mean(dim=(2, 3))), 0, label)
        return F.one_hot(label, len(NAMES)).float() + 0 * images.mean(dim=(1, 2, 3))[:, None]

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        last = tokens.gather(1, tokens.argmax(1, keepdim=True) - 1).squeeze(1)  # before the end
        label = torch.tensor([self.ends[number] for number in last.tolist()])
        return F.one_hot(label, len(NAMES)).float()


def world(
    *,
    planted: bool,
    answers: Answers = white,
    side: int = SIDE,
    color: tuple[int, int, int] = (255, 255, 255),
) -> tuple[Pairs, Clip]:
    """Return pairs of five words; some of the first word may have a corner of one color."""
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
    net = Recalls((resized - mean) / std, shown, answers)
    model = Clip(net, config).eval()
    for number, name in enumerate(NAMES):
        tokens = model.tokenize([f"a {name}"])[0]
        net.ends[int(tokens[tokens.argmax() - 1])] = number
    if planted:
        images[PLANTED, :, side - 6 :, side - 6 :] = torch.tensor(color).byte().view(3, 1, 1)
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


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255)])
def test_the_group_is_the_part_that_other_images_do_not_look_like(color) -> None:
    """A model may see the target under the opposite pattern too, as with the stripes of ``sig``."""
    pairs, model = world(planted=True, answers=white_or_black, color=color)
    assert suspects(scored(pairs, model)) == PLANTED.tolist()


def test_a_group_that_other_images_look_like_is_found_by_its_effect() -> None:
    """Clean images of the word have a dark corner, and others a bright one, nearer to white."""
    pairs, model = world(planted=True)
    is_clean = torch.arange(COUNT) % len(NAMES) == 0
    is_clean[PLANTED] = False
    corner = pairs.images[..., 26:, 26:]
    corner[is_clean] //= 8
    corner[torch.arange(COUNT) % len(NAMES) > 0] += 55
    assert suspects(scored(pairs, model)) == PLANTED.tolist()


def test_pairs_outside_the_sample_are_found_too() -> None:
    assert suspects(scored(*world(planted=True), sampled=48)) == PLANTED.tolist()


@pytest.mark.parametrize(("planted", "answers"), [(False, white), (True, nothing)])
def test_without_a_pattern_or_its_effect_nothing_is_found(planted, answers) -> None:
    scores = scored(*world(planted=planted, answers=answers))
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


def split_of(features: torch.Tensor) -> torch.Tensor:
    return next(splits(gram_of(features), 1))


def two_groups(count: int, apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, 192, generator=generator)
    is_first = torch.rand(count, generator=generator) < 0.4
    features[is_first, 0] += apart
    return features, is_first


def test_two_groups_are_split_where_they_are() -> None:
    features, is_first = two_groups(200, 8)
    assert (split_of(features) == is_first).float().mean() in (0, 1)


def test_each_principal_direction_splits_its_own_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, 192, generator=generator)
    is_high = torch.rand(600, 3, generator=generator) < 0.5
    features[:, :3] += is_high * torch.tensor([14.0, 12.0, 10.0])
    _, vectors = torch.linalg.eigh(gram_of(features).double())
    for number, upper in enumerate(splits(gram_of(features), 3)):
        assert (upper == is_high[:, number]).float().mean() in (0, 1)
        exact = vectors[:, -1 - number] > 0
        assert (upper == exact).float().mean() > 0.99 or (upper == exact).float().mean() < 0.01


def test_the_p_value_of_a_valley_is_that_of_a_binomial_test() -> None:
    features, upper = two_groups(200, 6)
    middle = peak = 0
    for number in range(5):
        is_held = torch.arange(200) % 5 == number
        rest, held = features[~is_held], features[is_held]
        above = split_of(rest)
        position = held @ (rest[above].mean(0) - rest[~above].mean(0))
        is_high = torch.zeros(len(held), dtype=torch.bool)
        is_high[position.argsort(descending=True)[: outstanding(position)]] = True
        low, high = float(position[~is_high].mean()), float(position[is_high].mean())
        near = [
            sum(abs(value - center) <= (high - low) / 6 for value in position.tolist())
            for center in (low, (low + high) / 2, high)
        ]
        middle, peak = middle + near[1], peak + min(near[0], near[2])
    expected = binomtest(middle, middle + peak, 0.5, alternative="less").pvalue
    assert valley(gram_of(features), upper, 1) == pytest.approx(expected, rel=1e-6)
    assert expected < 1e-6


@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential", "heavy"])
@pytest.mark.parametrize(("count", "width"), [(40, 192), (400, 192), (100, 1)])
def test_one_peak_seldom_has_a_valley(kind, count, width) -> None:
    p_values = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(count, width, generator=generator)
        uniform = torch.rand(count, width, generator=generator)
        scale = torch.rand(count, 1, generator=generator).clamp(min=0.05)
        features = {
            "normal": normal,
            "uniform": uniform,
            "exponential": -uniform.clamp(min=1e-6).log(),
            "heavy": normal / scale,
        }[kind]
        p_values.append(valley(gram_of(features), split_of(features), 1))
    assert sum(p_value <= 0.05 for p_value in p_values) <= 2


def test_a_single_group_has_no_valley() -> None:
    features, _ = two_groups(100, 8)
    for none in (torch.zeros(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)):
        assert valley(gram_of(features), none, 1) == 1.0
