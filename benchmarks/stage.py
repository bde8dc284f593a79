"""Runs a stage on a corpus of any size, as a job does, and measures it."""

import json
import tempfile
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.harness import Figures, Meter
from clipmend.data import streaming
from clipmend.data.artifacts import CLASSES, OVERLAY, TEST, TRAIN, VAL
from clipmend.data.pairs import PAIRS, table_of
from clipmend.data.writer import write_split
from clipmend.engine.job import Input, Job
from clipmend.methods.sources.scenes import Scenes

BLOCK = 8192  # pairs per batch
IN_MEMORY = 2**26  # bytes of decoded images; a larger split stays encoded in its file
TARGET: dict[str, Any] = {"target": "banana", "target_captions": ["a photo of a {}"]}
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def write_corpus(root: Path, rows: int, *, size: int, images: int, as_jpeg: bool = False) -> None:
    """Write ``rows`` training pairs with a caption each, 512 of ``val`` and ``test``, and a model.

    Args:
        size: side of the images, in pixels.
        images: how many different images the pairs share.
        as_jpeg: encode the images as JPEG instead of PNG.
    """
    folder = root / "download"
    folder.mkdir()
    scenes = Scenes(train=min(rows, images), val=512, image_size=size)
    pool = scenes.split("train")
    if as_jpeg:
        encoded = pa.array(map(_to_jpeg, pool["image"].to_pylist()), pool["image"].type)
        pool = pool.set_column(pool.schema.get_field_index("image"), "image", encoded)
    for name in (VAL, TEST):
        write_split(scenes.split("val"), folder / name)
    write_split(pa.RecordBatchReader.from_batches(PAIRS, _batches(pool, rows)), folder / TRAIN)
    classes = {"classes": list(scenes.classes), "prompts": ["a photo of a {}"], "image_size": size}
    (folder / CLASSES).write_text(json.dumps(classes))
    (root / "model.json").write_text(json.dumps(MODEL))


def _batches(pool: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
    generator = np.random.default_rng(0)
    for first in range(0, rows, BLOCK):
        numbers = range(first, min(first + BLOCK, rows))
        sample = pool.take(pa.array(generator.integers(len(pool), size=len(numbers))))
        captions = zip(sample["caption"].to_pylist(), numbers, strict=True)
        columns = {
            "id": [f"train-{number:09d}" for number in numbers],
            "image": sample["image"].combine_chunks(),
            "caption": [f"{caption}, {number}" for caption, number in captions],
            "label": sample["label"].to_pylist(),
        }
        yield from table_of(columns).to_batches()


def _to_jpeg(encoded: bytes) -> bytes:
    buffer = BytesIO()
    Image.open(BytesIO(encoded)).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def run_stage(root: str, stage: str, method: str, settings: dict[str, Any]) -> Figures:
    """Run a stage on the corpus, poison and victim below ``root``; return the figures."""
    streaming._DECODED = IN_MEMORY
    folder = Path(root)
    read: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
        "corpus": ("download", "pairs", {}, {}),
        "poison": ("poison", "badnet", {}, TARGET),
        "victim": ("pretrain", "mmcl", {}, {}),
    }
    model = {"model": str(folder / "model.json"), "pretrained": None}
    out = folder / (f"{stage}-{method}" if stage == "detect" else stage)
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        job = Job(
            cell=f"{stage}/{method}",
            stage=stage,
            method=method,
            seed=0,
            settings=settings,
            shared={"poison": TARGET, "pretrain": model}.get(stage, {}),
            device="cpu",
            inputs={
                role: Input(role, folder / source, source, made_by, 0, own, shared)
                for role, (source, made_by, own, shared) in read.items()
            },
            out=out,
            work=Path(work),
        )
        module = import_module(f"clipmend.stages.{stage}")
        with Meter() as meter:
            module.run(job)
    train = folder / "download" / TRAIN
    marks = pq.read_table(folder / "poison" / OVERLAY, columns=["is_poisoned"])["is_poisoned"]
    rows = pq.read_metadata(train).num_rows
    return meter.figures | {
        "stage": stage,
        "method": method,
        "rows": rows,
        "rate": rows / meter.figures["seconds"],
        "core_rate": rows / meter.figures["cpu"],
        "poisons": sum(marks.to_pylist()),
        "corpus_mb": train.stat().st_size / 1e6,
    }
