"""Fixtures: pairs to train on, and a run that is killed and resumed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.interfaces import Objective
from clipmend.model.clip import Clip, build
from clipmend.model.fit import Hooks, fit


class KilledError(Exception):
    pass


@pytest.fixture(scope="package")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted")


@pytest.fixture(scope="package")
def new_model(pairs: Pairs) -> Callable[[Objective], Clip]:
    def new(objective: Objective) -> Clip:
        model = build("scene_resnet", seed=0, head=objective.head())
        return model.prune_vocabulary([*pairs.captions, *objective.texts()])

    return new


@pytest.fixture
def survives(
    pairs: Pairs, new_model: Callable[[Objective], Clip], tmp_path: Path
) -> Callable[[Objective, int], bool]:
    """Return what tells whether a run killed in a step goes on to the weights of a whole run."""
    few = pairs.take(torch.arange(32))

    def run(objective: Objective, killed_in: int) -> bool:
        def trained(hooks: Hooks, dies_in: int = -1) -> tuple[dict[str, Tensor], int]:
            steps = 0

            def count(*_: object) -> None:
                nonlocal steps
                if steps == dies_in:
                    raise KilledError
                steps += 1

            model, counting = new_model(objective), register_optimizer_step_pre_hook(count)
            try:
                task = objective.task(model, few, stream(0, "views"))
                fit(model, task, stream(0, "fit"), hooks)
            finally:
                counting.remove()
            return model.full_state(), steps

        with pytest.raises(KilledError):
            trained(Hooks(work=tmp_path, every=0.0), killed_in)
        (resumed, remaining), (whole, steps) = trained(Hooks(work=tmp_path)), trained(Hooks())
        assert remaining == steps - killed_in
        return all(resumed[name].equal(whole[name]) for name in whole)

    return run
