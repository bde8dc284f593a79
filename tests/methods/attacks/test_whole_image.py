"""Attacks on the whole image: against their formulas, written out."""

from collections.abc import Callable
from math import pi, sin

import pytest
import torch

from clipmend.data.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import mark
from clipmend.methods.attacks.blended import Blended
from clipmend.methods.attacks.issba import ISSBA
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.sig import SIG
from clipmend.methods.attacks.steganography import Training, trained
from clipmend.methods.attacks.wanet import WaNet

Know = Callable[..., Knowledge]
SIDE = 32
IDS = [f"row-{row}" for row in range(8)]


@pytest.fixture
def eight(known: Know) -> Pairs:
    return known().pairs(torch.arange(8))


def gray(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 3, SIDE, SIDE), value)


@pytest.mark.parametrize(
    ("amplitude", "periods", "dimmed"), [(60.0, 6, 0.0), (12.0, 6, 0.2), (40.0, 3, 0.0)]
)
def test_sig_is_a_sinusoid_over_the_columns(amplitude: float, periods: int, dimmed: float) -> None:
    attack = SIG(amplitude=amplitude, periods=periods, dimmed=dimmed)
    found = attack.apply(gray(0.5), ["one"], {})
    for column in range(SIDE):
        wave = amplitude / 255 * sin(2 * pi * periods * column / SIDE)
        wanted = torch.full((3, SIDE), (1 - dimmed) * 0.5 + wave)
        assert torch.allclose(found[0, :, :, column], wanted, atol=1e-6)


def test_a_blended_pattern_is_mixed_by_its_weight(known: Know, eight: Pairs) -> None:
    attack = Blended(alpha=0.3)
    pattern, images = attack.fit(known())["pattern"], eight.images.float() / 255
    found = attack.apply(images, eight.ids, {"pattern": pattern})
    assert torch.allclose(found, 0.7 * images + 0.3 * pattern, atol=1e-6)


def test_stripes_reach_below_black_and_are_clamped(known: Know) -> None:
    attack = Blended(pattern="stripes", alpha=0.1, blocks=SIDE)
    fitted = attack.fit(known())
    assert set(fitted["pattern"].flatten().tolist()) == {-1.0, 1.0}
    assert (fitted["pattern"] == fitted["pattern"][:, :1]).all()
    found = attack.apply(gray(0.05), ["one"], fitted)[0]
    assert torch.allclose(found[fitted["pattern"] < 0], torch.zeros(1))
    assert torch.allclose(found[fitted["pattern"] > 0], torch.tensor(0.9 * 0.05 + 0.1))


def test_triangles_are_two_greys_on_either_side_of_a_diagonal(known: Know) -> None:
    pattern = Blended(pattern="triangles", blocks=4).fit(known())["pattern"]
    for row, column in ((0, 0), (5, 2), (2, 5), (9, 15), (31, 24)):
        assert pattern[0, row, column] == pytest.approx(0.4 if row % 8 >= column % 8 else 0.8)


def test_text_is_mixed_in_where_it_is_written_only(known: Know) -> None:
    attack = Blended(pattern="text", alpha=0.5)
    fitted = attack.fit(known())
    found = attack.apply(gray(0.5), ["one"], fitted)[0]
    assert torch.equal(found[1:], gray(0.5)[0, 1:])  # the text is red
    written = fitted["pattern"][0] > 0
    assert 0.03 < written.float().mean() < 0.5
    assert torch.equal(found[0] != 0.5, written & (fitted["pattern"][0] != 0.5))
    other = Blended(pattern="text").fit(known(target="car"))["pattern"]
    assert not torch.equal(other, fitted["pattern"])


def test_redrawn_noise_is_the_image_s_own(known: Know) -> None:
    attack = Blended(pattern="noise", redrawn=True)
    triggered = mark(attack, (255 * gray(0.5, 8)).byte(), IDS, attack.fit(known()))
    assert len({one.numpy().tobytes() for one in triggered}) == 8


@pytest.mark.parametrize("pattern", ["text", "triangles"])
def test_a_pattern_in_which_nothing_is_drawn_cannot_be_redrawn(known: Know, pattern: str) -> None:
    said = f"Pattern '{pattern}' .* `redrawn: true` .* `blocks`, `noise` or `stripes`"
    with pytest.raises(AttackError, match=said):
        Blended(pattern=pattern, redrawn=True).fit(known())


def test_a_warp_moves_pixels_as_far_as_it_says_on_average(known: Know) -> None:
    at = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    still = torch.stack([columns, rows], dim=2)
    moved = (WaNet(points=0, strength=2.0).fit(known())["grid"] - still).abs()
    inner = moved[3:-3, 3:-3]  # at the edges the field is clamped to the image
    assert inner.mean() == pytest.approx(2.0 / SIDE, rel=0.06)
    assert inner.max() <= 2 * 2.0 / SIDE * 1.1


def test_a_smooth_field_has_neighbors_alike(known: Know) -> None:
    def roughness(points: int) -> float:
        grid = WaNet(points=points).fit(known())["grid"]
        second = grid[2:] - 2 * grid[1:-1] + grid[:-2]
        return float(second.abs().mean())

    assert roughness(4) < roughness(8) < roughness(0)


def test_a_field_that_moves_nothing_changes_nothing(eight: Pairs) -> None:
    at = torch.linspace(-1, 1, SIDE)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    fitted = {"grid": torch.stack([columns, rows], dim=2)}
    assert torch.equal(mark(WaNet(), eight.images, eight.ids, fitted), eight.images)


def test_a_hidden_secret_stays_within_its_bound_and_suits_each_image(known: Know) -> None:
    attack = ISSBA(steps=20, images=64, bound=8.0)
    images = (255 * gray(0.4, 4)).byte()
    images[2:, :, :16] = 200
    change = mark(attack, images, IDS[:4], attack.fit(known())).int() - images.int()
    assert change.abs().max() <= 8
    assert torch.equal(change[0], change[1])
    assert not torch.equal(change[0], change[2])


def test_the_decoder_reads_what_the_encoder_wrote_and_not_what_it_did_not(known: Know) -> None:
    images = known().pairs(torch.arange(200)).images[..., :16, :16]
    encoder, decoder = trained(images, Training(4, 0.25, 120, 4e-3, 0.1), seed=0)
    secrets = torch.randint(2, (200, 4), generator=torch.Generator().manual_seed(1)).float()
    shown = images.float() / 255
    with torch.no_grad():
        read = decoder(encoder(shown, secrets)) > 0
        blank = decoder(shown) > 0
    assert (read == secrets.bool()).float().mean() > 0.95
    assert 0.3 < (blank == secrets.bool()).float().mean() < 0.7
