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
from clipmend.engine.files import make_folder
from clipmend.errors import TrainingError
from clipmend.model.checkpoint import Checkpoints, Point, State
from clipmend.model.clip import Clip
from clipmend.model.optimizers import AdamW
from clipmend.model.parallel import Ranks
from clipmend.model.prefetch import prefetch

log = logging.getLogger(__name__)
_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Batch:
    """The pairs of one step.

    Attributes:
        rows: the row of each pair among the pairs that are fitted.
        images: 8 bits, on the CPU and pinned if the model is on a GPU; with several processes, on
            the device of the model.
        tokens: on the CPU, pinned if the model is on a GPU.
    """

    rows: Int[Tensor, " batch"]
    images: UInt8[Tensor, "batch 3 height width"]
    tokens: Int[Tensor, "batch context"]


@runtime_checkable
class Loss(Protocol):
    """What a method minimizes. All its randomness comes from ``generator``.

    A loss that is also an ``nn.Module`` has its parameters trained with the model's, and all its
    state in the checkpoints: a memory bank is a buffer, a frozen teacher a submodule.
    """

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW, linear warm-up, then a cosine to zero.

    A task with a convergence test has another course. The peak rate holds until the task has
    converged, and then falls linearly to zero over ``cooldown`` more epochs.

    Attributes:
        epochs: number of epochs; the largest number if the task has a convergence test.
        batch_size: pairs per step.
        lr: the peak learning rate.
        warmup: share of the steps before the peak, in [0, 1].
        weight_decay: of matrices only; biases, norms and the temperature have none.
        trainable: prefixes of the names of the trained parameters; empty: all are trained.
        frozen_statistics: whether batch norm keeps the statistics that the model came with.
        cooldown: epochs between convergence and the end of the task.
        lr_scale: a factor of the rate for each of the first epochs; later epochs have 1.
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
        converged: the convergence test, called after every epoch; None: no test.
        before_epoch: called before each epoch with its number, from 0, to prepare the loss.
        averaged_model: maps the model in training to the one that is measured and finally saved,
            such as a mean teacher. None: the model in training itself.
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
    """What happens around the loop without changing its result.

    Attributes:
        measure: measures the model at the start and after epochs, for the curve.
        points: at most this many epochs are measured, evenly spaced, the last among them.
        after_epoch: called after each epoch with the number of finished epochs.
        work: a folder that survives a kill; a loop that finds its checkpoint there resumes.
        can_resume: whether what ``after_epoch`` wrote until this epoch still exists. If it does
            not, the loop starts again.
        every: seconds between checkpoints inside an epoch; each epoch ends with one too.
        label: the text of the progress bar.
    """

    measure: Measure | None = None
    points: int = 10
    after_epoch: Callable[[int, Clip], None] | None = None
    work: Path | None = None
    can_resume: Callable[[int], bool] | None = None
    every: float = 300.0
    label: str = "fit"


def fit(model: Clip, task: Task, generator: torch.Generator, hooks: Hooks = Hooks()) -> list[Point]:
    """Minimize the loss of the task in place, and return the curve.

    Raises:
        TrainingError: the task has no pairs, the loss is no longer finite, or the processes that
            train one model do not train the same.
        ArtifactError: a checkpoint cannot be written.
    """
    if not len(task.pairs):
        raise TrainingError(f"{hooks.label} cannot start: it was given an empty set of pairs.")
    ranks, schedule = model.ranks, task.schedule
    # Measuring and saving are done once; the other processes wait in the next collective call.
    hooks = hooks if ranks.leads else replace(hooks, measure=None, after_epoch=None)
    state, checkpoints = _start(model, task, generator), _checkpoints(task, hooks, ranks)
    if checkpoints.load(state, hooks.can_resume):
        log.info("%s: resumes after epoch %d, step %d", hooks.label, state.epoch, state.step)
    elif hooks.measure is not None:
        state.curve.append(Point(0, 0.0, None, hooks.measure(model)))
    _agree(ranks, task, state)
    # Tokenized once: the tokenizer is slow, and captions do not change between epochs.
    tokens = model.tokenize(task.pairs.captions)
    measured = {ceil(schedule.epochs * (k + 1) / hooks.points) for k in range(hooks.points)}
    remaining = range(state.epoch, schedule.epochs)
    for _ in track(remaining, description=hooks.label, transient=True, disable=not ranks.leads):
        if state.is_over(schedule.epochs, schedule.cooldown):
            break
        loss = _epoch(state, task, tokens, checkpoints)
        _test_convergence(state, task)
        if hooks.after_epoch is not None:
            hooks.after_epoch(state.epoch, model)
        is_over = state.is_over(schedule.epochs, schedule.cooldown)
        _add_point(state, task, loss, hooks, is_measured=state.epoch in measured or is_over)
        checkpoints.save(state)  # after the hooks, so that a kill in one of them repeats it
    if task.averaged_model is not None:
        model.net.load_state_dict(task.averaged_model(model).net.state_dict())
    model.eval()
    return state.curve


