"""One look per method and per attack, the same in every figure and whatever else is shown."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from clipmend.methods.table import base

Dash = Literal["solid"] | tuple[int, tuple[int | float, ...]]

# Okabe and Ito's colors, then Tol's "muted": told apart under every common color blindness.
# Their yellow is left out: on white paper it is no line. No two repairs share a color, and no two
# detectors; a repair and a detector may, which meet in no figure. PUD is both, so its is its own.
_METHODS = {
    "none": ("#000000", "o"),
    "ft": ("#0072B2", "s"),
    "cleanclip": ("#E69F00", "D"),
    "ubt": ("#009E73", "^"),
    "clip_score": ("#CC79A7", "v"),
    "pud": ("#B07AFF", "P"),
    "abl": ("#56B4E9", "X"),
    "par": ("#882255", "<"),
    "adversarial_ft": ("#332288", ">"),
    "fine_pruning": ("#999933", "p"),
    "k_distance": ("#882255", "s"),
    "slof": ("#0072B2", "D"),
    "lid": ("#E69F00", "P"),
    "dao": ("#D55E00", "X"),
    "isolation_forest": ("#999933", "<"),
    "cognitive_distillation": ("#332288", "h"),
}
_OTHERS = (
    ("#56B4E9", "p"),
    ("#D55E00", "h"),
    ("#AA4499", "8"),
    ("#117733", "d"),
    ("#661100", "H"),
    ("#6699CC", "*"),
)
# Groups of training pairs: what the attacker knows of them, and what a defender takes them for.
CLEAN, POISONED = "#0072B2", "#D55E00"
CHOSEN, SUSPECT, OTHER = "#882255", "#E69F00", "#8C8C8C"

_VARIANTS = {"random": 0.45, "oracle": -0.5}
_VARIANT_SHADES = (-0.3, 0.3, -0.6, 0.6)

_ATTACKS: dict[str, tuple[str, Dash]] = {
    "unpoisoned": ("o", "solid"),
    "badnet": ("s", (0, (5, 1.5))),
    "blended": ("^", (0, (1, 1))),
    "sig": ("D", (0, (5, 1, 1, 1))),
    "wanet": ("v", (0, (3, 1, 1, 1, 1, 1))),
    "label_consistent": ("P", (0, (8, 2))),
    "trojvqa": ("X", (0, (2, 2))),
    "issba": ("<", (0, (8, 2, 1, 2))),
    "badclip": ("p", (0, (3, 3))),
    "multi": ("h", (0, (1, 3))),
}
_OTHER_ATTACKS: tuple[tuple[str, Dash], ...] = (
    (">", (0, (4, 4))),
    ("d", (0, (2, 4))),
    ("8", (0, (6, 3))),
)


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: str
    dash: Dash = "solid"


@dataclass(frozen=True)
class AttackLook:
    """How an attack is drawn."""

    marker: str
    dash: Dash


def look(method: str) -> Look:
    """Return the method's look; a variant has its base's hue, in another shade and dashed."""
    root, _, variant = method.partition("@")
    color, marker = _METHODS.get(root) or _OTHERS[_draw(root, len(_OTHERS))]
    if not variant:
        return Look(color, marker)
    shade = _VARIANTS.get(variant)
    if shade is None:
        shade = _VARIANT_SHADES[_draw(variant, len(_VARIANT_SHADES))]
    return Look(_shaded(color, shade), marker, (0, (4, 1.5)) if shade > 0 else (0, (1.5, 1)))


def attack_look(attack: str) -> AttackLook:
    """Return the attack's look; its variants share it."""
    root = base(attack).partition(".")[0]  # of an attack of several triggers, one of them
    return AttackLook(*(_ATTACKS.get(root) or _OTHER_ATTACKS[_draw(root, len(_OTHER_ATTACKS))]))


def _shaded(color: str, shade: float) -> str:
    """Return the color on its way to white (``shade`` up to 1) or to black (down to -1)."""
    towards = 255 if shade > 0 else 0
    channels = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(old + (towards - old) * abs(shade)):02X}" for old in channels)


def _draw(name: str, among: int) -> int:
    """Return a number that depends on the name alone: a look stays when methods come and go."""
    return int.from_bytes(sha256(name.encode()).digest()[:4], "big") % among
