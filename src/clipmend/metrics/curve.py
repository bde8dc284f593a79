"""Curve files: loss, clean accuracy (CA) and attack success rate (ASR) on ``val`` over training."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from clipmend.data.splits import Vocabulary, load_sample, read_vocabulary
from clipmend.metrics.rates import attack_success_rate, clean_accuracy
from clipmend.model.checkpoint import Point
from clipmend.model.clip import Clip
from clipmend.model.fit import Measure
from clipmend.model.zero_shot import class_cosines, class_embeds

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "clean_accuracy",
    "n_clean",
    "attack_success_rate",
    "n_triggered",
)
CURVE_IMAGES = 500  # a standard error of 2 points at most, and cheap compared with an epoch


@runtime_checkable
class Trigger(Protocol):
    """What a curve needs of a trigger; ``methods.attacks.trigger.Trigger`` has it."""

    @property
    def target(self) -> str:
        """The class that the trigger stands for."""

    def __call__(
        self, images: UInt8[Tensor, "samples 3 height width"], ids: Sequence[str]
    ) -> UInt8[Tensor, "samples 3 height width"]:
        """Return the images with the trigger on them."""

    def vocabulary(self, clean: Vocabulary) -> Vocabulary:
        """Return the vocabulary with the text trigger, if there is one, in each prompt."""


def measure_on_val(
    corpus: Path, triggers: Sequence[Trigger], *, images: int = CURVE_IMAGES
) -> Measure:
    """Return a function that measures CA and ASR of a model on ``val`` while it trains.

    Args:
        corpus: the folder of the corpus.
        triggers: the triggers of the attack; the ASR is over the images of all of them.
        images: how many images of ``val`` are measured, sampled by their ids.
    """
    vocabulary = read_vocabulary(corpus)
    val = load_sample(corpus, "val", images)
    # Triggers are pure functions of image and id, so that one rendering serves all epochs.
    triggered_images = [trigger(val.images[:], val.ids) for trigger in triggers]

    def measure(model: Clip) -> dict[str, float]:
        classes = class_embeds(model, vocabulary)
        clean = clean_accuracy(class_cosines(model, val.images, classes), val.label)
        hits = count = 0
        for trigger, triggered in zip(triggers, triggered_images, strict=True):
            triggered_classes = class_embeds(model, trigger.vocabulary(vocabulary))
            cosines = class_cosines(model, triggered, triggered_classes)
            target_label = vocabulary.label_of(trigger.target)
            asr = attack_success_rate(cosines, val.label, target_label=target_label)
            # Rates are summed as counts, so that triggers weigh by their images.
            hits, count = hits + round(asr.value * asr.n), count + asr.n
        return {
            "clean_accuracy": clean.value,
            "n_clean": clean.n,
            "attack_success_rate": hits / count,
            "n_triggered": count,
        }

    return measure


def write_curve(points: Sequence[Point], path: Path) -> None:
    """Write the points as CSV with ``COLUMNS``; a number that was not measured stays empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for point in points:
            loss = "" if point.loss is None else f"{point.loss:.6g}"
            row = {"step": point.step, "epoch": point.epoch, "loss": loss, **point.measured}
            writer.writerow(row)
