"""What is committed reads the same everywhere: rooms explain themselves, and nothing names one machine."""

from __future__ import annotations

import ast
import re
from pathlib import PurePath

import pytest

from tests.house.source import files, python_files, text, tree
from tests.support import ROOT

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Put together from pieces, so that this file does not hold what it looks for.
_HOSTS = [
    ("py", "pi.org"),
    ("files.python", "hosted.org"),
    ("npm", "js.org"),
    ("npm", "js.com"),
    ("crates", ".io"),
    ("proxy.go", "lang.org"),
    ("deb.deb", "ian.org"),
    ("archive.ub", "untu.com"),
    ("registry-1.doc", "ker.io"),
    ("gh", "cr.io"),
]
_PATHS = [("/wo", "rk/"), ("/tm", "p/s/"), ("/ro", "ot/.pyenv"), ("/opt/", "wheels"), ("/opt/", "pypi")]
FORBIDDEN = re.compile("|".join(rf"(?<![\w.-]){re.escape(a + b)}" for a, b in (*_HOSTS, *_PATHS)))


def _readable(name: str) -> str:
    data = (ROOT / name).read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", errors="replace")


def test_no_registry_hosts_and_no_paths_of_one_machine() -> None:
    found = [
        f"{name}:{number}: {match[0]}"
        for name in files()
        for number, line in enumerate(_readable(name).splitlines(), 1)
        if (match := FORBIDDEN.search(line))
    ]
    assert not found, f"names a registry's host or a path of one machine: {found}"


def test_the_lock_names_no_index() -> None:
    assert "://" not in text("requirements.lock")
    assert "--index" not in text("requirements.lock")


def _rooms() -> list[str]:
    """Packages of the platform, and the other folders that somebody has to find their way in."""
    packages = {"/".join(PurePath(name).parts[:2]) for name in python_files("faas") if name.count("/") >= 2}
    others = {name for name in ("runtimes", "tests", "benchmarks") if any(f.startswith(f"{name}/") for f in files())}
    return sorted(packages | others)


@pytest.mark.parametrize("room", _rooms())
def test_every_room_explains_itself(room: str) -> None:
    name = f"{room}/README.md"
    assert (ROOT / name).is_file(), f"{room} has no README.md: say what it owns and what it must not do"
    assert len(text(name).split()) >= 20, f"{name} says nothing"


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_the_front_door(name: str) -> None:
    assert (ROOT / name).is_file(), f"there is no {name}"


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    assert re.search(r"^## Unreleased$", text("CHANGELOG.md"), re.MULTILINE)


def _explains_itself(node: Definition) -> bool:
    """A one-line body says what it does, and so does a class of nothing but fields."""
    if ast.get_docstring(node):
        return True
    if isinstance(node, ast.ClassDef):
        return all(isinstance(line, ast.Assign | ast.AnnAssign | ast.Expr | ast.Pass) for line in node.body)
    return len(node.body) == 1 and not isinstance(node.body[0], ast.If | ast.For | ast.While | ast.Try | ast.With)


def test_public_names_have_docstrings() -> None:
    bare = [
        f"{name}:{node.lineno} {node.name}"
        for name in python_files("faas")
        for node in tree(name).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and not _explains_itself(node)
    ]
    assert not bare, f"public, without a docstring: {bare}"


def test_modules_have_docstrings() -> None:
    bare = [name for name in python_files("faas") if text(name).strip() and not ast.get_docstring(tree(name))]
    assert not bare, f"modules without a docstring: {bare}"
