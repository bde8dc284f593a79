"""The two training loops that `scripts/throughput.py` compares, each taking a turn, and on what."""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from clipmend.data.images import decode_all
from clipmend.data.pairs import table_of
from clipmend.data.row_groups import Encoded
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.data.streaming import EncodedImages
from clipmend.data.writer import write_split
from clipmend.methods.sources.scenes import Scenes
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, model_config
from clipmend.model.fit import Batch, Schedule, Task, fit
from clipmend.model.openclip import open_clip

# isort: split
# After `clipmend.model.openclip`, which makes torchvision importable.
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch

WARM_UP = 5  # steps before the first window: memory is claimed, algorithms are chosen


class EnoughError(Exception):
    """The time of a turn is over."""


@dataclass
class Clock:
    """Times windows of steps; ends a turn when its time is over.

    Attributes:
        window: steps in a window.
        seconds: of a turn, after the warm-up; at least two windows are timed.
    """

    device: str
    window: int
    seconds: float
    steps: int = 0
    walls: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Note that a step begins.

        Raises:
            EnoughError: the turn is over.
        """
        self.steps += 1
        if self.steps <= WARM_UP or (self.steps - WARM_UP - 1) % self.window:
            return
        wait(self.device)
        self.walls.append(time.perf_counter())
        self.used.append(time.process_time())
        if len(self.walls) > 2 and self.walls[-1] - self.walls[0] >= self.seconds:
            raise EnoughError

    def lasted(self) -> float:
        """Return the seconds between the first window's begin and the last one's end."""
        return self.walls[-1] - self.walls[0] if self.walls else 0.0


@dataclass(frozen=True)
class Setting:
    """What both loops train, and on what."""

    model: str
    net: nn.Module
    config: Mapping[str, Any]
    pairs: Pairs
    batch: int
    device: str
    workers: int

    @property
    def format(self) -> str:
        """What images are encoded as, where they lie in files."""
        return "jpeg" if self.device == "cuda" else "png"

    def clip(self) -> Clip:
        """Return our model with the setting's weights."""
        return Clip(copy.deepcopy(self.net), dict(self.config)).to(self.device)


def wait(device: str) -> None:
    """Let all that was asked of the device be done."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def their_flags() -> Iterator[None]:
    """Set what `open_clip_train.main` sets, and put ours back after."""
    backends = torch.backends
    torch.use_deterministic_algorithms(False)
    backends.cudnn.benchmark, tf32 = True, backends.cuda.matmul.allow_tf32
    backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
        backends.cudnn.benchmark, backends.cuda.matmul.allow_tf32 = False, tf32


def ours(setting: Setting, clock: Clock, *, prune_vocabulary: bool = False) -> None:
    """Take a turn with our loop."""
    model = setting.clip()
    if prune_vocabulary:
        model.prune_vocabulary(setting.pairs.captions)

    def ticking(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
        clock.tick()
        return multimodal(model, batch, generator)

    with suppress(EnoughError):
        fit(model, task_of(setting, ticking), stream(0, "throughput"))


def task_of(setting: Setting, loss: Any) -> Task:
    """Return the task of fitting all pairs for as long as it is let."""
    return Task(setting.pairs, loss, Schedule(epochs=10_000, batch_size=setting.batch, lr=5e-4))


def free(setting: Setting, clock: Clock) -> None:
    """Take a turn with our loop under the flags of the other."""
    with their_flags():
        ours(setting, clock)


def theirs(setting: Setting, clock: Clock, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Take a turn with open_clip's loop over batches that do not end."""
    model_cfg = dict(setting.config["model_cfg"])
    net = open_clip.CLIP(**model_cfg, output_dict=True)
    net.load_state_dict(setting.net.state_dict())
    net.to(setting.device)
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    spared = ("bn", "ln", "bias", "logit_scale")  # of weight decay, as its main does
    bare = [p for n, p in named if p.ndim < 2 or any(part in n for part in spared)]
    decayed = [p for n, p in named if not (p.ndim < 2 or any(part in n for part in spared))]
    groups = [{"params": bare, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.999), eps=1e-8)
    loader = Ticking(batches, clock)
    data = {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda _: None)}
    schedule = cosine_lr(optimizer, 5e-4, 10_000, loader.num_batches)
    settings = their_settings(setting)
    with their_flags(), suppress(EnoughError):
        loss = open_clip.ClipLoss()
        train_one_epoch(net, data, loss, 0, optimizer, None, schedule, None, settings)


def their_settings(setting: Setting) -> SimpleNamespace:
    """Return what `train_one_epoch` reads of its arguments, at their defaults."""
    return SimpleNamespace(
        device=setting.device,
        precision="amp_bf16" if setting.device == "cuda" else "fp32",
        distill=False,
        accum_freq=1,
        skip_scheduler=False,
        horovod=False,
        grad_clip_norm=None,
        batch_size=setting.batch,
        world_size=1,
        rank=0,
        local_rank=0,
        log_every_n_steps=100,
        wandb=False,
    )


