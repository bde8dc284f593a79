"""``clipmend preset``: write ``params.yaml`` from a preset, with every setting visible.

Values keep the text and the comments of the files that they come from. Every other setting of a
section and of each named method follows as a comment: ``# name: default  # sentence``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from clipmend.engine import files, params, presets
from clipmend.engine.params import Params, Section
from clipmend.errors import ParamsError
from clipmend.methods import table
from clipmend.tools.settings import JSON_SCHEMA, Setting, method_settings, nested, settings

_WIDTH = 118  # a variant whose settings fit into so many characters stays on one line

Key = tuple[str, ...]  # of a value: the keys from the top of the file down to it


def listing() -> str:
    """Return the name of every preset, with what it is for."""
    files = presets.presets()
    width = max(map(len, files))
    return "\n".join(f"{name:{width}}  {presets.summary(file)}" for name, file in files.items())


def write(name: str, out: Path, *, force: bool = False) -> None:
    """Write the parameters of a preset to a file.

    Raises:
        ParamsError: the preset does not exist, or ``out`` has values that no preset has.
    """
    text = render(name)
    if out.exists() and not force and not _is_preset(out):
        raise ParamsError(
            f"{out} has values of its own, which no preset has. Move the file away, or overwrite "
            "it with --force."
        )
    try:
        files.write(out, text)
    except OSError as error:
        raise ParamsError(f"{out} cannot be written: {error.strerror}.") from None


def _is_preset(path: Path) -> bool:
    """Say whether a file has the values of a preset; its comments do not count."""
    try:
        current = values(params.load(path))
    except ParamsError:
        return False
    return any(current == values(params.load(file)) for file in presets.presets().values())


def values(parameters: Params) -> dict[str, Any]:
    """Return parameters as plain values, without methods that have no settings of their own."""
    plain = parameters.model_dump()
    for section in plain.values():
        if isinstance(section, dict) and "settings" in section:
            section["settings"] = {k: v for k, v in section["settings"].items() if v}
    return plain


def render(name: str) -> str:
    """Return the complete ``params.yaml`` of a preset.

    Raises:
        ParamsError: the preset does not exist, or it does not describe a run.
    """
    path = presets.preset(name)
    writer = _Writer(params.load(path), _sources(path))
    about = takewhile(
        lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()
    )
    head = [
        *about,
        "#",
        f"# Written by `clipmend preset {name}`. A comment `# name: value` is a default:",
        "# remove the first `# ` to change it. docs/reference/settings.md explains all settings.",
        f"# yaml-language-server: $schema={JSON_SCHEMA}",
    ]
    return "\n".join([*head, *writer.section((), Params, presets.values(path))]) + "\n"


@dataclass(frozen=True)
class _Source:
    """How a file writes the value of a key.

    Attributes:
        lines: the text of the value; empty for a mapping, whose keys have sources of their own.
        above: the comment lines above the key.
        beside: the comment behind the value, or behind the key of a value on lines of its own.
    """

    lines: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    beside: str = ""


def _sources(path: Path) -> dict[Key, _Source]:
    """Return how a preset, or else a preset that it extends, writes each value."""
    merged: dict[Key, _Source] = {}
    for file in presets.chain(path):
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        assert isinstance(root, yaml.MappingNode)  # render() has loaded the file before
        for key, source in _walk(root, (), text):
            if source != _Source():  # a mapping without comments keeps those of its parent
                merged[key] = source
    return merged


def _walk(node: yaml.MappingNode, prefix: Key, text: str) -> Iterator[tuple[Key, _Source]]:
    """Yield the source of every value below a mapping."""
    rows = text.splitlines()
    # The comments above the first key of the file describe the preset, not the key.
    first = 0 if prefix else node.start_mark.line
    for key, value in node.value:
        end = _end(value)
        is_mapping = isinstance(value, yaml.MappingNode)
        above: tuple[str, ...] = ()
        beside = ""
        if not node.flow_style:
            before = reversed(rows[first : key.start_mark.line])
            comments = takewhile(lambda row: row.lstrip().startswith("#"), before)
            above = tuple(row.strip() for row in comments)[::-1]
            is_below = value.start_mark.line > key.start_mark.line
            rest = text[(key.end_mark if is_below else end).index :].partition("\n")[0]
            beside = rest.partition("# ")[2]
        body = "" if is_mapping else text[value.start_mark.index : end.index]
        lines = tuple(dedent(" " * value.start_mark.column + body).splitlines())
        yield (*prefix, key.value), _Source(lines if body else (), above, beside)
        if is_mapping:
            yield from _walk(value, (*prefix, key.value), text)


def _end(node: yaml.Node) -> yaml.Mark:
    """Return where the text of a value ends; a block's own mark is at the next key."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return node.end_mark


