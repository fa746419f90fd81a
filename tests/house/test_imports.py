"""What importing costs and what it must not do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import python_files, tree
from tests.support import ROOT

IMPORT_FAAS_MS = 60.0
HEAVY = {"aiohttp", "redis", "docker", "rich", "click", "cryptography", "msgpack"}
TRIES = 8
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
_PROBE = """
import sys, time
began = time.perf_counter()
import faas
took = (time.perf_counter() - began) * 1000
import json
print(json.dumps([took, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def _import_faas() -> tuple[float, set[str]]:
    """Milliseconds `import faas` takes in a fresh process, and the top-level modules there are afterwards."""
    command = [sys.executable, "-c", _PROBE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    took, modules = json.loads(done.stdout)
    return took, set(modules)


def test_import_faas_is_light() -> None:
    took, modules = _import_faas()
    assert not modules & HEAVY, "importing faas imports these"
    # The fastest of some: a busy machine can only make it slower.
    for _ in range(TRIES - 1):
        if took < IMPORT_FAAS_MS:
            break
        took = min(took, _import_faas()[0])
    assert took < IMPORT_FAAS_MS


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, but their decorators and defaults."""
    if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        return
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        children: list[ast.AST | None] = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
    elif isinstance(node, ast.Lambda):
        children = [*node.args.defaults, *node.args.kw_defaults]
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        if child is not None:
            yield from _at_import(child)


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _ENVIRONMENT and isinstance(node.value, ast.Name) and node.value.id == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name in _ENVIRONMENT for a in node.names)


def test_nothing_reads_the_environment_at_import() -> None:
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name in python_files("faas")
        for node in _at_import(tree(name))
        if _reads_environment(node)
    ]
    assert not found, f"reads os.environ when it is imported; take it as an argument: {found}"


def test_the_environment_check_sees_what_runs_at_import() -> None:
    code = "import os\ndef f(a=os.environ): return os.getenv('x')\nclass C:\n    b = os.getenv('y')\n"
    lines = [getattr(node, "lineno", 0) for node in _at_import(ast.parse(code)) if _reads_environment(node)]
    assert lines == [2, 4]


def test_the_package_is_imported_from_this_tree() -> None:
    import faas

    assert Path(faas.__path__[0]) == ROOT / "faas"
