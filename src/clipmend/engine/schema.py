"""The settings of a method, read from its source without importing it.

Importing torch would cost every command seconds, so a method's dataclass is read as a syntax tree.
"""

import ast
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo

from clipmend.engine import fingerprint
from clipmend.engine.fingerprint import absolute, assigned, tree
from clipmend.errors import PlanError, suggestion
from clipmend.methods import settings
from clipmend.methods.settings import Edge

TYPES: dict[str, Any] = {
    **{name: getattr(settings, name) for name in vars(settings) if name[0].isupper()},
    "Annotated": typing.Annotated,
    "Literal": Literal,
    "bool": bool,
    "dict": dict,
    "float": settings.Number,
    "int": int,
    "str": str,
    "tuple": tuple,
}
"""The names that the type of a setting may use."""

# What a base that is its own, or a field that pydantic keeps for itself, ends in.
_UNREADABLE = (RecursionError, PydanticUserError, AttributeError, LookupError, NameError, TypeError)
_LISTED = 20  # problems in one line
_LENGTH = 200  # characters of a name or a value in an error message


def forget() -> None:
    """Forget every source that was read, for a process that outlives an edit."""
    fingerprint.forget()
    declaration.cache_clear()


@cache
def declaration(module: str, cls: str) -> type[BaseModel]:
    """Return the settings of a method's dataclass as a model that refuses unknown settings.

    A field's description is its line in the ``Attributes:`` section of the class, or of a base.

    Raises:
        PlanError: the source has no such dataclass, or a setting that cannot be read.
    """
    # A default outside its own range is a bug. Pydantic keeps names such as `model_` for itself.
    config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
    try:
        described = _described(module, cls)
        fields: dict[str, Any] = {
            name: (annotation, Field(default, description=described.get(name)))
            for name, annotation, default in _fields(module, cls)
        }
        return create_model(cls, __config__=config, **fields)
    except _UNREADABLE as error:
        raise PlanError(
            f"The settings of {module}:{cls} cannot be read without importing it "
            f"({' '.join(str(error).split())})."
        ) from None


def marked(model: BaseModel, marker: type) -> dict[str, str]:
    """Return the settings that have a value and whose type carries a marker of ``settings.py``."""
    values = {
        name: getattr(model, name)
        for name, field in type(model).model_fields.items()
        if marker in markers(field)
    }
    return {name: value for name, value in values.items() if value is not None}


def edge(model: BaseModel, stage: str) -> Any:
    """Return the value of the setting that names a method of another stage; None if none does."""
    for name, field in type(model).model_fields.items():
        if Edge(stage) in markers(field):
            return getattr(model, name)
    return None


def markers(field: FieldInfo) -> list[Any]:
    """Return the metadata of a setting's type and of its members: ``InputPath | None`` has them."""

    def inner(annotation: object) -> Iterator[Any]:
        for member in get_args(annotation):
            yield from getattr(member, "__metadata__", ())
            yield from inner(member)

    return [*field.metadata, *inner(field.annotation)]


def _fields(module: str, cls: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, annotation and default of a dataclass's fields, inherited fields first."""
    node = _known_class(module, cls)
    for parent in node.bases:
        home = _home(module, ast.unparse(parent))
        if home is not None:
            yield from _fields(*home)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return  # the annotations of a Protocol are not settings
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation):
            yield ast.unparse(item.target), *_field(module, cls, item)


def _described(module: str, cls: str) -> dict[str, str]:
    """Return what a class says about each attribute, over what its bases say."""
    homes = [_home(module, ast.unparse(base)) for base in _known_class(module, cls).bases]
    described: dict[str, str] = {}
    # The first base wins, as in Python's method resolution order.
    for home in reversed(homes):
        described |= _described(*home) if home else {}
    return described | sentences(docstring(module, cls))


def docstring(module: str, cls: str) -> str:
    """Return the docstring of a class, without its indentation; empty if there is none.

    Raises:
        PlanError: the source has no such class.
    """
    return ast.get_docstring(_known_class(module, cls)) or ""


def sentences(docstring: str) -> dict[str, str]:
    """Return what the ``Attributes:`` section of a docstring says about each attribute."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    # The section ends at the first line that is not indented.
    body = re.split(r"^(?=\S)", section, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", body, flags=re.MULTILINE)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in entries}


def _class(module: str, name: str) -> ast.ClassDef | None:
    classes = (node for node in tree(module).body if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name), None)


def _known_class(module: str, name: str) -> ast.ClassDef:
    node = _class(module, name)
    if node is None:
        raise PlanError(f"Module {module} has no class {name}; methods/table.py names it.")
    return node


def _home(module: str, name: str) -> tuple[str, str] | None:
    """Return module and name of a base class of this package; None for any other class."""
    if _class(module, name) is not None:
        return module, name
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and absolute(module, node).startswith("clipmend."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return absolute(module, node), alias.name
    return None


def _field(module: str, cls: str, statement: ast.AnnAssign) -> tuple[Any, Any]:
    name = ast.unparse(statement.target)
    try:
        annotation = _evaluate(module, statement.annotation)
        default = ... if statement.value is None else ast.literal_eval(statement.value)
    except (ValueError, NameError, TypeError, SyntaxError) as error:
        raise PlanError(
            f"Setting {name!r} of {module}:{cls} cannot be read without importing it ({error}); "
            "use a builtin or a type of clipmend.methods.settings, and a literal default."
        ) from None
    return annotation, default


def _evaluate(module: str, expression: ast.expr) -> object:
    """Return the type of an annotation, with the aliases of its module resolved."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = dict(TYPES)
    for name in names - known.keys():
        alias = assigned(tree(module), name)
        if alias is not None:
            known[name] = _evaluate(module, alias)
    # The expression sees these types alone, so that nothing of the module runs.
    # Builtins are removed: an annotation may name types only.
    code = compile(ast.Expression(expression), f"<{module}>", "eval")
    return eval(code, {"__builtins__": {}}, known)


def shown(value: object) -> str:
    """Return a value as an error message shows it: on one line, and not all of a long one."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."


def keys(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the keys that a block may have, each with the keys of its nested block."""
    return {
        name: keys(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else {}
        for name, field in model.model_fields.items()
    }


def problems(place: str, error: ValidationError, known: Mapping[str, Any]) -> str:
    """Return what pydantic refused below ``place`` as one line: at most 20 problems, and a count.

    Args:
        place: the path of the block, such as ``unlearn.settings.ubt``; empty for the file.
        error: what pydantic refused.
        known: the keys that the block may have, with those of its nested blocks.
    """
    lines = []
    refused = error.errors(include_url=False)
    for problem in refused[:_LISTED]:
        loc = [str(part)[:_LENGTH] for part in problem["loc"]]
        where = ".".join([place, *loc] if place else loc) or "the file"
        if problem["type"] == "extra_forbidden":
            siblings = known
            for part in loc[:-1]:
                siblings = siblings.get(part, {})
            lines.append(f"unknown key {where}. {suggestion(loc[-1], siblings)}")
        elif problem["type"] == "missing":
            lines.append(f"{where} is missing.")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {text}; got {shown(problem['input'])}.")
    if len(refused) > _LISTED:
        lines.append(f"And {len(refused) - _LISTED:,} more.")
    return " ".join(lines)
