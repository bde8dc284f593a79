"""The one training loop: a loss over batches of pairs, and a schedule."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, cos, pi
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from rich.progress import track
from torch import Tensor

from clipmend.clip.model import Clip
from clipmend.corpus.lazy import streamed
from clipmend.corpus.order import shuffled
from clipmend.corpus.splits import Pairs
from clipmend.errors import TrainingError

log = logging.getLogger(__name__)
_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Batch:
    """Pairs of one step.

    Attributes:
        rows: where each pair stands in the pairs that are fitted.
    """

    rows: Int[Tensor, " batch"]
    images: UInt8[Tensor, "batch 3 height width"]
    tokens: Int[Tensor, "batch context"]


@runtime_checkable
class Loss(Protocol):
    """What a method minimises. All its randomness comes from ``generator``.

    One that is an ``nn.Module`` too has its parameters trained along with the model's, and all its
    state in the checkpoints: a memory bank is a buffer, a frozen teacher a submodule.
    """

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW, linear warm-up, then a cosine to zero.

    A task that can tell when it is settled has another course: the peak is held until then, and
    falls to zero over ``cooldown`` more epochs.

    Attributes:
        epochs: how many; of a task that can settle, at most how many.
        lr: the peak learning rate.
        warmup: share of the steps before the peak, in [0, 1].
        weight_decay: on matrices only; biases, norms and the temperature have none.
        moves: prefixes of the names of the parameters that move; all move where it is empty.
        frozen_statistics: whether batch norm keeps the statistics it came with.
        cooldown: epochs between the settling of a task and its end.
        pace: shares of the rate that the first epochs take, one each; later ones take all of it.
    """

    epochs: int
    batch_size: int
    lr: float
    warmup: float = 0.1
    weight_decay: float = 0.1
    moves: tuple[str, ...] = ()
    frozen_statistics: bool = False
    cooldown: int = 0
    pace: tuple[float, ...] = ()


@dataclass(frozen=True)
class Task:
    """What a method asks of the loop: minimise ``loss`` over ``pairs`` on ``schedule``.

    Attributes:
        settled: asked after an epoch whether the loss has done its work.
        before_epoch: called before each epoch with its number, from 0, to prepare the loss for it.
    """

    pairs: Pairs
    loss: Loss
    schedule: Schedule
    settled: Callable[[Clip], bool] | None = None
    before_epoch: Callable[[Clip, int, torch.Generator], None] | None = None


@dataclass(frozen=True)
class Point:
    """One row of a curve file; ``measured`` is what ``watch`` returned."""

    step: int
    epoch: float
    loss: float | None
    measured: dict[str, float]


Watch = Callable[[Clip], dict[str, float]]


@dataclass(frozen=True)
class Hooks:
    """What happens around the loop without changing what it computes.

    Attributes:
        watch: measures the model at the start and after epochs.
        points: at most this many epochs are measured, evenly spaced, the last among them.
        keep: called with the number of finished epochs after each of them.
        work: a folder that survives a kill; a loop that finds its checkpoint there goes on.
        label: what the progress bar says.
    """

    watch: Watch | None = None
    points: int = 10
    keep: Callable[[int, Clip], None] | None = None
    work: Path | None = None
    label: str = "fit"


@dataclass
class _State:
    """Everything that the next epoch depends on."""

    model: Clip
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    curve: list[Point]
    epoch: int = 0
    settled: int | None = None  # the epoch after which the rate falls

    def is_over(self, schedule: Schedule) -> bool:
        """Return whether the schedule has no further epoch, or the task needs none."""
        last = schedule.epochs if self.settled is None else self.settled + schedule.cooldown
        return self.epoch >= min(last, schedule.epochs)


