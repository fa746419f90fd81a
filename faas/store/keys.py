"""Every Redis key the platform uses. Tags keep together what one script must move at once.

{r} registry    functions, secrets, tokens, version histories, the change stream, the audit trail
{b} bundles     code bundles up to 10 MiB, and when each was last asked for
{q} queue       jobs and their order; the scripts make these names from QUEUE, see lua/q_lib.lua
{n} nodes       heartbeats; leases; what nodes saw of versions in rollout
"""

from __future__ import annotations

PREFIX = "faas:"

REGISTRY = f"{PREFIX}{{r}}:registry"
"""Hash: field `KIND:KEY` -> `REVISION JSON-OR-BYTES`. Kinds: see below."""
CHANGES = f"{PREFIX}{{r}}:changes"
"""Stream: one entry an apply, with `prev` (id of the entry before) and `fields` (one a line)."""
AUDIT = f"{PREFIX}{{r}}:audit"
"""Stream: one entry a change someone made; field `e` is its JSON."""
CODES = f"{PREFIX}{{b}}:codes"
"""Sorted set: digest of every code bundle the cluster knows -> when it was last asked for, Redis' milliseconds."""
QUEUE = f"{PREFIX}{{q}}:"
"""What every key of the queue begins with."""
READY = f"{QUEUE}ready"
"""Sorted set: functions with waiting jobs, by last service."""
NOTICE = f"{QUEUE}notice"
"""Sorted set: ended jobs whose end somebody wants to act on."""
BELL = f"{QUEUE}bell"
"""Channel: a function has work, or an earlier delay than before."""
CANCEL = f"{QUEUE}cancel"
"""Channel: id of a running job that somebody wants cancelled."""
DONE = f"{QUEUE}done"
"""Channel: id of an ended job that somebody waits for."""
NODES = f"{PREFIX}{{n}}:nodes"
"""Hash: node id -> JSON of its last heartbeat, dead ones included until someone cleans up."""

FUNCTION = "f:"
SECRET = "s:"  # noqa: S105 (a prefix)
TOKEN = "t:"  # noqa: S105 (a prefix)
APP = "a:"
ROLLOUT = "o:"
NODE = "n:"
"""What is wanted of a node, by its id."""
KINDS = (FUNCTION, SECRET, TOKEN, APP, ROLLOUT, NODE)


def node(id: str) -> str:
    """Heartbeat of one node: JSON of NodeInfo, expires when the node falls silent."""
    return f"{PREFIX}{{n}}:node:{id}"


def lease(name: str) -> str:
    """Holder of a claim that only one node has, such as `leader`; expires."""
    return f"{PREFIX}{{n}}:lease:{name}"


def seen(function: str) -> str:
    """Hash: node -> what it saw of the versions of `APP/NAME` during a rollout; expires."""
    return f"{PREFIX}{{n}}:seen:{function}"


def history(function: str) -> str:
    """Hash of one function's versions: number -> JSON. `function` is `APP/NAME`."""
    return f"{PREFIX}{{r}}:v:{function}"


def code(sha: str) -> str:
    """The archive of a code bundle, as it was packed."""
    return f"{PREFIX}{{b}}:code:{sha}"


def job(id: str) -> str:
    """Hash: a job's entry."""
    return f"{QUEUE}m:{id}"


def job_input(id: str) -> str:
    """A job's input, msgpack."""
    return f"{QUEUE}j:{id}"


def job_result(id: str) -> str:
    """A job's result, msgpack, when its entry does not hold it."""
    return f"{QUEUE}r:{id}"


def attempts(id: str) -> str:
    """List: records of a job's failed attempts, msgpack, oldest first."""
    return f"{QUEUE}a:{id}"


def steps(id: str) -> str:
    """Hash: results of a job's steps by name."""
    return f"{QUEUE}st:{id}"


def waiting(function: str) -> str:
    """Sorted set: waiting jobs of `APP/NAME`, by lane and time."""
    return f"{QUEUE}w:{function}"


def delayed(function: str) -> str:
    """Sorted set: delayed jobs of `APP/NAME`, by the millisecond they become due."""
    return f"{QUEUE}d:{function}"


def running(function: str) -> str:
    """Sorted set: running jobs of `APP/NAME`, by the millisecond they began."""
    return f"{QUEUE}run:{function}"


def ended(state: str, function: str) -> str:
    """Sorted set: jobs of `APP/NAME` that ended in this state, by the millisecond. `dead`: its dead-letter queue."""
    return f"{QUEUE}e:{state}:{function}"


def unfinished(app: str) -> str:
    """Number of unfinished jobs of all functions of an app."""
    return f"{QUEUE}app:{app}"


def counters(function: str) -> str:
    """Hash: unfinished jobs of `APP/NAME` and their bytes."""
    return f"{QUEUE}c:{function}"
