"""The one order in which tables and figures list methods, attacks, objectives and victims."""

from collections.abc import Iterable
from typing import Any

from clipmend.engine.cell import NO_REPAIR, UNPOISONED, Place
from clipmend.methods.table import base

UNDEFENDED = NO_REPAIR
"""The method name of the victim itself, before any repair."""

_FIRST_METHODS = (UNDEFENDED, "ft", "cleanclip", "ubt")
_FIRST_VARIANTS = ("", "random", "oracle")
_FIRST_OBJECTIVES = ("mmcl", "mmcl_ssl", "siglip", "roclip", "safeclip")


def is_poisoned(attack: str) -> bool:
    """Return whether the attack changes any training pair."""
    return base(attack) != UNPOISONED


def under(attack: str, trigger: str) -> str:
    """Return " under <trigger>" if the attack's name does not imply the trigger, else ""."""
    return "" if trigger == attack else f" under {trigger}"


def method_order(name: str) -> tuple[int, str, int, str]:
    """Return a sort key: the undefended model, the repairs of the default grid, the alphabet."""
    # By the names alone, never by params.yaml: the same methods in another order leave the key of
    # the report as it is, so they must leave its bytes too.
    root, _, variant = name.partition("@")
    return (_rank(root, _FIRST_METHODS), root, _rank(variant, _FIRST_VARIANTS), variant)


def attack_order(name: str) -> tuple[bool, str]:
    """Return a sort key: ``unpoisoned``, then the alphabet."""
    return (is_poisoned(name), name)


def objective_order(name: str) -> tuple[int, str, str]:
    """Return a sort key: the default grid, other plain objectives, defending ones, the alphabet."""
    root, _, variant = name.partition("@")
    return (_rank(root, _FIRST_OBJECTIVES), root, variant)


def victim_order(victim: Place) -> tuple[Any, ...]:
    """Return a sort key: corpus, attack, objective, seed."""
    names = attack_order(victim.attack), objective_order(victim.objective)
    return (victim.corpus, *names, victim.seed)


def titles(victims: Iterable[Place]) -> dict[Place, str]:
    """Return a title for each victim, with the corpus and the seed only where they differ."""
    distinct = set(victims)
    several_corpora = len({victim.corpus for victim in distinct}) > 1
    several_seeds = len({victim.seed for victim in distinct}) > 1
    return {
        victim: f"{f'{victim.corpus}, ' if several_corpora else ''}{victim.attack}, "
        f"{victim.objective}{f', seed {victim.seed}' if several_seeds else ''}"
        for victim in distinct
    }


def _rank(name: str, first: tuple[str, ...]) -> int:
    return first.index(name) if name in first else len(first)
