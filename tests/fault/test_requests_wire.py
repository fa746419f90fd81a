"""Requests that break rules, on a real node: a clear 4xx that names the rule, nothing else happens."""

from __future__ import annotations

import gzip

import msgspec
import pytest

from tests.fault.hostile import APP, FIXTURES, assert_serves, push
from tests.fault.wire import head, send
from tests.integration.conftest import HANDLERS, HERE, put
from tests.integration.node import RunningNode
from tests.support import require

pytestmark = pytest.mark.docker
ECHO, EVENT = f"/function/echo.{APP}", f"/function/event.{APP}"
NO_NAMES = [
    *(
        "",
        "..",
        ".",
        "../v1/status",
        "%2e%2e/v1/status",
        "%2e%2e%2fv1",
        "%",
        "%zz",
        "a%00b",
        "a%2fb",
        "a%20b",
        "%C3%A9",
    ),
    *("x" * 300, "x" * 8_000, "-", "{}", "$(id)", "'\"<>", "%0d%0aX-A:%201", "/echo.hostile", "echo.hostile%2F.."),
    *("ECHO.HOSTILE", "echo.", ".hostile", "@1", "echo%2Ehostile", "echo.hostile;x=1", "echo.hostile@"),
    *("echo.hostile@live@x", "echo.hostile@-1", "echo.hostile@0", "echo.hostile@99999999999999999999"),
]
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node)
    await put(docker_node, HERE / "echo.py", app=APP, memory="64M")
    await put(docker_node, HANDLERS / "event.py", app=APP, memory="64M", body="64K")
    assert FIXTURES.is_dir()
    return docker_node


@pytest.mark.parametrize(
    ("request_", "status", "code", "said"),
    [
        ([f"GET {ECHO} HTTP/1.1", *[f"X-{n}: 1" for n in range(200)]], 431, "head_too_large", "more than 128 headers"),
        ([f"GET {ECHO} HTTP/1.1", "X-Long: " + "a" * 20_000], 431, "head_too_large", "too long"),
        ([f"GET {ECHO} HTTP/1.1", "X" * 20_000 + ": 1"], 431, "head_too_large", "too long"),
        ([f"GET {ECHO}?{'q' * 20_000} HTTP/1.1"], 431, "head_too_large", "too long"),
        (
            [f"GET {ECHO} HTTP/1.1", *[f"X-{n}: {'a' * 15_000}" for n in range(60)]],
            431,
            "head_too_large",
            "the limit is 256KiB",
        ),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: 3", CHUNKED], 400, "bad_request", "Transfer-Encoding"),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: 3", "Content-Length: 5"], 400, "bad_request", "Content-Length"),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: -1"], 400, "bad_request", "Content-Length"),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: 1e3"], 400, "bad_request", "Content-Length"),
        ([f"POST {ECHO} HTTP/1.1", "Transfer-Encoding: gzip"], 400, "bad_request", "Transfer-Encoding"),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: 99999999999999999999"], 400, "bad_request", "Content-Length"),
        ([f"POST {ECHO} HTTP/1.1", "Content-Length: 999999999999"], 413, "too_large", "16MiB"),
        ([f"GET {ECHO} HTTP/1.1", "X A: 1"], 400, "bad_request", "header"),
        ([f"GET {ECHO} HTTP/1.1", "X-A: a\0b"], 400, "bad_request", "header"),
        ([f"GET {ECHO} HTTP/1.1", "X-A: 1\r\n folded"], 400, "bad_request", "whitespace"),
        ([f"GET {ECHO} HTTP/3.0"], 400, "bad_request", "not HTTP"),
        (["PRI * HTTP/2.0"], 400, "bad_request", "not HTTP"),
        (["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "bad_request", "HTTPS"),
    ],
)
async def test_a_broken_request_names_the_rule(
    node: RunningNode, request_: list[str], status: int, code: str, said: str
) -> None:
    seen = len(node.log())
    answer = await send(node.url, [head(*request_)], within_s=1)
    problem = answer.problem()
    assert (answer.status, problem["code"], problem["fault"]) == (status, code, "caller"), problem
    assert said.lower() in problem["detail"].lower(), problem
    assert answer.first_s < 0.5
    await assert_serves(node, "neighbour")
    assert "Traceback" not in node.log()[seen:], "a stranger does not fill the node's log"


