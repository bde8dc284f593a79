"""Speed of the training loop beside that of open_clip, and the time of each part of a step.

python -m benchmarks.throughput --seconds 20 > benchmarks/results/throughput.md
python -m benchmarks.throughput --device cuda --sizes 64 96 128 224 --batch 128 256

The loops take turns in one process, so that other work on the machine slows both.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import cycle, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import rich
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.harness import Figures, machine, page, table
from clipmend.data.artifacts import TRAIN
from clipmend.data.pairs import table_of
from clipmend.data.row_groups import Encoded
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.data.streaming import EncodedImages
from clipmend.data.writer import write_split
from clipmend.model.architecture import model_config
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss
from clipmend.model.openclip import open_clip

# isort: split
# After `clipmend.model.openclip`, which makes torchvision importable.
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch

WARM_UP = 5  # steps before the first window: memory is claimed, algorithms are chosen
PARTS = ("data", "image tower", "text tower", "loss", "backward", "optimizer")
LR = 5e-4
Batches = Iterable[tuple[Tensor, Tensor]]
HEAD = (
    "px | batch | loop | samples/s, median | slowest to fastest window | windows "
    "| samples/core-s | peak memory of the GPU, GB"
)
ROW = (
    "{size} | {batch} | {loop} | {rate:,.4g} | {slowest:,.4g} to {fastest:,.4g} | {windows} "
    "| {core_rate:,.4g} | {memory:.1f}"
)


class TurnEnd(Exception):  # noqa: N818
    """The time of a turn is over."""


@dataclass
class Clock:
    """Times windows of ``window`` steps; ends a turn after ``seconds`` and two windows."""

    device: str
    window: int
    seconds: float
    steps: int = 0
    walls: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Note that a step begins.

        Raises:
            TurnEnd: the turn is over.
        """
        self.steps += 1
        if self.steps <= WARM_UP or (self.steps - WARM_UP - 1) % self.window:
            return
        synchronize(self.device)
        self.walls.append(time.perf_counter())
        self.cores.append(time.process_time())
        if len(self.walls) > 2 and self.walls[-1] - self.walls[0] >= self.seconds:
            raise TurnEnd


class PartTimer:
    """Our loss, timed: the seconds of each part of a step."""

    def __init__(self, device: str, steps: int) -> None:
        self.device, self.steps = device, steps
        self.seconds: list[dict[str, float]] = []
        self._last = time.perf_counter()
        self._hook = register_optimizer_step_post_hook(lambda *_: self._note("optimizer"))

    def __call__(self, model: Clip, batch: Batch, _: torch.Generator) -> Tensor:
        """Return the multimodal contrastive loss of the batch, as ``multimodal`` does."""
        if len(self.seconds) == WARM_UP + self.steps:
            self._hook.remove()
            raise TurnEnd
        self.seconds.append(dict.fromkeys(PARTS, 0.0))
        self._note("data")
        images = model.encode_image(batch.images)
        self._note("image tower")
        texts = model.encode_text(batch.tokens)
        self._note("text tower")
        loss = mmcl_loss(images, texts, model.logit_scale())
        self._note("loss")
        loss.register_hook(self._before_backward)
        return loss

    def _before_backward(self, _: Tensor) -> None:
        self._note("optimizer")  # until here the loop cleared gradients
        engine = torch.autograd.Variable._execution_engine
        engine.queue_callback(lambda: self._note("backward"))

    def _note(self, part: str) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[-1][part] += now - self._last
        self._last = now


@dataclass(frozen=True)
class Setting:
    """The model and the pairs that every loop trains."""

    net: nn.Module
    config: Mapping[str, Any]
    pairs: Pairs
    batch: int
    device: str

    @property
    def size(self) -> int:
        """Side of the images, in pixels."""
        return int(self.config["model_cfg"]["vision_cfg"]["image_size"])

    def clip(self) -> Clip:
        """Return our model with the setting's weights."""
        return Clip(copy.deepcopy(self.net), dict(self.config)).to(self.device)


def synchronize(device: str) -> None:
    """Wait until the device has done all work."""
    if device == "cuda":
        torch.cuda.synchronize()


