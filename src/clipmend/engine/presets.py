"""Presets: files of parameters that hold only what differs from another preset.

``params/default.yaml`` is complete. Every other preset names the preset that it changes in
``extends``. Mappings are merged key by key, lists and values replace, and null removes a key.
"""

import os
from collections.abc import Mapping
from functools import reduce
from itertools import chain as joined
from math import inf
from pathlib import Path
from typing import Any

import yaml

import clipmend
from clipmend.engine.folders import is_junk
from clipmend.errors import ParamsError, UnknownNameError

EXTENDS = "extends"
DEFAULT = "default"
LIMIT = 200_000  # bytes of a file of parameters, and values in it: read three times in 3 seconds
_PACKAGE = Path(clipmend.__file__).parent
_OWN = Path("params")  # of the project's folder; comes before the presets that are shipped
_SHIPPED = (_PACKAGE.parents[1] / "params", _PACKAGE / "params")  # a checkout, an installed wheel


def presets() -> dict[str, Path]:
    """Return the file of every preset by name, the default first."""
    files = {path.stem: path for folder in (*reversed(_SHIPPED), _OWN) if not leads_out(folder)
             for path in sorted(folder.glob("*.yaml"))
             if not is_junk(path.name) and path.is_file() and not leads_out(path)}  # fmt: skip
    return dict(sorted(files.items(), key=lambda item: (item[0] != DEFAULT, item[0])))


def leads_out(path: Path) -> bool:
    """Return whether a path in the project's folder is a link out of it, as a stranger's may be."""
    is_own = not path.is_absolute() and ".." not in path.parts
    return is_own and not Path(os.path.realpath(path)).is_relative_to(Path.cwd())


def preset(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        UnknownNameError: the preset does not exist.
    """
    files = presets()
    if name not in files:
        raise UnknownNameError("preset", name, files)
    return files[name]


def summary(path: Path) -> str:
    """Return what a preset is for: the first line of its file."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def values(path: Path) -> Any:
    """Return what a file of parameters says, merged over the presets that it extends.

    Raises:
        ParamsError: a file does not exist, is not YAML, or extends itself.
    """
    return merged(chain(path))


def merged(files: Mapping[Path, Any]) -> Any:
    """Return what the files of ``chain`` say together."""
    return reduce(merge, files.values(), {})


def chain(path: Path) -> dict[Path, Any]:
    """Return what a file and all files that it extends say, the complete one first.

    Raises:
        ParamsError: a file does not exist, is not YAML, or extends itself.
    """
    files = {path: read(path)}
    last = path
    while (parent := _parent(last, files[last])) is not None:
        if parent.resolve() in [file.resolve() for file in files]:
            raise ParamsError(f"{path} extends itself, through {last}.")
        files[parent] = read(parent)
        last = parent
    return dict(reversed(files.items()))


def _parent(path: Path, content: Any) -> Path | None:
    """Return the file that another one extends: its neighbor if there is one, else a preset."""
    if not isinstance(content, dict) or EXTENDS not in content:
        return None
    name = str(content[EXTENDS])
    if len(name) > 100:
        raise ParamsError(f"{path} extends {name[:20]!r}..., a name too long for a preset.")
    neighbor = path.parent / f"{name}.yaml"
    # A path would lead out of the folder of the presets.
    return neighbor if neighbor.is_file() and "/" not in name else preset(name)


def merge(base: Any, change: Any) -> Any:
    """Return ``base`` with a change: mappings merge, all else replaces, null removes a key.

    A null where ``base`` has no such key is a value: a setting may be null.
    """
    if not (isinstance(base, Mapping) and isinstance(change, Mapping)):
        return change
    merged = dict(base)
    for name, value in change.items():
        if value is None and name in base:
            del merged[name]
        elif name != EXTENDS:
            merged[name] = merge(base.get(name), value)
    return merged


def read(path: Path) -> Any:
    """Return what one file says, without what it extends.

    Raises:
        ParamsError: the file does not exist, leads out of the project, cannot be read, is not
            YAML, or has a key twice.
    """
    try:
        if leads_out(path):
            raise ParamsError(f"{path} is a link out of this folder; put the file itself here.")
        size = path.stat().st_size
        if not (path.is_file() or path.is_dir()):  # a folder is refused where it is read
            raise ParamsError(f"{path} is not a file, but a pipe or a device.")
        if size > LIMIT:
            raise ParamsError(f"{path} has more than {LIMIT:,} bytes, which no parameters need.")
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ParamsError(
            f"{path} does not exist in this folder. `clipmend preset {DEFAULT}` writes "
            "params.yaml; `clipmend preset` lists the presets."
        ) from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ParamsError(
            f"{path} is not UTF-8 text; save it as UTF-8. (PowerShell's > writes UTF-16: use "
            "`clipmend preset NAME --out FILE`.)"
        ) from None


def parse(text: str, name: str) -> Any:
    """Return what a YAML text says.

    Raises:
        ParamsError: the text, called ``name``, is not YAML, or has a key twice.
    """
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if _count(node, {}) > LIMIT:
            raise ParamsError(
                f"{name} has more than {LIMIT:,} values, since aliases repeat some or hold "
                "themselves; no parameters need that."
            )
        return None if node is None else loader.construct_document(node)
    # A tag whose value does not fit, such as `!!int x`, raises whatever its constructor raises.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ParamsError(f"{name} is not YAML: {' '.join(str(error).split())}.") from None


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Return the values below a node, those behind an alias as often as it is used."""
    if id(node) not in known:
        known[id(node)] = inf  # of a node that holds itself
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = joined.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
        known[id(node)] = 1.0 + sum(_count(each, known) for each in nodes)
    return known[id(node)]


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses a repeated key; by default the last value would win."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii():
            value.encode()  # half a character, such as `"\\ud800"`, is refused: no file can have it
        return value

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, "expected a mapping", node.start_mark
            )
        known = set()
        for key in (str(key.value) for key, _ in node.value):
            if key in known:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is there twice", node.start_mark
                )
            known.add(key)
        return super().construct_mapping(node, deep=deep)
