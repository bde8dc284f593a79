"""The stage ``baselines``: repairs that work on trusted clean pairs."""

from clipmend.engine.job import Job
from clipmend.methods.repairs.run import run_repair


def run(job: Job) -> None:
    """Repair a victim with pairs that the defender trusts.

    Reads  ``trusted.parquet``; the victim; the trigger, for the curve alone. A control that puts
    poison among the trusted pairs also reads ``train.parquet`` with the overlay.
    Writes ``model.safetensors``, ``open_clip_config.json`` and ``curve.csv``.
    """
    run_repair(job)
