"""The stage ``detect``: every training pair gets a score, or the model as a whole a verdict."""

import json
from math import isfinite

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from clipmend.data.images import encode
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Job
from clipmend.errors import MetricError
from clipmend.methods.detectors.detector import (
    SCORES,
    VERDICT,
    Detector,
    ModelDetector,
    Suspicion,
    Verdict,
    Victim,
)
from clipmend.methods.table import create
from clipmend.model.clip import CONFIG, build, load
from clipmend.model.fit import Hooks


def run(job: Job) -> None:
    """Score the pairs that the victim was trained on, or judge the victim.

    Reads  ``train.parquet`` with the overlay; ``model`` and ``early`` of the victim.
    Writes ``scores.parquet`` (id string, score float32, and the detector's own columns), and the
    models that the detector made; a detector that judges the model writes ``model_score.json`` (the
    verdict, its numbers, what they mean, n), ``evidence.safetensors`` and ``evidence.png``.
    """
    corpus, poison = job.inputs["corpus"].folder, job.inputs["poison"].folder
    victim_folder = job.inputs["victim"].folder
    train = load_split(corpus, "train", overlay=poison / "overlay.parquet").blind()
    victim = Victim(
        model=load(victim_folder).prune_vocabulary(train.captions).to(job.device),
        early=load(victim_folder, "early.safetensors")
        .prune_vocabulary(train.captions)
        .to(job.device),
        trusted=lambda: load_split(corpus, "trusted").blind(),
        fresh=lambda seed: build(str(victim_folder / CONFIG), seed=seed).to(job.device),
    )
    detector: Detector | ModelDetector = create("detect", job.method, job.settings)
    generator = stream(0 if job.seed is None else job.seed, f"detect/{job.method}")
    found = detector(victim, train, generator, Hooks(work=job.work, label=job.cell))
    if isinstance(found, Verdict):
        _write_verdict(job, found)
    else:
        _write_suspicion(job, train, found)


def _write_suspicion(job: Job, train: Pairs, found: Suspicion) -> None:
    if not torch.isfinite(found.score).all():
        raise MetricError(
            f"{job.cell}: {int((~found.score.isfinite()).sum())} scores are not finite."
        )
    pq.write_table(_scores(train, found), job.out / SCORES, write_statistics=False)
    for name, model in found.models.items():
        model.save(job.out, name)


def _write_verdict(job: Job, found: Verdict) -> None:
    strange = [name for name, value in found.numbers.items() if not isfinite(value)]
    if strange:
        raise MetricError(f"{job.cell}: {', '.join(strange)} is not finite.")
    stated = {
        "cell": job.cell,
        "method": job.method,
        "seed": job.seed,
        "is_backdoored": found.is_backdoored,
        "found": found.found,
        "statistic": found.statistic,
        "threshold": found.threshold,
        "numbers": found.numbers,
        "definitions": found.definitions,
        "n_images": found.n_images,
    }
    (job.out / VERDICT).write_text(json.dumps(stated, indent=1, sort_keys=True) + "\n")
    if found.evidence:
        save_file(found.evidence, job.out / "evidence.safetensors")
    if found.picture is not None:
        (job.out / "evidence.png").write_bytes(encode(found.picture))


def _scores(train: Pairs, found: Suspicion) -> pa.Table:
    columns = {"id": pa.array(train.ids), "score": pa.array(found.score.float().numpy())}
    for name, values in found.columns.items():
        columns[name] = pa.array(values.numpy())
    return pa.table(columns)