def fit_all(
    model: Clip, tasks: Iterable[Task], generator: torch.Generator, hooks: Hooks = Hooks()
) -> list[Point]:
    """Fit tasks one after another in place, and return one curve over all of them.

    Each task is requested when the previous one has ended, so it may depend on the model so far.
    After a kill, finished tasks are built again, but not fitted again.

    Raises:
        TrainingError: as ``fit``.
    """
    curve: list[Point] = []
    for number, task in enumerate(tasks):
        own = hooks
        if hooks.work is not None:
            own = replace(hooks, work=hooks.work / f"task{number}")
            make_folder(hooks.work / f"task{number}")
        points = fit(model, task, generator, own)
        if curve:  # the first point of a later task is the last point of the task before
            last = curve[-1]
            points = [
                replace(point, step=last.step + point.step, epoch=last.epoch + point.epoch)
                for point in points
                if point.step
            ]
        curve += points
    if not curve:
        numbers = hooks.measure(model) if hooks.measure is not None else {}
        curve.append(Point(0, 0.0, None, numbers))
    return curve


def _start(model: Clip, task: Task, generator: torch.Generator) -> State:
    schedule = task.schedule
    for name, parameter in model.net.named_parameters():
        parameter.requires_grad_(not schedule.trainable or name.startswith(schedule.trainable))
    trained = [p for p in _parameters(model, task) if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        # Biases, norms and the temperature: decay would pull them to 0 without regularizing.
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The betas and epsilon of CLIP's vision transformers (arXiv:2103.00020).
    optimizer = AdamW(groups, lr=schedule.lr, betas=(0.9, 0.98), eps=1e-6)
    return State(model, task.loss, optimizer, generator, curve=[])


def _checkpoints(task: Task, hooks: Hooks, ranks: Ranks) -> Checkpoints:
    """Return the writer of checkpoints; it writes inside an epoch only if that can be resumed."""
    # What `before_epoch` prepares is saved only with a loss that is a module.
    can_resume = task.before_epoch is None or isinstance(task.loss, torch.nn.Module)
    return Checkpoints(hooks.work, hooks.every if can_resume else inf, writes=ranks.leads)


def _agree(ranks: Ranks, task: Task, state: State) -> None:
    """Refuse processes that would not train the same model on the same data."""
    if ranks.count == 1:
        return
    # Hashing every image would decode the whole split; 64 of them stand for all.
    few = torch.linspace(0, len(task.pairs) - 1, min(64, len(task.pairs))).long()
    texts = "\n".join((*task.pairs.ids, *task.pairs.captions)).encode()
    weights = torch.cat([p.detach().flatten().cpu() for p in state.model.net.parameters()])
    ranks.agree(
        {
            "pairs": texts + task.pairs.images[few].numpy().tobytes(),
            "weights": weights.numpy().tobytes(),
            "order": state.generator.get_state().numpy().tobytes(),
            "checkpoint": f"{state.epoch} {state.step}".encode(),
        }
    )


def _parameters(model: Clip, task: Task) -> list[torch.nn.Parameter]:
    """Return the parameters of the model and of the loss, trained or not."""
    # In the model's own order: it decides how a norm over them is rounded, and so all bytes.
    of_loss = task.loss.parameters() if isinstance(task.loss, torch.nn.Module) else ()
    return [*model.net.parameters(), *of_loss]


def _steps_per_epoch(task: Task) -> int:
    return ceil(len(task.pairs) / task.schedule.batch_size)


def _lr_factor(state: State, task: Task) -> float:
    """Return the learning rate of the next step, as a share of the peak."""
    schedule, per_epoch = task.schedule, _steps_per_epoch(task)
    scale = schedule.lr_scale[state.epoch] if state.epoch < len(schedule.lr_scale) else 1.0
    step, steps = state.epoch * per_epoch + state.step, schedule.epochs * per_epoch
    warmup = max(1, round(schedule.warmup * steps))
    if step < warmup:
        course = (step + 1) / warmup
    elif task.converged is None:
        course = 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))
    elif state.converged is None:
        course = 1.0
    else:
        since = step - state.converged * per_epoch
        course = 1 - since / max(1, schedule.cooldown * per_epoch)
    return course * scale