def fit(model: Clip, task: Task, generator: torch.Generator, hooks: Hooks = Hooks()) -> list[Point]:
    """Minimise the task's loss in place; return the curve.

    Raises:
        TrainingError: there is no pair to fit, or the loss is no longer finite.
    """
    if not len(task.pairs):
        raise TrainingError(f"{hooks.label} cannot start: it was given no pairs.")
    tokens = model.tokenise(task.pairs.captions)
    state = _start(model, task, generator)
    resumed = _resume(state, task, hooks)
    if not resumed and hooks.watch is not None:
        state.curve.append(Point(0, 0.0, None, hooks.watch(model)))
    watched = _watched(task.schedule.epochs, hooks.points)
    remaining = range(state.epoch, task.schedule.epochs)
    for epoch in track(remaining, description=hooks.label, transient=True):
        if state.is_over(task.schedule):
            break
        if task.before_epoch is not None:
            task.before_epoch(model, epoch, state.generator)
        loss = _epoch(state, task, tokens)
        state.epoch = epoch + 1
        _settle(state, task)
        if hooks.keep is not None:
            hooks.keep(state.epoch, model)
        is_watched = state.epoch in watched or state.is_over(task.schedule)
        _measure(state, task, loss, hooks, is_watched=is_watched)
        _checkpoint(state, task, hooks)
    model.eval()
    return state.curve


def fit_all(
    model: Clip, tasks: Iterable[Task], generator: torch.Generator, hooks: Hooks = Hooks()
) -> list[Point]:
    """Carry out tasks one after another in place; return one curve over all of them.

    A task is asked for when the one before it is done, and may be made from what that left. After
    a kill, tasks that were done are made again, but not fitted again.

    Raises:
        TrainingError: as ``fit``.
    """
    curve: list[Point] = []
    for place, task in enumerate(tasks):
        part = hooks
        if hooks.work is not None:
            part = replace(hooks, work=hooks.work / f"task{place}")
            (hooks.work / f"task{place}").mkdir(exist_ok=True)
        curve += _continued(curve, fit(model, task, generator, part))
    if not curve:
        curve.append(Point(0, 0.0, None, hooks.watch(model) if hooks.watch is not None else {}))
    return curve


def _continued(curve: list[Point], points: list[Point]) -> list[Point]:
    """Return the points of a further task as they stand in the curve; its start is its end."""
    if not curve:
        return points
    last = curve[-1]
    return [
        replace(point, step=last.step + point.step, epoch=last.epoch + point.epoch)
        for point in points
        if point.step
    ]


def _start(model: Clip, task: Task, generator: torch.Generator) -> _State:
    schedule = task.schedule
    for name, parameter in model.net.named_parameters():
        parameter.requires_grad_(not schedule.moves or name.startswith(schedule.moves))
    trained = [p for p in _parameters(model, task) if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    return _State(model, optimiser, generator, curve=[])


def _parameters(model: Clip, task: Task) -> list[torch.nn.Parameter]:
    """Return those of the model and of the loss, whether they move or not.

    In the order that the model has them: how a norm over them is rounded depends on it, and so do
    the bytes of all that is trained.
    """
    of_loss = task.loss.parameters() if isinstance(task.loss, torch.nn.Module) else ()
    return [*model.net.parameters(), *of_loss]


def _per_epoch(task: Task) -> int:
    return ceil(len(task.pairs) / task.schedule.batch_size)


def _rate(state: _State, task: Task, place: int) -> float:
    """Return the learning rate of the present epoch's step at ``place``, as a share of the peak."""
    pace = task.schedule.pace
    return _course(state, task, place) * (pace[state.epoch] if state.epoch < len(pace) else 1.0)


def _course(state: _State, task: Task, place: int) -> float:
    schedule, per_epoch = task.schedule, _per_epoch(task)
    step, steps = state.epoch * per_epoch + place, schedule.epochs * per_epoch
    rising = max(1, round(schedule.warmup * steps))
    if step < rising:
        return (step + 1) / rising
    if task.settled is None:
        return 0.5 * (1 + cos(pi * (step - rising) / max(1, steps - rising)))
    if state.settled is None:
        return 1.0
    return 1 - (step - state.settled * per_epoch) / max(1, schedule.cooldown * per_epoch)


def _batches(task: Task, tokens: Tensor, generator: torch.Generator) -> Iterator[Batch]:
    order = shuffled(len(task.pairs), generator)
    # One pair has nothing to be contrasted with.
    parts = [rows for rows in order.split(task.schedule.batch_size) if len(rows) > 1]
    for rows, images in zip(parts, streamed(task.pairs.images, parts), strict=True):
        yield Batch(rows, images, tokens[rows])


def _epoch(state: _State, task: Task, tokens: Tensor) -> float:
    model, schedule = state.model, task.schedule
    model.train()
    if schedule.frozen_statistics:
        freeze_statistics(model)
    losses = []
    for place, batch in enumerate(_batches(task, tokens, state.generator)):
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.lr * _rate(state, task, place)
        with _precision(model):
            loss = task.loss(model, batch, state.generator)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_parameters(model, task), _GRADIENT_NORM)
        state.optimiser.step()
        losses.append(loss.detach())
    mean = float(torch.stack(losses).mean())
    if not torch.isfinite(torch.tensor(mean)):
        raise TrainingError(
            f"The loss is {mean} in epoch {state.epoch + 1}; a learning rate below {schedule.lr} "
            "would be the first thing to try."
        )
    return mean