def train_ours(setting: Setting, clock: Clock, *, prune_vocabulary: bool = False) -> None:
    """Take a turn with our loop."""

    def loss(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
        clock.tick()
        return multimodal(model, batch, generator)

    run_fit(setting, loss, prune_vocabulary=prune_vocabulary)


def run_fit(setting: Setting, loss: Any, *, prune_vocabulary: bool) -> None:
    """Fit all pairs until ``loss`` ends the turn."""
    model = setting.clip()
    if prune_vocabulary:
        model.prune_vocabulary(setting.pairs.captions)
    schedule = Schedule(epochs=10_000, batch_size=setting.batch, lr=LR)
    with suppress(TurnEnd):
        fit(model, Task(setting.pairs, loss, schedule), stream(0, "throughput"))


@contextmanager
def flags_of_open_clip() -> Iterator[None]:
    """Set the flags of `open_clip_train.main`, and restore ours after."""
    backends = torch.backends
    torch.use_deterministic_algorithms(False)
    backends.cudnn.benchmark, tf32 = True, backends.cuda.matmul.allow_tf32
    backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
        backends.cudnn.benchmark, backends.cuda.matmul.allow_tf32 = False, tf32


def train_theirs(setting: Setting, clock: Clock, batches: Batches) -> None:
    """Take a turn with open_clip's loop, over batches that do not end."""
    net = open_clip.CLIP(**setting.config["model_cfg"], output_dict=True)
    net.load_state_dict(setting.net.state_dict())
    net.to(setting.device)
    # As open_clip's main does: no weight decay of biases and norms.
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in net.named_parameters():
        is_decayed = parameter.ndim >= 2 and not any(
            part in name for part in ("bn", "ln", "bias", "logit_scale")
        )
        groups[is_decayed].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": group, "weight_decay": 0.2 * is_on} for is_on, group in groups.items()],
        lr=LR,
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    loader = Ticking(batches, clock)
    data = {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda _: None)}
    # What `train_one_epoch` reads of its command line, at the defaults.
    options: dict[str, Any] = dict.fromkeys(
        ("distill", "skip_scheduler", "horovod", "wandb"), False
    )
    options |= {"accum_freq": 1, "grad_clip_norm": None, "log_every_n_steps": 100}
    options |= {"world_size": 1, "rank": 0, "local_rank": 0, "batch_size": setting.batch}
    precision = "amp_bf16" if setting.device == "cuda" else "fp32"
    options |= {"device": setting.device, "precision": precision}
    schedule = cosine_lr(optimizer, LR, 10_000, loader.num_batches)
    with flags_of_open_clip(), suppress(TurnEnd):
        loss = open_clip.ClipLoss()
        settings = SimpleNamespace(**options)
        train_one_epoch(net, data, loss, 0, optimizer, None, schedule, None, settings)


class Ticking:
    """A loader that tells the clock when a step begins, before it fetches the batch."""

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self.num_batches, self.num_samples = 1_000_000, 128_000_000
        self._batches, self._clock = batches, clock

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self._batches)
        while True:
            self._clock.tick()
            yield next(batches)


