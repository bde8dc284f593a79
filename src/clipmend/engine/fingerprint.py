"""Digests of the meaning of code, read from the sources without importing them.

A module's digest is of its syntax tree without comments and docstrings, and of the package data
that it names in a literal ``PACKAGE_DATA = ("synonyms.json",)``. Of the table of methods, a key has
one line alone: the class of its method.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import clipmend
from clipmend.errors import PlanError

PACKAGE = Path(clipmend.__file__).parent
_SHORT = 12  # hex digits of a part's digest: enough to tell two versions of one function apart

FLOORS = ("data", "metrics", "methods", "model", "report", "stages")
"""The packages whose code is part of a key. Nothing in ``engine/`` or ``tools/`` is."""

MODULE_LEVEL = "module level"
CONSTANTS = "constants"
"""The parts of a module beside its functions and classes: with and without its imports."""

TABLE = "clipmend.methods.table"  # names every method: a new line must not change every key


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
        todo.extend((*_imports(name), *_packages(name)))
    return dict(sorted(found.items()))


def parts(module: str) -> dict[str, str]:
    """Return a short digest of each function, method and class of a module, and of the rest.

    The rest is ``module level``; ``constants`` is the same without the import statements.
    An audit uses them to name the edited functions of a file; they are in no key.
    """
    parsed = tree(module)
    found = dict(_named_parts(parsed.body, ""))
    rest = [node for node in parsed.body if not _is_part(node)]
    found[MODULE_LEVEL] = _short(rest)
    found[CONSTANTS] = _short([n for n in rest if not isinstance(n, ast.Import | ast.ImportFrom)])
    for name in _package_data(parsed):
        found[name] = hashlib.sha256(_data(module, name)).hexdigest()[:_SHORT]
    return found


def line(module: str, cls: str) -> str:
    """Return the digest of a method's line in the table: where its class is, and its name."""
    return hashlib.sha256(f"{module}:{cls}".encode()).hexdigest()


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
    """Read every source again on next use; for a process that outlives an edit."""
    for cached in (digests, tree, _digest, _imports, _packages):
        cached.cache_clear()


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py") if path != PACKAGE else path / "__init__.py"
    return file if file.is_file() or not path.is_dir() else path / "__init__.py"


@cache
def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module of this package.

    Raises:
        PlanError: the file does not exist or does not parse.
    """
    path = _path(module)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe has no end
        raise PlanError(f"Module {module} is not a file, but a pipe or a device.")
    try:
        return ast.parse(path.read_bytes())
    except FileNotFoundError:
        raise PlanError(f"Module {module} does not exist; methods/table.py names it.") from None
    except OSError as error:
        raise PlanError(f"Module {module} cannot be read: {error.strerror}.") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # a NUL is a ValueError
        raise PlanError(f"Module {module} does not parse: {str(error) or 'too deep'}.") from None


@cache
def _digest(module: str) -> str:
    parsed = tree(module)
    try:
        # Of the tree, not of the text: comments, docstrings and layout make nothing stale.
        digest = hashlib.sha256(repr(_meaning(parsed)).encode())
    except (RecursionError, UnicodeError) as error:  # of `"\ud800"`, half a character, too
        raise PlanError(f"Module {module} cannot be hashed: {error}.") from None
    for name in _package_data(parsed):
        digest.update(name.encode())
        digest.update(_data(module, name))
    return digest.hexdigest()


def _meaning(node: object) -> tuple[object, ...]:
    """Return nested tuples without positions, docstrings, or fields that only one Python has."""
    if isinstance(node, list):
        return tuple([_meaning(item) for item in node if not _is_text(item)])
    if not isinstance(node, ast.AST):
        return (type(node).__name__, node)
    # Lists, because generators take half as long again, and a run has thousands of nodes.
    fields = [(name, getattr(node, name, None)) for name in node._fields]
    known = [(name, _meaning(value)) for name, value in fields if value not in (None, [])]
    return (type(node).__name__, *known)


def _is_text(node: object) -> bool:
    """Return whether a statement is only a string: the docstring of a module or an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _package_data(parsed: ast.Module) -> tuple[str, ...]:
    value = assigned(parsed, "PACKAGE_DATA")
    return tuple(ast.literal_eval(value)) if value is not None else ()


def _data(module: str, name: str) -> bytes:
    path = _path(module).parent / name
    if path.exists() and not path.is_file():
        raise PlanError(f"{name}, which {module} reads, is not a file.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlanError(
            f"{name}, which {module} reads, is not beside it ({error.strerror}); restore the file."
        ) from None


@cache
def _packages(module: str) -> tuple[str, ...]:
    """Return the packages around a module whose ``__init__`` has code, which an import runs."""
    parts = module.split(".")
    packages = [".".join(parts[:size]) for size in range(1, len(parts))]
    return tuple(
        package
        for package in packages
        if (PACKAGE.joinpath(*package.split(".")[1:]) / "__init__.py").is_file()
        and any(map(_is_run, tree(package).body))
    )


def _is_run(node: ast.stmt) -> bool:
    """Return whether an import of the module runs this statement."""
    # Functions that the package offers its users run nothing, and no keyed module imports them.
    is_typing = isinstance(node, ast.ImportFrom) and node.module == "typing"
    is_checked = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    is_function = isinstance(node, ast.FunctionDef) and not node.decorator_list
    return not (_is_text(node) or is_typing or is_checked or is_function)


def assigned(parsed: ast.Module, name: str) -> ast.expr | None:
    """Return the expression that a module's top level assigns to ``name``."""
    for node in parsed.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the keyed modules of this package that ``module`` imports anywhere."""
    found: set[str] = set()
    for node in _statements(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = absolute(module, node)
            found.update((parent, *(f"{parent}.{alias.name}" for alias in node.names)))
    files = {name: _path(name) for name in found if is_keyed(name)}
    # A package counts by its code alone, see `_packages`.
    return tuple(
        sorted(
            n for n, file in files.items() if file.is_file() and file.stem == n.rpartition(".")[2]
        )
    )


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements inside a node, at every depth, without walking their expressions."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(node, name, ()):
            yield inner
            yield from _statements(inner)


def is_keyed(module: str) -> bool:
    """Return whether a module's code is part of a key."""
    return module != TABLE and module.startswith(tuple(f"clipmend.{floor}." for floor in FLOORS))


def absolute(module: str, node: ast.ImportFrom) -> str:
    """Return the full name of the module that an import names."""
    # The first dot of a package's own import means the package itself.
    above = node.level - (_path(module).name == "__init__.py")
    parts = module.split(".")[: -above or None] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])
