"""Tokens, the audit trail, aliases, apps and differences, against a scripted node."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cli.conftest import Faas
from tests.cli.fakenode import FakeNode

NAME = "/v1/functions/hello.shop"
APP = "/v1/apps/shop"
TOKEN_VIEW: dict[str, Any] = {
    "id": "0123456789ab", "name": "ci", "roles": ["deploy"], "apps": ["shop"], "created_at": 1.0,
    "created_by": "admin", "expires_at": None,
}  # fmt: skip
APP_VIEW: dict[str, Any] = {
    "app": {"name": "shop", "functions": 1},
    "functions": [{"name": "hello.shop", "live": 3, "state": "ready", "min": 1, "max": 4, "instances": 0}],
}  # fmt: skip


def test_a_new_token_is_alone_on_standard_output(faas: Faas, node: FakeNode) -> None:
    node.json("POST", "/v1/tokens", {**TOKEN_VIEW, "token": "faas_secret"})
    ran = faas("token", "create", "ci", "--role", "deploy", "--role", "deploy", "--app", "shop", "--expires", "90d")
    assert (ran.code, ran.out) == (0, "faas_secret\n")
    assert "cannot be shown again" in ran.err
    body = {"name": "ci", "roles": ["deploy"], "apps": ["shop"], "expires_s": 90 * 86400}
    assert node.only("POST").json == body
    (document,) = faas("token", "create", "ci", "--role", "read", "--json").documents
    assert document["token"] == "faas_secret"
    assert node.asked[-1].json == {"name": "ci", "roles": ["read"], "apps": None, "expires_s": None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ci"], "--role"),
        (["ci", "--role", "root"], "admin"),
        (["A b", "--role", "read"], "token name"),
        (["ci", "--role", "read", "--app", "A"], "app name"),
        (["ci", "--role", "read", "--expires", "soon"], "duration"),
    ],
)
def test_wrong_tokens(faas: Faas, node: FakeNode, arguments: list[str], words: str) -> None:
    ran = faas("token", "create", *arguments)
    assert (ran.code, node.asked, words in ran.err) == (2, [], True)


def test_tokens_are_listed_and_revoked(faas: Faas, node: FakeNode) -> None:
    old = {**TOKEN_VIEW, "name": "old", "apps": None, "expires_at": 2.0}
    node.json("GET", "/v1/tokens", {"tokens": [TOKEN_VIEW, old]})
    lines = faas("token", "ls").out.splitlines()
    assert re.split(r"  +", lines[1])[:5] == ["ci", "0123456789ab", "deploy", "shop", "never expires"]
    assert re.split(r"  +", lines[2])[3:5] == ["all apps", "expired"]
    node.json("DELETE", "/v1/tokens/ci", TOKEN_VIEW)
    assert faas("token", "revoke", "ci").code == 2
    assert faas("token", "revoke", "ci", "--yes").out == "revoked ci (0123456789ab)\n"


def test_audit(faas: Faas, node: FakeNode) -> None:
    entry = {
        "at": 1.0, "by": "ann", "address": "10.0.0.1", "verb": "rollback", "outcome": "conflict", "app": "shop",
        "functions": [{"name": "hello.shop", "from": 3, "to": 2}], "detail": "a\x1bb",
    }  # fmt: skip
    many = {"by": "bob", "verb": "push", "outcome": "ok", "functions": [{"name": f"f{n}"} for n in range(9)], "more": 2}
    node.lines("GET", "/v1/audit", entry, many, {"by": "eve", "verb": "set_secret", "app": "shop", "outcome": "ok"})
    ran = faas("audit", "hello.shop", "-n", "5", "-f")
    lines = ran.out.splitlines()
    assert lines[0].endswith("ann (10.0.0.1)  rollback  hello.shop @3 -> @2  a�b  conflict")
    assert lines[1].endswith("push  f0, f1, f2, f3, f4, and 6 more")
    assert lines[2].endswith("set_secret  app shop")
    assert node.asked[-1].query == {"function": "hello.shop", "limit": "5", "follow": "1"}
    assert faas("audit", "--json").documents[0] == entry


def test_aliases(faas: Faas, node: FakeNode) -> None:
    node.json("GET", NAME, {"aliases": {"live": {"3": 100}, "canary": {"3": 90, "4": 10}}})
    lines = faas("alias", "ls", "hello.shop").out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:]] == [["canary", "@3 90% + @4 10%"], ["live", "@3"]]
    node.json("PUT", NAME + "/aliases/live", {})
    assert faas("alias", "set", "hello.shop", "live", "3=90", "@4=10%").out == "hello.shop: live -> @3 90% + @4 10%\n"
    assert node.asked[-1].json == {"weights": {"3": 90, "4": 10}}
    (document,) = faas("alias", "set", "hello.shop", "live", "3", "--json").documents
    assert document == {"name": "hello.shop", "alias": "live", "weights": {"3": 100}}
    node.json("DELETE", NAME + "/aliases/canary", {})
    assert faas("alias", "rm", "hello.shop", "canary").code == 2
    assert faas("alias", "rm", "hello.shop", "canary", "--yes").out == "removed hello.shop@canary\n"


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (["3=90"], "sum to 90"),
        (["3=90", "4=20"], "sum to 110"),
        (["3", "4"], '"3" is not a share'),
        (["3=50", "3=50"], "version 3 is given twice"),
        (["x"], '"x" is not a share'),
        (["3=-1"], "is not a share"),
    ],
)
def test_wrong_shares(faas: Faas, node: FakeNode, shares: list[str], words: str) -> None:
    ran = faas("alias", "set", "hello.shop", "live", "--", *shares)
    assert (ran.code, node.asked, words in ran.err) == (2, [], True)


def test_apps(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/apps", {"apps": [{"name": "shop", "functions": 1, "paused": 0}]})
    assert faas("apps", "ls").out.splitlines()[1].split()[:3] == ["shop", "1", "0"]
    for method, path in (("GET", APP), ("PUT", APP + "/scale"), ("DELETE", APP + "/scale")):
        node.json(method, path, APP_VIEW)
    for verb in ("pause", "resume"):
        node.json("POST", f"{APP}/{verb}", APP_VIEW)
    assert faas("apps", "show", "shop").out.splitlines()[1].split()[:5] == ["hello.shop", "3", "ready", "1", "4"]
    assert faas("apps", "scale", "shop", "--by", "2").code == 0
    assert node.asked[-1].json == {"min": None, "max": None, "by": 2.0}
    faas("apps", "scale", "shop", "--min", "1")
    assert node.asked[-1].json == {"min": 1, "max": None, "by": None}
    assert faas("apps", "scale", "shop", "--reset", "--json").documents == [APP_VIEW]
    assert faas("apps", "pause", "shop", "--reason", "sale is over").code == 0
    assert node.asked[-1].json == {"reason": "sale is over"}
    assert faas("apps", "resume", "shop").code == 0
    node.raw("DELETE", APP, b"", 204)
    assert faas("apps", "rm", "shop").code == 2
    assert faas("apps", "rm", "shop", "--yes").out == "removed app shop\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["apps", "scale", "shop"], "--by"),
        (["apps", "scale", "shop", "--by", "2", "--min", "1"], "--by"),
        (["apps", "scale", "shop", "--by", "0"], "--by"),
        (["apps", "show", "A B"], "app name"),
        (["rollback"], "--all"),
        (["rollback", "hello", "--all"], "--all"),
        (["rollback", "--app", "shop", "--to", "3"], "--to"),
        (["rollback", "--app", "A"], "app name"),
        (["diff", "hello", "0"], "FROM"),
    ],
)
def test_wrong_use(faas: Faas, node: FakeNode, arguments: list[str], words: str) -> None:
    ran = faas(*arguments)
    assert (ran.code, node.asked, words in ran.err) == (2, [], True)


def test_pause_and_resume(faas: Faas, node: FakeNode) -> None:
    node.json("POST", NAME + "/pause", {"paused": "leaks"})
    node.json("POST", NAME + "/resume", {"paused": ""})
    assert faas("pause", "hello.shop", "--reason", "leaks").out == "hello.shop is paused:  leaks\n"
    assert node.asked[-1].json == {"reason": "leaks"}
    assert faas("resume", "hello.shop").out == "hello.shop takes calls\n"


def test_rollback_of_many(faas: Faas, node: FakeNode) -> None:
    rolled = {"moved": {"hello.shop": {"from": 3, "to": 2}}, "stayed": ["new.shop"]}
    node.json("POST", APP + "/rollback", rolled)
    node.json("POST", "/v1/rollback", rolled)
    out = "hello.shop: live moved from @3 to @2\nnothing was live before of: new.shop\n"
    assert faas("rollback", "--app", "shop").out == faas("apps", "rollback", "shop").out == out
    assert faas("rollback", "--all", "--json").documents == [rolled]


def test_versions_say_what_changed(faas: Faas, node: FakeNode) -> None:
    changes = {"code": True, "dependencies": False, "settings": [{"key": "memory", "old": None, "new": "64MiB"}]}
    views = [{"number": 2, "aliases": ["live"], "changes": changes}, {"number": 1, "changes": None}]
    node.json("GET", NAME + "/versions", {"versions": views})
    lines = faas("versions", "hello.shop").out.splitlines()
    assert lines[1].endswith("code, memory (default) -> 64MiB")
    assert lines[2].endswith("first kept")


def test_diff(faas: Faas, node: FakeNode) -> None:
    found = {
        "from": 1, "to": 2, "settings": [{"key": "memory", "old": "64MiB", "new": None}], "dependencies": True,
        "files": [
            {"path": "a.py", "change": "changed", "patch": "@@ -1 +1 @@\n-a\x1b\n+\tb\n", "note": ""},
            {"path": "b", "change": "added", "patch": "", "note": "binary"},
        ],
        "more_files": 3,
    }  # fmt: skip
    node.json("GET", NAME + "/diff", found)
    assert faas("diff", "hello.shop", "1", "2").out.splitlines() == [
        "hello.shop: @1 -> @2",
        "  memory 64MiB -> (default)",
        "  other dependencies",
        "changed a.py",
        "@@ -1 +1 @@",
        "-a�",
        "+\tb",
        "added b (binary)",
        "and 3 more files",
    ]
    assert node.asked[-1].query == {"from": "1", "to": "2"}
    assert faas("diff", "hello.shop", "--json").documents == [found]
    assert node.asked[-1].query == {"from": "0", "to": "0"}
    node.json("GET", NAME + "/diff", {"from": 1, "to": 1})
    assert "no difference" in faas("diff", "hello.shop").out
