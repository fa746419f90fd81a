"""Rollouts, quotas and drains, against a scripted node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Faas
from tests.cli.fakenode import FakeNode

PATH = "/v1/functions/hello.shop/rollout"
QUOTA = "/v1/apps/shop/quota"
VIEW: dict[str, Any] = {
    "name": "hello.shop", "version": 4, "live": 3, "state": "running", "share": 5, "step": 0, "steps": [5, 25, 100],
    "every_s": 30.0, "max_errors": 0.01, "max_p95": 0.2, "min_sample": 100, "reason": "by ann", "by": "ann",
    "started_at": 1.0, "changed_at": 1.0,
    "history": [{"at": 1.0, "what": "started", "share": 5, "reason": "by ann"}],
    "measured": [{"version": 3, "calls": 90, "errors": 0, "p95_ms": 12.5}, {"version": 4, "calls": 0, "errors": 0,
    "p95_ms": None}],
}  # fmt: skip
DEFAULTS = {
    "to": None, "steps": [5, 25, 100], "every_s": 30.0, "max_errors": 0.01, "max_p95": 0.2, "min_sample": 100,
}  # fmt: skip


def test_begin(faas: Faas, node: FakeNode) -> None:
    node.json("POST", PATH, VIEW)
    assert faas("rollout", "hello.shop").out == "hello.shop@4 running at 5%: by ann\n"
    assert node.asked[-1].json == DEFAULTS
    flags = ["--to", "4", "--steps", "10%,100", "--every", "5m", "--max-errors", "none", "--max-p95", "50%"]
    assert faas("rollout", "start", "hello.shop", *flags, "--min-sample", "0", "--json").documents == [VIEW]
    assert node.asked[-1].json == {
        "to": 4, "steps": [10, 100], "every_s": 300.0, "max_errors": None, "max_p95": 0.5, "min_sample": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("state", "code"), [("passed", 0), ("reverted", 1), ("aborted", 1)])
def test_wait(faas: Faas, node: FakeNode, state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.cli.commands.rollout.LOOK_S", 0.0)
    node.json("POST", PATH, VIEW)
    node.json("GET", PATH, {"rollout": {**VIEW, "state": state, "share": 7, "reason": "x", "history": []}})
    ran = faas("rollout", "hello.shop", "--wait")
    assert (ran.code, ran.out.splitlines()[1:]) == (code, [f"hello.shop@4 {state} at 7%: x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hello", "--steps", "a,b"], "--steps"),
        (["hello", "--every", "soon"], "--every"),
        (["hello", "--max-errors", "1"], "--max-errors"),
        (["hello", "--max-p95", "-5%"], "--max-p95"),
        (["hello", "--to", "0"], "--to"),
        (["HELLO!"], "function"),
        (["status"], "NAME"),
    ],
)
def test_wrong_use(faas: Faas, node: FakeNode, arguments: list[str], words: str) -> None:
    ran = faas("rollout", *arguments)
    assert (ran.code, node.asked, words.lower() in ran.err.lower()) == (2, [], True), ran


def test_status(faas: Faas, node: FakeNode) -> None:
    node.json("GET", PATH, {"rollout": VIEW})
    out = faas("rollout", "status", "hello.shop").out
    for words in ("@4, live is @3", "5%, 25%, 100%, each at least 30s", "errors +1%, p95 +20%; 100 calls", "12 ms"):
        assert words in out, out
    assert faas("rollout", "status", "hello.shop", "--json").documents == [{"rollout": VIEW}]
    node.json("GET", PATH, {"rollout": None})
    assert faas("rollout", "status", "hello.shop").out == "hello.shop has had no rollout\n"


def test_verbs(faas: Faas, node: FakeNode) -> None:
    for verb in ("pause", "resume", "abort"):
        node.json("POST", f"{PATH}/{verb}", {**VIEW, "state": verb})
        assert faas("rollout", verb, "hello.shop").out == f"hello.shop@4 {verb} at 5%: by ann\n"


def test_quota(faas: Faas, node: FakeNode) -> None:
    view = {"app": "shop", "instances": 20, "memory": 4 << 30, "queue": None, "rps": 0.5}
    for method in ("GET", "PUT"):
        node.json(method, QUOTA, view)
    node.json("DELETE", QUOTA, dict.fromkeys(view))
    assert faas("apps", "quota", "shop").out.split() == ["instances", "20", "memory", "4GiB", "rps", "0.5"]
    assert faas("apps", "quota", "shop", "--queue", "5", "--memory", "1G", "--json").documents == [view]
    assert node.asked[-1].json == {"instances": 20, "memory": 1 << 30, "queue": 5, "rps": 0.5}
    assert faas("apps", "quota", "shop", "--reset").out == "shop has no limits\n"
    assert faas("apps", "quota", "shop", "--reset", "--rps", "1").code == 2
    assert faas("apps", "quota", "shop", "--memory", "much").code == 2


def test_nodes(faas: Faas, node: FakeNode) -> None:
    node.json("POST", "/v1/nodes/one/drain", {"name": "one"})
    node.json("POST", "/v1/nodes/one/undrain", {"name": "one"})
    assert faas("nodes", "drain", "one", "--grace", "1m").out == "one is being drained\n"
    assert node.asked[-1].json == {"grace_s": 60.0}
    assert faas("nodes", "undrain", "one").out == "one takes calls again\n"
    assert faas("nodes", "drain", "one", "--grace", "x").code == 2


def test_push_canary(faas: Faas, node: FakeNode, tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    for path in (old, new):
        path.write_text("def handler(event): return 1\n")
    node.bundles = True
    node.json(
        "GET", "/v1/functions", {"functions": [{"function": "old", "live": 1}, {"function": "new", "live": None}]}
    )
    node.lines("POST", "/v1/apps/default/push", {"phase": "done"})
    node.json("POST", "/v1/functions/old/rollout", {**VIEW, "name": "old"})
    ran = faas("push", str(old), str(new), "--canary")
    assert (ran.code, ran.out) == (0, "old@4 gets 5% of calls; see: faas rollout status old\n")
    pushes = [asked.json for asked in node.asked if asked.path.endswith("/push")]
    assert [(one["alias"], one["functions"][0]["name"]) for one in pushes] == [("live", "new"), ("canary", "old")]
    assert node.asked[-1].json == {}
    assert faas("push", str(old), "--canary", "--alias", "x").code == 2
