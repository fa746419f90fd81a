"""Small files, small functions: what does not fit in a head is split."""

from __future__ import annotations

from tests.house.source import functions, python_files, text

FILE_MAX, FILE_LOOK_AT = 400, 300
FUNCTION_MAX, FUNCTION_LOOK_AT = 60, 40
CONFTEST_MAX = 200
HOUSE = ("faas", "runtimes")


def _lines(name: str) -> int:
    return len(text(name).splitlines())


def test_files_are_short() -> None:
    sizes = sorted(((_lines(name), name) for name in python_files(*HOUSE)), reverse=True)
    print("look at:", *(f"{name} {size}" for size, name in sizes if size > FILE_LOOK_AT), sep="\n  ")  # pytest -rP
    too_long = [f"{name}: {size} lines" for size, name in sizes if size > FILE_MAX]
    assert not too_long, f"longer than {FILE_MAX} lines; split by what changes together: {too_long}"


def test_functions_are_short() -> None:
    sizes = sorted(
        (
            ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.lineno} {node.name}")
            for name in python_files(*HOUSE)
            for node in functions(name)
        ),
        reverse=True,
    )
    print("look at:", *(f"{where} {size}" for size, where in sizes if size > FUNCTION_LOOK_AT), sep="\n  ")
    too_long = [f"{where}: {size} lines" for size, where in sizes if size > FUNCTION_MAX]
    assert not too_long, f"longer than {FUNCTION_MAX} lines: {too_long}"


def test_conftests_are_short() -> None:
    for name in python_files("tests"):
        if name.endswith("conftest.py"):
            assert _lines(name) <= CONFTEST_MAX, f"{name}: move fixtures beside their subject"
