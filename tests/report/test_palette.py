"""A method looks the same in every figure."""

from itertools import combinations

import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb

from clipmend.grid import is_judge
from clipmend.methods import METHODS
from clipmend.report.palette import attack_look, look

DEFAULT = ("none", "ft", "cleanclip", "ubt", "ubt@random", "ubt@oracle")


@pytest.mark.parametrize("pair", list(combinations(DEFAULT, 2)))
def test_methods_of_the_default_grid_are_told_apart(pair) -> None:
    one, other = map(look, pair)
    assert one.colour != other.colour
    assert (one.marker, one.dash) != (other.marker, other.dash)


def test_no_two_detectors_of_one_figure_share_a_colour() -> None:
    scoring = [name for name in METHODS["detect"] if not is_judge(name)]
    assert len({look(name).colour for name in scoring}) == len(scoring)


@pytest.mark.parametrize("variant", ["ubt@random", "ubt@oracle", "ubt@pairs64", "ubt@whole"])
def test_a_variant_has_the_hue_and_marker_of_its_base(variant) -> None:
    hue, ours = (rgb_to_hsv(to_rgb(look(name).colour))[0] for name in (variant, "ubt"))
    assert hue == pytest.approx(ours, abs=0.02)
    assert look(variant).marker == look("ubt").marker
    assert look(variant) != look("ubt")


def test_a_method_unknown_to_the_palette_has_a_look_of_its_own_name() -> None:
    assert look("mine") == look("mine")
    assert look("mine@slow") == look("mine@slow")
    assert attack_look("mine") == attack_look("mine@cleanclip")
