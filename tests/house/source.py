"""The files of this repository as the house tests read them: what git tracks or would add, parsed once."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT


class Import(NamedTuple):
    """One imported module, absolute, and the line it is imported on."""

    module: str
    line: int


@functools.cache
def files() -> tuple[str, ...]:
    """Paths from the root of everything git tracks or does not ignore, sorted."""
    # A clone that belongs to another user is still ours to read.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file()))


def python_files(*folders: str) -> list[str]:
    """Python files below `folders`."""
    return [name for name in files() if name.endswith(".py") and name.startswith(tuple(f"{f}/" for f in folders))]


@functools.cache
def text(name: str) -> str:
    """A file's text."""
    return (ROOT / name).read_text(encoding="utf-8")


@functools.cache
def tree(name: str) -> ast.Module:
    """A Python file's syntax tree."""
    return ast.parse(text(name), name)


def module_name(name: str) -> str:
    """`faas/node/pool.py` is `faas.node.pool`; a package's `__init__.py` is the package."""
    parts = Path(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str) -> Iterator[Import]:
    """Every module a file imports, wherever in the file and for whatever purpose.

    `from a import b` counts as `a.b` when that is a module of ours, else as `a`.
    """
    package = module_name(name) if name.endswith("__init__.py") else module_name(name).rpartition(".")[0]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield Import(deeper if is_ours(deeper) else base, node.lineno)


def is_ours(module: str) -> bool:
    """True for a module or package that is a file of this repository."""
    path = module.replace(".", "/")
    return f"{path}.py" in _known() or f"{path}/__init__.py" in _known()


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(files())


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, methods and nested ones too."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
