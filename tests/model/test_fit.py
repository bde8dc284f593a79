"""The training loop: deterministic, resumable, and limited to the parameters of its schedule."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

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


def schedule(epochs: int = 4, **settings: object) -> Schedule:
    return Schedule(epochs=epochs, batch_size=16, lr=1e-3, **settings)  # type: ignore[arg-type]


def untrained(pairs: Pairs) -> Clip:
    return build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)


def trained(
    pairs: Pairs,
    hooks: Hooks = Hooks(),  # noqa: B008
    plan: Schedule = schedule(),  # noqa: B008
    inner: Loss = loss,
    **options: Any,
) -> tuple[Clip, list[Point]]:
    """Return the model and the curve of one task."""
    model = untrained(pairs)
    return model, fit(model, Task(pairs, inner, plan, **options), stream(0, "test"), hooks)


def same(model: Clip, other: Clip) -> bool:
    left, right = model.full_state(), other.full_state()
    return all(torch.equal(left[name], right[name]) for name in left)


class KilledError(Exception):
    pass


def killed_at(number: int, inner: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
    """Return a function that kills the run in place of this call of it, counted from 0."""
    calls = count()

    def dying(*arguments: object) -> Any:
        if next(calls) == number:
            raise KilledError
        return inner(*arguments)

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
    return *trained(pairs, hooks), []


def until_converged(pairs: Pairs, hooks: Hooks) -> Run:
    """Fit a task that converges after its third epoch and cools down for two."""
    calls, plan = count(1), schedule(20, cooldown=2, warmup=0.0)
    return *trained(pairs, hooks, plan, converged=lambda _: next(calls) >= 3), []


def with_loss_module(pairs: Pairs, hooks: Hooks) -> Run:
    module = LossModule()
    run = trained(pairs, hooks, inner=module)
    return *run, [float(module.weight.detach()), float(module.steps)]


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
    pairs, tmp_path, run, epoch
) -> None:
    with pytest.raises(KilledError):
        run(pairs, Hooks(work=tmp_path, after_epoch=killed_at(epoch - 1)))
    resumed, curve, state = run(pairs, Hooks(work=tmp_path))
    model, reference, expected = run(pairs, Hooks())
    assert same(resumed, model)
    assert [point.loss for point in curve] == [point.loss for point in reference]
    assert state == expected


@pytest.mark.parametrize("step", [1, 6, 8])
def test_a_run_killed_inside_an_epoch_continues_with_the_next_step(pairs, tmp_path, step) -> None:
    hooks, rows = Hooks(work=tmp_path, every=0.0), list[int]()

    def noting(model: Clip, batch: Batch, generator: torch.Generator) -> Tensor:
        rows.extend(batch.rows.tolist())
        return loss(model, batch, generator)

    with pytest.raises(KilledError):
        trained(pairs, hooks, inner=killed_at(step, noting))
    resumed, curve = trained(pairs, hooks, inner=noting)
    model, reference = trained(pairs, inner=noting)
    assert same(resumed, model)
    assert curve == reference
    half = len(rows) // 2
    assert rows[:half] == rows[half:]  # every pair in its position, and no pair twice


def test_a_loss_with_a_preparation_is_saved_between_epochs_only(pairs, tmp_path) -> None:
    # No checkpoint holds the result of `before_epoch`, unless the loss is a module.
    begun, hooks = list[int](), Hooks(work=tmp_path, every=0.0)

    def run(hooks: Hooks, inner: Loss = loss) -> Clip:
        note = lambda _, epoch, __: begun.append(epoch)  # noqa: E731
        return trained(pairs, hooks, inner=inner, before_epoch=note)[0]

    with pytest.raises(KilledError):
        run(hooks, killed_at(6, loss))
    resumed = run(hooks)
    assert begun == [0, 1, 1, 2, 3]
    assert same(resumed, run(Hooks()))


def test_on_a_full_disk_the_last_checkpoint_remains(pairs, tmp_path) -> None:
    def fill(epoch: int, model: Clip) -> None:  # noqa: ARG001
        if epoch == 3:
            (tmp_path / "fit.half").symlink_to("/dev/full")

    with pytest.raises(ArtifactError, match="No checkpoint can be written") as refused:
        trained(pairs, Hooks(work=tmp_path, after_epoch=fill))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]
    epochs: list[int] = []
    hooks = Hooks(work=tmp_path, after_epoch=lambda epoch, _: epochs.append(epoch))
    assert same(trained(pairs, hooks)[0], trained(pairs)[0])
    assert epochs == [3, 4]


class Hostile:
    """An object whose unpickling would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def replace_state(path: Path, **changed: object) -> None:
    """Write a checkpoint with some parts changed, which is whole otherwise."""
    saved = torch.load(path, weights_only=True) | changed
    torch.save(saved, path)
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())