def _precision(model: Clip) -> torch.autocast:
    """Return bfloat16 where a GPU gains by it; a CPU computes as it is."""
    kind = model.device.type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def _settle(state: _State, task: Task) -> None:
    if task.settled is not None and state.settled is None:
        state.model.eval()
        latest = task.schedule.epochs - task.schedule.cooldown
        if state.epoch >= latest or task.settled(state.model):
            state.settled = state.epoch


def freeze_statistics(model: Clip) -> None:
    """Put batch norm into evaluation mode, so that a small odd set does not shift it."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _watched(epochs: int, points: int) -> set[int]:
    return {ceil(epochs * (point + 1) / points) for point in range(points)}


def _measure(state: _State, task: Task, loss: float, hooks: Hooks, *, is_watched: bool) -> None:
    measured = hooks.watch(state.model) if hooks.watch is not None and is_watched else {}
    step = state.epoch * _per_epoch(task)
    state.curve.append(Point(step, float(state.epoch), loss, measured))
    said = " ".join(f"{name} {value:.3f}" for name, value in measured.items() if name[:2] != "n_")
    log.info(
        "%s: epoch %d/%d loss %.4f %s", hooks.label, state.epoch, task.schedule.epochs, loss, said
    )


def _checkpoint(state: _State, task: Task, hooks: Hooks) -> None:
    if hooks.work is None:
        return
    saved: dict[str, Any] = {
        "model": state.model.net.state_dict(),
        "loss": task.loss.state_dict() if isinstance(task.loss, torch.nn.Module) else {},
        "optimiser": state.optimiser.state_dict(),
        "generator": state.generator.get_state(),
        "epoch": state.epoch,
        "settled": state.settled,
        "curve": [(p.step, p.epoch, p.loss, p.measured) for p in state.curve],
    }
    half = hooks.work / "fit.half"
    torch.save(saved, half)
    half.replace(hooks.work / "fit.pt")


def _resume(state: _State, task: Task, hooks: Hooks) -> bool:
    path = hooks.work / "fit.pt" if hooks.work is not None else None
    if path is None or not path.is_file():
        return False
    saved = torch.load(path, map_location="cpu", weights_only=True)
    state.model.net.load_state_dict(saved["model"])
    if isinstance(task.loss, torch.nn.Module):
        task.loss.load_state_dict(saved["loss"])
    state.optimiser.load_state_dict(saved["optimiser"])
    state.generator.set_state(saved["generator"])
    state.epoch, state.settled = saved["epoch"], saved["settled"]
    state.curve = [Point(*row) for row in saved["curve"]]
    log.info("%s: goes on after epoch %d", hooks.label, state.epoch)
    return True
