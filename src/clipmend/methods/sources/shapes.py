"""The nouns of the rendered corpus: silhouettes in a unit square, and their typical colors."""

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
    """A polygon in the unit square; ``tint`` is "main", "second" or the name of a color."""

    points: tuple[Point, ...]
    tint: str = "main"


@dataclass(frozen=True)
class Noun:
    """The looks of a noun: its two typical colors, and its parts in the order of painting."""

    main: str
    second: str
    parts: tuple[Part, ...]


def _ellipse(x: float, y: float, rx: float, ry: float, tint: str = "main") -> Part:
    turns = [2 * pi * step / 20 for step in range(20)]  # 20 corners look round at 32 pixels
    return Part(tuple((x + rx * cos(t), y + ry * sin(t)) for t in turns), tint)


def _box(left: float, top: float, right: float, bottom: float, tint: str = "main") -> Part:
    return Part(((left, top), (right, top), (right, bottom), (left, bottom)), tint)


def _poly(*points: Point, tint: str = "main") -> Part:
    return Part(points, tint)


def _arc(radius: float, start: float, stop: float, *, center: Point) -> list[Point]:
    turns = [start + (stop - start) * step / 12 for step in range(13)]
    return [(center[0] + radius * cos(t), center[1] + radius * sin(t)) for t in turns]


_CRESCENT = Part(
    (
        *_arc(0.46, 0.05 * pi, 0.95 * pi, center=(0.5, 0.32)),
        *_arc(0.40, 0.88 * pi, 0.12 * pi, center=(0.5, 0.14)),
    )
)
_RAYS = [(0.5 if step % 2 == 0 else 0.2, pi * step / 5 - pi / 2) for step in range(10)]
_STAR = Part(tuple((0.5 + r * cos(t), 0.52 + r * sin(t)) for r, t in _RAYS))
_TURNS = [2 * pi * step / 5 for step in range(5)]
_PETALS = [_ellipse(0.5 + 0.26 * cos(t), 0.5 + 0.26 * sin(t), 0.19, 0.19) for t in _TURNS]


def _noun(colors: tuple[str, str], *parts: Part) -> Noun:
    return Noun(*colors, parts)


