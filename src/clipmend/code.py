"""What a cell's code means, read from the sources without importing them.

A module's digest is of its syntax tree without comments and docstrings, and of the package data
that it names in a literal ``PACKAGE_DATA = ("synonyms.json",)``. A method's settings are read from
its dataclass in the same way, because importing torch would cost every command seconds.
"""

import ast
import hashlib
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, create_model

import clipmend
from clipmend import settings
from clipmend.errors import PlanError

PACKAGE = Path(clipmend.__file__).parent
_SHORT = 12  # hex digits of a part's digest: enough to tell two versions of one function apart

EXCLUDED = frozenset(
    f"clipmend.{name}"
    for name in (
        "audit",
        "cards",
        "cli",
        "code",
        "crate",
        "errors",
        "flow",
        "gpus",
        "grid",
        "index",
        "job",
        "locks",
        "methods",
        "params",
        "plan",
        "practice",
        "processes",
        "status",
        "store",
    )
)
"""Modules that decide what runs, not what comes out: they are in no closure."""

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


@cache
def digests(*modules: str) -> dict[str, str]:
    """Return the digest of every module in the import closure of ``modules``, by name."""
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = _digest(name)
        todo.extend(_imports(name))
    return dict(sorted(found.items()))


def parts(module: str) -> dict[str, str]:
    """Return a short digest of each function, method and class of a module, and of the rest.

    An audit names by them what was edited in a file; no key has them.
    """
    tree = _tree(module)
    found = dict(_named_parts(tree.body, ""))
    found["module level"] = _short([node for node in tree.body if not _is_part(node)])
    for name in _package_data(tree):
        data = (_path(module).parent / name).read_bytes()
        found[name] = hashlib.sha256(data).hexdigest()[:_SHORT]
    return found


def _named_parts(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            own = [item for item in node.body if not _is_part(item)]
            head = [*node.bases, *node.keywords, *node.decorator_list, *own]
            yield f"{prefix}{node.name}", _short(head)
            yield from _named_parts(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", _short([node])


def _is_part(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def _short(nodes: list[Any]) -> str:
    return hashlib.sha256(repr(_meaning(nodes)).encode()).hexdigest()[:_SHORT]


def forget() -> None:
    """Read every source again next time; for a process that outlives an edit."""
    for cached in (digests, declaration, _tree, _digest, _imports):
        cached.cache_clear()


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
    """Return the settings whose type carries a marker of ``clipmend.settings``, and are set."""
    found = {
        name: getattr(model, name)
        for name, field in type(model).model_fields.items()
        if marker in (*field.metadata, *_metadata(field.annotation))
    }
    return {name: value for name, value in found.items() if value is not None}


def _metadata(annotation: object) -> Iterator[Any]:
    """Yield what an annotation such as ``InputPath | None`` carries in its members."""
    for member in get_args(annotation):
        yield from getattr(member, "__metadata__", ())


def _path(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    try:
        return ast.parse(path.read_bytes())
    except FileNotFoundError:
        raise PlanError(f"Module {module} does not exist; methods.py names it.") from None
    except SyntaxError as error:
        raise PlanError(f"Module {module} does not parse: {error}.") from None


@cache
def _digest(module: str) -> str:
    tree = _tree(module)
    digest = hashlib.sha256(repr(_meaning(tree)).encode())
    for name in _package_data(tree):
        digest.update(name.encode())
        digest.update((_path(module).parent / name).read_bytes())
    return digest.hexdigest()


def _meaning(node: object) -> tuple[object, ...]:
    """Return nested tuples without positions, docstrings, or fields that only one Python has."""
    if isinstance(node, list):
        return tuple(_meaning(item) for item in node if not _is_text(item))
    if not isinstance(node, ast.AST):
        return (type(node).__name__, node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return (type(node).__name__, *((name, _meaning(value)) for name, value in fields))


def _is_text(node: object) -> bool:
    """Say whether a statement is a string alone: a docstring, of a module down to an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _package_data(tree: ast.Module) -> tuple[str, ...]:
    value = _assigned(tree, "PACKAGE_DATA")
    return tuple(ast.literal_eval(value)) if value is not None else ()


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """Return the expression that a module's top level gives to ``name``."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the modules of this package that ``module`` imports anywhere, without the excluded."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = _absolute(module, node)
            found.update((parent, *(f"{parent}.{alias.name}" for alias in node.names)))
    ours = (name for name in found if name.startswith("clipmend.") and _path(name).is_file())
    return tuple(sorted(set(ours) - EXCLUDED))


def _absolute(module: str, node: ast.ImportFrom) -> str:
    parts = module.split(".")[: -node.level] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])


def _fields(module: str, cls: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield name, annotation and default of a dataclass's fields, inherited ones first."""
    node = _known_class(module, cls)
    for parent in node.bases:
        home = _home(module, ast.unparse(parent))
        if home is not None:
            yield from _fields(*home)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return  # a Protocol: its annotations are no settings
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation):
            yield ast.unparse(item.target), _field(module, cls, item)


def _class(module: str, name: str) -> ast.ClassDef | None:
    classes = (node for node in _tree(module).body if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name), None)


def _known_class(module: str, name: str) -> ast.ClassDef:
    node = _class(module, name)
    if node is None:
        raise PlanError(f"Module {module} has no class {name}; methods.py names it.")
    return node


def _home(module: str, name: str) -> tuple[str, str] | None:
    """Return module and name of a base class that this package defines, or None."""
    if _class(module, name) is not None:
        return module, name
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and _absolute(module, node).startswith("clipmend."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _absolute(module, node), alias.name
    return None


def _field(module: str, cls: str, statement: ast.AnnAssign) -> tuple[Any, Any]:
    name = ast.unparse(statement.target)
    try:
        annotation = _evaluate(module, statement.annotation)
        default = ... if statement.value is None else ast.literal_eval(statement.value)
    except (ValueError, NameError, TypeError, SyntaxError) as error:
        raise PlanError(
            f"Setting {name!r} of {module}:{cls} cannot be read without importing it ({error}); "
            "use a builtin or a type of clipmend.settings, and a literal default."
        ) from None
    return annotation, default


def _evaluate(module: str, expression: ast.expr) -> object:
    """Return the type that an annotation stands for; a module's own aliases are followed."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = dict(TYPES)
    for name in names - known.keys():
        alias = _assigned(_tree(module), name)
        if alias is not None:
            known[name] = _evaluate(module, alias)
    code = compile(ast.Expression(expression), f"<{module}>", "eval")
    return eval(code, {"__builtins__": {}}, known)
