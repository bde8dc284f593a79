"""Training pairs before and after each attack, and the difference of the images."""

from textwrap import wrap

from matplotlib.figure import Figure

from clipmend.metrics.visibility import AMPLIFIED, difference
from clipmend.report import style
from clipmend.report.results import Example, Results

TITLE = "Attack gallery"
CAPTION = (
    "Training pairs before and after each attack: the clean image with its caption, the image with "
    "the trigger and the caption of the attacker, and their difference, four times as strong, on "
    "mid-gray. Shown are the first poisoned rows of the lowest seed, n = report.gallery of "
    "params.yaml pairs per attack. Caption and trigger change together. All other training pairs "
    "stay as they are, except those that an attack with two triggers gives one of them."
)
EMPTY = "No attack in this grid changes an image."
_FILLED = 0.8  # the share of a column that its image fills; captions need the rest
_LETTER = 0.062  # inches, the mean width of a letter of a caption


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot three rows per attack: clean, triggered, amplified difference."""
    attacks: dict[tuple[str, str], list[Example]] = {}
    for example in results.examples:
        attacks.setdefault((example.corpus, example.attack), []).append(example)
    if not attacks:
        return None
    columns = max(map(len, attacks.values()))
    wide = style.SINGLE if columns <= 2 else style.DOUBLE
    pitch = (wide - 0.4) / columns
    high = len(attacks) * (3 * _FILLED * pitch + 0.85)
    figure = Figure(figsize=(wide, high), layout="constrained")
    parts = figure.subfigures(len(attacks), 1, squeeze=False)
    several = len({corpus for corpus, _ in attacks}) > 1
    names = ("clean", "triggered", f"difference \N{MULTIPLICATION SIGN}{AMPLIFIED}")
    for part, ((corpus, attack), examples) in zip(parts.flat, attacks.items(), strict=True):
        part.suptitle(f"{corpus}, {attack}" if several else attack, fontsize=9, x=0.01, ha="left")
        grid = part.subplots(3, columns, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for column, example in enumerate(examples):
            _plot_example(grid[:, column], example, int(pitch / _LETTER))
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name, fontsize=7.5)
    return figure


def _plot_example(column: style.Panels, example: Example, letters: int) -> None:
    change = difference(example.clean, example.triggered)
    for axes, image in zip(column, (example.clean, example.triggered, change), strict=True):
        axes.imshow(image, interpolation="nearest")
    for axes, caption in zip(column, (example.caption, example.poisoned_caption), strict=False):
        plain = caption.replace("$", r"\$")  # matplotlib would read a price as a formula
        lines = wrap(plain, letters, max_lines=3, placeholder=" …")
        axes.set_title("\n".join(lines), fontsize=7, pad=2)