def _batches(task: Task, tokens: Tensor, state: State, order: Tensor) -> Iterator[Batch]:
    """Yield the remaining batches of the epoch; each process loads its share of the images."""
    device, ranks = state.model.device, state.model.ranks
    is_gpu = device.type == "cuda"
    parts = order.split(task.schedule.batch_size)[state.step :]
    batches = [rows for rows in parts if len(rows) > 1]  # a single pair has no negatives
    shares = stream_images(task.pairs.images, map(ranks.share, batches))

    def load(rows: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = next(shares), tokens[rows]
        if not is_gpu:
            return images, texts
        with torch.cuda.device(device):  # a new thread starts on the first GPU
            return images.pin_memory(), texts.pin_memory()

    loaded = prefetch(load, batches, depth=2 if is_gpu else 0)
    for rows, (images, texts) in zip(batches, loaded, strict=True):
        if ranks.count > 1:
            images = ranks.gathered(images.to(device, non_blocking=True), len(rows))
        yield Batch(rows, images, texts)


def _epoch(state: State, task: Task, tokens: Tensor, checkpoints: Checkpoints) -> float:
    """Train for an epoch, or for the rest of a resumed one; return its mean loss."""
    if state.order is None:
        if task.before_epoch is not None:
            task.before_epoch(state.model, state.epoch, state.generator)
        state.order = shuffled(len(task.pairs), state.generator)
    state.model.train()
    if task.schedule.frozen_statistics:
        freeze_statistics(state.model)
    for batch in _batches(task, tokens, state, state.order):
        _step(state, task, batch)
        checkpoints.save_if_due(state)
    mean = state.mean_loss()
    state.epoch, state.order, state.losses = state.epoch + 1, None, []
    return mean


def _step(state: State, task: Task, batch: Batch) -> None:
    model = state.model
    for group in state.optimizer.param_groups:
        group["lr"] = task.schedule.lr * _lr_factor(state, task)
    with _precision(model):
        loss = task.loss(model, batch, state.generator)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = _parameters(model, task)
    model.ranks.average([p.grad for p in parameters if p.grad is not None])
    torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM, foreach=True)
    state.optimizer.step()
    state.losses.append(loss.detach())  # stays on the GPU: reading it would wait for the step


def _precision(model: Clip) -> torch.autocast:
    """Return bfloat16 if the model asks for it, or leaves it open and is on a GPU."""
    kind = model.device.type
    default = "bf16" if kind == "cuda" else "fp32"
    precision = default if model.precision == "auto" else model.precision
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def _test_convergence(state: State, task: Task) -> None:
    if task.converged is not None and state.converged is None:
        state.model.eval()
        latest = task.schedule.epochs - task.schedule.cooldown
        if state.epoch >= latest or task.converged(state.model):
            state.converged = state.epoch


def freeze_statistics(model: Clip) -> None:
    """Put batch norm into evaluation mode, so that a small unusual set does not shift it."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _add_point(state: State, task: Task, loss: float, hooks: Hooks, *, is_measured: bool) -> None:
    numbers = {}
    if hooks.measure is not None and is_measured:
        average = task.averaged_model
        numbers = hooks.measure(state.model if average is None else average(state.model))
    step = state.epoch * _steps_per_epoch(task)
    state.curve.append(Point(step, float(state.epoch), loss, numbers))
    text = " ".join(f"{name} {value:.3f}" for name, value in numbers.items() if name[:2] != "n_")
    log.info(
        "%s: epoch %d/%d loss %.4f %s", hooks.label, state.epoch, task.schedule.epochs, loss, text
    )
