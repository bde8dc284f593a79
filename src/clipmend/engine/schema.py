"""The settings of a method, read from its source without importing it.

Importing torch would cost every command seconds, so a method's dataclass is read as a syntax tree.
"""

import ast
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, create_model

from clipmend.engine import fingerprint
from clipmend.engine.fingerprint import absolute, assigned, tree
from clipmend.errors import PlanError
from clipmend.methods import settings
from clipmend.methods.settings import Edge

TYPES: dict[str, Any] = {
    **{name: getattr(settings, name) for name in vars(settings) if name[0].isupper()},
    "Annotated": typing.Annotated,
    "Literal": Literal,
    "bool": bool,
    "dict": dict,
    "float": float,
    "int": int,
    "str": str,
    "tuple": tuple,
}
"""The names that the annotation of a setting may use."""


def forget() -> None:
    """Read every source again next time; for a process that outlives an edit."""
    fingerprint.forget()
    declaration.cache_clear()


@cache
def declaration(module: str, cls: str) -> type[BaseModel]:
    """Return the settings of a method's dataclass as a model that refuses all others.

    Raises:
        PlanError: the source has no such dataclass, or a setting that cannot be read.
    """
    fields: dict[str, Any] = dict(_fields(module, cls))
    config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
    return create_model(cls, __config__=config, **fields)


def returned(module: str, cls: str) -> str | None:
    """Return the name of the type that calling a method gives, or None where it states none.

    Raises:
        PlanError: the source has no such class.
    """
    node = _known_class(module, cls)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__call__":
            return None if item.returns is None else ast.unparse(item.returns).strip("'\"")
    homes = (_home(module, ast.unparse(parent)) for parent in node.bases)
    return next((stated for home in homes if home and (stated := returned(*home))), None)


def marked(model: BaseModel, marker: type) -> dict[str, str]:
    """Return the settings that are set and whose type carries a marker of ``methods.settings``."""
    found = {
        name: getattr(model, name)
        for name, field in type(model).model_fields.items()
        if marker in (*field.metadata, *_metadata(field.annotation))
    }
    return {name: value for name, value in found.items() if value is not None}


def edge(model: BaseModel, stage: str) -> Any:
    """Return the value of the setting that names a method of another stage; None if none does."""
    for name, field in type(model).model_fields.items():
        if Edge(stage) in (*field.metadata, *_metadata(field.annotation)):
            return getattr(model, name)
    return None


def _metadata(annotation: object) -> Iterator[Any]:
    """Yield the metadata of the members of an annotation such as ``InputPath | None``."""
    for member in get_args(annotation):
        yield from getattr(member, "__metadata__", ())
        yield from _metadata(member)


def _fields(module: str, cls: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield name, annotation and default of a dataclass's fields, inherited ones first."""
    node = _known_class(module, cls)
    for parent in node.bases:
        home = _home(module, ast.unparse(parent))
        if home is not None:
            yield from _fields(*home)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return  # a Protocol: its annotations are not settings
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation):
            yield ast.unparse(item.target), _field(module, cls, item)


def _class(module: str, name: str) -> ast.ClassDef | None:
    classes = (node for node in tree(module).body if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name), None)


def _known_class(module: str, name: str) -> ast.ClassDef:
    node = _class(module, name)
    if node is None:
        raise PlanError(f"Module {module} has no class {name}; methods/table.py names it.")
    return node


def _home(module: str, name: str) -> tuple[str, str] | None:
    """Return module and name of a base class that this package defines, or None."""
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
    """Return the type that an annotation stands for; a module's own aliases are followed."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = dict(TYPES)
    for name in names - known.keys():
        alias = assigned(tree(module), name)
        if alias is not None:
            known[name] = _evaluate(module, alias)
    code = compile(ast.Expression(expression), f"<{module}>", "eval")
    return eval(code, {"__builtins__": {}}, known)
