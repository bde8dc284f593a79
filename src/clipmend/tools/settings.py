"""The reference of all settings, generated from their types and from their classes' docstrings.

``python -m clipmend.tools.settings`` writes ``docs/reference/settings.md`` for readers and
``params.schema.json`` for editors. A test holds both files in step with the code.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from clipmend.engine import files, schema
from clipmend.engine.params import Params, Section
from clipmend.errors import ClipmendError
from clipmend.methods import table
from clipmend.methods.papers import PAPERS
from clipmend.methods.settings import Edge, ModelConfig, OutsideFile

REFERENCE = Path("docs/reference/settings.md")
JSON_SCHEMA = Path("params.schema.json")

_HEAD = """# Settings

<!-- Written by `make settings` from the types and docstrings in src/clipmend; do not edit. -->

Every setting of `params.yaml`, stage by stage. `clipmend preset NAME` writes a `params.yaml` that
shows all settings of each method that it names. A *variant*, such as `ubt@random`, is a named set
of settings; it changes the settings of its method, `ubt`.
"""


@dataclass(frozen=True)
class Setting:
    """A setting as a reader sees it.

    Attributes:
        name: its key.
        values: the allowed values, in words.
        default: the default as YAML; None: the setting is required.
        sentence: what it means, with its unit.
    """

    name: str
    values: str
    default: str | None
    sentence: str


def settings(model: type[BaseModel]) -> dict[str, Setting]:
    """Return the settings of a section or of a method, without those of nested sections."""
    kinds = model.model_json_schema()["properties"] if model.model_fields else {}
    return {
        name: Setting(
            name,
            _words(kinds[name], schema.markers(field)),
            None if field.is_required() else as_yaml(field.default),
            sentence(model, name),
        )
        for name, field in model.model_fields.items()
        if name != "settings" and name not in nested(model)
    }


def nested(model: type[BaseModel]) -> dict[str, type[Section]]:
    """Return the sections within a section."""
    return {
        name: field.annotation
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def sentence(model: type[BaseModel], name: str) -> str:
    """Return what a setting means; empty if no class says it."""
    if not issubclass(model, Section):
        return model.model_fields[name].description or ""
    # A section may describe a setting anew that `Section` describes for all of them.
    described = (schema.sentences(cls.__doc__ or "") for cls in model.__mro__)
    return next((known[name] for known in described if name in known), "")


def method_settings(stage: str, name: str) -> dict[str, Setting]:
    """Return the settings of a method, inherited settings first."""
    return settings(schema.declaration(*table.reference(stage, name)))


def as_yaml(value: object) -> str:
    """Return a value as YAML on one line."""
    plain = json.loads(json.dumps(value))  # tuples become lists
    text = yaml.safe_dump(plain, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _words(kind: dict[str, Any], markers: list[Any]) -> str:
    """Return the allowed values in words, from a JSON schema and the markers of the type."""
    if "anyOf" in kind:
        return ", or ".join(_words(option, markers) for option in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        options = [f"`{as_yaml(value)}`" for value in kind.get("enum", [kind.get("const")])]
        return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))
    if kind.get("type") == "array":
        if "prefixItems" in kind:
            return f"list of ({'; '.join(_words(item, markers) for item in kind['prefixItems'])})"
        return f"list of ({_words(kind['items'], markers)})"
    text = "path" if OutsideFile in markers else "model" if ModelConfig in markers else "text"
    for edge in (marker for marker in markers if isinstance(marker, Edge)):
        text = f"method of `{edge.stage}`"
    names = {"boolean": "true or false", "integer": "whole number", "string": text}
    noun = names.get(kind["type"], kind["type"])
    if "minimum" in kind and "maximum" in kind:
        return f"{noun} from {kind['minimum']:g} to {kind['maximum']:g}"
    bounds = (("minimum", "at least"), ("exclusiveMinimum", "above"),
              ("maximum", "at most"), ("exclusiveMaximum", "below"))  # fmt: skip
    return ", ".join([noun, *(f"{word} {kind[name]:g}" for name, word in bounds if name in kind)])


def reference() -> str:
    """Return the text of ``docs/reference/settings.md``."""
    parts = [_HEAD, "## All stages\n", *reference_table(settings(Params))]
    for stage in table.STAGES:
        section = nested(Params)[stage]
        parts += [f"## `{stage}`\n", f"{_summary(section.__doc__ or '')}\n"]
        rows = settings(section)
        for block, inner in nested(section).items():
            rows |= {f"{block}.{name}": row for name, row in settings(inner).items()}
        parts += reference_table(rows)
        for name, method in table.METHODS.get(stage, {}).items():
            cited = "; ".join(PAPERS[key].citation for key in method.papers)
            about = _summary(schema.docstring(*table.reference(stage, name)))
            source = f" Source: {cited}." if cited else ""
            parts += [f"### `{name}`\n", f"{about}{source}\n"]
            parts += reference_table(method_settings(stage, name))
    return "\n".join(parts).rstrip() + "\n"


def _summary(docstring: str) -> str:
    return docstring.partition("\n")[0].replace("``", "`")


def reference_table(rows: dict[str, Setting]) -> list[str]:
    """Return the lines of a Markdown table, with an empty line after it."""
    if not rows:
        return ["It has no settings.\n"]
    lines = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    for name, row in rows.items():
        default = "required" if row.default is None else f"`{row.default}`"
        cells = (f"`{name}`", row.values, default, row.sentence)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles, which pydantic makes of the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Return that no field has a title."""
        return False


def json_schema() -> dict[str, Any]:
    """Return ``params.schema.json``: the sections, and each method's settings by its name."""
    document = Params.model_json_schema(schema_generator=_Untitled)
    definitions = document["$defs"]
    for section in _sections(Params):
        own = document if section is Params else definitions[section.__name__]
        for name, kind in own["properties"].items():
            kind["description"] = sentence(section, name)
    variant = r"(@[\w.+-]+)?$"
    empty = ["object", "null"]  # null: all settings are comments
    for stage, methods in table.METHODS.items():
        known = definitions[stage.capitalize()]["properties"]
        for name in methods:
            model = schema.declaration(*table.reference(stage, name))
            # No setting is required here: those of a variant lie over those of its method.
            properties = model.model_json_schema(schema_generator=_Untitled)["properties"]
            if stage == "download":
                properties["source"] = {"enum": list(methods)}
            definitions[f"{stage}.{name}"] = {
                "type": empty,
                "properties": properties,
                "additionalProperties": False,
            }
        # A corpus may have any name; the name of a method is in the table.
        others = {"type": empty} if stage == "download" else False
        known["settings"] = {
            "type": empty,
            "patternProperties": {
                f"^{name}{variant}": {"$ref": f"#/$defs/{stage}.{name}"} for name in methods
            },
            "additionalProperties": others,
        }
        if "methods" in known:
            known["methods"]["items"] = {"pattern": f"^({'|'.join(methods)}){variant}"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _sections(section: type[Section]) -> list[type[Section]]:
    """Return a section and all sections within it."""
    return [section, *(part for one in nested(section).values() for part in _sections(one))]


def write() -> None:
    """Write both files below the working folder, which is the checkout.

    Raises:
        ClipmendError: the folder is none, so that no documentation would be found there.
    """
    if REFERENCE.parent.is_symlink() or not REFERENCE.parent.is_dir():
        raise ClipmendError(f"{REFERENCE.parent} is not a folder here; run this in a checkout.")
    files.write(REFERENCE, reference())
    files.write(JSON_SCHEMA, json.dumps(json_schema(), indent=1) + "\n")


if __name__ == "__main__":
    write()
