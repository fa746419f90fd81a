"""`faas invoke`: bodies from everywhere, and an exit code for every end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import HERE, put
from tests.integration.node import RunningNode
from tests.support import free_port


async def test_a_body_comes_from_the_command_line_a_file_or_standard_input(corpus: RunningNode, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"from": "file"}')
    typed = await corpus.cli("invoke", "event.e2e", "-d", '{"from": "flag"}')
    read = await corpus.cli("invoke", "event.e2e", "-d", f"@{file}")
    piped = await corpus.cli("invoke", "event.e2e", "-d", "-", stdin='{"from": "stdin"}')
    for result, origin in ((typed, "flag"), (read, "file"), (piped, "stdin")):
        assert (result.code, json.loads(result.out)) == (0, {"dict": {"from": origin}}), result.err
    text = await corpus.cli("invoke", "event.e2e", "-d", "just words")
    assert json.loads(text.out) == {"str": "just words"}


async def test_method_path_and_headers_go_along(corpus: RunningNode) -> None:
    result = await corpus.cli("invoke", "echo.e2e", "-X", "DELETE", "--path", "/a b?x=1", "-H", "X-Thing: 7", "--json")
    assert result.code == 0, result.err
    reply = json.loads(result.out)
    assert (reply["status"], reply["start"], reply["version"]) == (200, "warm", "1")
    seen = reply["body"]
    assert (seen["method"], seen["path"], seen["query"]) == ("DELETE", "/a%20b", {"x": "1"})
    assert ["x-thing", "7"] in seen["headers"]
    assert "authorization" not in dict(seen["headers"]), "the platform's credential stays with the platform"


async def test_a_raising_handler_is_1_with_its_traceback(corpus: RunningNode) -> None:
    result = await corpus.cli("invoke", "raises.e2e", "-d", '{"what": "plain"}')
    assert result.code == 1
    assert 'return values["missing"]' in result.err
    assert "error: KeyError: 'missing'" in result.err
    assert "call: c-" in result.err, "names the call, for faas logs --call"


async def test_an_error_status_of_the_function_is_1(corpus: RunningNode) -> None:
    result = await corpus.cli("invoke", "returns.e2e", "-d", '{"what": "status"}')
    assert (result.code, result.out) == (1, "")
    assert "answered 404" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-function",), "no function"),
        (("Not A Name",), "not a function name"),
        (("event.e2e", "-d", "@/nowhere/file"), "cannot be read"),
        (("event.e2e", "--bogus"), "--bogus"),
        (("event.e2e", "-d", "{'a': 1}", "-H", "Content-Type: application/json"), "not JSON"),
    ],
)
async def test_wrong_use_is_2(corpus: RunningNode, words: tuple[str, ...], said: str) -> None:
    result = await corpus.cli("invoke", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


async def test_no_node_is_3(corpus: RunningNode) -> None:
    result = await corpus.cli("invoke", "event.e2e", env={"FAAS_URL": f"http://127.0.0.1:{free_port()}"})
    assert result.code == 3
    assert "hint" in result.err


async def test_a_wrong_token_is_4(corpus: RunningNode) -> None:
    result = await corpus.cli("ls", env={"FAAS_TOKEN": "faas_wrong"})
    assert result.code == 4, result


async def test_a_deadline_is_124(corpus: RunningNode) -> None:
    await put(corpus, HERE / "waits.py", app="e2e", name="deadline", timeout="200ms")
    ours = await corpus.cli("invoke", "deadline.e2e", "-d", '{"seconds": 20}')
    assert ours.code == 124
    assert "timeout of 0.2 s" in ours.err
    await put(corpus, HERE / "waits.py", app="e2e", name="patience")
    theirs = await corpus.cli("invoke", "patience.e2e", "-d", '{"seconds": 20}', "--timeout", "200ms")
    assert theirs.code == 124, theirs
