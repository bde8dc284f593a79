"""Curve files: loss, CA and ASR on `val`, over training."""

import csv
from collections.abc import Sequence
from pathlib import Path

from clipmend.data.splits import load_sample, read_vocabulary
from clipmend.methods.attacks.trigger import Trigger
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


CURVE_IMAGES = 500  # a standard error of 2 points at most, and cheap beside an epoch


def measure_on_val(corpus: Path, triggers: Sequence[Trigger], *, images: int = CURVE_IMAGES) -> Measure:
    """Return what measures CA and ASR on images of ``val``, drawn by id, while a model trains.

    Of several triggers the ASR is over all of their images.
    """
    vocabulary = read_vocabulary(corpus)
    val = load_sample(corpus, "val", images)
    marked = [trigger(val.images[:], val.ids) for trigger in triggers]

    def measure(model: Clip) -> dict[str, float]:
        classes = class_embeds(model, vocabulary)
        clean = clean_accuracy(class_cosines(model, val.images, classes), val.label)
        hits = count = 0
        for trigger, triggered in zip(triggers, marked, strict=True):
            shown = class_embeds(model, trigger.vocabulary(vocabulary))
            cosines = class_cosines(model, triggered, shown)
            target_label = vocabulary.label_of(trigger.target)
            attacked = attack_success_rate(cosines, val.label, target_label=target_label)
            hits, count = hits + round(attacked.value * attacked.n), count + attacked.n
        return {
            "clean_accuracy": clean.value,
            "n_clean": clean.n,
            "attack_success_rate": hits / count,
            "n_triggered": count,
        }

    return measure


def write_curve(points: Sequence[Point], path: Path) -> None:
    """Write the points as CSV with ``COLUMNS``; what was not measured stays empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for point in points:
            loss = "" if point.loss is None else f"{point.loss:.6g}"
            row = {"step": point.step, "epoch": point.epoch, "loss": loss, **point.measured}
            writer.writerow(row)
