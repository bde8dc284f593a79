"""The training loop: deterministic, resumable, and limited to the parameters of its schedule."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError, TrainingError
from clipmend.model.checkpoint import Point
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Hooks, Loss, Schedule, Task, fit, fit_all
from clipmend.model.losses import mmcl_loss

MEASURED = Hooks(measure=lambda _: {"clean_accuracy": 0.5})


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted")


def loss(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
    # The loss reads the generator, so that a resumed run must restore its state.
    images = model.encode_image(batch.images)
    noise = torch.rand((), generator=generator)
    return mmcl_loss(images, model.encode_text(batch.tokens), model.logit_scale()) * (1 + noise)


def nan_loss(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
    return loss(model, batch, generator) * torch.nan


def schedule(epochs: int = 4, **settings: object) -> Schedule:
    return Schedule(epochs=epochs, batch_size=16, lr=1e-3, **settings)  # type: ignore[arg-type]


def untrained(pairs: Pairs) -> Clip:
    return build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)


def fitted(pairs: Pairs, plan: Schedule, hooks: Hooks = Hooks()) -> Clip:  # noqa: B008
    model = untrained(pairs)
    fit(model, Task(pairs, loss, plan), stream(0, "test"), hooks)
    return model


def same(model: Clip, other: Clip) -> bool:
    left, right = model.full_state(), other.full_state()
    return all(torch.equal(left[name], right[name]) for name in left)


class KilledError(Exception):
    pass


def killed_in(epoch: int) -> Callable[[int, Clip], None]:
    """Return a hook that kills a run in this epoch, counted from 1 over all of its tasks."""
    done: list[int] = []

    def after_epoch(number: int, model: Clip) -> None:  # noqa: ARG001
        done.append(number)
        if len(done) == epoch:
            raise KilledError

    return after_epoch


def killed_at(step: int, inner: Loss) -> Loss:
    """Return a loss that kills the run before it makes this step, counted from 0."""
    steps: list[int] = []

    def dying(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
        if len(steps) == step:
            raise KilledError
        steps.append(step)
        return inner(model, batch, generator)

    return dying


class LossModule(torch.nn.Module):
    """A loss with a parameter of its own, and a buffer that every step depends on."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.register_buffer("steps", torch.tensor(0.0))

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
        self.steps += 1
        return loss(model, batch, generator) * self.weight * (1 + self.steps / 10)


Run = tuple[Clip, list[Point], list[float]]


def one_task(pairs: Pairs, hooks: Hooks) -> Run:
    model = untrained(pairs)
    return model, fit(model, Task(pairs, loss, schedule()), stream(0, "test"), hooks), []


def until_converged(pairs: Pairs, hooks: Hooks) -> Run:
    """Fit a task that converges after its third epoch and cools down for two."""
    model, asked = untrained(pairs), list[Clip]()

    def converged(model: Clip) -> bool:
        asked.append(model)
        return len(asked) >= 3

    task = Task(pairs, loss, schedule(20, cooldown=2, warmup=0.0), converged)
    return model, fit(model, task, stream(0, "test"), hooks), []


def with_loss_module(pairs: Pairs, hooks: Hooks) -> Run:
    model, module = untrained(pairs), LossModule()
    curve = fit(model, Task(pairs, module, schedule()), stream(0, "test"), hooks)
    return model, curve, [float(module.weight.detach()), float(module.steps)]


def in_sequence(pairs: Pairs, hooks: Hooks) -> Run:
    """Fit two tasks, of which the second is made from the model that the first trained."""
    model, sums = untrained(pairs), list[float]()

    def tasks() -> Iterator[Task]:
        for epochs in (2, 3):
            sums.append(first_weights(model))
            yield Task(pairs, loss, schedule(epochs))

    return model, fit_all(model, tasks(), stream(0, "test"), hooks), sums[1:]


def first_weights(model: Clip) -> float:
    return float(model.full_state()["visual.conv1.weight"].sum())


@pytest.mark.parametrize(
    ("run", "epoch"),
    [
        *((one_task, 3), (until_converged, 5), (with_loss_module, 3)),
        *((in_sequence, epoch) for epoch in (1, 3, 4)),
    ],
)
def test_a_run_killed_between_epochs_ends_with_the_same_weights(
    pairs: Pairs, tmp_path: Path, run: Callable[[Pairs, Hooks], Run], epoch: int
) -> None:
    with pytest.raises(KilledError):
        run(pairs, Hooks(work=tmp_path, after_epoch=killed_in(epoch)))
    (resumed, curve, state), (model, reference, expected) = (
        run(pairs, Hooks(work=tmp_path)),
        run(pairs, Hooks()),
    )
    assert same(resumed, model)
    assert [point.loss for point in curve] == [point.loss for point in reference]
    assert state == expected