class Ticking:
    """A loader that says when a step begins, before its batch is fetched."""

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], clock: Clock) -> None:
        self.num_batches = 1_000_000
        self.num_samples = 128_000_000
        self._batches, self._clock = batches, clock

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self._batches)
        while True:
            self._clock.tick()
            yield next(batches)


def ready(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """Return a few batches, normalized, tokenized and on the device: no data cost at all."""
    stated, pairs, model = setting.config["preprocess_cfg"], setting.pairs, setting.clip()
    mean, std = (torch.tensor(stated[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    found = []
    for first in range(0, min(len(pairs), 4 * setting.batch), setting.batch):
        rows = slice(first, first + setting.batch)
        images = (pairs.images[rows] / 255 - mean) / std
        tokens = model.tokenize(pairs.captions[rows])
        found.append((images.to(setting.device), tokens.to(setting.device)))
    return found


def encoded(setting: Setting) -> Iterator[bytes]:
    """Yield the images as they would lie in files."""
    for (image,) in setting.pairs.images.split(1):
        buffer = BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format=setting.format)
        yield buffer.getvalue()


def write_shards(setting: Setting, folder: Path) -> Path:
    """Write the setting's pairs as a split of several shards; return its manifest."""
    columns = {
        "id": setting.pairs.ids,
        "image": list(encoded(setting)),
        "caption": setting.pairs.captions,
        "label": [None] * len(setting.pairs),
    }
    path = folder / "train.parquet"
    write_split(table_of(columns), path, per_shard=len(setting.pairs) // 2)
    return path


def from_shards(setting: Setting, path: Path) -> Setting:
    """Return the setting with its images left in shards, as those of a large split are."""
    left = Encoded(path, setting.pairs.ids, {}, pa.chunked_array([], pa.binary()))
    side = int(setting.config["model_cfg"]["vision_cfg"]["image_size"])
    return replace(setting, pairs=replace(setting.pairs, images=EncodedImages.of(left, side)))


def of_files(setting: Setting, folder: Path) -> Iterable[tuple[Tensor, Tensor]]:
    """Return the loader that `open_clip_train` makes of a csv, over files of the same pairs."""
    from open_clip_train.data import get_csv_dataset

    rows = ["filepath\ttitle"]
    files = zip(encoded(setting), setting.pairs.captions, strict=True)
    for place, (image, caption) in enumerate(files):
        path = folder / f"{place}.{setting.format}"
        path.write_bytes(image)
        rows.append(f"{path}\t{caption}")
    listed = folder / "pairs.csv"
    listed.write_text("\n".join([rows[0], *rows[1:] * 100]) + "\n")  # an epoch that does not end
    stated = setting.config["preprocess_cfg"]
    side = int(setting.config["model_cfg"]["vision_cfg"]["image_size"])
    transform = open_clip.image_transform(
        side, is_train=True, mean=tuple(stated["mean"]), std=tuple(stated["std"])
    )
    settings = SimpleNamespace(
        train_data=str(listed),
        csv_img_key="filepath",
        csv_caption_key="title",
        csv_separator="\t",
        distributed=False,
        batch_size=setting.batch,
        workers=setting.workers,
    )
    info = get_csv_dataset(settings, transform, True, tokenizer=setting.clip().tokenizer)
    return cast("Iterable[tuple[Tensor, Tensor]]", info.dataloader)


def settings_of(arguments: argparse.Namespace) -> Iterator[Setting]:
    """Yield every setting: sizes, and batches of each."""
    for side in arguments.sizes:
        config = copy.deepcopy(model_config(arguments.model))
        config["model_cfg"]["vision_cfg"]["image_size"] = side
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            path.write_text(json.dumps(config))
            built = build(str(path), seed=0)
        net = built.net.to(memory_format=torch.contiguous_format)
        pairs = drawn(arguments.pairs, side) if side <= 32 else synthetic(arguments.pairs, side)
        for batch in arguments.batch:
            device, workers = arguments.device, arguments.workers
            yield Setting(arguments.model, net, built.config, pairs, batch, device, workers)


def drawn(count: int, side: int) -> Pairs:
    """Return drawn scenes, as the default corpus has them."""
    table = Scenes(train=count, image_size=side).split("train")
    images = zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True)
    return pairs_of(decode_all(images, count, side), tuple(table["caption"].to_pylist()))


def synthetic(count: int, side: int) -> Pairs:
    """Return smooth noise with captions of ten numbers, which tokenize as words do."""
    generator = stream(0, "throughput/pairs")
    coarse = torch.randint(256, (count, 3, side // 8, side // 8), generator=generator)
    grown = [interpolate(part.float(), (side, side)).byte() for part in coarse.split(64)]
    images = torch.cat(grown)
    words = torch.randint(1000, (count, 10), generator=generator)
    return pairs_of(images, tuple(" ".join(map(str, row)) for row in words.tolist()))


def pairs_of(images: Tensor, captions: tuple[str, ...]) -> Pairs:
    """Return clean pairs without labels."""
    count = len(captions)
    unknown, clean = torch.full((count,), -1), torch.zeros(count, dtype=torch.bool)
    return Pairs(tuple(map(str, range(count))), images, captions, unknown, clean)
