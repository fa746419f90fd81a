"""A warm call sends Redis no command: the node's own server counts what it is asked."""

from __future__ import annotations

import time
from pathlib import Path

import redis

from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import ROOT

CALLS = 2_000
BACKGROUND = 100
"""Commands a second that heartbeat, leader and queue may send on their own; far fewer than the calls below."""


def _asked(client: redis.Redis) -> int:
    stats = client.info("stats")
    assert isinstance(stats, dict)
    return int(stats["total_commands_processed"])


async def test_warm_calls_do_not_touch_redis(docker_node: RunningNode) -> None:
    await put(docker_node, ROOT / "examples" / "hello.py", name="warm-path")
    await docker_node.call("warm-path", data=b'{"name": "Ada"}')
    sockets = [path for path in Path(docker_node.data_dir, "redis").iterdir() if path.is_socket()]
    assert len(sockets) == 1
    with redis.Redis(unix_socket_path=str(sockets[0])) as client:
        before, began = _asked(client), time.monotonic()
        for _ in range(CALLS):
            assert (await docker_node.call("warm-path", data=b'{"name": "Ada"}')).status == 200
        asked, seconds = _asked(client) - before, time.monotonic() - began
    assert asked < min(CALLS / 2, seconds * BACKGROUND + 50), f"{asked} commands in {seconds:.1f} s and {CALLS} calls"
