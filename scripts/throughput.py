"""How fast the training loop is, beside open_clip's, and where its time goes: tables for docs/.

python scripts/throughput.py --seconds 240 > docs/results/throughput.md
python scripts/throughput.py --device cuda --sizes 64 96 128 224 --batch 128 256 --seconds 120

The two loops take turns in one process, so that what else a machine does meets both. Every line
goes to the standard error output as soon as it is measured. `open_clip_train` with files of its
own needs `pip install 'open_clip_torch[training]'`; without it that row is absent.
"""

import argparse
import copy
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import cycle, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import rich
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from clipmend.clip.fit import Batch, Schedule, Task, fit
from clipmend.clip.losses import mmcl_loss
from clipmend.clip.model import Clip, build, model_config
from clipmend.clip.multimodal import multimodal
from clipmend.clip.openclip import open_clip
from clipmend.corpus.images import decode_all
from clipmend.corpus.splits import Pairs
from clipmend.download.scenes import Scenes
from clipmend.seeds import stream

# isort: split
# After `clipmend.clip.openclip`, which makes torchvision importable.
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch

WARM_UP = 5  # steps before the first window: memory is claimed, algorithms are chosen
PARTS = ("data", "image tower", "text tower", "loss", "backward", "optimiser")
FILES = "`open_clip_train`, csv of files"
READY = "`open_clip_train`, batches ready on the device"
OURS = "`clip.fit`, whole vocabulary"
NARROWED = "`clip.fit`, vocabulary narrowed, as the stages do on a small corpus"
FREE = "`clip.fit`, under the flags of `open_clip_train`"


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


