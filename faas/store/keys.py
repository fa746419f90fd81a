"""Every Redis key the platform uses. Tags keep together what one script must move at once.

{r} registry    functions, secrets, version histories, the change stream
{b} bundles     code bundles up to 10 MiB
{q} queue       jobs and their order (names reserved)
{n} nodes       heartbeats; leases (names reserved)
"""

from __future__ import annotations

PREFIX = "faas:"

REGISTRY = f"{PREFIX}{{r}}:registry"
"""Hash: field `KIND:KEY` -> `REVISION JSON-OR-BYTES`. Kinds: see below."""
CHANGES = f"{PREFIX}{{r}}:changes"
"""Stream: one entry an apply, with `prev` (id of the entry before) and `fields` (one a line)."""
QUEUE = f"{PREFIX}{{q}}:"
NODES = f"{PREFIX}{{n}}:nodes"
"""Hash: node id -> JSON of its last heartbeat, dead ones included until someone cleans up."""

FUNCTION = "f:"
SECRET = "s:"  # noqa: S105 (a prefix)
TOKEN = "t:"  # noqa: S105 (a prefix)
APP = "a:"
ROLLOUT = "o:"
KINDS = (FUNCTION, SECRET, TOKEN, APP, ROLLOUT)


def node(id: str) -> str:
    """Heartbeat of one node: JSON of NodeInfo, expires when the node falls silent."""
    return f"{PREFIX}{{n}}:node:{id}"


def history(function: str) -> str:
    """Hash of one function's versions: number -> JSON. `function` is `APP/NAME`."""
    return f"{PREFIX}{{r}}:v:{function}"


def code(sha: str) -> str:
    """The archive of a code bundle, as it was packed."""
    return f"{PREFIX}{{b}}:code:{sha}"
