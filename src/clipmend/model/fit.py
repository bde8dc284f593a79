"""The one training loop: a loss over batches of pairs, and a schedule."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, cos, inf, pi
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from rich.progress import track
from torch import Tensor

from clipmend.data.sampling import shuffled
from clipmend.data.splits import Pairs
from clipmend.data.streaming import stream_images
from clipmend.errors import TrainingError
from clipmend.model.checkpoint import Keeper, Point, State
from clipmend.model.clip import Clip
from clipmend.model.parallel import Ranks
from clipmend.model.prefetch import prefetch

log = logging.getLogger(__name__)
_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Batch:
    """Pairs of one step.

    Attributes:
        rows: where each pair stands in the pairs that are fitted.
        images: on the CPU, pinned if the model is on a GPU; of several ranks, where the model is.
        tokens: on the CPU, pinned if the model is on a GPU.
    """

    rows: Int[Tensor, " batch"]
    images: UInt8[Tensor, "batch 3 height width"]
    tokens: Int[Tensor, "batch context"]


@runtime_checkable
class Loss(Protocol):
    """What a method minimizes. All its randomness comes from ``generator``.

    One that is an ``nn.Module`` too has its parameters trained along with the model's, and all its
    state in the checkpoints: a memory bank is a buffer, a frozen teacher a submodule.
    """

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW, linear warm-up, then a cosine to zero.

    A task that can tell when it is converged has another course: the peak is held until then, and
    falls to zero over ``cooldown`` more epochs.

    Attributes:
        epochs: how many; of a task that can settle, at most how many.
        lr: the peak learning rate.
        warmup: share of the steps before the peak, in [0, 1].
        weight_decay: on matrices only; biases, norms and the temperature have none.
        trainable: prefixes of the names of the parameters that move; all move where it is empty.
        frozen_statistics: whether batch norm keeps the statistics it came with.
        cooldown: epochs between the settling of a task and its end.
        pace: shares of the rate that the first epochs take, one each; later ones take all of it.
    """

    epochs: int
    batch_size: int
    lr: float
    warmup: float = 0.1
    weight_decay: float = 0.1
    trainable: tuple[str, ...] = ()
    frozen_statistics: bool = False
    cooldown: int = 0
    lr_scale: tuple[float, ...] = ()


@dataclass(frozen=True)
class Task:
    """What a method asks of the loop: minimize ``loss`` over ``pairs`` on ``schedule``.

    Attributes:
        converged: asked after an epoch whether the loss has done its work.
        before_epoch: called before each epoch with its number, from 0, to prepare the loss for it.
        averaged_model: maps the model in training to the one that is measured and finally saved,
            such as a mean teacher. None: the model as it is trained.
    """

    pairs: Pairs
    loss: Loss
    schedule: Schedule
    converged: Callable[[Clip], bool] | None = None
    before_epoch: Callable[[Clip, int, torch.Generator], None] | None = None
    averaged_model: Callable[[Clip], Clip] | None = None


Measure = Callable[[Clip], dict[str, float]]


@dataclass(frozen=True)
class Hooks:
    """What happens around the loop without changing what it computes.

    Attributes:
        measure: measures the model at the start and after epochs.
        points: at most this many epochs are measured, evenly spaced, the last among them.
        after_epoch: called with the number of finished epochs after each of them.
        work: a folder that survives a kill; a loop that finds its checkpoint there goes on.
        every: seconds between checkpoints inside an epoch; there is one after each epoch too.
        label: what the progress bar says.
    """

    measure: Measure | None = None
    points: int = 10
    after_epoch: Callable[[int, Clip], None] | None = None
    work: Path | None = None
    every: float = 300.0
    label: str = "fit"


