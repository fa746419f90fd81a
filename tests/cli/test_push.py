"""`faas push` against a scripted node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from faas.archive import unpack
from faas.model import MIB, Push, Requires
from tests.cli.conftest import Faas
from tests.cli.fakenode import TOKEN, FakeNode

PUSH = "/v1/apps/default/push"
EVENTS: list[dict[str, Any]] = [
    {"phase": "stored", "function": "hello", "version": 3, "ms": 3.0},
    {"phase": "starting", "function": "hello", "version": 3},
    {"phase": "ready", "function": "hello", "version": 3, "ms": 42.4},
    {"phase": "live", "function": "hello", "version": 3, "url": "http://n/function/hello"},
    {"phase": "done"},
]


@pytest.fixture
def hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A handler in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("hello.py").write_text("def handler(event): return event\n")
    return "hello.py"


def accept(node: FakeNode, digest_known: bool, *events: dict[str, Any], path: str = PUSH) -> None:
    """Answers for a push of whatever comes."""

    node.bundles = digest_known
    node.lines("POST", path, *events)


def test_uploads_and_shows_each_phase(faas: Faas, node: FakeNode, hello: str) -> None:
    accept(node, False, *EVENTS)
    ran = faas("push", hello, "--memory", "512M", "--env", "A=b=c", "--timeout", "5", "--secret", "KEY", "--public")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].startswith("uploaded ")
    assert lines[1:] == [
        "hello@3 stored 3.0 ms",
        "hello@3 starting",
        "hello@3 ready 42 ms",
        "live hello@3 http://n/function/hello",
    ]
    head, put, post = node.asked
    assert (head.method, put.method, post.method) == ("HEAD", "PUT", "POST")
    assert head.path == put.path
    assert {asked.headers["Authorization"] for asked in node.asked} == {f"Bearer {TOKEN}"}
    assert [path for path, _ in unpack(put.body)] == ["hello.py"]
    sent = msgspec.json.decode(post.body, type=Push)
    assert sent.alias == "live"
    (function,) = sent.functions
    assert (function.name, function.code) == ("hello", put.path.rpartition("/")[2])
    settings = function.settings
    assert (settings.memory, settings.timeout_s, settings.env) == (512 * MIB, 5.0, {"A": "b=c"})
    assert (settings.secrets, settings.public) == (("KEY",), True)


def test_a_known_bundle_is_not_sent_again(faas: Faas, node: FakeNode, hello: str) -> None:
    accept(node, True, {"phase": "unchanged", "function": "hello", "version": 3}, {"phase": "done"})
    ran = faas("deploy", hello)
    assert (ran.code, ran.out) == (0, "unchanged: hello@3 is already this\n")
    assert [asked.method for asked in node.asked] == ["HEAD", "POST"]


def test_json_is_one_event_a_line(faas: Faas, node: FakeNode, hello: str) -> None:
    accept(node, False, *EVENTS)
    ran = faas("push", hello, "--json")
    assert [document["phase"] for document in ran.documents] == [event["phase"] for event in EVENTS]


def test_a_preview(faas: Faas, node: FakeNode, hello: str) -> None:
    url = "http://n/function/hello@pr-42"
    accept(node, True, {"phase": "preview", "function": "hello", "version": 4, "url": url}, {"phase": "done"})
    ran = faas("push", hello, "--alias", "pr-42")
    assert ran.out == f"preview hello@4 {url}\n"
    assert node.only("POST").json["alias"] == "pr-42"


def test_failed_start_shows_the_traceback(faas: Faas, node: FakeNode, hello: str) -> None:
    error = {
        "code": "start_failed",
        "detail": "ImportError: no module named nope",
        "traceback": 'Traceback:\n  File "hello.py", line 1',
    }
    accept(node, True, {"phase": "failed", "function": "hello", "version": 3, "error": error})
    ran = faas("push", hello)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "Traceback:",
        '  File "hello.py", line 1',
        "error: hello: ImportError: no module named nope",
        "  hint: Nothing was changed: what was live still is.",
    ]
    ran = faas("push", hello, "--json")
    assert (ran.code, ran.problem["code"], ran.problem["traceback"]) == (1, "start_failed", error["traceback"])


@pytest.mark.parametrize(
    ("events", "code", "words"),
    [
        ([{"phase": "failed", "message": "why"}], 3, "why"),
        ([{"phase": "failed"}], 3, "no reason"),
        ([{"phase": "stored", "function": "hello", "version": 1}], 3, "without saying how it went"),
        ([], 3, "without saying how it went"),
        ([{"phase": "novel"}], 3, "cannot be read"),
    ],
)
def test_streams_that_end_badly(
    faas: Faas, node: FakeNode, hello: str, events: list[dict[str, Any]], code: int, words: str
) -> None:
    accept(node, True, *events)
    ran = faas("push", hello)
    assert ran.code == code
    assert words in ran.err


def test_refused_by_the_node(faas: Faas, node: FakeNode, hello: str) -> None:
    accept(node, True)
    node.problem("POST", PUSH, 422, code="invalid", detail="there is no secret KEY", hint="faas secrets set KEY")
    ran = faas("push", hello)
    assert (ran.code, "no secret KEY" in ran.err) == (2, True)


def test_an_app_is_one_push(faas: Faas, node: FakeNode, hello: str) -> None:
    Path("faas.toml").write_text(
        'app = "shop"\n[functions.a]\nhandler = "hello:handler"\n[functions.b]\nfile = "hello.py"\n'
    )
    accept(node, False, {"phase": "done"}, path="/v1/apps/shop/push")
    ran = faas("push", ".")
    assert ran.code == 0, ran.err
    assert [function["name"] for function in node.only("POST").json["functions"]] == ["a", "b"]
    assert len([asked for asked in node.asked if asked.method == "PUT"]) == 2


def test_dry_run_asks_nobody(faas: Faas, node: FakeNode, hello: str) -> None:
    ran = faas("push", hello, "--dry-run", "--memory", "1G", "--app", "shop")
    assert ran.code == 0
    assert "would push hello.shop to live: 1 file" in ran.out
    assert "memory = 1GiB" in ran.out
    (plan,) = faas("push", hello, "--dry-run", "--json").documents
    assert (plan["files"], plan["settings"], len(plan["code"])) == (["hello.py"], {}, 64)
    assert node.asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hello.py", "hello.py"], 'are the function "hello"'),
        (["hello.py", "x.py", "--name", "a"], "--name given with 2 paths"),
        (["nope.py"], "nope.py does not exist"),
        (["hello.py", "--alias", "3"], "not an alias"),
        (["hello.py", "--min", "3", "--max", "2"], "min = 3 is more than max = 2"),
        (["hello.py", "--env", "FAAS_A=1"], "FAAS_A"),
        (["hello.py", "--route", "nope"], "not a route"),
        (["hello.py", "--app", "v1"], "cannot be an app name"),
    ],
)
def test_wrong_pushes(faas: Faas, node: FakeNode, hello: str, arguments: list[str], words: str) -> None:
    ran = faas("push", *arguments)
    assert (ran.code, node.asked) == (2, [])
    assert words in ran.err


def test_packages_are_sent_as_declared(faas: Faas, node: FakeNode, hello: str) -> None:
    accept(node, True, {"phase": "resolving", "function": "hello", "ms": 1.0}, *EVENTS)
    Path("hello.py").write_text('# /// script\n# dependencies = ["numpy>=2"]\n# ///\ndef handler(event): return 1\n')
    ran = faas("push", hello, "--index", "https://me:${PASS}@index.test/simple", "--upgrade")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == "hello resolving 1.0 ms"
    sent = msgspec.json.decode(node.asked[-1].body, type=Push)
    assert sent.upgrade
    assert sent.functions[0].requires == Requires(
        requirements="numpy>=2\n", index="https://me:${PASS}@index.test/simple"
    )
    assert "needs numpy>=2" in faas("push", hello, "--dry-run").out
    refused = faas("push", hello, "--index", "https://me:pw@index.test/")
    assert refused.code == 2
    assert "faas secrets set" in refused.err
    assert "pw@" not in refused.err


def test_packages_that_do_not_fit_end_with_1_and_the_resolvers_words(faas: Faas, node: FakeNode, hello: str) -> None:
    error = {"code": "dependencies_failed", "fault": "function", "status": 500, "detail": "No solution found:\n  a<2"}
    accept(node, True, {"phase": "failed", "function": "hello", "message": "x", "error": error})
    ran = faas("push", hello)
    assert ran.code == 1
    assert "hello: No solution found:\n  a<2" in ran.err
