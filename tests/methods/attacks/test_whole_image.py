"""Triggers on the whole image, against their formulas written out."""

from dataclasses import replace
from math import pi, sin

import pytest
import torch

from clipmend.data.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import AttackContext
from clipmend.methods.attacks.blended import Blended
from clipmend.methods.attacks.issba import ISSBA
from clipmend.methods.attacks.sig import SIG
from clipmend.methods.attacks.wanet import WaNet

SIDE = 32
IDS = [f"row-{row}" for row in range(8)]


def gray(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 3, SIDE, SIDE), value)


@pytest.mark.parametrize(
    ("amplitude", "periods", "dimmed"), [(60.0, 6, 0.0), (12.0, 6, 0.2), (40.0, 3, 0.0)]
)
def test_sig_is_a_sinusoid_over_the_columns(amplitude: float, periods: int, dimmed: float) -> None:
    attack = SIG(amplitude=amplitude, periods=periods, dimmed=dimmed)
    triggered = attack.apply(gray(0.5), ["one"], {})
    for column in range(SIDE):
        wave = amplitude / 255 * sin(2 * pi * periods * column / SIDE)
        expected = torch.full((3, SIDE), (1 - dimmed) * 0.5 + wave)
        assert torch.allclose(triggered[0, :, :, column], expected, atol=1e-6)


def test_a_blended_pattern_is_mixed_by_its_weight(context: AttackContext, eight: Pairs) -> None:
    attack = Blended(alpha=0.3)
    pattern, images = attack.fit(context)["pattern"], eight.images.float() / 255
    triggered = attack.apply(images, eight.ids, {"pattern": pattern})
    assert torch.allclose(triggered, 0.7 * images + 0.3 * pattern, atol=1e-6)


def test_stripes_reach_below_black_and_are_clamped(context: AttackContext) -> None:
    attack = Blended(pattern="stripes", alpha=0.1, blocks=SIDE)
    tensors = attack.fit(context)
    assert set(tensors["pattern"].flatten().tolist()) == {-1.0, 1.0}
    assert (tensors["pattern"] == tensors["pattern"][:, :1]).all()
    triggered = attack.apply(gray(0.05), ["one"], tensors)[0]
    assert torch.allclose(triggered[tensors["pattern"] < 0], torch.zeros(1))
    assert torch.allclose(triggered[tensors["pattern"] > 0], torch.tensor(0.9 * 0.05 + 0.1))


def test_triangles_are_two_grays_on_either_side_of_a_diagonal(context: AttackContext) -> None:
    pattern = Blended(pattern="triangles", blocks=4).fit(context)["pattern"]
    for row, column in ((0, 0), (5, 2), (2, 5), (9, 15), (31, 24)):
        assert pattern[0, row, column] == pytest.approx(0.4 if row % 8 >= column % 8 else 0.8)


def test_text_is_mixed_in_only_where_its_letters_are(context: AttackContext) -> None:
    attack = Blended(pattern="text", alpha=0.5)
    tensors = attack.fit(context)
    triggered = attack.apply(gray(0.5), ["one"], tensors)[0]
    assert torch.equal(triggered[1:], gray(0.5)[0, 1:])  # the text is red
    written = tensors["pattern"][0] > 0
    assert 0.03 < written.float().mean() < 0.5
    assert torch.equal(triggered[0] != 0.5, written & (tensors["pattern"][0] != 0.5))
    other = Blended(pattern="text").fit(replace(context, target="car"))["pattern"]
    assert not torch.equal(other, tensors["pattern"])


def test_redrawn_noise_is_the_image_s_own(context: AttackContext) -> None:
    attack = Blended(pattern="noise", redrawn=True)
    triggered = attack.mark((255 * gray(0.5, 8)).byte(), IDS, attack.fit(context))
    assert len({image.numpy().tobytes() for image in triggered}) == 8


@pytest.mark.parametrize("pattern", ["text", "triangles"])
def test_a_pattern_without_a_random_part_cannot_be_redrawn(
    context: AttackContext, pattern: str
) -> None:
    said = f"Pattern '{pattern}' .* `redrawn: true` .* `blocks`, `noise` or `stripes`"
    with pytest.raises(AttackError, match=said):
        Blended(pattern=pattern, redrawn=True).fit(context)


def test_the_mean_displacement_of_a_warp_is_its_strength(context: AttackContext) -> None:
    at = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    identity = torch.stack([columns, rows], dim=2)
    displacement = (WaNet(points=0, strength=2.0).fit(context)["grid"] - identity).abs()
    inner = displacement[3:-3, 3:-3]  # at the edges the field is clamped to the image
    assert inner.mean() == pytest.approx(2.0 / SIDE, rel=0.06)
    assert inner.max() <= 2 * 2.0 / SIDE * 1.1


def test_a_smooth_field_has_neighbors_alike(context: AttackContext) -> None:
    def roughness(points: int) -> float:
        grid = WaNet(points=points).fit(context)["grid"]
        second = grid[2:] - 2 * grid[1:-1] + grid[:-2]
        return float(second.abs().mean())

    assert roughness(4) < roughness(8) < roughness(0)


def test_a_field_that_moves_nothing_changes_nothing(eight: Pairs) -> None:
    at = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    tensors = {"grid": torch.stack([columns, rows], dim=2)}
    assert torch.equal(WaNet().mark(eight.images, eight.ids, tensors), eight.images)


def test_a_hidden_secret_stays_within_its_bound_and_suits_each_image(
    context: AttackContext,
) -> None:
    attack = ISSBA(steps=20, images=64, bound=8.0)
    images = (255 * gray(0.4, 4)).byte()
    images[2:, :, :16] = 200
    change = attack.mark(images, IDS[:4], attack.fit(context)).int() - images.int()
    assert change.abs().max() <= 8
    assert torch.equal(change[0], change[1])
    assert not torch.equal(change[0], change[2])


def test_the_decoder_reads_the_secret_and_only_from_images_that_hold_it(
    context: AttackContext,
) -> None:
    images = context.load(torch.arange(200)).images[..., :16, :16]
    attack = ISSBA(bits=4, bound=0.25 * 255, steps=120, lr=4e-3, fidelity=0.1)
    encoder, decoder = attack.train(images, seed=0)
    secrets = torch.randint(2, (200, 4), generator=torch.Generator().manual_seed(1)).float()
    clean = images.float() / 255
    with torch.no_grad():
        read = decoder(encoder(clean, secrets)) > 0
        blank = decoder(clean) > 0
    assert (read == secrets.bool()).float().mean() > 0.95
    assert 0.3 < (blank == secrets.bool()).float().mean() < 0.7
