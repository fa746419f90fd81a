"""Runs commands in this process, each with its own environment, against a scripted node."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faas.cli.__main__ import execute
from tests.cli.fakenode import TOKEN, FakeNode


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """Standard output as one JSON document a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def problem(self) -> dict[str, Any]:
        """Standard error as one JSON problem."""
        document = json.loads(self.err)
        assert isinstance(document, dict)
        return document


Faas = Callable[..., Ran]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A user with an empty home, and none of the caller's variables."""
    for name in ("FAAS_URL", "FAAS_TOKEN", "FAAS_DATA_DIR", "FAAS_DEBUG", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FAAS_DATA_DIR", str(tmp_path / "no-node-here"))
    return monkeypatch


@pytest.fixture
def node(environment: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """A scripted node that commands find through the environment."""
    with FakeNode() as fake:
        environment.setenv("FAAS_URL", fake.url)
        environment.setenv("FAAS_TOKEN", TOKEN)
        yield fake


@pytest.fixture
def faas(environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Faas:
    """`faas("ls", "--json", stdin="...")`: run one command line. Standard input is no terminal."""

    def run(*arguments: str, stdin: str | bytes = b"") -> Ran:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        environment.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capfd.readouterr()
        code = execute(arguments)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run
