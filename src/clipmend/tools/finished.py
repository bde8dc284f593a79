"""The finished cells of the run in this folder, by name."""

from clipmend.engine import cards
from clipmend.engine.cell import RESULTS, Place
from clipmend.engine.index import Index
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError, suggestion


def finished(place: Place, index: Index) -> Input:
    """Return a cell of ``results/`` whose files are as its card says.

    Raises:
        ArtifactError: the cell is not in ``results/``, or it is damaged, or its card is.
    """
    folder = RESULTS / place.path
    card = cards.read(folder)
    if card is None or card["cell"] != place.path:
        made = [f"{place.stage}/{name}" for name, _ in cards.below(RESULTS / place.stage)]
        near, _, _ = suggestion(place.path, made).partition("Known: ")
        none = "" if made else f"This folder has no finished cell of `{place.stage}`."
        raise ArtifactError(f"{folder} is not a finished cell. {near or none}".strip())
    if missing := {"stage", "method", "seed", "settings", "shared"} - card.keys():
        raise ArtifactError(f"{folder} cannot be used: its card lacks {min(missing)}.")
    if (damage := cards.damage(folder, card, index)) is not None:
        raise ArtifactError(f"{folder} cannot be used: its {damage}. `snakemake` makes it again.")
    return Input.of_card(place.path, folder, card)


def place_of(name: str) -> Place:
    """Return the place of a cell, named by its path with or without ``results/``.

    Raises:
        PlanError: no stage has a cell of such a name.
    """
    return Place.parse(name.strip("/").removeprefix(f"{RESULTS}/"))
