"""A node with one instance, used by one test after another: each gets a new child in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.runtime.node import Node


def _mine(folder: Path) -> list[str]:
    """Processes that work in the node's folder: what an instance starts begins in there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()).startswith(str(folder)):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


class Shared:
    """The instance of a module's tests; a new one after a test that ended it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.node: Node | None = None

    def take(self) -> Node:
        if self.node is None:
            self.node = self._stack.enter_context(Node())
        return self.node

    def give_back(self, node: Node) -> None:
        if not node.reset():
            self.close()
        assert not _mine(node.folder)

    def close(self) -> None:
        self.node = None
        self._stack.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    holder = Shared()
    yield holder
    holder.close()


@pytest.fixture
def node(shared: Shared) -> Iterator[Node]:
    running = shared.take()
    yield running
    shared.give_back(running)
