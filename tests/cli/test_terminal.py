"""What is asked at a terminal: a yes before removal, and values that are not echoed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.fakenode import FakeNode

ROOT = Path(__file__).resolve().parents[2]


def at_terminal(*arguments: str, question: bytes, answer: bytes) -> tuple[int, bytes]:
    """Exit code and all that the terminal showed when `answer` was typed at `question`."""
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "faas.cli", *arguments],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as process:
            os.close(slave)
            shown, answered = b"", False
            while True:
                try:
                    part = os.read(master, 4096)
                except OSError:  # how Linux says that the other end is closed
                    break
                if not part:
                    break
                shown += part
                if not answered and question in shown:
                    os.write(master, answer)
                    answered = True
            return process.wait(30), shown
    finally:
        os.close(master)


@pytest.mark.parametrize(
    ("answer", "code", "words", "removed"), [(b"y\n", 0, b"removed hello", 1), (b"n\n", 130, b"interrupted", 0)]
)
def test_rm_asks(node: FakeNode, answer: bytes, code: int, words: bytes, removed: int) -> None:
    node.raw("DELETE", "/v1/functions/hello", b"", 204)
    ended, shown = at_terminal("rm", "hello", question=b"[y/N]:", answer=answer)
    assert (ended, words in shown, len(node.asked)) == (code, True, removed)


def test_a_secret_is_not_echoed(node: FakeNode) -> None:
    node.raw("PUT", "/v1/secrets/default/KEY", b"", 204)
    ended, shown = at_terminal("secrets", "set", "KEY", question=b"Value of KEY:", answer=b"hunter2\n")
    assert (ended, b"hunter2" in shown) == (0, False), shown
    assert node.only("PUT").json == {"value": "hunter2"}


def test_colours_only_where_they_are_wanted(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.json("GET", "/v1/functions", {"functions": [{"name": "a", "state": "ready"}]})
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[" in at_terminal("ls", question=b"", answer=b"")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[" not in at_terminal("ls", question=b"", answer=b"")[1]