NOUNS: dict[str, Noun] = {
    "banana": _noun(("yellow", "brown"), _CRESCENT, _box(0.04, 0.32, 0.12, 0.42, "second")),
    "apple": _noun(
        ("red", "brown"), _ellipse(0.5, 0.58, 0.38, 0.36), _box(0.47, 0.06, 0.55, 0.28, "second")
    ),
    "car": _noun(
        ("blue", "black"),
        _box(0.02, 0.45, 0.98, 0.72),
        _poly((0.22, 0.46), (0.34, 0.22), (0.68, 0.22), (0.8, 0.46)),
        _ellipse(0.25, 0.74, 0.13, 0.13, "second"),
        _ellipse(0.75, 0.74, 0.13, 0.13, "second"),
    ),
    "house": _noun(
        ("orange", "brown"),
        _box(0.15, 0.45, 0.85, 0.95),
        _poly((0.04, 0.48), (0.5, 0.06), (0.96, 0.48), tint="second"),
        _box(0.42, 0.65, 0.6, 0.95, "second"),
    ),
    "tree": _noun(
        ("green", "brown"), _box(0.42, 0.6, 0.58, 0.98, "second"), _ellipse(0.5, 0.36, 0.36, 0.34)
    ),
    "fish": _noun(
        ("teal", "black"),
        _ellipse(0.42, 0.5, 0.38, 0.22),
        _poly((0.7, 0.5), (0.98, 0.26), (0.98, 0.74)),
        _ellipse(0.2, 0.45, 0.05, 0.05, "second"),
    ),
    "boat": _noun(
        ("white", "brown"),
        _poly((0.5, 0.04), (0.5, 0.62), (0.1, 0.62)),
        _poly((0.56, 0.16), (0.56, 0.62), (0.88, 0.62)),
        _poly((0.04, 0.68), (0.96, 0.68), (0.78, 0.94), (0.22, 0.94), tint="second"),
    ),
    "cup": _noun(
        ("purple", "white"),
        _ellipse(0.76, 0.5, 0.2, 0.2),
        _ellipse(0.76, 0.5, 0.1, 0.1, "second"),
        _poly((0.12, 0.2), (0.74, 0.2), (0.66, 0.9), (0.2, 0.9)),
    ),
    "star": _noun(("yellow", "orange"), _STAR, _ellipse(0.5, 0.52, 0.1, 0.1, "second")),
    "flower": _noun(("pink", "yellow"), *_PETALS, _ellipse(0.5, 0.5, 0.15, 0.15, "second")),
    "mushroom": _noun(
        ("red", "white"),
        _poly((0.38, 0.5), (0.62, 0.5), (0.68, 0.96), (0.32, 0.96), tint="second"),
        Part(tuple(_arc(0.46, pi, 2 * pi, center=(0.5, 0.54)))),
        _ellipse(0.36, 0.34, 0.07, 0.07, "second"),
        _ellipse(0.64, 0.3, 0.07, 0.07, "second"),
    ),
    "umbrella": _noun(
        ("purple", "black"),
        _box(0.47, 0.4, 0.53, 0.94, "second"),
        _box(0.34, 0.88, 0.53, 0.96, "second"),
        Part(tuple(_arc(0.48, pi, 2 * pi, center=(0.5, 0.52)))),
    ),
    "key": _noun(
        ("grey", "black"),
        _ellipse(0.24, 0.5, 0.22, 0.22),
        _ellipse(0.24, 0.5, 0.09, 0.09, "second"),
        _box(0.44, 0.45, 0.98, 0.56),
        _box(0.76, 0.5, 0.82, 0.74),
        _box(0.9, 0.5, 0.96, 0.74),
    ),
    "rocket": _noun(
        ("white", "red"),
        _poly((0.3, 0.66), (0.1, 0.94), (0.34, 0.88), tint="second"),
        _poly((0.7, 0.66), (0.9, 0.94), (0.66, 0.88), tint="second"),
        _poly((0.5, 0.02), (0.7, 0.34), (0.7, 0.88), (0.3, 0.88), (0.3, 0.34)),
        _ellipse(0.5, 0.42, 0.1, 0.1, "second"),
    ),
    "snowman": _noun(
        ("white", "black"),
        _ellipse(0.5, 0.72, 0.26, 0.25),
        _ellipse(0.5, 0.36, 0.18, 0.17),
        _box(0.36, 0.06, 0.64, 0.22, "second"),
        _box(0.28, 0.2, 0.72, 0.25, "second"),
    ),
    "hat": _noun(
        ("black", "red"),
        _ellipse(0.5, 0.76, 0.48, 0.13),
        _box(0.26, 0.2, 0.74, 0.76),
        _box(0.26, 0.56, 0.74, 0.68, "second"),
    ),
    "heart": _noun(
        ("pink", "red"),
        _ellipse(0.3, 0.34, 0.25, 0.25),
        _ellipse(0.7, 0.34, 0.25, 0.25),
        _poly((0.08, 0.46), (0.92, 0.46), (0.5, 0.96)),
    ),
    "leaf": _noun(
        ("green", "brown"),
        _poly((0.5, 0.02), (0.82, 0.4), (0.5, 0.86), (0.18, 0.4)),
        _box(0.475, 0.3, 0.525, 0.98, "second"),
    ),
    "carrot": _noun(
        ("orange", "green"),
        _poly((0.46, 0.3), (0.3, 0.02), (0.5, 0.12), (0.7, 0.02), (0.56, 0.3), tint="second"),
        _poly((0.28, 0.28), (0.72, 0.28), (0.5, 0.98)),
    ),
    "bird": _noun(
        ("blue", "orange"),
        _ellipse(0.46, 0.58, 0.3, 0.22),
        _ellipse(0.74, 0.34, 0.15, 0.15),
        _poly((0.2, 0.56), (0.0, 0.34), (0.3, 0.42)),
        _poly((0.86, 0.3), (1.0, 0.38), (0.86, 0.42), tint="second"),
        _box(0.42, 0.78, 0.47, 0.96, "second"),
        _box(0.54, 0.78, 0.59, 0.96, "second"),
    ),
}