def fit(model: Clip, task: Task, generator: torch.Generator, hooks: Hooks = Hooks()) -> list[Point]:
    """Minimize the task's loss in place; return the curve.

    Raises:
        TrainingError: there is no pair to fit, the loss is no longer finite, or the ranks of a
            model do not train the same.
        ArtifactError: a checkpoint cannot be written, or is of another training.
    """
    if not len(task.pairs):
        raise TrainingError(f"{hooks.label} cannot start: it was given no pairs.")
    ranks = model.ranks
    hooks = hooks if ranks.leads else replace(hooks, measure=None, after_epoch=None)
    state, keeper = _start(model, task, generator), _keeper(task, hooks, ranks)
    if keeper.load(state):
        log.info("%s: goes on after epoch %d, step %d", hooks.label, state.epoch, state.place)
    elif hooks.measure is not None:
        state.curve.append(Point(0, 0.0, None, hooks.measure(model)))
    _agree(ranks, task, state)
    tokens = model.tokenize(task.pairs.captions)
    watched = _watched(task.schedule.epochs, hooks.points)
    remaining = range(state.epoch, task.schedule.epochs)
    shown = track(remaining, description=hooks.label, transient=True, disable=not ranks.leads)
    for _ in shown:
        if state.is_over(task.schedule.epochs, task.schedule.cooldown):
            break
        loss = _epoch(state, task, tokens, keeper)
        _settle(state, task)
        if hooks.after_epoch is not None:
            hooks.after_epoch(state.epoch, model)
        is_over = state.is_over(task.schedule.epochs, task.schedule.cooldown)
        is_watched = state.epoch in watched or is_over
        _measure(state, task, loss, hooks, is_watched=is_watched)
        keeper.save(state)
    if task.averaged_model is not None:
        model.net.load_state_dict(task.averaged_model(model).net.state_dict())
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
        curve.append(Point(0, 0.0, None, hooks.measure(model) if hooks.measure is not None else {}))
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


