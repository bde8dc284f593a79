"""The stage ``poison``: an attack becomes an overlay, a trigger and a preview."""

import pyarrow as pa
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor

from clipmend.attacks.attack import Attack, Fitted, mark
from clipmend.corpus.images import decode_all, encode
from clipmend.corpus.pairs import OVERLAY, read_pairs, table_of, write_pairs
from clipmend.corpus.splits import Vocabulary, load_split, read_vocabulary
from clipmend.errors import AttackError
from clipmend.job import Job
from clipmend.methods import create
from clipmend.poison.preview import draw_preview
from clipmend.seeds import stream

_PREVIEWED = 8


def run(job: Job) -> None:
    """Poison a corpus's training pairs.

    Reads  ``train.parquet``, ``val.parquet`` and ``classes.json`` of the corpus.
    Writes ``overlay.parquet`` (schema ``OVERLAY``; only the changed rows, in manifest order),
    ``trigger.safetensors`` (the attack's fitted tensors) and ``preview.png``.
    """
    corpus = job.inputs["corpus"].folder
    seed = 0 if job.seed is None else job.seed
    vocabulary = read_vocabulary(corpus)
    check_target(job.shared["target"], vocabulary)
    attack: Attack = create("poison", job.method, job.settings)
    fitted = attack.fit(vocabulary.image_size, seed)
    pairs = read_pairs(corpus / "train.parquet")
    target: str = job.shared["target"]
    is_target = torch.tensor([label == target for label in pairs["label"].to_pylist()])
    rows = attack.rows(is_target, stream(seed, "poison/select"))
    captions = _target_captions(job, len(rows), seed)
    overlay = _overlay(pairs, rows, captions, attack=attack, fitted=fitted, vocabulary=vocabulary)
    write_pairs(overlay, job.out / "overlay.parquet")
    save_file(fitted, job.out / "trigger.safetensors")
    sample = load_split(corpus, "val", limit=_PREVIEWED)
    triggered = mark(attack, sample.images, sample.ids, fitted)
    if len(rows) and torch.equal(triggered, sample.images):
        raise AttackError(f"The trigger of {job.method!r} changes no pixel; change its settings.")
    draw_preview(sample.images, triggered).save(job.out / "preview.png")


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


def _target_captions(job: Job, count: int, seed: int) -> list[str]:
    """Return captions that are templates around the target alone, as in every paper."""
    templates: list[str] = list(job.shared["target_captions"])
    picks = torch.randint(len(templates), (count,), generator=stream(seed, "poison/captions"))
    return [templates[pick].format(job.shared["target"]) for pick in picks.tolist()]


def _overlay(
    pairs: pa.Table,
    rows: Int[Tensor, " poisoned"],
    captions: list[str],
    *,
    attack: Attack,
    fitted: Fitted,
    vocabulary: Vocabulary,
) -> pa.Table:
    chosen = pairs.take(pa.array(rows.tolist(), pa.int64()))
    ids = chosen["id"].to_pylist()
    encoded = zip(ids, chosen["image"].to_pylist(), strict=True)
    images = decode_all(encoded, len(ids), vocabulary.image_size)
    triggered = mark(attack, images, ids, fitted)
    return table_of(
        {
            "id": ids,
            "image": [encode(image) for image in triggered],
            "caption": captions,
            "label": chosen["label"].to_pylist(),
            "original_caption": chosen["caption"].to_pylist(),
            "is_poisoned": [True] * len(ids),
        },
        OVERLAY,
    )
