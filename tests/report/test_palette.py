"""A method looks the same in every figure."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from skimage.color import xyz2lab

from clipmend.methods.table import METHODS, base, scores_of
from clipmend.report.style import attack_look, look

DEFAULT = ("none", "ft", "cleanclip", "ubt", "see_through", "ubt@random", "ubt@oracle")
# Named here too, so that a look is there before the method is.
REPAIRS = {"none", "ft", "cleanclip", "ubt", "abl", "par", "adversarial_ft", "fine_pruning", "pud"}
REPAIRS |= {*METHODS["unlearn"], *METHODS["baselines"]}
SCORING = {"pud"} | {name for name in METHODS["detect"] if scores_of(name) == "pairs"}
# Machado et al. 2009, whole loss of one kind of cone, on linear RGB.
SIGHTS = {
    "whole": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(color, sight):
    """Return a color in CIELAB (D65) as that sight has it."""
    value = np.asarray(to_rgb(color))
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(SIGHTS[sight]) @ linear, 0, 1)
    primaries = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    return xyz2lab(np.asarray(primaries) @ linear)


@pytest.mark.parametrize("pair", list(combinations(DEFAULT, 2)))
def test_methods_of_the_default_grid_are_told_apart(pair) -> None:
    one, other = map(look, pair)
    assert one.color != other.color
    assert (one.marker, one.dash) != (other.marker, other.dash)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("names", [REPAIRS, SCORING], ids=["repairs", "detectors"])
def test_methods_of_one_figure_are_told_apart_by_color_under_every_sight(names, sight) -> None:
    plain = sorted({base(name) for name in names})
    for one, other in combinations(plain, 2):
        between = seen(look(one).color, sight) - seen(look(other).color, sight)
        # 2.3 is a difference just noticed between large fields; a marker is small.
        assert np.linalg.norm(between) > 12, (one, other)


def test_no_two_names_share_color_and_marker() -> None:
    names = sorted(REPAIRS | SCORING)
    assert len({(look(name).color, look(name).marker) for name in names}) == len(names)


@pytest.mark.parametrize("variant", ["ubt@random", "ubt@oracle", "ubt@pairs64", "ubt@whole"])
def test_a_variant_has_the_hue_and_marker_of_its_base(variant) -> None:
    hue, ours = (rgb_to_hsv(to_rgb(look(name).color))[0] for name in (variant, "ubt"))
    assert hue == pytest.approx(ours, abs=0.02)
    assert look(variant).marker == look("ubt").marker
    assert look(variant) != look("ubt")


def test_a_method_unknown_to_the_palette_has_a_look_of_its_own_name() -> None:
    assert look("mine") == look("mine")
    assert look("mine@slow") == look("mine@slow")
    assert attack_look("mine") == attack_look("mine@cleanclip")
