"""The picture of the README: ``python -m clipmend.tools.site.picture`` in a finished default run.

It shows the first test image of some classes, clean and triggered, with the prediction of the
victim and of the repaired model. No image is chosen by its result.
"""

import sys
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from clipmend.data.splits import load_rows, load_split, read_vocabulary
from clipmend.engine.cell import Place
from clipmend.engine.index import Index
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.model.clip import load
from clipmend.model.zero_shot import class_cosines, class_embeds
from clipmend.report.style import DOUBLE, save, styled
from clipmend.tools.finished import finished

VICTIM = Place.parse("pretrain/scenes/badnet/mmcl/seed0")
REPAIR = "see_through"
SHOWN = 6
FILE = Path("docs/images/before-and-after")


def main() -> int:
    """Write the picture below the working folder, which has a finished default run."""
    index = Index()
    corpus, poison, victim, repaired = (
        finished(place, index)
        for place in (VICTIM.at("download"), VICTIM.at("poison"), VICTIM,
                      VICTIM.at("unlearn", method=REPAIR))
    )  # fmt: skip
    vocabulary = read_vocabulary(corpus.folder)
    (trigger,) = read_triggers(poison)
    target = vocabulary.label_of(trigger.target)
    label = load_split(corpus.folder, "test").label
    others = [at for at in range(len(vocabulary.classes)) if at != target][:SHOWN]
    pairs = load_rows(
        corpus.folder, "test", torch.tensor([int((label == at).nonzero()[0]) for at in others])
    )
    clean, triggered = pairs.images[:], trigger.on(pairs)[:]

    def predicted(folder: Path, images: Tensor) -> list[str]:
        model = load(folder)
        cosines = class_cosines(model, images, class_embeds(model, vocabulary))
        return [vocabulary.classes[at] for at in cosines.argmax(dim=1)]

    before, after = (predicted(model.folder, triggered) for model in (victim, repaired))
    rows = [
        ("clean image", clean, [("", predicted(victim.folder, clean))]),
        ("with the trigger", triggered, [("", before), ("after repair: ", after)]),
    ]
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save(plot(rows), FILE.parent, FILE.name, colors=256)
    FILE.with_suffix(".svg").unlink()
    return 0


@styled
def plot(rows: list[tuple[str, Tensor, list[tuple[str, list[str]]]]]) -> Figure:
    """Return a row of images for each entry, with the predictions below each image."""
    figure = Figure(figsize=(DOUBLE, 0.62 * DOUBLE / SHOWN * 2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), SHOWN, squeeze=False)
    for across, (name, images, said) in zip(panels, rows, strict=True):
        for at, axes in enumerate(across):
            _show(axes, images[at], "\n".join(f"{when}{words[at]}" for when, words in said))
        across[0].set_ylabel(name)
    return figure


def _show(axes: Axes, image: Tensor, words: str) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy())
    axes.set_xlabel(words)
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    sys.exit(main())
