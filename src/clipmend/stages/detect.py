"""The stage ``detect``: a detector scores every training pair, or the model as a whole."""

import json
from functools import cache
from math import isfinite

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from clipmend.data import artifacts
from clipmend.data.images import encode
from clipmend.data.seeds import stream
from clipmend.data.splits import load_split
from clipmend.engine.job import Job
from clipmend.errors import MetricError
from clipmend.methods.interfaces import Assets, Detector, ModelDetector, ModelScore, PairScores
from clipmend.methods.table import create
from clipmend.model.clip import Clip, build, load
from clipmend.model.fit import Hooks


def run(job: Job) -> None:
    """Score the pairs that the victim was trained on, or the victim.

    Reads  ``train.parquet`` with the overlay; the victim's final and early model; where the
    detector needs them, ``trusted.parquet``.
    Writes ``scores.parquet`` (id string, score float32, and the detector's own columns) and the
    detector's models. A model detector writes ``model_score.json``, ``evidence.safetensors`` and
    ``evidence.png`` instead.
    """
    detector: Detector | ModelDetector = create("detect", job.method, job.settings)
    generator = stream(job.seed or 0, f"detect/{job.method}")
    assets = _assets(job)
    scores = detector(assets, generator, Hooks(work=job.work, label=job.cell))
    if isinstance(scores, ModelScore):
        _write_model_score(job, scores)
    else:
        _write_pair_scores(job, assets.train().ids, scores)


def _assets(job: Job) -> Assets:
    corpus, victim = job.inputs["corpus"].folder, job.inputs["victim"].folder
    overlay = job.inputs["poison"].folder / artifacts.OVERLAY
    train = load_split(corpus, "train", overlay=overlay).blind()

    def ready(model: Clip) -> Clip:
        return model.prune_vocabulary(train.captions).to(job.device)

    return Assets(
        model=ready(load(victim)),
        train=lambda: train,
        trusted=cache(lambda: load_split(corpus, "trusted").blind()),
        early=lambda: ready(load(victim, artifacts.EARLY_MODEL)),
        # Not pruned: a detector may train this model on other pairs.
        fresh=lambda seed: build(str(victim / artifacts.MODEL_CONFIG), seed=seed).to(job.device),
    )


def _write_pair_scores(job: Job, ids: tuple[str, ...], scores: PairScores) -> None:
    strange = int((~torch.isfinite(scores.score)).sum())
    if strange:
        raise MetricError(f"{job.cell}: {strange} scores are not finite.")
    columns = {"id": pa.array(ids), "score": pa.array(scores.score.float().numpy())}
    columns |= {name: pa.array(values.numpy()) for name, values in scores.columns.items()}
    # Statistics would only add bytes: every reader takes whole columns.
    pq.write_table(pa.table(columns), job.out / artifacts.SCORES, write_statistics=False)
    for name, model in scores.models.items():
        model.save(job.out, name)


def _write_model_score(job: Job, score: ModelScore) -> None:
    strange = [name for name, value in score.numbers.items() if not isfinite(value)]
    if strange:
        raise MetricError(f"{job.cell}: {', '.join(strange)} is not finite.")
    content = {
        "cell": job.cell,
        "method": job.method,
        "seed": job.seed,
        "is_backdoored": score.is_backdoored,
        "found": score.found,
        "statistic": score.statistic,
        "threshold": score.threshold,
        "numbers": score.numbers,
        "definitions": score.definitions,
        "n_images": score.n_images,
    }
    text = json.dumps(content, indent=1, sort_keys=True)
    (job.out / artifacts.MODEL_SCORE).write_text(text + "\n", encoding="utf-8")
    if score.evidence:
        save_file(score.evidence, job.out / artifacts.EVIDENCE_TENSORS)
    if score.picture is not None:
        (job.out / artifacts.EVIDENCE_IMAGE).write_bytes(encode(score.picture))
