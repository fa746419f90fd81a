"""`faas up` from its first line to SIGTERM: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.conftest import Ends, NodeMaker
from tests.integration.node import RunningNode
from tests.leftovers import assert_nothing_left, look
from tests.support import ROOT, free_port, require, wait_until

STUBBORN = ROOT / "tests" / "fixtures" / "handlers" / "stubborn.py"
TICKS = """
import time
def handler(event):
    for number in range(8):
        yield f"{number}\\n"
        time.sleep(0.2)
"""


@pytest.fixture(params=["process", "docker"])
def driver(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        require("docker", "images")
    return str(request.param)


# -- start -----------------------------------------------------------------------------------------------------


async def test_flags_win_over_the_environment_and_the_url_is_printed(make_node: NodeMaker) -> None:
    env = {"FAAS_LISTEN": "127.0.0.1:1", "FAAS_DRIVER": "process", "FAAS_NODE_NAME": "from-env", "FAAS_MEMORY": "1G"}
    node = await make_node("--memory", "2G", env=env)
    assert f"ready {node.url}" in node.log()
    info = (await node.api("GET", "/v1/status"))["node"]
    assert (info["driver"], info["name"], info["memory"]) == ("process", "from-env", 2 * 1024**3)
    assert (node.data_dir / "driver").read_text().strip() == "process"
    status = await node.cli("status")
    assert status.code == 0
    assert "process" in status.out
    assert "appendfsync always" in status.out


async def test_one_node_a_data_directory_and_one_program_a_port(
    make_node: NodeMaker, ends: Ends, tmp_path: Path
) -> None:
    node = await make_node("--driver", "process")
    port = node.url.rpartition(":")[2]
    second = await ends("faas.serve", "--data-dir", str(node.data_dir), "--listen", f"127.0.0.1:{free_port()}")
    assert second.code == 2
    assert f"another node (process {node.pid}) uses the data directory {node.data_dir}" in second.err
    assert "--data-dir" in second.err

    other = tmp_path / "other"
    taken = await ends("faas.serve", "--data-dir", str(other), "--driver", "process", "--listen", f"127.0.0.1:{port}")
    assert taken.code == 3
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in taken.err
    assert "--listen HOST:PORT" in taken.err
    await assert_nothing_left(other)
    assert (await node.cli("status")).code == 0, "the first node does not care"


async def test_the_driver_of_a_data_directory_never_changes_silently(make_node: NodeMaker, ends: Ends) -> None:
    require("docker", "images")
    first = await make_node("--driver", "process")
    await first.stop()
    again = await make_node(data_dir=first.data_dir)  # auto, and an engine answers
    assert "driver=process" in again.log()
    await again.stop()

    # As a directory whose functions ran in containers: without its engine the node waits for it.
    nowhere = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    (first.data_dir / "driver").write_text("docker\n")
    waits = await make_node(data_dir=first.data_dir, env=nowhere)
    assert "driver=docker" in waits.log()
    async with waits.http.get("/readyz") as answer:
        assert answer.status == 503
        assert "does not answer" in (await answer.json())["problems"]["driver"]
    await waits.stop()

    # A first start is told at once.
    fresh = first.data_dir.with_name("fresh")
    flags = ("--data-dir", str(fresh), "--driver", "docker", "--listen", f"127.0.0.1:{free_port()}")
    refused = await ends("faas.serve", *flags, env=nowhere)
    assert refused.code == 3
    assert "ngine" in refused.err
    assert "hint:" in refused.err
    assert "ready" not in refused.out
    await assert_nothing_left(fresh)


async def test_without_an_engine_auto_says_what_it_takes_instead(make_node: NodeMaker) -> None:
    node = await make_node(env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    assert "no Docker engine: functions run as processes of this machine" in node.log()
    assert "driver=process" in node.log()


async def test_given_redis_is_used_and_none_is_started(
    make_node: NodeMaker, fresh_redis: Callable[[], str], pool_function: Path
) -> None:
    url = fresh_redis()
    node = await make_node("--driver", "process", env={"FAAS_REDIS_URL": url})
    assert not (node.data_dir / "redis").exists()
    assert not [line for line in look(node.data_dir).processes if "-server" in line]
    assert (await node.api("GET", "/v1/status"))["redis"]["ok"]
    await node.push(pool_function)
    assert (await node.call("pool", json={})).status == 200


async def test_what_a_public_listener_shows_and_hides(make_node: NodeMaker, ends: Ends, pool_function: Path) -> None:
    require("bwrap")
    outside = f"0.0.0.0:{free_port()}"
    admin = f"127.0.0.1:{free_port()}"
    node = await _public_node(make_node, outside, admin)
    await node.push(pool_function)
    await node.push(pool_function, "--name", "open", "--public")
    door = f"http://127.0.0.1:{outside.rpartition(':')[2]}"
    token = {"Authorization": f"Bearer {node.token}"}
    seen = {}
    for what, path, headers in (
        ("private", "/function/pool", {}),
        ("private with a token", "/function/pool", token),
        ("public", "/function/open", {}),
        ("control", "/v1/functions", token),
        ("metrics", "/metrics", token),
        ("health", "/healthz", {}),
    ):
        async with node.http.get(door + path, headers=headers) as answer:
            seen[what] = answer.status
            if what == "private":
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert seen == {
        "private": 401, "private with a token": 200, "public": 200, "control": 404, "metrics": 404, "health": 200,
    }  # fmt: skip
    assert (await node.cli("ls")).code == 0, "the control API is on --admin-listen"

    taken = await ends(
        "faas.serve", "--data-dir", str(node.data_dir.with_name("third")), "--driver", "process",
        "--listen", f"0.0.0.0:{free_port()}", "--admin-listen", admin,
    )  # fmt: skip
    assert taken.code == 3
    assert f"cannot listen on {admin}" in taken.err
    assert "--admin-listen" in taken.err


async def _public_node(make_node: NodeMaker, outside: str, admin: str) -> RunningNode:
    """Its `url` is the operator's door: `RunningNode` thinks of one address only."""
    node = await make_node("--driver", "process", "--listen", outside, "--admin-listen", admin, url=f"http://{admin}")
    assert f"ready http://{outside}" in node.log()
    return node


