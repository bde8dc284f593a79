"""The stage ``poison``: an attack becomes an overlay, its triggers and a preview."""

import json

from safetensors.torch import save_file

from clipmend.data import artifacts
from clipmend.data.pairs import read_manifest, write_pairs
from clipmend.data.splits import load_rows, load_sample, read_vocabulary
from clipmend.engine.job import Job
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Attack, AttackContext
from clipmend.methods.attacks.poisoning import overlay, poison, preview, summarize
from clipmend.methods.attacks.trigger import named_tensors
from clipmend.methods.table import create
from clipmend.metrics.visibility import STRENGTH

_SAMPLE = 256  # images of `val` on which the strength of a trigger is measured


def run(job: Job) -> None:
    """Poison a corpus's training pairs.

    Reads  ``train.parquet`` (images of changed rows only), ``val.parquet`` and ``classes.json`` of
    the corpus.
    Writes ``overlay.parquet`` (schema ``OVERLAY``; only the changed rows, in manifest order),
    ``trigger.safetensors`` (the fitted tensors), ``triggers.json`` (for each trigger: target,
    number of poisons and decoys, strength, hash) and ``preview.png``.

    Raises:
        AttackError: a target is not a class of the corpus, a rule cannot select its pairs, or a
            trigger cannot be fitted or changes no image.
    """
    corpus, target = job.inputs["corpus"].folder, job.shared["target"]
    vocabulary, manifest = read_vocabulary(corpus), read_manifest(corpus / artifacts.TRAIN)
    attack: Attack = create("poison", job.method, job.settings)
    for spec in attack.specs(target):
        if spec.target not in vocabulary.classes:
            # The zero-shot classifier could never predict it: an ASR of 0 would mean nothing.
            raise AttackError(
                f"The target {spec.target!r} is not a class of this corpus. "
                f"The classes are: {', '.join(vocabulary.classes)}."
            )
    context = AttackContext(
        ids=tuple(manifest["id"].to_pylist()),
        captions=tuple(manifest["caption"].to_pylist()),
        labels=tuple(manifest["label"].to_pylist()),
        load=lambda rows: load_rows(corpus, "train", rows),
        target=target,
        templates=tuple(job.shared["target_captions"]),
        image_size=vocabulary.image_size,
        seed=job.seed or 0,
        device=job.device,
        work=job.work,
    )
    poisoned = list(poison(job.method, attack, context))
    triggers = [trigger for trigger, _ in poisoned]
    sample = load_sample(corpus, "val", _SAMPLE)
    summary = {
        "triggers": [summarize(*each, sample, len(manifest)) for each in poisoned],
        "definitions": STRENGTH,
    }
    table = overlay(corpus / artifacts.TRAIN, poisoned, vocabulary.image_size)
    write_pairs(table, job.out / artifacts.OVERLAY)
    save_file(named_tensors(triggers), job.out / artifacts.TRIGGER_TENSORS)
    (job.out / artifacts.TRIGGERS).write_text(
        json.dumps(summary, indent=1) + "\n", encoding="utf-8"
    )
    preview(triggers, sample).save(job.out / artifacts.PREVIEW)
