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
from contextlib import suppress
from datetime import date
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import rich
import torch
from loops import (
    WARM_UP,
    Clock,
    EnoughError,
    Setting,
    free,
    from_shards,
    of_files,
    ours,
    ready,
    settings_of,
    task_of,
    theirs,
    wait,
    write_shards,
)
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from clipmend.data.seeds import stream
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, fit
from clipmend.model.losses import mmcl_loss
from clipmend.model.openclip import open_clip

PARTS = ("data", "image tower", "text tower", "loss", "backward", "optimizer")
FILES = "`open_clip_train`, csv of files"
READY = "`open_clip_train`, batches ready on the device"
OURS = "`clip.fit`, whole vocabulary"
NARROWED = "`clip.fit`, vocabulary narrowed, as the stages do on a small corpus"
SHARDS = "`clip.fit`, images left in shards"
FREE = "`clip.fit`, under the flags of `open_clip_train`"


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
        self._note("optimizer")  # gradients were cleared
        engine = torch.autograd.Variable._execution_engine
        engine.queue_callback(lambda: self._note("backward"))

    def _stepped(self, *_: Any) -> None:
        self._note("optimizer")  # gradients were clipped, parameters moved

    def _note(self, part: str) -> None:
        wait(self.device)
        now = time.perf_counter()
        self.taken[-1][part] += now - self._last
        self._last = now

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each part."""
        steps = self.taken[WARM_UP:]
        return {part: statistics.median(step[part] for step in steps) for part in PARTS}


def parts(setting: Setting, steps: int, *, prune_vocabulary: bool) -> dict[str, float]:
    """Return the seconds that each part of our step takes."""
    model, loss = setting.clip(), Parts(setting.device, steps)
    if prune_vocabulary:
        model.prune_vocabulary(setting.pairs.captions)
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


def streaming(setting: Setting, clock: Clock, shards: Path) -> None:
    """Take a turn with our loop, images decoded meanwhile by processes that end with it."""
    ours(from_shards(setting, shards), clock)
    clock.used.clear()  # what those processes use is not in it


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
    shards = write_shards(setting, folder)
    found[SHARDS] = lambda setting, clock: streaming(setting, clock, shards)
    if on_gpu:
        found[FREE] = free
    else:
        found[NARROWED] = lambda setting, clock: ours(setting, clock, prune_vocabulary=True)
    return found


def compared(setting: Setting, arguments: argparse.Namespace, end: float) -> dict[str, Any]:
    """Return the figures of all who take turns with one setting, and of the parts of our step.

    Args:
        end: when it should be done, of `time.perf_counter`.
    """
    overhead = 1.0  # of a turn, in seconds: models are copied, captions tokenized
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
    steps = parts(setting, arguments.steps, prune_vocabulary=setting.device == "cpu")
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
                used = median(found, "per_core")
                yield f"| {'' if used is None else shown(used)} |\n"


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
    threads = torch.get_num_threads()
    return f"{card}{cores}, {threads} thread{'s' if threads > 1 else ''}, {versions}"


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
tokenized. *Image tower*: to the device, normalized, embedded. *Optimizer*: gradients cleared and
clipped, AdamW.

{parts}"""
LOAD = """\
*Samples/core-s* counts the processor's time alone, so that others on the machine matter less; of
images left in shards it is not known, as processes of their own decode them. The load before was
{load:.1f}.
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