async def test_processes_without_a_sandbox_are_not_offered_to_the_network(ends: Ends, tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path / "data"), "--driver", "process", "--listen", f"0.0.0.0:{free_port()}")
    refused = await ends("faas.serve", *flags, env={"PATH": "/nonexistent"})
    assert refused.code == 3
    assert "without bubblewrap does not listen on 0.0.0.0" in refused.err
    assert "Install a Docker engine or bubblewrap, or listen on 127.0.0.1" in refused.err
    await assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--redis", "redis://127.0.0.1:1/0"), "does not answer"),
        (("--redis", "http://x"), "--redis"),
        (("--listen", "8080"), "HOST:PORT"),
        (("--memory", "lots"), "is not a size"),
        (("--admin-token-file", "/nonexistent/token"), "cannot read the admin token from /nonexistent/token"),
        (("--secret-key-file", "/nonexistent/key"), "cannot read the secret key /nonexistent/key"),
    ],
)
async def test_what_cannot_work_is_said_in_one_sentence(
    ends: Ends, tmp_path: Path, flags: tuple[str, str], says: str
) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    refused = await ends("faas.serve", "--data-dir", str(tmp_path / "data"), "--driver", "process", *listen, *flags)
    assert refused.code in (2, 3)
    assert says in refused.err
    assert "Traceback" not in refused.err
    await assert_nothing_left(tmp_path)


# -- stop ------------------------------------------------------------------------------------------------------


async def test_sigterm_gives_every_call_its_due_and_leaves_nothing(
    make_node: NodeMaker, driver: str, pool_function: Path, tmp_path: Path
) -> None:
    """Running calls and streams end, waiting ones are sent away at once, one that never ends is not waited for."""
    node = await make_node("--driver", driver, "--drain", "3s")
    ticks = tmp_path / "ticks.py"
    ticks.write_text(TICKS)
    for source in (pool_function, STUBBORN, ticks):
        await node.push(source, "--max", "1")
    running = asyncio.create_task(node.call("pool", json={"sleep": 1.5}))
    stuck = asyncio.create_task(node.call("stubborn", json={}))
    await _in_flight(node, "pool", running=1)
    await _in_flight(node, "stubborn", running=1)
    waiting = asyncio.create_task(node.call("pool", json={}))
    await _in_flight(node, "pool", running=1, waiting=1)

    async with node.http.get("/function/ticks") as stream:
        first = await stream.content.readline()
        begun = time.monotonic()
        stopping = asyncio.create_task(node.stop())
        sent_away = await waiting
        assert time.monotonic() - begun < 1.0, "those who wait learn it at once"
        rest = await stream.content.read()
    assert sent_away.status == 503
    assert int(sent_away.headers["Retry-After"]) >= 1
    problem = sent_away.json()
    assert (problem["code"], problem["fault"]) == ("unavailable", "platform")
    assert (await running).status == 200
    assert (first + rest).split() == [b"%d" % number for number in range(8)]
    given_up = await stuck
    assert given_up.status == 503
    assert "had not ended within 3 s" in given_up.json()["detail"]
    assert "it had begun" in given_up.json()["hint"].lower()
    await stopping
    assert time.monotonic() - begun < 3 + 5
    # Containers, mounts, sockets, processes (the embedded server among them): nothing.
    await assert_nothing_left(node.data_dir, labels={"faas.node": node.node_id}, timeout=2)


async def _in_flight(node: RunningNode, name: str, *, running: int, waiting: int = 0) -> None:
    async def there() -> bool:
        view = await node.api("GET", f"/v1/functions/{name}")
        return (view["in_flight"], view["waiting"]) == (running, waiting)

    await wait_until(there, 10, f"{name} has {running} running and {waiting} waiting calls")