def ours(setting: Setting, clock: Clock, *, narrow: bool = False) -> None:
    """Take a turn with our loop."""
    model = setting.clip()
    if narrow:
        model.narrow(setting.pairs.captions)

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
    optimiser = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.999), eps=1e-8)
    loader = Ticking(batches, clock)
    data = {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda _: None)}
    schedule = cosine_lr(optimiser, 5e-4, 10_000, loader.num_batches)
    settings = their_settings(setting)
    with their_flags(), suppress(EnoughError):
        loss = open_clip.ClipLoss()
        train_one_epoch(net, data, loss, 0, optimiser, None, schedule, None, settings)


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
    """Return a few batches, normalised, tokenised and on the device: no data cost at all."""
    stated, pairs, model = setting.config["preprocess_cfg"], setting.pairs, setting.clip()
    mean, std = (torch.tensor(stated[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    found = []
    for first in range(0, min(len(pairs), 4 * setting.batch), setting.batch):
        rows = slice(first, first + setting.batch)
        images = (pairs.images[rows] / 255 - mean) / std
        tokens = model.tokenise(pairs.captions[rows])
        found.append((images.to(setting.device), tokens.to(setting.device)))
    return found


def of_files(setting: Setting, folder: Path) -> Iterable[tuple[Tensor, Tensor]]:
    """Return the loader that `open_clip_train` makes of a csv, over files of the same pairs."""
    from open_clip_train.data import get_csv_dataset

    rows = ["filepath\ttitle"]
    images = setting.pairs.images.split(1)
    for place, ((image,), caption) in enumerate(zip(images, setting.pairs.captions, strict=True)):
        path = folder / f"{place}.{'jpg' if setting.device == 'cuda' else 'png'}"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
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


class Parts:
    """Our loss, and how long each part of a step takes; the device is waited for between them."""

    def __init__(self, device: str, steps: int) -> None:
        self.device, self.steps = device, steps
        self.taken: list[dict[str, float]] = []
        self._last = time.perf_counter()
        self._hook = register_optimizer_step_post_hook(self._stepped)

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Return MMCL of the batch, as `multimodal` does."""
        if len(self.taken) == WARM_UP + self.steps:
            self._hook.remove()
            raise EnoughError
        self.taken.append(dict.fromkeys(PARTS, 0.0))
        self._note("data")
        images = model.encode_image(batch.images)
        self._note("image tower")
        texts = model.encode_text(batch.tokens)
        self._note("text tower")
        loss = mmcl_loss(images, texts, model.logit_scale())
        self._note("loss")
        loss.register_hook(self._backward)
        return loss

    def _backward(self, gradient: Tensor) -> None:  # noqa: ARG002
        self._note("optimiser")  # gradients were cleared
        engine = torch.autograd.Variable._execution_engine
        engine.queue_callback(lambda: self._note("backward"))

    def _stepped(self, *_: Any) -> None:
        self._note("optimiser")  # gradients were clipped, parameters moved

    def _note(self, part: str) -> None:
        wait(self.device)
        now = time.perf_counter()
        self.taken[-1][part] += now - self._last
        self._last = now

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each part."""
        steps = self.taken[WARM_UP:]
        return {part: statistics.median(step[part] for step in steps) for part in PARTS}


def parts(setting: Setting, steps: int, *, narrow: bool) -> dict[str, float]:
    """Return the seconds that each part of our step takes."""
    model, loss = setting.clip(), Parts(setting.device, steps)
    if narrow:
        model.narrow(setting.pairs.captions)
    with suppress(EnoughError):
        fit(model, task_of(setting, loss), stream(0, "throughput"))
    return loss.medians()


class Watching:
    """Samples how busy the GPU is while a turn lasts."""

    def __init__(self, device: str) -> None:
        self.found: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._is_on = device == "cuda" and importlib.util.find_spec("pynvml") is not None

    def __enter__(self) -> "Watching":
        if self._is_on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._is_on:
            self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            self.found.append(torch.cuda.utilization())


def flops(setting: Setting) -> float:
    """Return the floating-point operations of one sample's step, forward and backward."""
    net: Any = copy.deepcopy(setting.net).to("meta")
    side = int(setting.config["model_cfg"]["vision_cfg"]["image_size"])
    context = int(setting.config["model_cfg"]["text_cfg"].get("context_length", 77))
    counter = FlopCounterMode(display=False)
    with counter:
        images = net.encode_image(torch.zeros(2, 3, side, side, device="meta"))
        texts = net.encode_text(torch.zeros(2, context, dtype=torch.long, device="meta"))
        (images.sum() + texts.sum()).backward()
    return counter.get_total_flops() / 2


Turn = Callable[[Setting, Clock], None]


def turns(setting: Setting, folder: Path) -> dict[str, Turn]:
    """Return who takes turns."""
    on_gpu = setting.device == "cuda"
    found: dict[str, Turn] = {}
    if importlib.util.find_spec("webdataset") and (not on_gpu or setting.workers):
        files = of_files(setting, folder)
        found[FILES] = lambda setting, clock: theirs(setting, clock, files)
    found[READY] = lambda setting, clock: theirs(setting, clock, cycle(ready(setting)))
    found[OURS] = ours
    if on_gpu:
        found[FREE] = free
    else:
        found[NARROWED] = lambda setting, clock: ours(setting, clock, narrow=True)
    return found


def compared(setting: Setting, arguments: argparse.Namespace, end: float) -> dict[str, Any]:
    """Return the figures of all who take turns with one setting, and of the parts of our step.

    Args:
        end: when it should be done, of `time.perf_counter`.
    """
    overhead = 1.0  # of a turn, in seconds: models are copied, captions tokenised
    with tempfile.TemporaryDirectory() as folder:
        taking = turns(setting, Path(folder))
        found: dict[str, dict[str, Any]] = {name: blank() for name in taking}
        order = [(name, turn) for _ in range(arguments.rounds) for name, turn in taking.items()]
        for place, (name, turn) in enumerate(order):
            begin = time.perf_counter()
            share = (end - begin) / (len(order) - place + 1)  # the parts take a turn too
            clock = Clock(setting.device, arguments.window, max(0.0, share - overhead))
            take(setting, turn, clock, found[name])
            overhead = time.perf_counter() - begin - clock.lasted()
            said = {"who": name, "batch": setting.batch, "samples/s": median(found[name])}
            print(json.dumps(said), file=sys.stderr, flush=True)
    steps = parts(setting, arguments.steps, narrow=setting.device == "cpu")
    print(json.dumps(steps), file=sys.stderr, flush=True)
    side = setting.config["model_cfg"]["vision_cfg"]["image_size"]
    about = {"batch": setting.batch, "size": side, "flops": flops(setting)}
    return about | {"turns": found, "parts": steps}


def blank() -> dict[str, Any]:
    """Return the figures of one who has had no turn yet."""
    return {"rates": [], "per_core": [], "memory": 0, "busy": [], "lacking": ""}


def take(setting: Setting, turn: Turn, clock: Clock, into: dict[str, Any]) -> None:
    """Let one take a turn; add its figures."""
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with Watching(setting.device) as watching:
            turn(setting, clock)
    except torch.cuda.OutOfMemoryError:
        into["lacking"] = "out of memory"
    samples = clock.window * setting.batch
    into["rates"] += [samples / (end - begin) for begin, end in pairwise(clock.walls)]
    into["per_core"] += [samples / (end - begin) for begin, end in pairwise(clock.used)]
    into["busy"] += watching.found
    if setting.device == "cuda":
        into["memory"] = max(into["memory"], torch.cuda.max_memory_allocated())


def median(figures: Mapping[str, Any], of: str = "rates") -> float | None:
    """Return the median over windows; None where there is none."""
    return statistics.median(figures[of]) if figures[of] else None


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
    """Return smooth noise with captions of ten numbers, which tokenise as words do."""
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


def rate_table(runs: Iterable[Mapping[str, Any]], *, on_gpu: bool) -> Iterator[str]:
    """Yield the table of samples per second."""
    more = "peak memory, GB | GPU busy, % | TFLOP/s |" if on_gpu else "samples/core-s |"
    yield "| px | batch | loop | samples/s, median | slowest to fastest window | windows "
    yield f"| {more}\n"
    yield f"|--:|--:|---|--:|--:|--:|{'--:|' * more.count('|')}\n"
    for run in runs:
        for name, found in run["turns"].items():
            yield f"| {run['size']} | {run['batch']} | {name} "
            rate, rates = median(found), found["rates"]
            if rate is None:
                yield f"| {found['lacking'] or 'no time'} |{'|' * (2 + more.count('|'))}\n"
                continue
            span = f"{shown(min(rates))} to {shown(max(rates))}"
            yield f"| {shown(rate)} | {span} | {len(rates)} "
            if on_gpu:
                busy = median(found, "busy")
                yield f"| {found['memory'] / 1e9:.1f} | {'?' if busy is None else f'{busy:.0f}'} "
                yield f"| {rate * run['flops'] / 1e12:.1f} |\n"
            else:
                yield f"| {shown(median(found, 'per_core') or 0.0)} |\n"


def shown(rate: float) -> str:
    """Return a rate as it is printed."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


def part_table(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table of the parts of our step."""
    yield f"| px | batch | {' | '.join(f'{part}, ms' for part in PARTS)} | a step, ms |\n"
    yield f"|--:|--:|{'--:|' * (len(PARTS) + 1)}\n"
    for run in runs:
        steps = run["parts"]
        whole = sum(steps.values())
        shares = (f"{1e3 * steps[part]:.1f} ({steps[part] / whole:.0%})" for part in PARTS)
        yield f"| {run['size']} | {run['batch']} | {' | '.join(shares)} | {1e3 * whole:.1f} |\n"


def machine(device: str) -> str:
    """Return what the figures were measured on, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = f"{os.cpu_count()} cores ({names[0] if names else platform.machine()})"
    versions = f"torch {torch.__version__}, open_clip {open_clip.__version__}"
    card = f"{torch.cuda.get_device_name()}, " if device == "cuda" else ""
    return f"{card}{cores}, {torch.get_num_threads()} threads, {versions}"


PAGE = """\
# The training loop, beside open_clip's

{machine}; {today}; written by `scripts/throughput.py`.
`{model}`, {pairs:,} pairs, {precision}. The loops took {rounds} turns each, one after another;
a window is {window} steps, and the {warm_up} steps before the first are not counted.
{load}
{rates}
## Where our time goes

The median of {steps} steps of `clip.fit`, the device waited for after each part, so that a step
is a little longer than above. *Data*: pairs are picked from memory, where they lie decoded and
tokenised. *Image tower*: to the device, normalised, embedded. *Optimiser*: gradients cleared and
clipped, AdamW.

{parts}"""
LOAD = """\
*Samples/core-s* counts the processor's time alone, so that others on the machine matter less; the
load before was {load:.1f}.
"""


def page(arguments: argparse.Namespace) -> str:
    """Measure everything; return the page."""
    on_gpu, load = arguments.device == "cuda", os.getloadavg()[0]
    end = time.perf_counter() + arguments.seconds
    remaining = len(arguments.sizes) * len(arguments.batch)
    runs = []
    for setting in settings_of(arguments):
        # What building took is gone already; the rest is shared by the settings that remain.
        now = time.perf_counter()
        runs.append(compared(setting, arguments, now + (end - now) / remaining))
        remaining -= 1
        print("".join(rate_table(runs[-1:], on_gpu=on_gpu)), file=sys.stderr, flush=True)
    return PAGE.format(
        machine=machine(arguments.device),
        today=date.today().isoformat(),
        precision="bfloat16 autocast" if on_gpu else "float32",
        warm_up=WARM_UP,
        load="" if on_gpu else LOAD.format(load=load),
        rates="".join(rate_table(runs, on_gpu=on_gpu)),
        parts="".join(part_table(runs)),
        **{name: vars(arguments)[name] for name in ("model", "pairs", "rounds", "window", "steps")},
    )


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", help="default: scene_resnet on a CPU, RN50 on a GPU")
    parser.add_argument("--sizes", type=int, nargs="+", help="of images, px; default: 32 or 224")
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--pairs", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=60, help="for all of it, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=5, help="steps that are timed together")
    parser.add_argument("--steps", type=int, default=20, help="of ours whose parts are timed")
    parser.add_argument("--workers", type=int, default=0, help="of the loader of files")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    arguments.model = arguments.model or ("RN50" if on_gpu else "scene_resnet")
    arguments.sizes = arguments.sizes or ([224] if on_gpu else [32])
    torch.set_num_threads(arguments.threads)
    rich.reconfigure(quiet=True)  # no progress bars between the figures
    print(page(arguments), end="")


if __name__ == "__main__":
    main()