def _start(model: Clip, task: Task, generator: torch.Generator) -> State:
    schedule = task.schedule
    for name, parameter in model.net.named_parameters():
        parameter.requires_grad_(not schedule.trainable or name.startswith(schedule.trainable))
    trained = [p for p in _parameters(model, task) if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    return State(model, task.loss, optimizer, generator, curve=[])


def _keeper(task: Task, hooks: Hooks, ranks: Ranks) -> Keeper:
    """Return what writes checkpoints; inside an epoch only where they hold what it was made of.

    What ``before_epoch`` prepared is in the state of a loss that is a module, and nowhere else.
    """
    is_whole = task.before_epoch is None or isinstance(task.loss, torch.nn.Module)
    return Keeper(hooks.work, hooks.every if is_whole else inf, writes=ranks.leads)


def _agree(ranks: Ranks, task: Task, state: State) -> None:
    """Refuse ranks that would not train the same: a few images stand for all of them."""
    if ranks.count == 1:
        return
    few = torch.linspace(0, len(task.pairs) - 1, min(64, len(task.pairs))).long()
    texts = "\n".join((*task.pairs.ids, *task.pairs.captions)).encode()
    weights = torch.cat([p.detach().flatten().cpu() for p in state.model.net.parameters()])
    ranks.agree(
        {
            "pairs": texts + task.pairs.images[few].numpy().tobytes(),
            "weights": weights.numpy().tobytes(),
            "order": state.generator.get_state().numpy().tobytes(),
            "checkpoint": f"{state.epoch} {state.place}".encode(),
        }
    )


def _parameters(model: Clip, task: Task) -> list[torch.nn.Parameter]:
    """Return those of the model and of the loss, whether they move or not.

    In the order that the model has them: how a norm over them is rounded depends on it, and so do
    the bytes of all that is trained.
    """
    of_loss = task.loss.parameters() if isinstance(task.loss, torch.nn.Module) else ()
    return [*model.net.parameters(), *of_loss]


def _per_epoch(task: Task) -> int:
    return ceil(len(task.pairs) / task.schedule.batch_size)


def _rate(state: State, task: Task) -> float:
    """Return the learning rate of the next step, as a share of the peak."""
    lr_scale = task.schedule.lr_scale
    return _course(state, task) * (lr_scale[state.epoch] if state.epoch < len(lr_scale) else 1.0)


def _course(state: State, task: Task) -> float:
    schedule, per_epoch = task.schedule, _per_epoch(task)
    step, steps = state.epoch * per_epoch + state.place, schedule.epochs * per_epoch
    rising = max(1, round(schedule.warmup * steps))
    if step < rising:
        return (step + 1) / rising
    if task.converged is None:
        return 0.5 * (1 + cos(pi * (step - rising) / max(1, steps - rising)))
    if state.converged is None:
        return 1.0
    return 1 - (step - state.converged * per_epoch) / max(1, schedule.cooldown * per_epoch)


def _batches(task: Task, tokens: Tensor, state: State, order: Tensor) -> Iterator[Batch]:
    """Yield what is left of the epoch; each rank loads its share of the images."""
    device, ranks = state.model.device, state.model.ranks
    is_gpu = device.type == "cuda"
    parts = order.split(task.schedule.batch_size)[state.place :]
    whole = [rows for rows in parts if len(rows) > 1]  # one pair has nothing to be contrasted with
    shares = stream_images(task.pairs.images, map(ranks.share, whole))

    def load(rows: Tensor) -> tuple[Tensor, Tensor]:
        images, shown = next(shares), tokens[rows]
        if not is_gpu:
            return images, shown
        with torch.cuda.device(device):  # a new thread begins on the first GPU
            return images.pin_memory(), shown.pin_memory()

    loaded = prefetch(load, whole, depth=2 if is_gpu else 0)
    for rows, (images, shown) in zip(whole, loaded, strict=True):
        if ranks.count > 1:
            images = ranks.gathered(images.to(device, non_blocking=True), len(rows))
        yield Batch(rows, images, shown)


def _epoch(state: State, task: Task, tokens: Tensor, keeper: Keeper) -> float:
    """Make an epoch, or what is left of it; return its mean loss."""
    if state.order is None:
        if task.before_epoch is not None:
            task.before_epoch(state.model, state.epoch, state.generator)
        state.order = shuffled(len(task.pairs), state.generator)
    state.model.train()
    if task.schedule.frozen_statistics:
        freeze_statistics(state.model)
    for batch in _batches(task, tokens, state, state.order):
        _step(state, task, batch)
        keeper.save_if_due(state)
    mean = state.mean_loss()
    state.epoch, state.order, state.losses = state.epoch + 1, None, []
    return mean


def _step(state: State, task: Task, batch: Batch) -> None:
    model = state.model
    for group in state.optimizer.param_groups:
        group["lr"] = task.schedule.lr * _rate(state, task)
    with _precision(model):
        loss = task.loss(model, batch, state.generator)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = _parameters(model, task)
    model.ranks.average([p.grad for p in parameters if p.grad is not None])
    torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
    state.optimizer.step()
    state.losses.append(loss.detach())


def _precision(model: Clip) -> torch.autocast:
    """Return bfloat16 where the model wants it, or leaves it open and a GPU gains by it."""
    kind = model.device.type
    wanted = "bf16" if kind == "cuda" else "fp32"
    wanted = wanted if model.precision == "auto" else model.precision
    return torch.autocast(kind, torch.bfloat16, enabled=wanted == "bf16")


def _settle(state: State, task: Task) -> None:
    if task.converged is not None and state.converged is None:
        state.model.eval()
        latest = task.schedule.epochs - task.schedule.cooldown
        if state.epoch >= latest or task.converged(state.model):
            state.converged = state.epoch


def freeze_statistics(model: Clip) -> None:
    """Put batch norm into evaluation mode, so that a small odd set does not shift it."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _watched(epochs: int, points: int) -> set[int]:
    return {ceil(epochs * (point + 1) / points) for point in range(points)}


def _measure(state: State, task: Task, loss: float, hooks: Hooks, *, is_watched: bool) -> None:
    measured = {}
    if hooks.measure is not None and is_watched:
        measured = hooks.measure(
            state.model if task.averaged_model is None else task.averaged_model(state.model)
        )
    step = state.epoch * _per_epoch(task)
    state.curve.append(Point(step, float(state.epoch), loss, measured))
    said = " ".join(f"{name} {value:.3f}" for name, value in measured.items() if name[:2] != "n_")
    log.info(
        "%s: epoch %d/%d loss %.4f %s", hooks.label, state.epoch, task.schedule.epochs, loss, said
    )
