"""The stage ``unlearn``: repairs that work on the training pairs, poison and all."""

from clipmend.engine.job import Job
from clipmend.methods.repairs.run import run_repair


def run(job: Job) -> None:
    """Repair a victim with the pairs that it was trained on.

    Reads  ``train.parquet`` with the overlay; the victim; ``scores.parquet`` and the models of the
    repair's detector; the trigger, for the curve alone.
    Writes ``model.safetensors``, ``open_clip_config.json`` and ``curve.csv``. A repair that reports
    a finding also writes ``finding.json`` and ``chosen.parquet`` (id, caption, text, score,
    association_before, association_after). The text is the part of the caption that was unlearned;
    an association is the cosine of the image with the direction of this text.
    """
    run_repair(job)
