"""The stage ``detect``: every training pair gets a score."""

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clipmend.clip.fit import Hooks
from clipmend.clip.model import CONFIG, build, load
from clipmend.corpus.splits import Pairs, load_split
from clipmend.detect.detector import Detector, Suspicion, Victim
from clipmend.errors import MetricError
from clipmend.job import Job
from clipmend.methods import create
from clipmend.seeds import stream


def run(job: Job) -> None:
    """Score the pairs that the victim was trained on.

    Reads  ``train.parquet`` with the overlay; ``model`` and ``early`` of the victim.
    Writes ``scores.parquet`` (id string, score float32, and the detector's own columns), and the
    models that the detector made.
    """
    corpus, poison = job.inputs["corpus"].folder, job.inputs["poison"].folder
    victim_folder = job.inputs["victim"].folder
    train = load_split(corpus, "train", overlay=poison / "overlay.parquet").blind()
    victim = Victim(
        model=load(victim_folder).narrow(train.captions).to(job.device),
        early=load(victim_folder, "early.safetensors").narrow(train.captions).to(job.device),
        trusted=lambda: load_split(corpus, "trusted").blind(),
        fresh=lambda seed: build(str(victim_folder / CONFIG), seed=seed).to(job.device),
    )
    detector: Detector = create("detect", job.method, job.settings)
    generator = stream(0 if job.seed is None else job.seed, f"detect/{job.method}")
    found = detector(victim, train, generator, Hooks(work=job.work, label=job.cell))
    if not torch.isfinite(found.score).all():
        raise MetricError(
            f"{job.cell}: {int((~found.score.isfinite()).sum())} scores are not finite."
        )
    pq.write_table(_scores(train, found), job.out / "scores.parquet", write_statistics=False)
    for name, model in found.models.items():
        model.save(job.out, name)


def _scores(train: Pairs, found: Suspicion) -> pa.Table:
    columns = {"id": pa.array(train.ids), "score": pa.array(found.score.float().numpy())}
    for name, values in found.columns.items():
        columns[name] = pa.array(values.numpy())
    return pa.table(columns)