def ready_batches(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """Return four batches, normalized, tokenized and on the device: the data costs nothing."""
    preprocess, pairs, model = setting.config["preprocess_cfg"], setting.pairs, setting.clip()
    mean, std = (torch.tensor(preprocess[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    batches = []
    for first in range(0, min(len(pairs), 4 * setting.batch), setting.batch):
        rows = slice(first, first + setting.batch)
        images = (pairs.images[rows] / 255 - mean) / std
        tokens = model.tokenize(pairs.captions[rows])
        batches.append((images.to(setting.device), tokens.to(setting.device)))
    return batches


def with_shards(setting: Setting, folder: Path) -> Setting:
    """Return the setting with its images encoded in shards, as those of a large split are."""
    encoded = []
    for (image,) in setting.pairs.images.split(1):
        buffer = BytesIO()
        form = "jpeg" if setting.device == "cuda" else "png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format=form)
        encoded.append(buffer.getvalue())
    columns = {
        "id": setting.pairs.ids,
        "image": encoded,
        "caption": setting.pairs.captions,
        "label": [None] * len(setting.pairs),
    }
    path = folder / TRAIN
    write_split(table_of(columns), path, per_shard=len(setting.pairs) // 2)
    split = Encoded(path, setting.pairs.ids, {}, pa.chunked_array([], pa.binary()))
    images = EncodedImages(split, setting.size)
    return replace(setting, pairs=replace(setting.pairs, images=images))


def loops(setting: Setting, folder: Path) -> dict[str, Callable[[Clock], None]]:
    """Return the loops that take turns, by their name on the page."""
    on_gpu, shards = setting.device == "cuda", with_shards(setting, folder)
    ready, whole = cycle(ready_batches(setting)), partial(train_ours, setting)
    turns: dict[str, Callable[[Clock], None]] = {
        "`open_clip_train`, batches on the device": partial(train_theirs, setting, batches=ready),
        "`clip.fit`, whole vocabulary": whole,
        "`clip.fit`, images in shards": partial(train_ours, shards),
    }
    if on_gpu:
        turns["`clip.fit`, flags of `open_clip_train`"] = flags_of_open_clip()(whole)
    else:
        pruned = partial(train_ours, setting, prune_vocabulary=True)
        turns["`clip.fit`, vocabulary pruned, as the stages do"] = pruned
    return turns


def compare(setting: Setting, options: argparse.Namespace) -> list[Figures]:
    """Let every loop take its turns; return the figures of each."""
    on_gpu, clocks = setting.device == "cuda", defaultdict(list)
    memory: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        for name, turn in list(loops(setting, Path(folder)).items()) * options.rounds:
            clock = Clock(setting.device, options.window, options.seconds)
            clocks[name].append(clock)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            with suppress(torch.cuda.OutOfMemoryError):
                turn(clock)
            if on_gpu:
                memory[name] = max(memory[name], torch.cuda.max_memory_allocated() / 1e9)
    samples, runs = options.window * setting.batch, []
    for name, turns in clocks.items():
        rates = [samples / (b - a) for clock in turns for a, b in pairwise(clock.walls)]
        per_core = [samples / (b - a) for clock in turns for a, b in pairwise(clock.cores)]
        rates, per_core = rates or [math.nan], per_core or [math.nan]  # out of memory
        rate = statistics.median(rates)
        runs.append(
            {"size": setting.size, "batch": setting.batch, "loop": name, "windows": len(rates)}
            | {"rate": rate, "slowest": min(rates), "fastest": max(rates)}
            | {"core_rate": statistics.median(per_core), "memory": memory[name]}
        )
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    return runs


def time_parts(setting: Setting, steps: int) -> Figures:
    """Return the median milliseconds of each part of our step, and of the step."""
    timer = PartTimer(setting.device, steps)
    run_fit(setting, timer, prune_vocabulary=setting.device == "cpu")
    timed = timer.seconds[WARM_UP:]
    parts = {part: 1e3 * statistics.median(step[part] for step in timed) for part in PARTS}
    return parts | {"step": sum(parts.values()), "size": setting.size, "batch": setting.batch}


def settings_of(options: argparse.Namespace) -> Iterator[Setting]:
    """Yield every size with every batch."""
    for size in options.sizes:
        config = copy.deepcopy(model_config(options.model))
        config["model_cfg"]["vision_cfg"]["image_size"] = size
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            path.write_text(json.dumps(config))
            built = build(str(path), seed=0)
        net, pairs = built.net.to(memory_format=torch.contiguous_format), noise(options.pairs, size)
        for batch in options.batch:
            yield Setting(net, built.config, pairs, batch, options.device)


def noise(count: int, size: int) -> Pairs:
    """Return clean pairs of smooth noise and ten numbers, which tokenize as words do."""
    generator = stream(0, "throughput/pairs")
    coarse = torch.randint(256, (count, 3, size // 8, size // 8), generator=generator)
    images = [interpolate(part.float(), (size, size)).byte() for part in coarse.split(64)]
    words = torch.randint(1000, (count, 10), generator=generator)
    captions = tuple(" ".join(map(str, row)) for row in words.tolist())
    unknown, clean = torch.full((count,), -1), torch.zeros(count, dtype=torch.bool)
    return Pairs(tuple(map(str, range(count))), torch.cat(images), captions, unknown, clean)


def main() -> None:
    """Measure every setting; print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", help="default: scene_resnet on a CPU, RN50 on a GPU")
    parser.add_argument("--sizes", type=int, nargs="+", help="of images, px; default: 32 or 224")
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--pairs", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=5, help="of a turn, at least two windows")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each loop")
    parser.add_argument("--window", type=int, default=5, help="steps that are timed together")
    parser.add_argument("--steps", type=int, default=20, help="steps whose parts are timed")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.model = options.model or ("RN50" if on_gpu else "scene_resnet")
    options.sizes = options.sizes or ([224] if on_gpu else [32])
    torch.set_num_threads(options.threads)
    rich.reconfigure(quiet=True)  # no progress bars between the figures
    runs, parts = [], []
    for setting in settings_of(options):
        runs += compare(setting, options)
        parts.append(time_parts(setting, options.steps))
    names = (*PARTS, "step")
    part_row = " | ".join(["{size} | {batch}", *(f"{{{name}:.1f}}" for name in names)])
    text = page(
        "throughput",
        **vars(options),
        machine=machine(options.threads),
        gpu=f"{torch.cuda.get_device_name()}, " if on_gpu else "",
        open_clip=open_clip.__version__,
        precision="bfloat16 autocast" if on_gpu else "float32",
        warm_up=WARM_UP,
        rates=table(runs, HEAD, ROW),
        parts=table(parts, " | ".join(["px | batch", *names]), part_row),
    )
    print(text, end="")


if __name__ == "__main__":
    main()
