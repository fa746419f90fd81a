"""Background calls on a real node: accepted, run, retried, dead-lettered, cancelled, repeated under a key."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.background import BATCH, ended, enqueue, look, post, printed, result
from tests.integration.conftest import HANDLERS, HERE, put
from tests.integration.node import RunningNode
from tests.support import require, wait_until

QUICK: dict[str, Any] = {"retry_wait": "10ms", "retry_cap": "10ms"}
BIG = """
def handler(event):
    for _ in range(event["pieces"]):
        yield b"x" * 1024 * 1024
"""


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    require("redis", "bwrap")
    folder = tmp_path_factory.mktemp("async")
    (folder / "big.py").write_text(BIG)
    async with RunningNode(tmp_path_factory.mktemp("node"), "--driver", "process") as made:
        await put(made, HERE / "jobs.py", name="jobs", **QUICK)
        await put(made, HERE / "jobs.py", name="narrow", max=5, max_in_flight=1, retries=0)
        await put(made, HERE / "jobs.py", name="short", timeout="300ms", retries=1, **QUICK)
        await put(made, HERE / "stepping.py", name="stepping", **QUICK)
        await put(made, HANDLERS / "returns.py", name="returns", retries=1, **QUICK)
        await put(made, folder / "big.py", name="big", **QUICK)
        yield made


# -- accepted and run --------------------------------------------------------------------------------------


async def test_a_call_is_accepted_and_its_reply_is_kept_as_it_was(node: RunningNode) -> None:
    reply = await post(node, "jobs", {"n": 7})
    assert reply.status == 202
    assert reply.json()["status"] == "waiting"
    id = reply.json()["id"]
    assert reply.headers["Location"] == f"/v1/invocations/{id}"
    found = await ended(node, id)
    assert found["invocation"]["state"] == "succeeded"
    assert (found["tries"], found["error"], found["status"]) == ([], None, 200)
    raw = await result(node, id)
    assert (raw.status, raw.json()) == (200, {"n": 7, "attempt": 1, "call": id})
    assert raw.headers["Content-Type"] == "application/json"
    assert "sandbox" in raw.headers["Content-Security-Policy"]
    assert await printed(node, "jobs", "run", id) == 1


async def test_prefer_respond_async(node: RunningNode) -> None:
    reply = await node.call("jobs", json={"n": 1}, headers={"Prefer": "respond-async"})
    assert (reply.status, reply.headers["Preference-Applied"]) == (202, "respond-async")
    reply = await node.call("jobs", json={"n": 2}, headers={"Prefer": "respond-async, wait=10"})
    assert (reply.status, reply.json()["n"]) == (200, 2)
    reply = await node.call("jobs", json={"sleep": 3}, headers={"Prefer": "respond-async, wait=1"})
    assert reply.status == 202
    await node.api("POST", f"/v1/invocations/{reply.json()['id']}/cancel")


async def test_the_result_of_a_call_that_runs_is_not_there_yet(node: RunningNode) -> None:
    id = await enqueue(node, "jobs", {"sleep": 0.5})
    early = await result(node, id)
    assert early.status == 202
    assert early.headers["Retry-After"] == "1"
    assert early.json()["state"] in ("waiting", "running")
    await ended(node, id)


async def test_a_function_at_zero_is_woken_without_waiting_for_a_tick(node: RunningNode, tmp_path: Path) -> None:
    await put(node, HERE / "jobs.py", name="asleep", idle="1s")
    waits = []
    for _ in range(2):
        await wait_until(lambda: _instances(node, "asleep", 0), 20, "it is at zero")
        began = time.monotonic()
        await ended(node, await enqueue(node, "asleep", {}))
        waits.append(time.monotonic() - began)
    assert min(waits) < 0.9, "the queue is looked at once a second without a bell"


async def test_a_large_result_is_kept_to_the_limit_and_refused_beyond(node: RunningNode) -> None:
    fits = await enqueue(node, "big", {"pieces": 15})
    assert (await ended(node, fits))["invocation"]["state"] == "succeeded"
    assert len((await result(node, fits)).body) == 15 * 1024 * 1024
    found = await ended(node, await enqueue(node, "big", {"pieces": 40}))
    assert (found["invocation"]["state"], found["invocation"]["attempt"]) == ("failed", 1)
    assert found["error"]["code"] == "too_large"
    assert "16MiB" in found["error"]["detail"]


async def test_a_batch(node: RunningNode) -> None:
    events = [{"n": n} for n in range(600)]
    async with node.http.post("/async-function/jobs", json=events, headers=BATCH) as answer:
        document = await answer.json()
    assert (answer.status, document["accepted"], document["refused"]) == (202, 600, 0)
    ids = [one["id"] for one in document["invocations"]]
    assert len(set(ids)) == 600
    for place in (0, 311, 599):
        await ended(node, ids[place])
        assert (await result(node, ids[place])).json()["n"] == place


async def test_a_batch_may_be_repeated_under_its_key(node: RunningNode) -> None:
    headers = BATCH | {"Idempotency-Key": "batch-1"}
    first, second = [await _json(node, [1, 2, 3], headers) for _ in range(2)]
    assert [one["id"] for one in first["invocations"]] == [one["id"] for one in second["invocations"]]
    assert {one["status"] for one in second["invocations"]} == {"duplicate"}


@pytest.mark.parametrize(("body", "status"), [(b"{}", 400), (b"[1,", 400), (b"[]", 422), (b"", 400)])
async def test_a_bad_batch(node: RunningNode, body: bytes, status: int) -> None:
    async with node.http.post("/async-function/jobs", data=body, headers=BATCH) as answer:
        assert (answer.status, (await answer.json())["fault"]) == (status, "caller")


@pytest.mark.parametrize(
    "headers",
    [{"X_Faas_Delay": "soon"}, {"X_Faas_At": "tomorrow"}, {"X_Faas_At": "9" * 12}, {"X_Faas_Priority": "urgent"}],
)
async def test_a_bad_header_is_named(node: RunningNode, headers: dict[str, str]) -> None:
    reply = await post(node, "jobs", {}, **headers)
    assert reply.status == 422
    assert next(iter(headers.values()))[:20] in reply.json()["detail"]


async def test_delay_and_at(node: RunningNode) -> None:
    began = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began + 2))
    ids = [
        await enqueue(node, "jobs", {}, X_Faas_Delay="400ms"),
        await enqueue(node, "jobs", {}, X_Faas_At=str(began + 0.4)),
        await enqueue(node, "jobs", {}, X_Faas_At=at),
    ]
    assert (await look(node, ids[0]))["invocation"]["state"] == "delayed"
    for id, least in zip(ids, (0.4, 0.4, 1.0), strict=True):
        one = (await ended(node, id))["invocation"]
        assert one["began_at"] >= began + least - 0.002
        assert one["began_at"] < began + 3.0, "no invocation waits for a tick"


# -- failing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "cause"), [("raise", "handler_raised"), ("die", "instance_died")])
async def test_what_failed_is_tried_again(node: RunningNode, how: str, cause: str) -> None:
    id = await enqueue(node, "jobs", {"until": 1, "how": how})
    found = await ended(node, id)
    assert found["invocation"]["state"] == "succeeded"
    assert [one["cause"] for one in found["tries"]] == [cause]
    assert (await result(node, id)).json()["attempt"] == 2
    assert await printed(node, "jobs", "run", id) == 2


async def test_a_timeout_is_tried_again_and_then_a_dead_letter(node: RunningNode) -> None:
    found = await ended(node, await enqueue(node, "short", {"until": 9, "how": "hang"}))
    assert (found["invocation"]["state"], found["invocation"]["attempt"]) == ("dead", 2)
    assert found["error"]["code"] == "deadline_exceeded"


async def test_errors_of_the_callers_kind_are_not_tried_again(node: RunningNode) -> None:
    headers = {"Content-Type": "application/json"}
    async with node.http.post("/async-function/jobs", data=b"{broken", headers=headers) as answer:
        id = (await answer.json())["id"]
    found = await ended(node, id)
    assert (found["invocation"]["state"], found["invocation"]["attempt"]) == ("failed", 1)
    assert found["error"]["fault"] == "caller"


async def test_the_handler_says_when_to_try_again(node: RunningNode) -> None:
    id = await enqueue(node, "jobs", {"until": 1, "how": "retry", "after": 0.6})
    found = await ended(node, id)
    assert found["invocation"]["state"] == "succeeded"
    (failed,) = found["tries"]
    assert failed["cause"] == "retry"
    assert 0.6 <= found["invocation"]["began_at"] - failed["ended_at"] < 1.5
    reply = await node.call("jobs", json={"until": 9, "how": "retry", "after": 30})
    assert (reply.status, reply.headers["Retry-After"], reply.json()["code"]) == (503, "30", "retry")


async def test_dead_letters(node: RunningNode) -> None:
    ids = [await enqueue(node, "jobs", {"until": 4, "n": n}) for n in range(3)]
    for id in ids:
        assert (await ended(node, id))["invocation"]["state"] == "dead"
    listed = await node.api("GET", "/v1/functions/jobs/dlq")
    assert {one["id"] for one in listed["invocations"]} >= set(ids)
    letter = await node.api("GET", f"/v1/functions/jobs/dlq/{ids[0]}")
    assert [one["number"] for one in letter["tries"]] == [1, 2, 3]
    assert letter["input"]["body"] == '{"until": 4, "n": 0}'
    assert "as asked" in letter["error"]["detail"]
    one = await node.api("POST", "/v1/functions/jobs/dlq/redrive", json={"ids": [ids[0], "c-unknown"]})
    assert (one["done"], list(one["left"])) == (1, ["c-unknown"])
    assert (await ended(node, ids[0]))["invocation"]["state"] == "dead", "attempts count from the beginning"
    await node.api("DELETE", f"/v1/functions/jobs/dlq/{ids[1]}")
    rest = await node.api("DELETE", "/v1/functions/jobs/dlq")
    assert rest["done"] >= 2
    assert (await node.api("GET", "/v1/functions/jobs/dlq"))["invocations"] == []


async def test_redrive_all_runs_everything_again(node: RunningNode) -> None:
    ids = [await enqueue(node, "short", {"until": 2}) for _ in range(5)]
    for id in ids:
        await ended(node, id)
    swept = await node.api("POST", "/v1/functions/short/dlq/redrive", json={})
    assert swept["done"] >= 5
    for id in ids:
        assert (await ended(node, id))["invocation"]["attempt"] == 2


async def test_steps_that_were_done_are_not_done_again(node: RunningNode) -> None:
    id = await enqueue(node, "jobs", {"steps": True})
    assert (await ended(node, id))["invocation"]["state"] == "succeeded"
    document = (await result(node, id)).json()
    assert document == {"receipt": {"amount": 3, "attempt": 1}, "attempt": 2, "text": ""}
    assert await printed(node, "jobs", "charged", id) == 1
    id = await enqueue(node, "stepping", {"amount": 5})
    assert (await ended(node, id))["invocation"]["attempt"] == 3
    assert (await result(node, id)).json() == {"receipt": {"amount": 5, "attempt": 1}, "plain": True}
    assert await printed(node, "stepping", "charged", id) == 1


async def test_a_plain_call_runs_its_steps_and_keeps_nothing(node: RunningNode) -> None:
    reply = await node.call("stepping", json={"amount": 1})
    assert (reply.status, reply.json()["type_name"]) == (500, "ValueError")


# -- cancelled, paused, bounded ----------------------------------------------------------------------------


async def test_cancel_of_what_waits(node: RunningNode) -> None:
    id = await enqueue(node, "jobs", {}, X_Faas_Delay="1h")
    assert (await node.api("POST", f"/v1/invocations/{id}/cancel"))["status"] == "cancelled"
    assert (await look(node, id))["invocation"]["state"] == "cancelled"
    assert (await node.api("POST", f"/v1/invocations/{id}/cancel"))["status"] == "cancelled", "asking twice is no error"
    again = await node.api("POST", f"/v1/invocations/{id}/retry")
    assert again["state"] in ("waiting", "running", "succeeded")
    assert (await ended(node, id))["invocation"]["state"] == "succeeded"
    assert await _status(node, "POST", f"/v1/invocations/{id}/cancel") == 409
    assert await _status(node, "POST", f"/v1/invocations/{id}/retry") == 409


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancel_of_what_runs(node: RunningNode, stubborn: bool) -> None:
    id = await enqueue(node, "jobs", {"sleep": 30, "stubborn": stubborn})
    await wait_until(lambda: printed(node, "jobs", "run", id), 10, "it runs")
    assert (await node.api("POST", f"/v1/invocations/{id}/cancel"))["status"] == "asked"
    found = await ended(node, id, 5)
    assert found["invocation"]["state"] == "cancelled"
    await wait_until(lambda: printed(node, "jobs", "cancelled", id), 10, "the handler saw it")
    await ended(node, await enqueue(node, "jobs", {}))


async def test_a_paused_function_keeps_its_work(node: RunningNode) -> None:
    await put(node, HERE / "jobs.py", name="paused")
    await node.api("POST", "/v1/functions/paused/pause", json={})
    ids = [await enqueue(node, "paused", {"n": n}) for n in range(3)]
    other = await enqueue(node, "jobs", {})
    await ended(node, other)
    assert {(await look(node, id))["invocation"]["state"] for id in ids} == {"waiting"}
    await node.api("POST", "/v1/functions/paused/resume")
    for id in ids:
        assert (await ended(node, id))["invocation"]["attempt"] == 1


async def test_max_in_flight(node: RunningNode) -> None:
    ids = [await enqueue(node, "narrow", {"sleep": 0.1}) for _ in range(6)]
    runs = sorted([(await ended(node, id))["invocation"] for id in ids], key=lambda one: one["began_at"])
    for before, after in itertools.pairwise(runs):
        assert after["began_at"] >= before["ended_at"] - 0.002


async def test_many_at_once_use_the_instances_there_may_be(node: RunningNode) -> None:
    await put(node, HERE / "jobs.py", name="wide", max=4)
    began = time.monotonic()
    ids = [await enqueue(node, "wide", {"sleep": 0.5}) for _ in range(8)]
    for id in ids:
        await ended(node, id)
    assert time.monotonic() - began < 3.0, "eight of half a second, four at a time"


# -- keys --------------------------------------------------------------------------------------------------


async def test_a_key_of_background_calls(node: RunningNode) -> None:
    first = await enqueue(node, "jobs", {"n": 1}, Idempotency_Key='"order-1"')
    again = await post(node, "jobs", {"n": 1}, Idempotency_Key="order-1")
    assert (again.status, again.json()) == (202, {"id": first, "status": "duplicate"})
    other = await post(node, "jobs", {"n": 2}, Idempotency_Key="order-1")
    assert (other.status, other.json()["fault"]) == (422, "caller")
    await ended(node, first)
    assert await printed(node, "jobs", "run", first) == 1


async def test_a_key_of_plain_calls(node: RunningNode) -> None:
    key = {"Idempotency-Key": "pay-1"}
    first = await node.call("jobs", json={"n": 1}, headers=key)
    again = await node.call("jobs", json={"n": 1}, headers=key)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["X-Call-Id"] == first.headers["X-Call-Id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await node.call("jobs", json={"n": 2}, headers=key)).status == 422
    mixed = await post(node, "jobs", {"n": 1}, Idempotency_Key="pay-1")
    assert mixed.json()["id"] != first.headers["X-Call-Id"] or mixed.json()["status"] == "duplicate"


async def test_a_repeat_while_the_first_runs(node: RunningNode) -> None:
    key = {"Idempotency-Key": "slow-1"}
    first = asyncio.create_task(node.call("jobs", json={"sleep": 1}, headers=key))
    await asyncio.sleep(0.3)
    busy = await node.call("jobs", json={"sleep": 1}, headers=key)
    assert (busy.status, busy.json()["code"], busy.headers["Retry-After"]) == (409, "conflict", "1")
    assert (await first).status == 200
    assert (await node.call("jobs", json={"sleep": 1}, headers=key)).body == (await first).body


async def test_a_failed_call_with_a_key_is_not_run_again(node: RunningNode) -> None:
    key = {"Idempotency-Key": "fails-1"}
    replies = [await node.call("jobs", json={"until": 9}, headers=key) for _ in range(2)]
    assert [reply.status for reply in replies] == [500, 500]
    assert replies[0].json()["call_id"] == replies[1].json()["call_id"]


# -- listing, metrics, command line ------------------------------------------------------------------------


async def test_listing(node: RunningNode) -> None:
    await put(node, HERE / "jobs.py", name="listed")
    ids = [await enqueue(node, "listed", {"n": n}) for n in range(12)]
    for id in ids:
        await ended(node, id)
    seen: list[str] = []
    cursor = ""
    for _ in range(10):
        query = {"function": "listed", "state": "succeeded,dead", "limit": "5", "cursor": cursor}
        page = await node.api("GET", "/v1/invocations", params=query)
        seen += [one["id"] for one in page["invocations"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert sorted(seen) == sorted(ids)
    ends = [(await look(node, id))["invocation"]["ended_at"] for id in seen]
    assert ends == sorted(ends, reverse=True)
    assert await _status(node, "GET", "/v1/invocations?state=succeded") == 422
    assert await _status(node, "GET", "/v1/invocations?cursor=x") == 422


async def test_metrics(node: RunningNode) -> None:
    await ended(node, await enqueue(node, "jobs", {}))
    text = await _metrics(node)
    assert 'faas_async_attempts_total{app="default",function="jobs",outcome="succeeded"}' in text
    await put(node, HERE / "jobs.py", name="measured")
    waiting = await enqueue(node, "measured", {}, X_Faas_Delay="1h")
    wanted = 'faas_queue_depth{app="default",function="measured",state="delayed"} 1.0'

    async def told() -> bool:
        return wanted in await _metrics(node)

    try:
        await wait_until(told, 20, "the leader tells the queue's depth")
    except AssertionError:
        queues = [line for line in (await _metrics(node)).splitlines() if line.startswith("faas_queue")]
        pytest.fail(f"not told: {queues}\n{node.log()[-3000:]}")
    await node.api("POST", f"/v1/invocations/{waiting}/cancel")


async def test_the_command_line(node: RunningNode) -> None:
    done = await node.cli("invoke", "jobs", "--async", "--wait", "10s", "-d", '{"n": 3}')
    assert (done.code, '"n":3' in done.out) == (0, True), done
    done = await node.cli("invoke", "jobs", "--batch", "-d", '{"n": 1}\n{"n": 2}\n')
    assert (done.code, len(done.out.split())) == (0, 2), done
    id = (await node.cli("invoke", "jobs", "--async", "-d", '{"until": 9}')).out.strip()
    done = await node.cli("invocations", "wait", id)
    assert (done.code, "as asked" in done.err) == (1, True), done
    story = await node.cli("explain", id)
    assert story.code == 0
    for part in ("dead letter after 3 of 3", "fault: the function", "attempt 3", f"faas dlq redrive jobs {id}"):
        assert part in story.out, story.out
    assert id in (await node.cli("dlq", "ls", "jobs")).out
    assert '{"until": 9}' in (await node.cli("dlq", "show", "jobs", id)).out
    assert "1 run again" in (await node.cli("dlq", "redrive", "jobs", id)).out
    await ended(node, id)
    assert "1 forgotten" in (await node.cli("dlq", "purge", "jobs", id, "--yes")).out
    assert (await node.cli("invocations", "show", id)).code == 2
    assert "succeeded" in (await node.cli("invocations", "ls", "jobs", "--state", "succeeded", "--json")).out


async def _json(node: RunningNode, events: object, headers: dict[str, str]) -> dict[str, Any]:
    async with node.http.post("/async-function/jobs", json=events, headers=headers) as answer:
        document: dict[str, Any] = await answer.json()
        return document


async def _status(node: RunningNode, method: str, path: str) -> int:
    async with node.http.request(method, path, headers={"Authorization": f"Bearer {node.token}"}) as answer:
        return answer.status


async def _metrics(node: RunningNode) -> str:
    async with node.http.get("/metrics") as answer:
        return await answer.text()


async def _instances(node: RunningNode, name: str, count: int) -> bool:
    return bool((await node.api("GET", f"/v1/functions/{name}"))["instances"] == count)
