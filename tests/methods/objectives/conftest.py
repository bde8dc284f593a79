"""Fixtures: pairs to train on, and a run that is killed and resumed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.interfaces import Objective
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Batch, Hooks, Loss, fit


class KilledError(Exception):
    pass


@pytest.fixture(scope="package")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted")


@pytest.fixture(scope="package")
def new_model(pairs: Pairs) -> Callable[[Objective], Clip]:
    return lambda objective: _new_model(objective, pairs)


def _new_model(objective: Objective, pairs: Pairs) -> Clip:
    model = build("scene_resnet", seed=0, head=objective.head())
    return model.prune_vocabulary([*pairs.captions, *objective.texts()])


def trained(objective: Objective, pairs: Pairs, hooks: Hooks = Hooks()) -> Clip:  # noqa: B008
    model = _new_model(objective, pairs)
    fit(model, objective.task(model, pairs, stream(0, "views")), stream(0, "fit"), hooks)
    return model


@pytest.fixture
def survives(pairs: Pairs, tmp_path: Path) -> Callable[[Objective, int], bool]:
    """Return what tells whether a run killed in an epoch goes on to the weights of a whole run."""
    few = pairs.take(torch.arange(32))

    def run(objective: Objective, killed_in: int) -> bool:
        def kill(epoch: int, model: Clip) -> None:  # noqa: ARG001
            if epoch == killed_in:
                raise KilledError

        with pytest.raises(KilledError):
            trained(objective, few, Hooks(work=tmp_path, after_epoch=kill))
        seen: list[int] = []
        resumed = trained(
            objective, few, Hooks(work=tmp_path, after_epoch=lambda epoch, _: seen.append(epoch))
        )
        assert seen[0] == killed_in
        left, right = resumed.full_state(), trained(objective, few).full_state()
        return all(left[name].equal(right[name]) for name in left)

    return run


@pytest.fixture
def survives_inside(pairs: Pairs, tmp_path: Path) -> Callable[[Objective, int], bool]:
    """Return what tells whether a run killed before a step goes on to a whole run's weights."""
    few = pairs.take(torch.arange(32))

    def run(objective: Objective, step: int) -> bool:
        model = _new_model(objective, few)
        task = objective.task(model, few, stream(0, "views"))
        made: list[int] = []
        if isinstance(task.loss, torch.nn.Module):
            task.loss.register_forward_pre_hook(lambda *_: _die_at(step, made))
        else:
            task = replace(task, loss=_dying(task.loss, step, made))
        with pytest.raises(KilledError):
            fit(model, task, stream(0, "fit"), Hooks(work=tmp_path, every=0.0))
        resumed = trained(objective, few, Hooks(work=tmp_path))
        left, right = resumed.full_state(), trained(objective, few).full_state()
        return all(left[name].equal(right[name]) for name in left)

    return run


def _die_at(step: int, made: list[int]) -> None:
    if len(made) == step:
        raise KilledError
    made.append(step)


def _dying(loss: Loss, step: int, made: list[int]) -> Loss:
    def dying(model: Clip, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        _die_at(step, made)
        return loss(model, batch, generator)

    return dying