@pytest.mark.parametrize("step", [1, 6, 8])
def test_a_run_killed_inside_an_epoch_continues_with_the_next_step(
    pairs: Pairs, tmp_path: Path, step: int
) -> None:
    rows: list[list[int]] = [[], []]

    def noted(rows: list[int]) -> Loss:
        def noting(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
            rows.extend(batch.rows.tolist())
            return loss(model, batch, generator)

        return noting

    def run(inner: Loss, hooks: Hooks) -> tuple[Clip, list[Point]]:
        model = untrained(pairs)
        return model, fit(model, Task(pairs, inner, schedule()), stream(0, "test"), hooks)

    with pytest.raises(KilledError):
        run(killed_at(step, noted(rows[0])), Hooks(work=tmp_path, every=0.0))
    resumed, curve = run(noted(rows[0]), Hooks(work=tmp_path, every=0.0))
    model, reference = run(noted(rows[1]), Hooks())
    assert same(resumed, model)
    assert curve == reference
    assert rows[0] == rows[1]  # every pair in its position, and no pair twice


def test_a_loss_with_a_preparation_is_saved_between_epochs_only(
    pairs: Pairs, tmp_path: Path
) -> None:
    # No checkpoint holds the result of `before_epoch`, unless the loss is a module.
    begun: list[int] = []

    def run(inner: Loss, hooks: Hooks) -> Clip:
        model = untrained(pairs)
        task = Task(pairs, inner, schedule(), before_epoch=lambda _, epoch, __: begun.append(epoch))
        fit(model, task, stream(0, "test"), hooks)
        return model

    with pytest.raises(KilledError):
        run(killed_at(6, loss), Hooks(work=tmp_path, every=0.0))
    resumed = run(loss, Hooks(work=tmp_path, every=0.0))
    assert begun == [0, 1, 1, 2, 3]
    assert same(resumed, run(loss, Hooks()))


def test_on_a_full_disk_the_last_checkpoint_remains(pairs: Pairs, tmp_path: Path) -> None:
    def fill(epoch: int, model: Clip) -> None:  # noqa: ARG001
        if epoch == 3:
            (tmp_path / "fit.half").symlink_to("/dev/full")

    with pytest.raises(ArtifactError, match="No checkpoint can be written") as refused:
        fitted(pairs, schedule(), Hooks(work=tmp_path, after_epoch=fill))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]
    epochs: list[int] = []
    hooks = Hooks(work=tmp_path, after_epoch=lambda epoch, _: epochs.append(epoch))
    assert same(fitted(pairs, schedule(), hooks), fitted(pairs, schedule()))
    assert epochs == [3, 4]


def test_a_checkpoint_of_another_model_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        fitted(pairs, schedule(), Hooks(work=tmp_path, after_epoch=killed_in(2)))
    other = build("scene_resnet", seed=0)  # its vocabulary is not pruned
    with pytest.raises(ArtifactError, match="is not of this training") as refused:
        fit(other, Task(pairs, loss, schedule()), stream(0, "test"), Hooks(work=tmp_path))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "fit.pt").is_file()


def test_a_loss_that_is_not_finite_stops_the_run(pairs: Pairs, tmp_path: Path) -> None:
    hooks = Hooks(work=tmp_path, every=0.0)
    with pytest.raises(TrainingError, match="learning rate"):
        fit(untrained(pairs), Task(pairs, nan_loss, schedule()), stream(0, "test"), hooks)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "batch_size", "message"),
    [(0, 16, "an empty set of pairs"), (64, 1, "a contrastive loss needs two")],
)
def test_batches_without_two_pairs_are_refused(
    pairs: Pairs, count: int, batch_size: int, message: str
) -> None:
    plan = replace(schedule(), batch_size=batch_size)
    with pytest.raises(TrainingError, match=message):
        fitted(pairs.take(torch.arange(count)), plan)


def test_the_loss_falls(pairs: Pairs) -> None:
    curve = fit(untrained(pairs), Task(pairs, loss, schedule(8)), stream(0, "test"))
    first, last = curve[0].loss, curve[-1].loss
    assert first is not None
    assert last is not None
    assert last < 0.9 * first


def test_the_parameters_of_a_loss_are_trained_with_the_model(pairs: Pairs) -> None:
    weight, steps = with_loss_module(pairs, Hooks())[2]
    assert steps == 16
    assert weight < 1  # a smaller weight is a smaller loss


def test_only_the_trainable_parameters_change(pairs: Pairs) -> None:
    plan = schedule(2, trainable=("visual.",), frozen_statistics=True)
    before = build("scene_resnet", seed=0).full_state()
    after = fitted(pairs, plan).full_state()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("visual.") for name in changed)
    assert not any("running" in name for name in changed)


def test_the_learning_rate_is_scaled_in_the_first_epochs(pairs: Pairs) -> None:
    frozen = fitted(pairs, schedule(1, lr_scale=(0.0,), frozen_statistics=True))
    assert same(frozen, build("scene_resnet", seed=0))
    assert same(fitted(pairs, schedule(2, lr_scale=(1.0, 1.0, 0.0))), fitted(pairs, schedule(2)))


def test_a_task_that_converges_cools_down_and_ends(pairs: Pairs) -> None:
    _, curve, _ = until_converged(pairs, MEASURED)
    assert curve[-1].epoch == 5
    assert curve[-1].measured


def test_a_task_that_never_converges_cools_down_at_the_end(pairs: Pairs) -> None:
    task = Task(pairs, loss, schedule(4, cooldown=2), lambda _: False)
    assert fit(untrained(pairs), task, stream(0, "test"))[-1].epoch == 4


def test_the_curve_has_the_start_and_the_last_epoch(pairs: Pairs) -> None:
    hooks = replace(MEASURED, points=2)
    curve = fit(untrained(pairs), Task(pairs, loss, schedule(5)), stream(0, "test"), hooks)
    assert [point.epoch for point in curve if point.measured] == [0, 3, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]


def test_tasks_in_sequence_have_one_curve(pairs: Pairs) -> None:
    _, curve, (between,) = in_sequence(pairs, MEASURED)
    assert [point.epoch for point in curve] == [0, 1, 2, 3, 4, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]
    assert between != first_weights(untrained(pairs))


def test_a_curve_without_tasks_has_one_point(pairs: Pairs) -> None:
    (point,) = fit_all(untrained(pairs), [], stream(0, "test"), MEASURED)
    assert (point.step, point.measured) == (0, {"clean_accuracy": 0.5})
