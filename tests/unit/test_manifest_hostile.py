"""Every key of a manifest with every kind of value: taken, or refused with file, table and key. Nothing else."""

from __future__ import annotations

import pytest

from faas.errors import Invalid
from faas.manifest import parse_manifest
from faas.settings import BY_KEY

VALUES = {
    "a bool": "true",
    "a number": "7",
    "a negative number": "-7",
    "a huge number": "9223372036854775807",
    "a fraction": "0.5",
    "no number": "nan",
    "infinity": "inf",
    "an empty text": '""',
    "a text": '"\\u0000\\u001b[31m"',
    "a long text": '"' + "x" * 100_000 + '"',
    "an odd size": '"1e99M"',
    "an empty list": "[]",
    "a list of lists": "[[[]]]",
    "a mixed list": '[1, "a", {}]',
    "a table": '{ a = "b" }',
    "a table with an odd key": '{ "" = "", "a=b" = "c", "\\u0000" = "d" }',
    "a date": "2026-01-01",
    "a time": "12:00:00",
}


def refusal(text: str) -> Invalid | None:
    """Why this manifest is refused; None: it is not."""
    try:
        manifest = parse_manifest(text, "faas.toml", {})
        for function in manifest.functions:
            function.settings({})
    except Invalid as error:
        return error
    return None


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("key", [*sorted(BY_KEY), "file", "path"])
def test_a_value_is_taken_or_refused_by_name(key: str, value: str) -> None:
    if error := refusal(f"[functions.a]\n{key} = {value}\n"):
        assert "faas.toml" in error.message
        assert "[functions.a]" in error.message
        assert key in error.message
        assert len(error.message) + len(error.hint) < 1_000, "a long value is not repeated whole"


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("key", ["schema", "app", "functions", "functions.a", "unknown"])
def test_so_is_the_top_of_it(key: str, value: str) -> None:
    line = f"{key} = {value}\n"
    if error := refusal(line if key.startswith("functions") else f"{line}[functions.a]\n"):
        assert "faas.toml" in error.message
        assert len(error.message) + len(error.hint) < 1_000