WORK: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no archive" * 99),
    "half": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "one bit": flip,
    "a folder": become_folder,
    "a loop of links": lambda path: path.unlink() or path.symlink_to(path),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Hostile())),
    "a pickle in an archive": lambda path: torch.save({"model": Hostile()}, path),
    "a hostile state": lambda path: replace_state(path, curve=[]) or torch.save(Hostile(), path),
    "a list": lambda path: replace_state(path, model=[1]),
    "no tensors": lambda path: replace_state(path, generator=5),
    "another folder's": lambda path: replace_state(path, work="elsewhere"),
}


@pytest.mark.parametrize("state", WORK)
def test_training_starts_again_from_a_checkpoint_in_any_state(
    pairs, tmp_path, monkeypatch, state
) -> None:
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(KilledError):
        trained(pairs, Hooks(work=work, after_epoch=killed_at(2)))
    WORK[state](work / "fit.pt")
    epochs: list[int] = []
    model, curve = trained(pairs, Hooks(work=work, after_epoch=lambda e, _: epochs.append(e)))
    assert epochs[0] == 1
    assert (same(model, trained(pairs)[0]), curve) == (True, trained(pairs)[1])
    assert not Path("executed").exists()


def test_training_starts_again_where_files_beside_the_checkpoint_are_gone(pairs, tmp_path) -> None:
    with pytest.raises(KilledError):
        trained(pairs, Hooks(work=tmp_path, after_epoch=killed_at(2)))
    asked: list[int] = []
    hooks = Hooks(work=tmp_path, can_resume=lambda epoch: bool(asked.append(epoch)))
    assert same(trained(pairs, hooks)[0], trained(pairs)[0])
    assert asked == [2]


def test_a_file_in_the_place_of_a_task_folder_is_replaced(pairs, tmp_path) -> None:
    (tmp_path / "task0").write_text("a file")
    assert same(in_sequence(pairs, Hooks(work=tmp_path))[0], in_sequence(pairs, Hooks())[0])


def test_a_loss_that_is_not_finite_stops_the_run(pairs, tmp_path) -> None:
    with pytest.raises(TrainingError, match="learning rate"):
        trained(
            pairs, Hooks(work=tmp_path, every=0.0), inner=lambda *batch: loss(*batch) * torch.nan
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "batch_size", "message"),
    [(0, 16, "an empty set of pairs"), (64, 1, "a contrastive loss needs two")],
)
def test_batches_without_two_pairs_are_refused(pairs, size, batch_size, message) -> None:
    with pytest.raises(TrainingError, match=message):
        trained(pairs.take(torch.arange(size)), plan=replace(schedule(), batch_size=batch_size))


def test_the_loss_falls(pairs) -> None:
    first, *_, last = (point.loss for point in trained(pairs, plan=schedule(8))[1])
    assert last < 0.9 * first


def test_the_parameters_of_a_loss_are_trained_with_the_model(pairs) -> None:
    weight, steps = with_loss_module(pairs, Hooks())[2]
    assert steps == 16
    assert weight < 1  # a smaller weight is a smaller loss


def test_only_the_trainable_parameters_change(pairs) -> None:
    plan = schedule(2, trainable=("visual.",), frozen_statistics=True)
    before, after = untrained(pairs).full_state(), trained(pairs, plan=plan)[0].full_state()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("visual.") for name in changed)
    assert not any("running" in name for name in changed)


def test_the_learning_rate_is_scaled_in_the_first_epochs(pairs) -> None:
    frozen = schedule(1, lr_scale=(0.0,), frozen_statistics=True)
    assert same(trained(pairs, plan=frozen)[0], untrained(pairs))
    scaled, plain = schedule(2, lr_scale=(1.0, 1.0, 0.0)), schedule(2)
    assert same(trained(pairs, plan=scaled)[0], trained(pairs, plan=plain)[0])


def test_a_task_cools_down_where_it_converges_or_else_at_the_end(pairs) -> None:
    _, curve, _ = until_converged(pairs, MEASURED)
    assert curve[-1].epoch == 5
    assert curve[-1].measured
    plan = schedule(4, cooldown=2)
    assert trained(pairs, plan=plan, converged=lambda _: False)[1][-1].epoch == 4


def test_the_curve_has_the_start_and_the_last_epoch(pairs) -> None:
    _, curve = trained(pairs, replace(MEASURED, points=2), schedule(5))
    assert [point.epoch for point in curve if point.measured] == [0, 3, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]


def test_tasks_in_sequence_have_one_curve(pairs) -> None:
    _, curve, (between,) = in_sequence(pairs, MEASURED)
    assert [point.epoch for point in curve] == [0, 1, 2, 3, 4, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]
    assert between != first_weights(untrained(pairs))


def test_a_curve_without_tasks_has_one_point(pairs) -> None:
    (point,) = fit_all(untrained(pairs), [], stream(0, "test"), MEASURED)
    assert (point.step, point.measured) == (0, {"clean_accuracy": 0.5})