@pytest.mark.parametrize("name", NO_NAMES)
async def test_a_name_that_is_none_is_404(node: RunningNode, name: str) -> None:
    answer = await send(node.url, [head(f"GET /function/{name} HTTP/1.1")])
    problem = answer.problem()
    assert (answer.status, problem["code"], problem["fault"]) == (404, "not_found", "caller")
    assert problem["hint"]
    assert len(answer.data) < 2_000, "a long name is not repeated whole"
    assert b"X-A: 1" not in answer.data


@pytest.mark.parametrize("name", ["a\0b", "é", "\xff\xfe", "a\tb"])
async def test_a_name_that_no_url_can_have_is_400(node: RunningNode, name: str) -> None:
    answer = await send(node.url, [head(f"GET /function/{name} HTTP/1.1")])
    assert (answer.status, answer.problem()["fault"]) == (400, "caller")


async def test_dots_behind_the_name_are_the_functions_and_lead_nowhere(node: RunningNode) -> None:
    answer = await send(node.url, [head(f"GET {ECHO}/../../v1/status HTTP/1.1")])
    assert msgspec.json.decode(answer.body)["path"] == "/../../v1/status"
    assert (await send(node.url, [head("GET /function/../v1/status HTTP/1.1")])).status == 404


@pytest.mark.parametrize("path", ["/v1/functions/%00", "/v1/functions/..%2f..", f"/v1/functions/{'x' * 300}", "/v1/%"])
async def test_odd_paths_of_the_control_api_are_4xx(node: RunningNode, path: str) -> None:
    answer = await send(node.url, [head(f"GET {path} HTTP/1.1", f"Authorization: Bearer {node.token}")])
    problem = answer.problem()
    assert answer.status in (404, 422)
    assert (problem["fault"], len(answer.data) < 2_000) == ("caller", True)


async def test_broken_json_is_the_callers_fault(node: RunningNode) -> None:
    for body in (b'{"a":', b"{'a': 1}", b"\xff\xfe", b"[" * 50_000, b"nul", b'{"a": NaN}'):
        label = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        answer = await send(node.url, [head(f"POST {EVENT} HTTP/1.1", *label) + body])
        problem = answer.problem()
        assert (answer.status, problem["code"], problem["fault"]) == (400, "bad_request", "caller"), (
            body[:20],
            problem,
        )
        assert "JSON" in problem["detail"]


async def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(node: RunningNode) -> None:
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    answer = await send(node.url, [head(f"POST {EVENT} HTTP/1.1", CHUNKED), *[piece] * 10], pause_s=0.01, within_s=1)
    assert answer.data.startswith(b"HTTP/1.1 413"), answer.data[:300]
    assert b"64KiB" in answer.data


