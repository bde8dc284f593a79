"""Weights of a user: read without running code, under whatever names a trainer gave them."""

import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors.torch import load_file
from torch import Tensor, nn

from clipmend.errors import ModelError

_WRAPPERS = frozenset({"module", "_orig_mod", "model"})
"""What DistributedDataParallel, torch.compile and trainers put in front of a weight's name."""

_HOLDERS = ("state_dict", "model_state_dict", "model")  # where a trainer keeps the weights
_STATED = frozenset({"input_resolution", "context_length", "vocab_size"})  # in OpenAI's files
_LONGEST = 200  # letters of the reason in a message


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a weights file, or a trainer's checkpoint that holds one, into a model.

    Raises:
        ModelError: the file cannot be read without running its code, or does not fit the model.
    """
    expected = net.state_dict()
    state = _named(_read(path), expected, path)
    _refuse_other_shapes(expected, state, path)
    net.load_state_dict(state)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Weights only: a checkpoint from elsewhere must not execute code. The state of an optimizer
        # has numbers of numpy, and trainers keep their arguments: neither runs anything.
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"The weights in {path} cannot be read: {_reason(error)}") from error
    while isinstance(content, Mapping):
        holder = next((name for name in _HOLDERS if isinstance(content.get(name), Mapping)), None)
        if holder is None:
            break
        content = content[holder]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds no weights, but {type(content).__name__}.")
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ModelError(f"{path} holds no weights, but {', '.join(map(str, content))[:_LONGEST]}.")
    return state


def _harmless() -> list[Any]:
    """Return what a checkpoint may hold beside tensors: numbers and arrays of numpy, arguments."""
    scalar, rebuild = multiarray.scalar, multiarray._reconstruct
    older = "numpy.core.multiarray"  # the name in files that numpy 1 wrote
    names = [(scalar, f"{older}.scalar"), (rebuild, f"{older}._reconstruct")]
    kinds = {type(np.dtype(kind)) for kind in np.typecodes["All"]}
    return [*names, scalar, rebuild, np.ndarray, np.dtype, *kinds, Namespace]


def _reason(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colors its messages
    if names := re.search(r"(?:Unsupported global: GLOBAL|Unsupported class) (\S+)", text):
        return (
            f"it holds {names[1]}, which only code of its own could load. Save the weights alone: "
            "torch.save(checkpoint['state_dict'], FILE)."
        )
    if "TorchScript" in text:
        return (
            "it is a TorchScript archive. Save the weights: torch.save(model.state_dict(), FILE)."
        )
    # The first line of torch advises to run the code of the file, which is not safe.
    own = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    reason = own[1] if own else next(iter(text.splitlines()), type(error).__name__)
    return f"it is damaged, or of another format ({reason[:_LONGEST].rstrip('.')})."


def _named(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return weights under the names of open_clip, without the wrappers of a trainer.

    Raises:
        ModelError: two weights have one name then.
    """
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        if key not in expected:
            name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if name in _STATED and name not in expected:
            continue
        if name in named:
            raise ModelError(f"{path} has the weight {name} twice, once as {key}.")
        named[name] = value
    return named


def _refuse_other_shapes(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> None:
    """Report in one line how a checkpoint of another architecture differs.

    Raises:
        ModelError: a tensor is missing, unknown, or of another shape.
    """
    other = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    counts = {"missing": missing, "unknown": unknown, "of another shape": other}
    faults = [f"{len(names)} {kind} ({names[0]})" for kind, names in counts.items() if names]
    if faults:
        raise ModelError(
            f"The weights in {path} do not fit this model: of {len(expected)} tensors "
            f"{', '.join(faults)}; name the model that they were made with."
        )
