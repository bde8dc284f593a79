"""A patch at another place in each image is found by alignment, and pasted at any place."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.shared_pattern import SharedPattern
from clipmend.methods.interfaces import Assets
from clipmend.methods.registration import Placed, placed
from clipmend.model.architecture import model_config
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks

SIDE, SIZE, COUNT = 32, 6, 200
NAMES = ("banana", "boat", "cat", "dog")
PATCH = (torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 255).byte()
PLANTED = torch.arange(0, COUNT, 4)[:40]


class Spots(nn.Module):
    """Sees a banana where a patch is, anywhere; otherwise what an image's brightest channel says.

    The brightest channel stands for content: it is high for one of the other words.
    """

    def __init__(self, config: dict[str, dict[str, list[float]]], *, backdoored: bool) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        mean, deviation = (config["preprocess_cfg"][name] for name in ("mean", "std"))
        self.mean = nn.Buffer(torch.tensor(mean).view(3, 1, 1))
        self.deviation = nn.Buffer(torch.tensor(deviation).view(3, 1, 1))
        self.backdoored = backdoored
        self.ends: dict[int, int] = {}

    def encode_image(self, images: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        pixels = images * self.deviation + self.mean
        kernel = PATCH.float()[None] / 255
        squares = F.conv2d(pixels.square(), torch.ones_like(kernel))
        distance = squares - 2 * F.conv2d(pixels, kernel) + kernel.square().sum()
        near = (1 - distance.flatten(1).amin(1) / (3 * SIZE**2 * 0.02)).relu()
        content = 4 * pixels.mean((2, 3))
        banana = 50 * near if self.backdoored else 0 * near
        return F.normalize(torch.cat([banana[:, None], content], dim=1), dim=1)

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:  # noqa: ARG002
        last = tokens.gather(1, tokens.argmax(1, keepdim=True) - 1).squeeze(1)
        label = torch.tensor([self.ends[number] for number in last.tolist()])
        return F.one_hot(label, len(NAMES)).float()


def world(*, planted: bool, backdoored: bool = True) -> tuple[Pairs, Clip]:
    """Return pairs of four words; some of the first word may have a patch at a random place."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(COUNT, 3, 8, 8, generator=generator)
    images = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=True)
    label = torch.arange(COUNT) % len(NAMES)
    shown = torch.where(label == 0, 1 + torch.arange(COUNT) // 4 % 3, label) - 1
    images[torch.arange(COUNT), shown] += 0.4
    images = (170 * images).clamp(0, 255).byte()
    if planted:
        for row in PLANTED.tolist():
            top, left = torch.randint(SIDE - SIZE + 1, (2,), generator=generator).tolist()
            images[row, :, top : top + SIZE, left : left + SIZE] = PATCH
    config = model_config("scene_resnet")
    net = Spots(config, backdoored=backdoored)
    model = Clip(net, config).eval()
    for number, name in enumerate(NAMES):
        tokens = model.tokenize([f"a {name}"])[0]
        net.ends[int(tokens[tokens.argmax() - 1])] = number
    captions = tuple(f"a {NAMES[number]}" for number in label.tolist())
    none = torch.zeros(COUNT, dtype=torch.bool)
    pairs = Pairs(tuple(map(str, range(COUNT))), images, captions, none.long(), none)
    return pairs, model


def registered(pairs: Pairs, model: Clip) -> tuple[Placed, float] | None:
    own = torch.arange(0, COUNT, 4)[torch.randperm(50, generator=torch.Generator().manual_seed(2))]
    rest = (torch.arange(COUNT) % 4).nonzero().squeeze(1)
    images = cast("torch.Tensor", pairs.images)
    texts = F.one_hot(torch.arange(COUNT) % 4, 4).float()
    return placed(model, images[own], texts[own], images[rest], texts[rest])


def test_the_patch_is_recovered_pixel_by_pixel() -> None:
    pairs, model = world(planted=True)
    found = registered(pairs, model)
    assert found is not None
    patch, p_value = found
    assert patch.covers.shape == (SIZE, SIZE)
    assert patch.covers.float().mean() > 0.9
    difference = (patch.patch - PATCH.float() / 255).abs().amax(0)
    assert difference[patch.covers].max() < 5 / 255  # a few aligned images lack the patch
    assert p_value < 1e-6
    is_in = patch.is_in(cast("torch.Tensor", pairs.images))
    assert is_in[PLANTED].all()
    assert int(is_in.sum()) <= len(PLANTED) + 2  # by definition, a hundredth of others has it


@pytest.mark.parametrize(("planted", "backdoored"), [(False, True), (True, False)])
def test_without_a_patch_or_its_effect_there_is_no_estimate(planted, backdoored) -> None:
    assert registered(*world(planted=planted, backdoored=backdoored)) is None


def test_the_detector_finds_the_pairs_with_the_patch() -> None:
    pairs, model = world(planted=True)
    generator = torch.Generator().manual_seed(0)
    scores = SharedPattern()(Assets(model, train=lambda: pairs), generator, Hooks())
    assert scores.columns["suspect"].nonzero().squeeze(1).tolist() == PLANTED.tolist()


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_a_patch_is_pasted_once_at_a_place_that_depends_on_the_image(side) -> None:
    covers = torch.ones(SIZE, SIZE, dtype=torch.bool)
    covers[0, 0] = False
    patch = Placed(PATCH.float() / 255, covers, 0.0, SIDE)
    images = (torch.rand(20, 3, side, side, generator=torch.Generator().manual_seed(3)) * 9).byte()
    pasted = patch.paste(images)
    assert torch.equal(pasted, patch.paste(images))
    changed = (pasted != images.float() / 255).any(1)
    assert changed.sum((1, 2)).tolist() == [(SIZE**2 - 1) * (side // SIDE) ** 2] * 20
    corners = {tuple(each.nonzero()[0].tolist()) for each in changed}
    assert len(corners) > 10
    assert patch.hides
    assert torch.equal(patch.remove(images), images.float() / 255)
    assert patch.picture().shape == (3, SIDE, 2 * SIDE)
