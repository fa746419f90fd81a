"""`faas invocations`, `faas dlq`, `faas explain` and `faas invoke --async` against a scripted node."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faas.cli.story import tell
from tests.cli.conftest import Faas
from tests.cli.fakenode import FakeNode

ID = "c-" + "1" * 28


def one(**more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": ID, "function": "resize", "state": "dead", "priority": "normal",
        "accepted_at": 1000.0, "began_at": 1003.0,
        "ended_at": 1003.5, "due_at": 0.0, "expires_at": 9000.0, "attempt": 2, "attempts": 2, "node": "n-1",
        "cause": "handler_raised", "bytes": 12, "cancel_asked": False,
    }  # fmt: skip
    return fields | more


def failed(number: int, at: float, cause: str = "handler_raised", fault: str = "function") -> dict[str, Any]:
    error = {"code": cause, "fault": fault, "detail": f"it broke {number}", "hint": "Mend it.", "status": 500}
    return {"number": number, "node": "n-1", "started_at": at, "ended_at": at + 0.5, "cause": cause, "error": error}


def test_the_story_of_a_dead_letter() -> None:
    tries = [failed(1, 1001.0), failed(2, 1003.0)]
    story = tell({"invocation": one(), "tries": tries, "error": tries[-1]["error"]}, 2000.0)
    assert story.summary == "it is a dead letter after 2 of 2 attempts: it broke 2"
    assert story.fault.startswith("the function")
    assert [(phase.what, round(phase.ms)) for phase in story.phases] == [
        ("waited", 1000), ("attempt 1", 500), ("waited again", 1500), ("attempt 2", 500),
    ]  # fmt: skip
    assert story.next[0] == "Mend it."
    assert f"faas dlq redrive resize {ID}" in story.next


@pytest.mark.parametrize(
    ("fields", "tries", "says", "last"),
    [
        ({"state": "waiting", "attempt": 0, "began_at": 0.0, "ended_at": 0.0, "cause": ""}, [], "it waits", "waited"),
        ({"state": "running", "attempt": 1, "ended_at": 0.0, "cause": ""}, [], "it runs: attempt 1", "attempt 1"),
        ({"state": "succeeded", "cause": ""}, [failed(1, 1001.0)], "in attempt 2", "attempt 2"),
        (
            {"state": "delayed", "attempt": 1, "ended_at": 0.0, "cause": ""},
            [failed(1, 1001.0)],
            "later",
            "waited again",
        ),
        ({"state": "cancelled", "attempt": 0, "began_at": 0.0, "cause": "before it began"}, [], "cancelled", "waited"),
        ({"state": "failed", "cause": "status 404"}, [failed(1, 1001.0)], "not tried again", "attempt 1"),
    ],
)
def test_the_story_in_every_state(fields: dict[str, Any], tries: list[Any], says: str, last: str) -> None:
    story = tell({"invocation": one(**fields), "tries": tries, "error": None}, 1010.0)
    assert says in story.summary
    assert story.phases[-1].what == last
    assert all(phase.ms >= 0 for phase in story.phases)
    assert story.next


def test_whose_fault_a_lost_node_is() -> None:
    view: dict[str, Any] = {
        "invocation": one(cause="node_lost: its node was lost in the last attempt"),
        "tries": [],
        "error": None,
    }
    assert tell(view, 2000.0).fault.startswith("the platform")


def test_explain(faas: Faas, node: FakeNode) -> None:
    tries = [failed(1, 1001.0), failed(2, 1003.0)]
    node.json("GET", f"/v1/invocations/{ID}", {"invocation": one(), "tries": tries, "error": tries[1]["error"]})
    shown = faas("explain", ID)
    assert shown.code == 0
    for part in ("dead letter", "fault: the function", "attempt 2", "it broke 1", "next:", "Mend it."):
        assert part in shown.out
    document = json.loads(faas("--json", "explain", ID).out)
    assert document["phases"][1]["what"] == "attempt 1"


def test_enqueue_prints_the_id(faas: Faas, node: FakeNode) -> None:
    node.json("POST", "/async-function/resize@canary", {"id": ID, "status": "waiting"}, 202)
    flags = ("--async", "--delay", "5m", "--priority", "low", "--key", "order-1", "-d", '{"a": 1}')
    assert faas("invoke", "resize@canary", *flags).out.strip() == ID
    headers = {name.lower(): value for name, value in node.asked[-1].headers.items()}
    assert headers["x-faas-delay"] == "300"
    assert headers["x-faas-priority"] == "low"
    assert headers["idempotency-key"] == "order-1"


def test_flags_of_background_calls_need_one(faas: Faas) -> None:
    shown = faas("invoke", "resize", "--delay", "5m")
    assert shown.code == 2
    assert "--async" in shown.err
    assert faas("invoke", "resize", "--batch", "--wait", "5s", "-d", "[1]").code == 2
    bad = faas("invoke", "resize", "--batch", "-d", '{"a": 1}\n{broken\n')
    assert (bad.code, "line 2" in bad.err) == (2, True)


def test_batch(faas: Faas, node: FakeNode) -> None:
    refused = {"id": "c-2", "status": "refused", "error": {"code": "too_many_requests", "detail": "the queue is full"}}
    answer = {"accepted": 1, "refused": 1, "invocations": [{"id": ID, "status": "waiting"}, refused]}
    node.json("POST", "/async-function/resize", answer, 202)
    shown = faas("invoke", "resize", "--batch", "-d", '{"a": 1}\n\n{"a": 2}\n')
    assert (shown.code, shown.out.split()) == (3, [ID])
    assert "the queue is full" in shown.err
    assert node.asked[-1].json == [{"a": 1}, {"a": 2}]
    assert node.asked[-1].headers["Content-Type"] == "application/vnd.faas.batch+json"


def test_lists_go_through_their_pages(faas: Faas, node: FakeNode) -> None:
    node.json("GET", "/v1/functions/resize/dlq", {"invocations": [one()], "cursor": ""})
    assert ID in faas("dlq", "ls", "resize").out
    node.json("GET", "/v1/invocations", {"invocations": [one()], "cursor": ""})
    shown = faas("--json", "invocations", "ls", "resize", "--state", "dead", "--since", "1h")
    assert json.loads(shown.out)["id"] == ID
    assert node.asked[-1].query["state"] == "dead"
    assert int(node.asked[-1].query["since_ms"]) > 0


def test_dead_letters_are_named_or_all(faas: Faas, node: FakeNode) -> None:
    node.json("POST", "/v1/functions/resize/dlq/redrive", {"done": 1, "left": {"c-2": "full"}})
    assert faas("dlq", "redrive", "resize").code == 2
    assert faas("dlq", "redrive", "resize", ID, "--all").code == 2
    shown = faas("dlq", "redrive", "resize", "--all")
    assert ("1 run again" in shown.out, "c-2: full" in shown.err) == (True, True)
    assert node.asked[-1].json == {"ids": None}
    assert faas("dlq", "purge", "resize", "--all").code == 2, "nobody is there to say yes"


def test_wait_ends_with_the_error_of_the_call(faas: Faas, node: FakeNode) -> None:
    tries = [failed(1, 1001.0)]
    node.json("GET", f"/v1/invocations/{ID}", {"invocation": one(), "tries": tries, "error": tries[0]["error"]})
    shown = faas("invocations", "wait", ID)
    assert (shown.code, "it broke 1" in shown.err) == (1, True)
    running = one(state="running", ended_at=0.0)
    node.json("GET", f"/v1/invocations/{ID}", {"invocation": running, "tries": [], "error": None})
    assert faas("invocations", "wait", ID, "--timeout", "10ms").code == 124
