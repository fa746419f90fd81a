"""Senders that take their time: a head is cut off after a while, a body too, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from faas.errors import FaasError
from faas.gateway import body as bodies
from faas.gateway.replies import problem_response
from faas.gateway.server import HttpServer
from tests.fault.wire import head, send

HEAD_S = 0.4
LIMIT = 100_000


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A server of ours with short limits that answers with the size of the body."""
    monkeypatch.setattr(bodies, "IDLE_S", 0.3)
    monkeypatch.setattr(bodies, "TOTAL_S", 0.8)
    budget = bodies.Budget(1_000_000)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            content, claimed = await bodies.read(request, LIMIT, budget)
            budget.give(claimed)
        except FaasError as error:
            return problem_response(error, "c-1", full=True)
        return web.Response(text=str(len(content)))

    runner = web.ServerRunner(HttpServer(handle, head_s=HEAD_S), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()
    assert budget.used == 0, "what was claimed was given back"


async def test_a_half_sent_head_is_answered_and_cut(url: str) -> None:
    answer = await send(url, [b"GET /x HTTP/1.1\r\nHost: te"], within_s=3)
    problem = answer.problem()
    assert (answer.status, problem["code"], problem["fault"]) == (408, "request_timeout", "caller")
    assert "0.4 s" in problem["detail"]
    assert answer.closed
    assert HEAD_S <= answer.seconds < HEAD_S + 1


async def test_a_byte_now_and_then_does_not_buy_time(url: str) -> None:
    text = b"GET /x HTTP/1.1\r\nHost: test\r\nX-Slow: " + b"a" * 1000
    answer = await send(url, [bytes([byte]) for byte in text], pause_s=0.02, within_s=3)
    assert (answer.status, answer.closed) == (408, True)
    assert answer.seconds < HEAD_S + 1


async def test_a_head_in_pieces_that_comes_in_time_is_served(url: str) -> None:
    parts = [b"GET /x HT", b"TP/1.1\r\nHost: te", b"st\r\nConnection: close\r\n", b"\r\n"]
    answer = await send(url, parts, pause_s=0.05)
    assert (answer.status, answer.body) == (200, b"0")


async def test_the_second_head_of_a_connection_is_timed_too(url: str) -> None:
    first = head("GET /x HTTP/1.1", close=False)
    answer = await send(url, [first, b"GET /y HTTP"], pause_s=0.1, within_s=3)
    assert answer.data.startswith(b"HTTP/1.1 200")
    assert (answer.status, answer.closed) == (408, True)
    assert answer.seconds < HEAD_S + 1.2


async def test_a_connection_between_requests_is_left_alone(url: str) -> None:
    request = head("GET /x HTTP/1.1", close=False)
    answer = await send(url, [request, head("GET /x HTTP/1.1")], pause_s=HEAD_S * 2)
    assert answer.data.count(b"HTTP/1.1 200") == 2


async def test_a_connection_that_sends_nothing_is_left_alone_for_longer(url: str) -> None:
    answer = await send(url, [], within_s=HEAD_S * 2)
    assert (answer.data, answer.closed) == (b"", False)


@pytest.mark.parametrize("framing", ["Content-Length: 50000", "Content-Length: 90000", "Transfer-Encoding: chunked"])
async def test_a_body_that_stops_is_408(url: str, framing: str) -> None:
    begin = b"5\r\nhello\r\n" if "chunked" in framing else b"hello"
    answer = await send(url, [head("POST /x HTTP/1.1", framing), begin], pause_s=0.05, within_s=1)
    assert answer.data.count(b"HTTP/1.") == 1
    assert answer.status == 408
    assert b"did not arrive" in answer.data


@pytest.mark.parametrize("framing", ["Content-Length: 50000", "Content-Length: 90000"])
async def test_a_body_of_a_byte_now_and_then_is_cut(url: str, framing: str) -> None:
    parts = [head("POST /x HTTP/1.1", framing), *[b"x"] * 200]
    answer = await send(url, parts, pause_s=0.02, within_s=2)
    assert answer.status == 408
    assert answer.first_s < 1.5


async def test_a_body_in_pieces_is_served(url: str) -> None:
    answer = await send(url, [head("POST /x HTTP/1.1", "Content-Length: 10"), b"hello", b"world"], pause_s=0.05)
    assert (answer.status, answer.body) == (200, b"10")


@pytest.mark.parametrize(
    "lie",
    [b"ZZ\r\nhello\r\n", b"5\r\nhelloXX\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFFFF\r\n", b"5 5\r\nhello\r\n"],
)
async def test_a_body_whose_framing_breaks_is_400_at_once(url: str, lie: bytes) -> None:
    parts = [head("POST /x HTTP/1.1", "Transfer-Encoding: chunked", close=False), b"5\r\nhello\r\n", lie]
    answer = await send(url, parts, pause_s=0.05, within_s=3)
    problem = answer.problem()
    assert (answer.status, problem["code"], problem["fault"]) == (400, "bad_request", "caller")
    assert "body is broken" in problem["detail"]
    assert answer.closed
    assert answer.seconds < 0.29, "not after the time a body may be silent"


async def test_who_asks_whether_the_body_is_wanted_is_told(url: str) -> None:
    ask = head("POST /x HTTP/1.1", "Content-Length: 5", "Expect: 100-continue")
    answer = await send(url, [ask, b"hello"], pause_s=0.1)
    assert answer.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), answer.data
    assert answer.body == b"5"
    refused = await send(
        url, [head("POST /x HTTP/1.1", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")], within_s=1
    )
    assert refused.data.startswith(b"HTTP/1.1 413"), "before it has sent any of it"


async def test_a_stranger_does_not_fill_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    for lie in (b"ZZ\r\n", b"\0\0\0\0", b"GET"):
        await send(url, [head("POST /x HTTP/1.1", "Transfer-Encoding: chunked"), lie], pause_s=0.05, within_s=2)
    await asyncio.sleep(0)
    assert "Traceback" not in caplog.text