@dataclass(frozen=True)
class _Writer:
    """Writes the lines of a complete file of parameters."""

    parameters: Params
    sources: Mapping[Key, _Source]

    def section(self, key: Key, model: type[Section], own: Mapping[str, Any]) -> Iterator[str]:
        """Yield the lines of a section: its values, and its other settings as comments."""
        pad = "  " * len(key)
        inner, rows = nested(model), settings(model)
        for name in model.model_fields:
            at = (*key, name)
            if not key and name in inner:
                yield ""
            if name == "settings":
                yield from self._settings(at, own.get(name) or {})
            elif name in rows and name in own:
                sentence = "" if name == "methods" else _short(rows[name])
                yield from self._value(at, sentence, value=own[name])
            elif name in rows:
                yield f"{pad}# {_line(rows[name])}"
            elif name in own:
                yield from self._value(at, is_mapping=True)
                yield from self.section(at, inner[name], own[name])
            else:
                yield f"{pad}# {name}:"
                yield from (f"{pad}#   {_line(row)}" for row in settings(inner[name]).values())

    def _settings(self, key: Key, own: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        """Yield the settings of every method that the section names, and of its variants."""
        stage = key[0]
        section = self.parameters.section(stage)
        names: tuple[str, ...] = section.methods  # type: ignore[attr-defined]
        if stage == "pretrain":
            names += self.parameters.pretrain.unrepaired.methods
        lines: list[str] = []
        done: set[str] = set()
        for name in (*own, *names):
            base = table.base(name)
            if base not in done and (base in own or base in table.METHODS[stage]):
                done.add(base)
                lines += self._method((*key, base), own.get(base, {}))
            if name != base and name not in done:
                done.add(name)
                lines += self._variant((*key, name), own[name])
        yield from self._value(key, is_mapping=True) if lines else (f"  {key[-1]}: {{}}",)
        yield from lines

    def _method(self, key: Key, own: Mapping[str, Any]) -> list[str]:
        """Return a method's settings, each on its line; the default ones are comments."""
        stage, _, name = key
        rows = method_settings(stage, self.parameters.source(stage, name))
        if not rows:
            return []
        lines = list(self._value(key, is_mapping=True))
        for extra in (name for name in own if name not in rows):  # the source of a corpus
            lines += self._value((*key, extra), value=own[extra])
        for row in rows.values():
            if row.name in own:
                lines += self._value((*key, row.name), _short(row), value=own[row.name])
            else:
                lines.append(f"      # {_line(row)}")
        return lines

    def _variant(self, key: Key, own: Mapping[str, Any]) -> list[str]:
        """Return the settings in which a variant differs from its method, on one line if short."""
        source = self.sources.get(key, _Source())
        texts = {name: self._text((*key, name), value)[0] for name, value in own.items()}
        pairs = ", ".join(f"{name}: {text}" for name, text in texts.items())
        line = f"    {key[-1]}: {{{pairs}}}"
        if len(line) > _WIDTH or not _reads_as(line, {key[-1]: own}):
            lines = [*self._value(key, is_mapping=True)]
            for name, value in own.items():
                lines += self._value((*key, name), value=value)
            return lines
        beside = f"  # {source.beside}" if source.beside else ""
        return [*(f"    {text}" for text in source.above), f"{line}{beside}"]

    def _text(self, key: Key, value: Any) -> tuple[str, tuple[str, ...]]:
        """Return how a value is written: behind its key, or else on lines below it."""
        lines = self.sources.get(key, _Source()).lines
        if len(lines) == 1 and _reads_as(f"x: {lines[0]}", {"x": value}):
            return lines[0], ()
        if lines and _reads_as("\n".join(["x:", *(f"  {line}" for line in lines)]), {"x": value}):
            return "", lines
        # Such as a value with an alias, whose text means nothing in another place.
        flow = yaml.safe_dump([value], default_flow_style=True, width=float("inf"))
        return flow.strip()[1:-1], ()

    def _value(
        self, key: Key, sentence: str = "", *, value: Any = None, is_mapping: bool = False
    ) -> Iterator[str]:
        """Yield a key with its comments, and its value as its file writes it.

        Args:
            sentence: the comment of a value that has none.
            value: what YAML must read.
            is_mapping: whether the caller writes the value itself.
        """
        pad = "  " * (len(key) - 1)
        source = self.sources.get(key, _Source())
        comment = source.beside or sentence
        inline, below = ("", ()) if is_mapping else self._text(key, value)
        yield from (f"{pad}{line}" for line in source.above)
        yield " ".join(filter(None, (f"{pad}{key[-1]}:", inline, f" # {comment}" * bool(comment))))
        yield from (f"{pad}  {line}" for line in below)


def _reads_as(text: str, value: Any) -> bool:
    """Return whether YAML reads a value from a text, wherever and however often the text is put."""
    try:
        # An anchor that is put twice is refused by YAML.
        has_anchor = any(isinstance(token, yaml.AnchorToken) for token in yaml.scan(text))
        return not has_anchor and bool(yaml.safe_load(text) == value)
    except yaml.YAMLError:
        return False


def _line(row: Setting) -> str:
    """Return a setting at its default: ``name: default  # sentence``."""
    note = "; ".join(filter(None, ("required" if row.default is None else "", _short(row))))
    return f"{row.name}: {row.default or ''}".rstrip() + (f"  # {note}" if note else "")


def _short(row: Setting) -> str:
    """Return what a setting means in one sentence, without the period."""
    return row.sentence.partition(". ")[0].removesuffix(".")