@pytest.mark.parametrize("lie", [b"ZZ\r\nhello\r\n", b"5\r\nhelloXX\r\n", b"FFFFFFFFFFFFFFFFFF\r\n"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_lies_about_chunks_are_400(node: RunningNode, lie: bytes, later: bool) -> None:
    start = head(f"POST {ECHO} HTTP/1.1", CHUNKED, close=False)
    parts = [start, b"5\r\nhello\r\n", lie] if later else [start + b"5\r\nhello\r\n" + lie]
    answer = await send(node.url, parts, pause_s=0.1)
    assert (answer.status, answer.problem()["fault"], answer.closed) == (400, "caller", True)
    assert answer.seconds < 2


async def test_pipelined_requests_are_answered_in_their_order(node: RunningNode) -> None:
    many = [head(f"GET {EVENT}?n={n} HTTP/1.1", close=False) for n in range(50)]
    posted = head(f"POST {EVENT} HTTP/1.1", "Content-Length: 2", close=False) + b"hi"
    last = head(f"GET {EVENT}?n=last HTTP/1.1")
    answer = await send(node.url, [b"".join([*many, posted, last])])
    order = [answer.data.find(b'{"n":"%d"}' % n) for n in range(50)]
    order += [answer.data.find(b'{"bytes":"hi"}'), answer.data.find(b'{"n":"last"}')]
    assert -1 not in order
    assert order == sorted(order)
    assert answer.data.count(b"HTTP/1.1 200") == 52


async def test_what_follows_whole_requests_and_is_none_is_answered_last(node: RunningNode) -> None:
    good = head(f"GET {EVENT}?n=1 HTTP/1.1", close=False)
    answer = await send(node.url, [good, b"garbage here\r\n\r\n"], pause_s=0.2)
    assert answer.data.startswith(b"HTTP/1.1 200")
    assert (answer.status, answer.closed) == (400, True)


async def test_http_1_0_is_served_and_closed(node: RunningNode) -> None:
    answer = await send(node.url, [f"GET {EVENT}?a=1 HTTP/1.0\r\n\r\n".encode()])
    assert (answer.status, answer.body, answer.closed) == (200, b'{"dict":{"a":"1"}}', True)
    assert answer.seconds < 1
    kept = f"GET {EVENT} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode()
    answer = await send(node.url, [kept, f"GET {EVENT} HTTP/1.0\r\n\r\n".encode()], pause_s=0.2)
    assert answer.data.count(b" 200 OK") == 2


async def test_head_and_options(node: RunningNode) -> None:
    answer = await send(node.url, [head(f"HEAD {ECHO} HTTP/1.1")])
    assert (answer.status, answer.body) == (200, b"")
    answer = await send(node.url, [head(f"OPTIONS {ECHO} HTTP/1.1")])
    assert msgspec.json.decode(answer.body)["method"] == "OPTIONS"
    answer = await send(node.url, [head("HEAD /function/nobody HTTP/1.1"), b""])
    assert (answer.status, answer.body) == (404, b"")
    for line in ("OPTIONS * HTTP/1.1", "CONNECT evil:80 HTTP/1.1"):
        assert (await send(node.url, [head(line)])).status in (404, 405)


async def test_a_small_body_that_unpacks_to_a_large_one_stays_small(node: RunningNode) -> None:
    """Bodies come as they were sent: the limit holds for what the function gets."""
    bomb = gzip.compress(bytes(40 * 1024 * 1024))
    labels = ["Content-Encoding: gzip", f"Content-Length: {len(bomb)}"]
    answer = await send(node.url, [head(f"POST {ECHO} HTTP/1.1", *labels) + bomb])
    seen = msgspec.json.decode(answer.body)
    assert (seen["size"], ["content-encoding", "gzip"] in seen["headers"]) == (len(bomb), True)
    false = head(f"POST {ECHO} HTTP/1.1", "Content-Encoding: gzip", "Content-Length: 5") + b"hello"
    assert (await send(node.url, [false])).status == 200


async def test_an_upgrade_nobody_offers_is_declined(node: RunningNode) -> None:
    wanted = ["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    first = head(f"GET {EVENT} HTTP/1.1", "Connection: Upgrade", *wanted, close=False)
    answer = await send(node.url, [first, head(f"GET {EVENT}?n=2 HTTP/1.1")], pause_s=0.1)
    assert answer.data.count(b"HTTP/1.1 200") == 2


async def test_a_caller_who_leaves_half_way_leaves_nothing(node: RunningNode) -> None:
    begin = head(f"POST {ECHO} HTTP/1.1", "Content-Length: 100000", close=False) + b"x" * 50_000
    for _ in range(20):
        await send(node.url, [begin], within_s=0.02)
    await assert_serves(node, "neighbour")
    view = await node.api("GET", f"/v1/functions/echo.{APP}")
    assert (view["in_flight"], view["waiting"]) == (0, 0)
