"""The loop: deterministic, resumable, and only as wide as it was told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError, TrainingError
from clipmend.model.checkpoint import Point
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Hooks, Loss, Schedule, Task, fit, fit_all
from clipmend.model.losses import mmcl_loss


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted")


def loss(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    # The noise draws from the generator, so that a resumed run must restore it.
    images = model.encode_image(batch.images)
    noise = torch.rand((), generator=generator)
    return mmcl_loss(images, model.encode_text(batch.tokens), model.logit_scale()) * (1 + noise)


def schedule(epochs: int = 4, **settings: object) -> Schedule:
    return Schedule(epochs=epochs, batch_size=16, lr=1e-3, **settings)  # type: ignore[arg-type]


def fitted(pairs: Pairs, plan: Schedule, hooks: Hooks = Hooks()) -> Clip:  # noqa: B008
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    fit(model, Task(pairs, loss, plan), stream(0, "test"), hooks)
    return model


def same(one: Clip, other: Clip) -> bool:
    left, right = one.full_state(), other.full_state()
    return all(torch.equal(left[name], right[name]) for name in left)


class KilledError(Exception):
    pass


def killed_in(epoch: int) -> Callable[[int, Clip], None]:
    """Return what kills a run in this epoch, counted from 1 over all of its tasks."""
    done: list[int] = []

    def keep(number: int, model: Clip) -> None:  # noqa: ARG001
        done.append(number)
        if len(done) == epoch:
            raise KilledError

    return keep


def test_the_same_seed_fits_the_same_weights(pairs: Pairs) -> None:
    assert same(fitted(pairs, schedule()), fitted(pairs, schedule()))


def test_a_killed_run_goes_on_to_the_same_weights(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        fitted(pairs, schedule(), Hooks(work=tmp_path, after_epoch=killed_in(3)))
    seen: list[int] = []
    resumed = fitted(
        pairs, schedule(), Hooks(work=tmp_path, after_epoch=lambda epoch, _: seen.append(epoch))
    )
    assert seen == [3, 4]
    assert same(resumed, fitted(pairs, schedule()))


def test_the_loss_falls(pairs: Pairs) -> None:
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    curve = fit(model, Task(pairs, loss, schedule(8)), stream(0, "test"))
    assert curve[-1].loss is not None
    assert curve[0].loss is not None
    assert curve[-1].loss < 0.9 * curve[0].loss


def test_only_the_image_tower_moves_when_told(pairs: Pairs) -> None:
    plan = schedule(2, trainable=("visual.",), frozen_statistics=True)
    before = build("scene_resnet", seed=0).full_state()
    after = fitted(pairs, plan).full_state()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)
    assert not any("running" in name for name in moved)


def settling(pairs: Pairs, hooks: Hooks = Hooks()) -> tuple[Clip, list[Point]]:  # noqa: B008
    """Fit a task that settles after its third epoch."""
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    asked: list[Clip] = []

    def converged(model: Clip) -> bool:
        asked.append(model)
        return len(asked) >= 3

    plan = schedule(20, cooldown=2, warmup=0.0)
    curve = fit(model, Task(pairs, loss, plan, converged), stream(0, "test"), hooks)
    return model, curve


def test_a_settled_task_cools_down_and_ends(pairs: Pairs) -> None:
    _, curve = settling(pairs, Hooks(measure=lambda _: {"clean_accuracy": 0.5}))
    assert curve[-1].epoch == 5
    assert curve[-1].measured


def test_a_task_that_never_settles_cools_down_at_the_end(pairs: Pairs) -> None:
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    plan = schedule(4, cooldown=2)
    curve = fit(model, Task(pairs, loss, plan, lambda _: False), stream(0, "test"))
    assert curve[-1].epoch == 4


def test_a_killed_cooldown_goes_on_to_the_same_weights(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        settling(pairs, Hooks(work=tmp_path, after_epoch=killed_in(5)))
    assert same(settling(pairs, Hooks(work=tmp_path))[0], settling(pairs)[0])


def killed_at(step: int, inner: Loss) -> Loss:
    """Return a loss that kills the run before it makes this step, counted from 0."""
    made: list[int] = []

    def dying(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        if len(made) == step:
            raise KilledError
        made.append(step)
        return inner(model, batch, generator)

    return dying


@pytest.mark.parametrize("step", [1, 6, 8])
def test_a_run_killed_inside_an_epoch_goes_on_with_the_next_step(
    pairs: Pairs, tmp_path: Path, step: int
) -> None:
    seen: list[list[int]] = [[], []]

    def noted(rows: list[int]) -> Loss:
        def shown(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
            rows.extend(batch.rows.tolist())
            return loss(model, batch, generator)

        return shown

    def run(inner: Loss, hooks: Hooks) -> tuple[Clip, list[Point]]:
        model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
        return model, fit(model, Task(pairs, inner, schedule()), stream(0, "test"), hooks)

    with pytest.raises(KilledError):
        run(killed_at(step, noted(seen[0])), Hooks(work=tmp_path, every=0.0))
    resumed, curve = run(noted(seen[0]), Hooks(work=tmp_path, every=0.0))
    whole, reference = run(noted(seen[1]), Hooks())
    assert same(resumed, whole)
    assert curve == reference
    assert seen[0] == seen[1]  # every pair at its place, none twice


def test_a_loss_that_forgets_is_saved_between_epochs_only(pairs: Pairs, tmp_path: Path) -> None:
    """What ``before_epoch`` prepared is in no checkpoint unless the loss is a module."""
    begun: list[int] = []

    def run(inner: Loss, hooks: Hooks) -> Clip:
        model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
        task = Task(pairs, inner, schedule(), before_epoch=lambda _, epoch, __: begun.append(epoch))
        fit(model, task, stream(0, "test"), hooks)
        return model

    with pytest.raises(KilledError):
        run(killed_at(6, loss), Hooks(work=tmp_path, every=0.0))
    resumed = run(loss, Hooks(work=tmp_path, every=0.0))
    assert begun == [0, 1, 1, 2, 3]
    assert same(resumed, run(loss, Hooks()))


def full_disk(work: Path) -> None:
    (work / "fit.half").symlink_to("/dev/full")


def test_a_full_disk_is_told_in_one_line_and_the_last_checkpoint_stays(
    pairs: Pairs, tmp_path: Path
) -> None:
    def run(hooks: Hooks) -> Clip:
        return fitted(pairs, schedule(), hooks)

    with pytest.raises(ArtifactError, match="No checkpoint can be written") as told:
        run(
            Hooks(
                work=tmp_path,
                after_epoch=lambda epoch, _: full_disk(tmp_path) if epoch == 3 else None,
            )
        )
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]
    seen: list[int] = []
    resumed = run(Hooks(work=tmp_path, after_epoch=lambda epoch, _: seen.append(epoch)))
    assert seen == [3, 4]
    assert same(resumed, fitted(pairs, schedule()))


def test_a_checkpoint_of_another_model_is_told_in_one_line(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        fitted(pairs, schedule(), Hooks(work=tmp_path, after_epoch=killed_in(2)))
    other = build("scene_resnet", seed=0)  # with its whole vocabulary
    with pytest.raises(ArtifactError, match="is not of this training") as told:
        fit(other, Task(pairs, loss, schedule()), stream(0, "test"), Hooks(work=tmp_path))
    assert "\n" not in str(told.value)
    assert (tmp_path / "fit.pt").is_file()


def test_no_checkpoint_holds_a_loss_that_is_not_finite(pairs: Pairs, tmp_path: Path) -> None:
    def broken(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        return loss(model, batch, generator) * torch.nan

    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    with pytest.raises(TrainingError, match="learning rate"):
        fit(
            model,
            Task(pairs, broken, schedule()),
            stream(0, "test"),
            Hooks(work=tmp_path, every=0.0),
        )
    assert not list(tmp_path.iterdir())


class Remembering(torch.nn.Module):
    """A loss with a parameter of its own, and a buffer that every step depends on."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.register_buffer("steps", torch.tensor(0.0))

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        self.steps += 1
        return loss(model, batch, generator) * self.weight * (1 + self.steps / 10)


