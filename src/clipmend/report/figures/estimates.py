"""Triggers that repairs estimated, beside the true ones."""

import numpy as np
from matplotlib.figure import Figure

from clipmend.metrics.visibility import difference
from clipmend.report import style
from clipmend.report.estimates import Estimated
from clipmend.report.results import Results

TITLE = "Estimated triggers"
CAPTION = (
    "Triggers that repairs estimated from the training pairs, on images that nobody suspects. From "
    "above: clean images, the same with the true trigger, with the estimated one, and the change "
    "that the estimated one makes, four times as strong, on mid-gray. The repair does not know the "
    "true trigger. The error is the root mean square of estimated minus true, divided by that of "
    "true minus clean: 0 is exact, 1 is as far as no trigger; n = 8 images, of which four are "
    "shown. Of several seeds the first is shown; controls are left out."
)
EMPTY = "No repair in this grid estimated a trigger."
_SHOWN = 4  # images of each estimate


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot a block of four rows for each estimate."""
    first: dict[tuple[str | None, ...], list[Estimated]] = {}
    for one in results.estimates:
        place = one.victim
        key = (place.corpus, place.attack, place.objective, one.method)
        others = first.setdefault(key, [])
        if all(other.victim == place for other in others):
            others.append(one)
    shown = [one for estimates in first.values() for one in estimates]
    if not shown:
        return None
    columns = min(len(shown), 3)
    wide = style.SINGLE if columns == 1 else style.DOUBLE
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(wide, rows * (wide / columns + 0.35)), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    several = len({one.victim.corpus for one in shown}) > 1
    for axes, one in zip(grid, shown, strict=False):
        parts = one.clean, one.true, one.estimated, difference(one.clean, one.estimated)
        lines = [np.concatenate(part[:_SHOWN], axis=1) for part in parts]
        axes.imshow(np.concatenate(lines), interpolation="nearest")
        where = f"{one.victim.corpus}, " if several else ""
        title = f"{where}{one.trigger}, {one.victim.objective}, {one.method}: error {one.error:.2f}"
        axes.set_title(style.fitted(title, columns), fontsize=7, pad=2)
    return figure
