"""The triggers that repairs estimated, beside the true ones, which no repair knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from clipmend.engine.cell import Place
from clipmend.engine.job import Input
from clipmend.methods.attacks.trigger import Trigger, read_triggers

Strip = UInt8[np.ndarray[Any, Any], "images height width 3"]

DEFINITION = (
    "Root mean square of the difference between images with the estimated and with the true "
    "trigger, divided by that between images with the true trigger and without: 0 is exact, and "
    "1 is as far as no trigger. Of several true triggers, the nearest one counts. n is the number "
    "of images, which nobody suspects; each has the trigger once."
)


@dataclass(frozen=True)
class Estimated:
    """An estimated trigger on images that nobody suspects; all are 8-bit RGB.

    Attributes:
        word: the word of the group that the trigger was estimated from.
        trigger: the name of the true trigger that is nearest.
        error: as ``DEFINITION`` says; 0 or larger.
    """

    victim: Place
    method: str
    word: str
    trigger: str
    clean: Strip
    estimated: Strip
    true: Strip
    error: float

    @property
    def facts(self) -> dict[str, Any]:
        """What ``findings.json`` says of it."""
        error = round(self.error, 6)
        return {"word": self.word, "trigger": self.trigger, "error": error, "n": len(self.clean)}


def estimates_of(repair: Input, finding: Mapping[str, Any], poison: Input) -> Iterator[Estimated]:
    """Yield the estimates that a repair left as ``pasted-<n>.png``, in the order of its groups.

    Args:
        finding: the repair's ``finding.json``.
        poison: the cell with the true triggers; without any, nothing is yielded.
    """
    groups = finding.get("groups", ())
    triggers = read_triggers(poison) if groups else ()
    if not triggers:
        return
    for number, group in enumerate(groups, 1):
        clean, estimated = _strips(repair.folder / f"pasted-{number}.png")
        true = {trigger.name: _on(trigger, clean) for trigger in triggers}
        # A trigger may change no pixel of these images, such as a warp of plain color.
        errors = {
            name: _error(clean, estimated, images)
            for name, images in true.items()
            if (images != clean).any()
        }
        if not errors:
            continue
        nearest = min(errors, key=lambda name: errors[name])
        yield Estimated(
            repair.place.victim,
            repair.place.method or "",
            str(group["word"]),
            nearest,
            clean,
            estimated,
            true[nearest],
            errors[nearest],
        )


def _strips(file: Path) -> tuple[Strip, Strip]:
    """Return the square images of the upper and of the lower row of a picture."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    side = len(pixels) // 2
    above, below = (
        np.stack(np.split(row, row.shape[1] // side, axis=1))
        for row in (pixels[:side], pixels[side:])
    )
    return above, below


def _on(trigger: Trigger, clean: Strip) -> Strip:
    # An attack with a pattern for each image takes its id; these images may have any.
    images = torch.from_numpy(clean).permute(0, 3, 1, 2)
    marked = trigger(images, tuple(map(str, range(len(images)))))
    return marked.permute(0, 2, 3, 1).numpy()


def _error(clean: Strip, estimated: Strip, true: Strip) -> float:
    own, change = (
        np.sqrt(np.square(true.astype(float) - other.astype(float)).mean())
        for other in (estimated, clean)
    )
    return float(own / change)
