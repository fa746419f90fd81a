"""Commands about functions, secrets, logs and the platform, against a scripted node."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Faas
from tests.cli.fakenode import FakeNode

VIEW: dict[str, Any] = {
    "name": "hello.shop", "app": "shop", "function": "hello", "live": 3,
    "aliases": {"live": {"3": 100}, "canary": {"3": 90, "4": 10}}, "runtime": "python3.11", "memory": 268435456,
    "min": 0, "max": 20, "instances": 1, "in_flight": 0, "waiting": 0, "url": "http://n/function/hello.shop",
    "created_at": 1.0, "updated_at": 2.0, "created_by": "admin", "paused": "", "state": "ready", "public": False,
}  # fmt: skip
DETAIL = {
    **VIEW, "settings": {"timeout": "5s"}, "scale": {"min": 1}, "code": "ab" * 32, "deps": "",
    "pools": [{"version": 3, "states": {"ready": 1}, "free": 1, "in_flight": 0, "last_error": "a\x1b[2Jb"}],
}  # fmt: skip
NAME = "/v1/functions/hello.shop"


def test_ls(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/functions", {"functions": [VIEW, {"name": "new"}]})
    lines = faas("ls").out.splitlines()
    assert lines[0].split()[:3] == ["NAME", "LIVE", "STATE"]
    assert lines[1].split()[:7] == ["hello.shop", "@3", "ready", "1", "0", "0", "0..20"]
    assert lines[2].split()[:3] == ["new", "-", "-"]
    assert [view["name"] for view in faas("list", "--json").documents] == ["hello.shop", "new"]
    faas("ls", "--app", "shop")
    assert node.asked[-1].query == {"app": "shop"}


def test_ls_of_nothing_says_what_to_do(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/functions", {"functions": []})
    assert "faas push" in faas("ls").out
    assert faas("ls", "--json").out == ""


def test_show(faas: Faas, node: FakeNode) -> None:
    node.json("GET", NAME, DETAIL)
    ran = faas("show", "hello.shop")
    assert ran.code == 0
    for words in (
        "canary -> @3 90% + @4 10%",
        "live -> @3",
        "(by hand: min 1)",
        "timeout  5s",
        "abababababab",
        "ready:1",
    ):
        assert words in ran.out
    assert "\x1b" not in ran.out
    assert faas("describe", "hello.shop", "--json").documents == [DETAIL]


def test_rm_asks(faas: Faas, node: FakeNode) -> None:
    node.raw("DELETE", NAME, b"", 204)
    ran = faas("rm", "hello.shop")
    assert (ran.code, "--yes" in ran.err, node.asked) == (2, True, [])
    assert faas("rm", "hello.shop", "hello.shop", "--yes").out == "removed hello.shop\n"
    assert faas("remove", "hello.shop", "--yes", "--json").documents == [{"removed": "hello.shop"}]


def test_rm_stops_at_the_first_error(faas: Faas, node: FakeNode) -> None:
    node.raw("DELETE", NAME, b"", 204)
    node.problem("DELETE", "/v1/functions/nope", 404, code="not_found", detail="no function nope")
    ran = faas("rm", "hello.shop", "nope", "--yes")
    assert (ran.code, ran.out, "no function nope" in ran.err) == (2, "removed hello.shop\n", True)


def test_scale_keeps_the_bound_that_is_not_named(faas: Faas, node: FakeNode) -> None:
    node.json("GET", NAME, DETAIL)
    node.json("PUT", NAME + "/scale", {})
    ran = faas("scale", "hello.shop", "--max", "5")
    assert (ran.code, ran.out) == (0, "hello.shop: min 0, max 20 (by hand)\n")
    assert node.only("PUT").json == {"min": 1, "max": 5}


def test_scale_reset_and_show(faas: Faas, node: FakeNode) -> None:
    node.json("GET", NAME, {**DETAIL, "scale": {}})
    node.raw("DELETE", NAME + "/scale", b"", 204)
    assert faas("scale", "hello.shop", "--reset").out == "hello.shop: min 0, max 20 (from the version)\n"
    assert [asked.method for asked in node.asked] == ["DELETE", "GET"]
    (document,) = faas("scale", "hello.shop", "--json").documents
    assert document == {"name": "hello.shop", "min": 0, "max": 20, "by_hand": {}}


@pytest.mark.parametrize(
    ("flags", "words"), [(["--reset", "--min", "1"], "--reset given with"), (["--min", "3", "--max", "2"], "--min 3")]
)
def test_wrong_scale(faas: Faas, node: FakeNode, flags: list[str], words: str) -> None:
    ran = faas("scale", "hello.shop", *flags)
    assert (ran.code, node.asked, words in ran.err) == (2, [], True)


def test_versions_and_rollback(faas: Faas, node: FakeNode) -> None:
    old = {"number": 1, "created_at": 1.0, "code": "cd" * 32, "settings": {}, "aliases": []}
    new = {"number": 2, "created_at": 2.0, "code": "ab" * 32, "settings": {"min": 1}, "aliases": ["live"]}
    node.json("GET", NAME + "/versions", {"versions": [old, new]})
    lines = faas("versions", "hello.shop").out.splitlines()
    assert lines[1].split()[:3] == ["@2", "live", "abababababab"]
    assert lines[2].split()[:2] == ["@1", "-"]
    node.json("POST", NAME + "/rollback", {"from": 2, "to": 1})
    assert faas("rollback", "hello.shop").out == "hello.shop: live moved from @2 to @1\n"
    assert node.only("POST").json == {"to": None}
    (moved,) = faas("rollback", "hello.shop", "--to", "1", "--json").documents
    assert (moved, node.asked[-1].json) == ({"name": "hello.shop", "from": 2, "to": 1}, {"to": 1})


def test_logs(faas: Faas, node: FakeNode) -> None:
    lines = [
        {"time_ms": 0, "text": "one\n", "level": "stdout", "call": "c-1", "version": 3},
        {"time_ms": 1, "text": "two \x1b[31mred", "level": "error", "fields": {"a": 1}},
    ]
    node.lines("GET", NAME + "/logs", *lines)
    ran = faas("logs", "hello.shop")
    shown = ran.out.splitlines()
    assert (ran.code, len(shown)) == (0, 2)
    assert shown[0].endswith("@3 stdout  one")
    assert shown[1].endswith("error   two �[31mred a=1")
    assert faas("logs", "hello.shop", "--json").documents == lines
    began = time.time() * 1000
    faas("logs", "hello.shop", "-f", "--call", "c-1", "--since", "10m", "--level", "error", "--grep", "x y", "-n", "5")
    query = node.asked[-1].query
    since = int(query.pop("since_ms")) + 1  # whole milliseconds, rounded down
    assert began - 600_000 <= since <= time.time() * 1000 - 600_000
    assert query == {"follow": "1", "call": "c-1", "level": "error", "grep": "x y", "limit": "5"}


def test_secrets_come_from_anywhere_but_the_command_line(faas: Faas, node: FakeNode, tmp_path: Path) -> None:
    node.raw("PUT", "/v1/secrets/default/KEY", b"", 204)
    (tmp_path / "value").write_text("from file\n")
    assert faas("secrets", "set", "KEY", stdin="from stdin\n").code == 0
    assert faas("secrets", "set", "KEY", "-", stdin="again").code == 0
    assert faas("secrets", "set", "KEY", f"@{tmp_path / 'value'}").code == 0
    assert [asked.json["value"] for asked in node.asked] == ["from stdin", "again", "from file\n"]
    ran = faas("secrets", "set", "KEY", "hunter2")
    assert (ran.code, "history" in ran.err, "hunter2" in ran.err) == (2, True, False)


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["KEY"], b"", "is empty"),
        (["KEY"], b"\xff", "UTF-8"),
        (["KEY"], b"a\0b", "NUL"),
        (["KEY"], b"x" * 70_000, "64KiB"),
        (["KEY", "@nope"], b"", "cannot be read"),
        (["A-B"], b"x", "A-B"),
        (["FAAS_X"], b"x", "platform"),
        (["KEY", "--app", "A B"], b"x", "app name"),
    ],
)
def test_wrong_secrets(faas: Faas, node: FakeNode, arguments: list[str], stdin: bytes, words: str) -> None:
    ran = faas("secrets", "set", *arguments, stdin=stdin)
    assert (ran.code, node.asked, words in ran.err) == (2, [], True)


def test_secrets_are_listed_and_removed(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/secrets", {"secrets": [{"app": "shop", "name": "KEY", "updated_at": 1.0}]})
    assert faas("secrets", "ls").out.splitlines()[1].split()[:2] == ["KEY", "shop"]
    node.raw("DELETE", "/v1/secrets/shop/KEY", b"", 204)
    assert faas("secrets", "rm", "KEY", "--app", "shop").code == 2
    assert faas("secrets", "rm", "KEY", "--app", "shop", "--yes").out == "removed KEY\n"


def test_status(faas: Faas, node: FakeNode) -> None:
    info = {"id": "n-1", "name": "box", "driver": "docker", "memory": 2**30, "memory_used": 2**28, "started_at": 1.0}
    good = {"url": "unix:///r", "ok": True, "durable": True, "finding": ""}
    answer = {"node": info, "redis": good, "functions": 2, "instances": {"ready": 1}, "version": "0.1.0"}
    node.json("GET", "/v1/status", answer)
    ran = faas("status")
    assert ran.code == 0
    for words in ("box (n-1)", "256MiB of 1GiB", "1 ready", "unix:///r ok"):
        assert words in ran.out
    node.json("GET", "/v1/status", {**answer, "redis": {**good, "ok": False, "finding": "connection refused"}})
    ran = faas("status")
    assert (ran.code, "does not answer" in ran.out, "connection refused" in ran.out) == (3, True, True)
    assert faas("status", "--json").code == 3


def test_nodes_and_runtimes(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/nodes", {"nodes": [{"name": "box", "url": "http://n", "memory": 1, "memory_used": 0}]})
    assert "box" in faas("nodes", "ls").out
    node.json("GET", "/v1/runtimes", {"runtimes": ["python3.11", {"name": "python3.12", "built": True}]})
    ran = faas("runtimes", "ls")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "python3.11", "python3.12"]
    assert faas("runtimes", "ls", "--json").documents[0] == {"name": "python3.11"}
    node.json("GET", "/v1/runtimes", {"runtimes": []})
    assert "faas runtimes build" in faas("runtimes", "ls").out


@pytest.mark.parametrize(
    ("arguments", "becomes"),
    [
        (
            ["up", "--listen", "[::1]:0", "--drain", "90", "--memory", "1G", "--no-allow-private-networks"],
            [
                "faas.serve",
                "--listen",
                "[::1]:0",
                "--memory",
                "1GiB",
                "--drain",
                "1m30s",
                "--no-allow-private-networks",
            ],
        ),
        (["up"], ["faas.serve"]),
        (["doctor"], ["faas.doctor"]),
        (["doctor", "--json"], ["faas.doctor", "--json"]),
        (
            ["runtimes", "build", "python3.11", "--base", "a:b"],
            ["faas.drivers", "build", "python3.11", "--base", "a:b"],
        ),
    ],
)
def test_commands_that_are_another_program(
    faas: Faas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], becomes: list[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, argv: ran.append(argv))
    monkeypatch.chdir(tmp_path)
    faas(*arguments)
    assert ran[0][1:] == ["-P", "-m", *becomes]


def test_wrong_ups(faas: Faas) -> None:
    for arguments, words in (
        (["--listen", "8080"], "HOST:PORT"),
        (["--driver", "podman"], "docker"),
        (["--lisen", "a:1"], "--listen"),
    ):
        ran = faas("up", *arguments)
        assert (ran.code, words in ran.err) == (2, True)
    assert faas("runtimes", "build", "--", "-x").code == 2
