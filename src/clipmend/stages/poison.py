"""The stage ``poison``: an attack becomes an overlay, its triggers and a preview."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from clipmend.data.pairs import read_manifest, write_pairs
from clipmend.data.splits import Pairs, Vocabulary, load_rows, load_sample, read_vocabulary
from clipmend.engine.job import Job
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Poisoning, mark
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.planting import Plant, named_tensors, overlay, plants
from clipmend.methods.attacks.preview import draw_preview
from clipmend.methods.attacks.trigger import trigger_name
from clipmend.methods.table import create
from clipmend.metrics.visibility import STRENGTH, strength

_PREVIEWED = 8
_MEASURED = 256  # images of `val` on which the strength of a trigger is measured


def run(job: Job) -> None:
    """Poison a corpus's training pairs.

    Reads  ``train.parquet`` (of rows that are not changed no image), ``val.parquet`` and
    ``classes.json`` of the corpus.
    Writes ``overlay.parquet`` (schema ``OVERLAY``; only the changed rows, in manifest order),
    ``trigger.safetensors`` (the attack's fitted tensors), ``triggers.json`` (what each trigger
    stands for, its poisons and pairs of one key, its strength, its hash) and ``preview.png``.
    """
    corpus = job.inputs["corpus"].folder
    vocabulary, target = read_vocabulary(corpus), job.shared["target"]
    poisoning: Poisoning = create("poison", job.method, job.settings)
    for part in poisoning.parts(target):
        check_target(part.target, vocabulary)
    train = corpus / "train.parquet"
    manifest = read_manifest(train)
    known = _knowledge(job, corpus, vocabulary, manifest["id"], manifest["caption"])
    planted = list(plants(poisoning, target, manifest["label"].to_pylist(), known))
    sample = load_sample(corpus, "val", _MEASURED)
    stated = {
        "triggers": [_stated(plant, job.method, sample, len(manifest)) for plant in planted],
        "definitions": STRENGTH,
    }
    write_pairs(overlay(train, planted, vocabulary.image_size), job.out / "overlay.parquet")
    save_file(dict(named_tensors(planted)), job.out / "trigger.safetensors")
    (job.out / "triggers.json").write_text(json.dumps(stated, indent=1) + "\n")
    shown = sample.take(torch.arange(min(_PREVIEWED, len(sample))))
    marked = [mark(p.part.attack, shown.images[:], shown.ids, p.fitted) for p in planted]
    draw_preview(shown.images[:], marked).save(job.out / "preview.png")


def check_target(target: str, vocabulary: Vocabulary) -> None:
    """Refuse a target that the zero-shot classifier could never predict.

    Raises:
        AttackError: ``target`` is no class of the corpus.
    """
    if target not in vocabulary.classes:
        raise AttackError(
            f"The target {target!r} is no class of this corpus; "
            f"`poison.target` may be one of: {', '.join(vocabulary.classes)}."
        )


def _knowledge(
    job: Job, corpus: Path, vocabulary: Vocabulary, ids: Any, captions: Any
) -> Knowledge:
    return Knowledge(
        ids=tuple(ids.to_pylist()),
        captions=tuple(captions.to_pylist()),
        is_target=torch.zeros(len(ids), dtype=torch.bool),
        is_free=torch.ones(len(ids), dtype=torch.bool),
        pairs=lambda rows: load_rows(corpus, "train", rows),
        target=job.shared["target"],
        templates=tuple(job.shared["target_captions"]),
        image_size=vocabulary.image_size,
        seed=0 if job.seed is None else job.seed,
        device=job.device,
        work=job.work,
    )


def _stated(plant: Plant, method: str, sample: Pairs, pairs: int) -> dict[str, Any]:
    """Return what ``triggers.json`` says of a trigger.

    Its hash is of what it does to these images: equal triggers have equal ones, whatever their
    names, and triggers of one name but other settings have not.

    Raises:
        AttackError: it was to mark images, and leaves each as it is.
    """
    triggered = mark(plant.part.attack, sample.images[:], sample.ids, plant.fitted)
    found = strength(sample.images[:], triggered)
    poisons = len(plant.planted.rows)
    if found is None and poisons:
        raise AttackError(f"The trigger of {method!r} changes no pixel; change its settings.")
    return {
        "name": trigger_name(method, plant.part.name),
        "target": plant.part.target,
        "text": _text(plant),
        "poisons": poisons,
        "poison_rate": poisons / pairs,
        "image_only": len(plant.planted.image_only),
        "text_only": len(plant.planted.text_only),
        "strength": None if found is None else found.as_dict(),
        "sha256": sha256(triggered.numpy().tobytes()).hexdigest(),
    }


def _text(plant: Plant) -> str | None:
    """Return how a prompt looks under the trigger, where it changes prompts."""
    prompt = "{}"
    changed = plant.part.attack.prompt(prompt)
    return None if changed == prompt else changed
