# ruff: noqa: E501  (tables of oddities, one a line)
"""Models with something odd about their config or their weights, drawn by seed."""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CONFIG, WEIGHTS = "open_clip_config.json", "model.safetensors"
TINY: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {
            **{"context_length": 16, "vocab_size": 49408},
            **{"width": 16, "heads": 2, "layers": 1},
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
"""A model that is built in a moment."""

ODD = (None, "x", "", -1, 0, 3, 1e308, float("nan"), float("inf"), [], {}, True, 10**9, 10**40,
       "512", [32, 48], [1], {"a": {}}, "é\n")  # fmt: skip
TEXTS = {
    "nothing": b"",
    "half": b'{"model_cfg": {',
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a deep list": b"[" * 200_000,
    "UTF-16": json.dumps(TINY).encode("utf-16"),
    "bytes": bytes(range(256)),
}


class Runs:
    """An object whose pickle makes a folder when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each part of a JSON value."""
    if at:
        yield at
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, part in parts:
        yield from places(part, (*at, name))


def altered(draw: Random, value: Any) -> tuple[str, Any]:
    """Return a JSON value with one part removed or replaced, and what was done."""
    value = copy.deepcopy(value)
    if not (known := list(places(value))):
        return "alone", draw.choice(ODD)
    *above, last = draw.choice(known)
    parent = value
    for name in above:
        parent = parent[name]
    if draw.random() < 0.25:
        del parent[last]
        return f"without {last}", value
    parent[last] = draw.choice(ODD)
    return f"{last} = {parent[last]!r}", value


def _tensors(
    change: Callable[[dict[str, torch.Tensor], str], Any],
) -> Callable[[Random, Path], None]:
    """Return a damage of the weights; the drawn name is that of a weight."""

    def damage(draw: Random, folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        names = sorted(
            name for name, value in state.items() if value.is_floating_point() and value.dim()
        )
        change(state, draw.choice(names))
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)

    return damage


def _fill(value: float) -> Callable[[dict[str, torch.Tensor], str], Any]:
    def fill(state: dict[str, torch.Tensor], name: str) -> None:
        state[name].view(-1)[0] = value

    return fill


def _each(
    convert: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[dict[str, torch.Tensor], str], Any]:
    def change(state: dict[str, torch.Tensor], _: str) -> None:
        state |= {name: convert(value) for name, value in state.items()}

    return change


def _bytes(change: Callable[[Random, bytes], bytes]) -> Callable[[Random, Path], None]:
    def damage(draw: Random, folder: Path) -> None:
        file = folder / WEIGHTS
        file.write_bytes(change(draw, file.read_bytes()))

    return damage


def _head(draw: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 9)):
        changed[draw.randrange(600)] = draw.randrange(256)
    return bytes(changed)


def _pickled(wrap: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Random, Path], None]:
    def damage(_: Random, folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        torch.save(wrap(state), folder / "model.pth")

    return damage


def _in_place(put: Callable[[Path], object]) -> Callable[[Random, Path], None]:
    def damage(_: Random, folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        put(folder / WEIGHTS)

    return damage


def _several(folder: Path) -> None:
    for name in ("early.pt", "late.pt"):
        shutil.copy(folder / WEIGHTS, folder / name)
    (folder / WEIGHTS).unlink()


def _config(put: Callable[[Path], object]) -> Callable[[Random, Path], None]:
    def damage(_: Random, folder: Path) -> None:
        (folder / CONFIG).unlink()
        put(folder / CONFIG)

    return damage


def _altered(draw: Random, folder: Path) -> None:
    _, value = altered(draw, TINY)
    (folder / CONFIG).write_text(json.dumps(value))


def _prefixed(prefix: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda state: {
        "epoch": 3,
        "state_dict": {prefix + name: value for name, value in state.items()},
    }


DAMAGES: dict[str, tuple[Callable[[Random, Path], object], bool | None]] = {
    **{f"config: {name}": (_config(lambda path, text=text: path.write_bytes(text)), True) for name, text in TEXTS.items()},
    **{f"config, altered {number}": (_altered, None) for number in range(24)},
    "no config": (_config(lambda _: None), True),
    "config that is a folder": (_config(Path.mkdir), True),
    "config that is a dead link": (_config(lambda path: path.symlink_to("none")), True),
    "no weights": (_in_place(lambda _: None), True),
    "weights that are a folder": (_in_place(Path.mkdir), True),
    "weights that are a dead link": (_in_place(lambda path: path.symlink_to("none")), True),
    "weights that are a pipe": (_in_place(os.mkfifo), True),
    "several weights": (lambda _, folder: _several(folder), True),
    "no bytes": (_bytes(lambda *_: b""), True),
    "a text": (_bytes(lambda *_: b"weights"), True),
    "a page": (_bytes(lambda *_: b"<!DOCTYPE html><html>Sign in</html>"), True),
    "a pointer": (_bytes(lambda *_: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"), True),
    "cut": (_bytes(lambda _, data: data[: len(data) // 2]), True),
    "more bytes": (_bytes(lambda _, data: data + b"more"), True),
    "another head": (_bytes(_head), None),
    "NaN": (_tensors(_fill(float("nan"))), True),
    "infinity": (_tensors(_fill(float("-inf"))), True),
    "zeros": (_tensors(_each(torch.zeros_like)), None),
    "half precision": (_tensors(_each(torch.Tensor.half)), False),
    "double precision": (_tensors(_each(torch.Tensor.double)), False),
    "bfloat16": (_tensors(_each(torch.Tensor.bfloat16)), False),
    "whole numbers": (_tensors(_each(torch.Tensor.char)), True),
    "a weight less": (_tensors(lambda state, name: state.pop(name)), True),
    "a weight more": (_tensors(lambda state, _: state.update(extra=torch.zeros(3))), True),
    "another shape": (_tensors(lambda state, name: state.update({name: state[name][:1].clone()[None]})), True),
    "of a trainer": (_pickled(_prefixed("module.")), False),
    "compiled": (_pickled(_prefixed("_orig_mod.module.")), False),
    "a pickle": (_pickled(dict), False),
    "a pickle that runs": (_pickled(lambda state: {"state_dict": state, "x": Runs()}), True),
    "a pickle of a list": (_pickled(lambda state: list(state.values())), True),
    "a pickle of a module": (_pickled(lambda _: torch.nn.Linear(2, 2)), True),
    "a pickle of nothing": (_pickled(lambda _: {}), True),
    "sparse weights": (_pickled(lambda state: {n: v.to_sparse() if v.dim() else v for n, v in state.items()}), None),
    "notes beside": (lambda _, folder: (folder / "README.md").write_bytes(b"\xff"), False),
}  # fmt: skip
"""How a model is odd -> a function that makes it so, and whether it is refused."""
