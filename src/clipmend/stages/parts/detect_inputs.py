"""The part of ``detect`` that runs a detector of inputs on clean and on triggered images."""

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.data.input_artifacts import INPUT_SCORES
from clipmend.data.sampling import sample
from clipmend.data.seeds import stream
from clipmend.data.splits import load_sample, load_split, read_vocabulary
from clipmend.engine.cell import UNPOISONED
from clipmend.engine.job import Job
from clipmend.errors import MetricError
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.methods.input_detection import InputDetector, Operation
from clipmend.methods.table import base, create
from clipmend.model.clip import load
from clipmend.model.zero_shot import prompts_of


def run(job: Job) -> None:
    """Score images of ``val`` as they would arrive at the victim in use.

    Reads  ``val.parquet``, ``trusted.parquet`` and ``classes.json``; the victim; its triggers.
    Writes ``input_scores.parquet``, a row per image: id string, split string (``trusted`` or
    ``val``), trigger string ("" for none), score float32, flagged bool. Triggered are the images of
    classes other than the target, as in the attack success rate. Trusted images set the threshold.
    """
    detector: InputDetector = create("detect", job.method, job.settings)
    corpus, poison = job.inputs["corpus"].folder, job.inputs["poison"]
    vocabulary = read_vocabulary(corpus)
    trusted = load_split(corpus, "trusted").blind()
    if len(trusted) < 2:
        raise MetricError(
            f"{job.cell}: a detector of inputs needs 2 trusted pairs or more, one of them for its "
            f"threshold; there are {len(trusted)}."
        )
    held = sample(trusted.ids, min(detector.images, len(trusted) // 2))
    other = torch.ones(len(trusted), dtype=torch.bool)
    other[held] = False
    words = [*prompts_of(vocabulary), *trusted.captions]
    model = load(job.inputs["victim"].folder).prune_vocabulary(words).to(job.device)
    model.fold_batch_norms()
    operation = Operation(model, trusted.take(other.nonzero().flatten()), vocabulary)
    score = detector.scorer(operation, stream(job.seed or 0, f"detect/{job.method}"))

    def scored(images: UInt8[Tensor, "_ 3 height width"]) -> Float[Tensor, " _"]:
        scores = score(images).float()
        if not torch.isfinite(scores).all():
            raise MetricError(f"{job.cell}: scores are not finite.")
        return scores

    val = load_sample(corpus, "val", detector.images)
    parts = [("trusted", "", trusted.take(held).ids, scored(trusted.images[held]))]
    parts.append(("val", "", val.ids, scored(val.images[:])))
    for trigger in read_triggers(poison) if base(poison.method) != UNPOISONED else ():
        rows = (val.label != vocabulary.label_of(trigger.target)).nonzero().flatten()
        attacked = val.take(rows)
        parts.append(("val", trigger.name, attacked.ids, scored(trigger.on(attacked)[:])))
    threshold = parts[0][3].quantile(1 - detector.false_positive_rate)
    table = pa.concat_tables(
        pa.table(
            {
                "id": pa.array(ids),
                "split": pa.array([split] * len(ids)),
                "trigger": pa.array([name] * len(ids)),
                "score": pa.array(scores.numpy()),
                "flagged": pa.array((scores > threshold).numpy()),
            }
        )
        for split, name, ids, scores in parts
    )
    pq.write_table(table, job.out / INPUT_SCORES, write_statistics=False)