def remembered(pairs: Pairs, hooks: Hooks = Hooks()) -> tuple[Clip, Remembering]:  # noqa: B008
    model, remembering = (
        build("scene_resnet", seed=0).prune_vocabulary(pairs.captions),
        Remembering(),
    )
    fit(model, Task(pairs, remembering, schedule()), stream(0, "test"), hooks)
    return model, remembering


def test_a_loss_that_is_a_module_is_trained_along(pairs: Pairs) -> None:
    _, remembering = remembered(pairs)
    assert remembering.steps == 16
    assert remembering.weight < 1  # a smaller weight is a smaller loss


def test_a_killed_run_goes_on_with_what_its_loss_remembers(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        remembered(pairs, Hooks(work=tmp_path, after_epoch=killed_in(3)))
    model, remembering = remembered(pairs, Hooks(work=tmp_path))
    whole, reference = remembered(pairs)
    assert same(model, whole)
    assert torch.equal(remembering.weight, reference.weight)
    assert remembering.steps == reference.steps == 16


def test_a_loss_is_prepared_before_each_epoch(pairs: Pairs) -> None:
    asked: list[int] = []
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    task = Task(pairs, loss, schedule(3), before_epoch=lambda _model, epoch, _: asked.append(epoch))
    fit(model, task, stream(0, "test"))
    assert asked == [0, 1, 2]


def test_the_pace_slows_the_first_epochs(pairs: Pairs) -> None:
    still = fitted(pairs, schedule(1, lr_scale=(0.0,), frozen_statistics=True)).full_state()
    before = build("scene_resnet", seed=0).full_state()
    assert all(torch.equal(before[name], still[name]) for name in before)
    assert same(fitted(pairs, schedule(2, lr_scale=(1.0, 1.0, 0.0))), fitted(pairs, schedule(2)))


def in_sequence(pairs: Pairs, hooks: Hooks = Hooks()) -> tuple[Clip, list[Point], list[float]]:  # noqa: B008
    """Carry out two tasks, of which the second is made from what the first left."""
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    seen: list[float] = []

    def tasks() -> Iterator[Task]:
        for epochs in (2, 3):
            seen.append(float(model.full_state()["visual.conv1.weight"].sum()))
            yield Task(pairs, loss, schedule(epochs))

    return model, fit_all(model, tasks(), stream(0, "test"), hooks), seen


def test_pairs_that_are_each_alone_are_refused(pairs: Pairs) -> None:
    with pytest.raises(TrainingError, match="a contrastive loss needs two"):
        fitted(pairs, replace(schedule(), batch_size=1))


def test_tasks_follow_one_another_on_one_curve(pairs: Pairs) -> None:
    _, curve, seen = in_sequence(pairs, Hooks(measure=lambda _: {"clean_accuracy": 0.5}))
    assert [point.epoch for point in curve] == [0, 1, 2, 3, 4, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("last", [1, 3, 4])
def test_killed_tasks_go_on_to_the_same_weights(pairs: Pairs, tmp_path: Path, last: int) -> None:
    with pytest.raises(KilledError):
        in_sequence(pairs, Hooks(work=tmp_path, after_epoch=killed_in(last)))
    (resumed, curve, seen), (whole, reference, first) = (
        in_sequence(pairs, Hooks(work=tmp_path)),
        in_sequence(pairs),
    )
    assert same(resumed, whole)
    assert [point.loss for point in curve] == [point.loss for point in reference]
    assert seen[1] == first[1]


def test_no_task_leaves_a_curve_of_one_point(pairs: Pairs) -> None:
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    watched = Hooks(measure=lambda _: {"clean_accuracy": 0.5})
    (point,) = fit_all(model, [], stream(0, "test"), watched)
    assert (point.step, point.measured) == (0, {"clean_accuracy": 0.5})


def test_the_curve_has_the_start_and_the_last_epoch(pairs: Pairs) -> None:
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    hooks = Hooks(measure=lambda _: {"clean_accuracy": 0.5}, points=2)
    curve = fit(model, Task(pairs, loss, schedule(5)), stream(0, "test"), hooks)
    assert [point.epoch for point in curve if point.measured] == [0, 3, 5]
    assert [point.step for point in curve] == [0, 4, 8, 12, 16, 20]


def test_no_pairs_are_refused(pairs: Pairs) -> None:
    empty = pairs.take(torch.empty(0, dtype=torch.long))
    model = build("scene_resnet", seed=0)
    with pytest.raises(TrainingError, match="an empty set of pairs"):
        fit(model, Task(empty, loss, schedule()), stream(0, "test"))


def test_a_loss_that_is_not_finite_stops_the_run(pairs: Pairs) -> None:
    def broken(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
        return model.encode_image(batch.images).sum() * torch.nan

    model = build("scene_resnet", seed=0)
    with pytest.raises(TrainingError, match="learning rate"):
        fit(model, Task(pairs, broken, schedule()), stream(0, "test"))
