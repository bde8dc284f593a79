"""The nouns of the rendered corpus: silhouettes in a unit square, and their typical colors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

Point = tuple[float, float]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (240, 130, 30),
    "yellow": (245, 210, 40),
    "green": (50, 150, 60),
    "blue": (40, 90, 200),
    "purple": (130, 60, 170),
    "pink": (240, 130, 180),
    "brown": (125, 80, 45),
    "white": (242, 242, 242),
    "black": (30, 30, 34),
    "grey": (135, 140, 148),
    "teal": (30, 150, 155),
}


@dataclass(frozen=True)
class Part:
    """A polygon in the unit square; ``tint`` is "main" or "second"."""

    points: tuple[Point, ...]
    tint: str


@dataclass(frozen=True)
class Noun:
    """The looks of a noun: its two typical colors, and its parts in the order of painting."""

    main: str
    second: str
    parts: tuple[Part, ...]


def _arc(radius: float, start: float, stop: float, *, center: Point) -> list[Point]:
    turns = [start + (stop - start) * step / 12 for step in range(13)]
    return [(center[0] + radius * cos(t), center[1] + radius * sin(t)) for t in turns]


def _ellipse(x: float, y: float, rx: float, ry: float) -> list[Point]:
    turns = [2 * pi * step / 20 for step in range(20)]  # 20 corners look round at 32 pixels
    return [(x + rx * cos(t), y + ry * sin(t)) for t in turns]


_RAYS = [(0.5 if step % 2 == 0 else 0.2, pi * step / 5 - pi / 2) for step in range(10)]
_TURNS = [2 * pi * step / 5 for step in range(5)]
_CRESCENT = (
    *_arc(0.46, 0.05 * pi, 0.95 * pi, center=(0.5, 0.32)),
    *_arc(0.40, 0.88 * pi, 0.12 * pi, center=(0.5, 0.14)),
)
# The numbers of a shape are: left, top, right and bottom of a box; center (x, y) and radii of an
# ellipse; height and radius of a dome; x and y of each corner of a polygon.
_SHAPES: dict[str, Callable[..., Sequence[Point]]] = {
    "box": lambda x, y, right, bottom: ((x, y), (right, y), (right, bottom), (x, bottom)),
    "ellipse": _ellipse,
    "dome": lambda y, radius: _arc(radius, pi, 2 * pi, center=(0.5, y)),
    "poly": lambda *numbers: tuple(zip(numbers[::2], numbers[1::2], strict=True)),
    "crescent": lambda: _CRESCENT,
    "star": lambda: [(0.5 + r * cos(t), 0.52 + r * sin(t)) for r, t in _RAYS],
    "petal": lambda t: _ellipse(
        0.5 + 0.26 * cos(_TURNS[int(t)]), 0.5 + 0.26 * sin(_TURNS[int(t)]), 0.19, 0.19
    ),
}
# Noun, main and second color, then its parts in the order of painting; * has the second color.
_TABLE = """
banana yellow brown; crescent; box* .04 .32 .12 .42
apple red brown; ellipse .5 .58 .38 .36; box* .47 .06 .55 .28
car blue black; box .02 .45 .98 .72; poly .22 .46 .34 .22 .68 .22 .8 .46;
    ellipse* .25 .74 .13 .13; ellipse* .75 .74 .13 .13
house orange brown; box .15 .45 .85 .95; poly* .04 .48 .5 .06 .96 .48; box* .42 .65 .6 .95
tree green brown; box* .42 .6 .58 .98; ellipse .5 .36 .36 .34
fish teal black; ellipse .42 .5 .38 .22; poly .7 .5 .98 .26 .98 .74; ellipse* .2 .45 .05 .05
boat white brown; poly .5 .04 .5 .62 .1 .62; poly .56 .16 .56 .62 .88 .62;
    poly* .04 .68 .96 .68 .78 .94 .22 .94
cup purple white; ellipse .76 .5 .2 .2; ellipse* .76 .5 .1 .1; poly .12 .2 .74 .2 .66 .9 .2 .9
star yellow orange; star; ellipse* .5 .52 .1 .1
flower pink yellow; petal 0; petal 1; petal 2; petal 3; petal 4; ellipse* .5 .5 .15 .15
mushroom red white; poly* .38 .5 .62 .5 .68 .96 .32 .96; dome .54 .46;
    ellipse* .36 .34 .07 .07; ellipse* .64 .3 .07 .07
umbrella purple black; box* .47 .4 .53 .94; box* .34 .88 .53 .96; dome .52 .48
key grey black; ellipse .24 .5 .22 .22; ellipse* .24 .5 .09 .09; box .44 .45 .98 .56;
    box .76 .5 .82 .74; box .9 .5 .96 .74
rocket white red; poly* .3 .66 .1 .94 .34 .88; poly* .7 .66 .9 .94 .66 .88;
    poly .5 .02 .7 .34 .7 .88 .3 .88 .3 .34; ellipse* .5 .42 .1 .1
snowman white black; ellipse .5 .72 .26 .25; ellipse .5 .36 .18 .17; box* .36 .06 .64 .22;
    box* .28 .2 .72 .25
hat black red; ellipse .5 .76 .48 .13; box .26 .2 .74 .76; box* .26 .56 .74 .68
heart pink red; ellipse .3 .34 .25 .25; ellipse .7 .34 .25 .25; poly .08 .46 .92 .46 .5 .96
leaf green brown; poly .5 .02 .82 .4 .5 .86 .18 .4; box* .475 .3 .525 .98
carrot orange green; poly* .46 .3 .3 .02 .5 .12 .7 .02 .56 .3; poly .28 .28 .72 .28 .5 .98
bird blue orange; ellipse .46 .58 .3 .22; ellipse .74 .34 .15 .15; poly .2 .56 0 .34 .3 .42;
    poly* .86 .3 1 .38 .86 .42; box* .42 .78 .47 .96; box* .54 .78 .59 .96
"""


def _part(text: str) -> Part:
    shape, *numbers = text.split()
    points = _SHAPES[shape.rstrip("*")](*map(float, numbers))
    return Part(tuple(points), "second" if shape.endswith("*") else "main")


NOUNS: dict[str, Noun] = {}
for _line in _TABLE.strip().replace("\n    ", " ").splitlines():
    _looks, *_parts = _line.split(";")
    _name, _main, _second = _looks.split()
    NOUNS[_name] = Noun(_main, _second, tuple(map(_part, _parts)))
