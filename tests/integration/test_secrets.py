"""Secrets: the handler gets them, and nothing else ever shows them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from redis.asyncio import Redis

from tests.integration.conftest import HERE, log_lines, put
from tests.integration.node import RunningNode

NAME, APP = "DB_PASSWORD", "vault"


@pytest.fixture(scope="module")
def value() -> str:
    """Characters that JSON and percent-encoding leave alone: wherever it shows, it shows as it is."""
    return "pw" + secrets.token_hex(24)


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode, value: str) -> RunningNode:
    """With the secret set and the function that uses it live."""
    refused = await docker_node.cli("push", str(HERE / "vault.py"), "--app", APP, "--secret", NAME)
    assert refused.code == 2
    assert f"faas secrets set {NAME} --app {APP}" in refused.err, "a push without its secret says how to set it"
    done = await docker_node.cli("secrets", "set", NAME, "--app", APP, stdin=value + "\n")
    assert (done.code, value in done.out + done.err) == (0, False), done
    await put(docker_node, HERE / "vault.py", app=APP, secrets=(NAME,))
    return docker_node


def asked(value: str, **more: object) -> dict[str, object]:
    return {"sha256": hashlib.sha256(value.encode()).hexdigest(), **more}


async def test_it_reaches_the_handler_as_variable_and_file(node: RunningNode, value: str) -> None:
    reply = await node.call("vault.vault", json=asked(value))
    assert reply.json() == {"right": True, "same": True, "mode": "0o400", "filesystem": "tmpfs"}


async def test_names_are_listed_and_values_are_not(node: RunningNode, value: str) -> None:
    listed = await node.cli("secrets", "ls", "--app", APP)
    assert NAME in listed.out
    machine = await node.cli("secrets", "ls", "--app", APP, "--json")
    assert [json.loads(line)["name"] for line in machine.out.splitlines()] == [NAME]
    assert value not in listed.out + machine.out


async def test_a_secret_in_use_stays(node: RunningNode) -> None:
    refused = await node.cli("secrets", "rm", NAME, "--app", APP, "--yes")
    assert refused.code == 2
    assert "vault.vault" in refused.err, "says who needs it"


async def test_one_that_nobody_needs_is_removed(node: RunningNode, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file")
    assert (await node.cli("secrets", "set", "SPARE_KEY", f"@{file}", "--app", APP)).code == 0
    assert (await node.cli("secrets", "rm", "SPARE_KEY", "--app", APP, "--yes")).code == 0
    again = await node.cli("secrets", "rm", "SPARE_KEY", "--app", APP, "--yes")
    assert (again.code, "no secret" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("9BAD",), "x", "9BAD"),
        ((NAME, "on-the-command-line"), "", "history"),
        ((NAME,), "", "is empty"),
        ((NAME,), "a\0b", "NUL"),
        ((NAME,), "x" * 70_000, "64KiB"),
    ],
)
async def test_what_cannot_be_a_secret_is_refused(
    node: RunningNode, words: tuple[str, ...], stdin: str, said: str
) -> None:
    result = await node.cli("secrets", "set", *words, "--app", APP, stdin=stdin)
    assert result.code == 2
    assert said in result.err


async def test_the_value_is_nowhere(node: RunningNode, value: str) -> None:
    """Everything that can be read of the node, searched for the secret while an instance holds it."""
    held = await node.call("vault.vault", json=asked(value))
    assert held.json()["right"]
    errors = await _errors(node, value)
    places = {
        "container settings": await asyncio.to_thread(_inspect, node.node_id),
        "the node's log": node.log(),
        "function logs": "".join(repr(line) for line in await log_lines(node, "vault.vault")),
        "error texts": errors,
        "Redis": await _dump(node),
        **{f"API {path}": answer for path, answer in (await _answers(node)).items()},
    }
    needle = value.encode()
    shown = [place for place, text in places.items() if value in text]
    assert not shown, f"the secret is shown in {shown}"
    written = [
        str(path)
        for path in node.data_dir.rglob("*")
        if path.is_file() and not path.is_symlink() and needle in path.read_bytes()
    ]
    assert not written, f"the secret is on disk in {written}"
    assert all(places.values()), "every place was really read"


def _inspect(node_id: str) -> str:
    """Settings of every container of the node."""
    engine = docker.from_env()
    try:
        found = engine.api.containers(all=True, filters={"label": [f"faas.node={node_id}"]})
        settings = []
        for container in found:
            with suppress(docker.errors.NotFound):  # others scale to zero meanwhile
                settings.append(engine.api.inspect_container(container["Id"]))
        assert settings
        return json.dumps(settings)
    finally:
        engine.close()


async def _answers(node: RunningNode) -> dict[str, str]:
    found = {}
    for path in (
        "/v1/functions",
        "/v1/functions/vault.vault",
        "/v1/functions/vault.vault/versions",
        "/v1/secrets",
        "/v1/status",
        "/v1/nodes",
        "/metrics",
        "/openapi.json",
    ):
        async with node.http.get(path, headers={"Authorization": f"Bearer {node.token}"}) as answer:
            assert answer.ok, path
            found[path] = await answer.text()
    return found


async def _errors(node: RunningNode, value: str) -> str:
    """What a call that raises, one that is not JSON, and refused changes to the secret say."""
    raised = await node.call("vault.vault", json=asked(value, **{"raise": True}))
    assert raised.status == 500
    broken = await node.call("vault.vault", data=b"{", headers={"Content-Type": "application/json"})
    assert broken.status == 400
    text = raised.body + broken.body
    for path, body in (
        (f"/v1/secrets/{APP}/9BAD", {"value": value}),
        (f"/v1/secrets/{APP}/{NAME}", {"value": value + "\0"}),
        (f"/v1/secrets/{APP}/{NAME}", {"value": value, "other": 1}),
        (f"/v1/secrets/{APP}/{NAME}", {"value": [value]}),
    ):
        async with node.http.put(path, json=body, headers={"Authorization": f"Bearer {node.token}"}) as answer:
            assert answer.status in (400, 422), path
            text += await answer.read()
    return text.decode()


async def _dump(node: RunningNode) -> str:
    """Every key of the node's Redis with its whole value."""
    url = (await node.api("GET", "/v1/status"))["redis"]["url"]
    async with Redis.from_url(url) as client:
        keys = [key async for key in client.scan_iter()]
        assert keys
        readers: dict[bytes | str, Callable[[Any], Any]] = {
            b"hash": client.hgetall,
            b"stream": client.xrange,
            b"string": client.get,
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            b"list": lambda key: client.lrange(key, 0, -1),
        }
        kinds = [(key, await client.type(key)) for key in keys]
        return "".join([repr((key, await readers[kind](key))) for key, kind in kinds])
