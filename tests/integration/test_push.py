"""`faas push` and what it leaves: files, folders, manifests, no-ops, failures, previews; and ls, show, rm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faas.archive import File, pack
from tests.integration.conftest import put
from tests.integration.node import RunningNode
from tests.support import ROOT, wait_until

PUSH_MS = 1_000
"""The promise for a push of one file, on the node's own clock. With a stem cell ready it takes some 20 ms on a quiet
machine: the rest is slack for a busy one."""


def handler(path: Path, answer: str, *, before: str = "") -> Path:
    """Write a file whose handler returns `answer`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}\n\ndef handler(event):\n    return {answer!r}\n")
    return path


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


async def answer(node: RunningNode, name: str) -> str:
    """What a function says."""
    reply = await node.call(name, "GET")
    assert reply.status == 200, reply.body
    return reply.body.decode()


async def test_a_file_is_live_in_under_a_second_with_a_line_a_phase(docker_node: RunningNode, tmp_path: Path) -> None:
    source = handler(tmp_path / "push_file.py", "one")
    result = await docker_node.cli("push", str(source))
    assert result.code == 0, result
    phases = re.findall(r"^push_file(?:@1)? (\w+) |^(live) push_file@1 ", result.out, re.MULTILINE)
    assert [first or second for first, second in phases] == ["stored", "starting", "ready", "live"], result.out
    assert f"{docker_node.url}/function/push_file" in result.out
    assert await answer(docker_node, "push_file") == "one"


async def test_a_push_says_how_long_it_took(docker_node: RunningNode, tmp_path: Path) -> None:
    async def stem_cell() -> bool:
        return bool((await docker_node.api("GET", "/v1/status"))["instances"].get("stem"))

    await wait_until(stem_cell, 15, "a stem cell is there again after the pushes of other tests")
    result = await docker_node.cli("push", str(handler(tmp_path / "push-timed.py", "x")), "--json")
    told = events(result.out)
    assert [event["phase"] for event in told] == ["stored", "starting", "ready", "live", "done"]
    assert [event["ms"] for event in told] == sorted(event["ms"] for event in told)
    assert told[-1]["ms"] < PUSH_MS, told


async def test_the_same_content_again_changes_nothing_and_says_so(docker_node: RunningNode, tmp_path: Path) -> None:
    source = handler(tmp_path / "push-same.py", "one")
    await put(docker_node, source)
    again = await docker_node.cli("push", str(source))
    assert (again.code, again.out.strip()) == (0, "unchanged: push-same@1 is already this")
    other = await docker_node.cli("push", str(source), "--memory", "128M")
    assert "live push-same@2" in other.out, "settings are part of a version"


async def test_versions_are_immutable(docker_node: RunningNode, tmp_path: Path) -> None:
    source = tmp_path / "push-versions.py"
    for text in ("one", "two", "three"):
        await put(docker_node, handler(source, text))
    assert await answer(docker_node, "push-versions") == "three"
    for number, text in ((1, "one"), (2, "two"), (3, "three")):
        assert await answer(docker_node, f"push-versions@{number}") == text
    views = (await docker_node.api("GET", "/v1/functions/push-versions/versions"))["versions"]
    assert [view["number"] for view in views] == [3, 2, 1]
    assert len({view["code"] for view in views}) == 3
    assert all(view["created_by"] for view in views)
    await put(docker_node, handler(source, "one"))
    assert await answer(docker_node, "push-versions@4") == "one", "old content again is a new version, not an old one"


async def test_a_folder_with_modules_and_data(docker_node: RunningNode, tmp_path: Path) -> None:
    folder = tmp_path / "push-folder"
    handler(folder / "main.py", "unused", before="from shop.prices import load")
    (folder / "main.py").write_text("from shop.prices import load\n\ndef handler(event):\n    return load()\n")
    handler(folder / "shop" / "__init__.py", "x").write_text("")
    (folder / "shop" / "prices.py").write_text(
        "from pathlib import Path\n\ndef load():\n    return (Path(__file__).parent / 'data.txt').read_text()\n"
    )
    (folder / "shop" / "data.txt").write_text("4 euros")
    await put(docker_node, folder)
    assert await answer(docker_node, "push-folder") == "4 euros"


async def test_a_manifest_goes_live_as_a_whole_or_not_at_all(docker_node: RunningNode, tmp_path: Path) -> None:
    for name in ("red", "blue"):
        handler(tmp_path / f"{name}.py", name)
    (tmp_path / "faas.toml").write_text(
        'schema = 1\napp = "colours"\n'
        '[functions.red]\nfile = "red.py"\nmemory = "128M"\nenv = { TONE = "${TONE:-dark}" }\n'
        '[functions.blue]\nfile = "blue.py"\n'
    )
    result = await docker_node.cli("push", str(tmp_path))
    assert result.code == 0, result
    assert (await answer(docker_node, "red.colours"), await answer(docker_node, "blue.colours")) == ("red", "blue")
    red = await docker_node.api("GET", "/v1/functions/red.colours")
    assert (red["settings"]["memory"], red["settings"]["env"]) == ("128MiB", {"TONE": "dark"})
    handler(tmp_path / "red.py", "changed")
    handler(tmp_path / "blue.py", "broken", before="import nothing_like_this")
    failed = await docker_node.cli("push", str(tmp_path))
    assert failed.code == 1
    assert await answer(docker_node, "red.colours") == "red", "the good half did not move either"


async def test_a_failing_import_shows_the_handlers_traceback_and_changes_nothing(
    docker_node: RunningNode, tmp_path: Path
) -> None:
    source = handler(tmp_path / "push-broken.py", "good")
    await put(docker_node, source)
    source.write_text("import json\n\nLIMITS = json.loads('{oops')\n\ndef handler(event):\n    return 'bad'\n")
    failed = await docker_node.cli("push", str(source))
    assert failed.code == 1
    assert "Traceback (most recent call last)" in failed.err
    assert "push-broken.py" in failed.err or "push_broken.py" in failed.err
    assert "LIMITS = json.loads('{oops')" in failed.err
    assert "JSONDecodeError" in failed.err
    assert not re.search("faas_runtime|importlib", failed.err), "the handler's own frames only"
    assert await answer(docker_node, "push-broken") == "good"
    assert (await docker_node.api("GET", "/v1/functions/push-broken"))["live"] == 1
    told = events((await docker_node.cli("push", str(source), "--json")).out)
    assert (told[-1]["phase"], told[-1]["error"]["code"], told[-1]["error"]["fault"]) == (
        "failed",
        "start_failed",
        "function",
    )


async def test_a_first_push_that_fails_leaves_nothing_to_call(docker_node: RunningNode, tmp_path: Path) -> None:
    source = tmp_path / "push-never.py"
    source.write_text("raise RuntimeError('no')\n")
    assert (await docker_node.cli("push", str(source))).code == 1
    reply = await docker_node.call("push-never")
    assert reply.status == 404
    assert "no live version" in reply.json()["detail"] or "no function" in reply.json()["detail"]


async def test_a_preview_leaves_live_alone(docker_node: RunningNode, tmp_path: Path) -> None:
    source = handler(tmp_path / "push-preview.py", "old")
    await put(docker_node, source)
    result = await docker_node.cli("push", str(handler(source, "new")), "--alias", "preview")
    url = f"{docker_node.url}/function/push-preview@preview"
    assert f"preview push-preview@2 {url}" in result.out
    async with docker_node.http.get(url) as reply:
        assert (await reply.text(), reply.headers["X-Faas-Version"]) == ("new", "2")
    assert await answer(docker_node, "push-preview") == "old"
    await put(docker_node, source)
    assert await answer(docker_node, "push-preview") == "new"


async def test_what_is_pushed_is_listed_shown_and_removed(docker_node: RunningNode, tmp_path: Path) -> None:
    await put(docker_node, handler(tmp_path / "push-listed.py", "x"), env={"TONE": "dark"}, max=3)
    listed = await docker_node.cli("ls")
    assert re.search(r"^push-listed +@1 +ready +1 ", listed.out, re.MULTILINE), listed.out
    rows = events((await docker_node.cli("ls", "--json")).out)
    assert [row["live"] for row in rows if row["name"] == "push-listed"] == [1]
    shown = await docker_node.cli("show", "push-listed")
    for fact in (f"{docker_node.url}/function/push-listed", "live -> @1", "TONE", "0..3", "python3.11"):
        assert fact in shown.out, shown.out
    view = json.loads((await docker_node.cli("show", "push-listed", "--json")).out)
    assert (view["live"], view["max"], view["settings"]["env"]) == (1, 3, {"TONE": "dark"})
    unsure = await docker_node.cli("rm", "push-listed")
    assert (unsure.code, "--yes" in unsure.err) == (2, True), "nobody is there to say yes"
    removed = await docker_node.cli("rm", "push-listed", "--yes", "--json")
    assert events(removed.out) == [{"removed": "push-listed"}]
    assert (await docker_node.call("push-listed")).status == 404
    gone = await docker_node.cli("show", "push-listed", "--json")
    assert (gone.code, json.loads(gone.err)["code"]) == (2, "not_found")


async def test_a_removed_name_starts_anew(docker_node: RunningNode, tmp_path: Path) -> None:
    source = handler(tmp_path / "push-anew.py", "first")
    await put(docker_node, source)
    await docker_node.api("DELETE", "/v1/functions/push-anew")
    await put(docker_node, handler(source, "second"))
    reply = await docker_node.call("push-anew")
    assert (reply.body, reply.headers["X-Faas-Version"]) == (b"second", "1")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--memory", "1"), "memory"),
        (("--timeout", "soon"), "soon"),
        (("--runtime", "python3.12x"), "python3.12x"),
        (("--name", "Not Valid"), "Not Valid"),
        (("--min", "5", "--max", "2"), "min"),
        (("--secret", "NO_SUCH_SECRET"), "faas secrets set NO_SUCH_SECRET"),
    ],
)
async def test_a_wrong_setting_is_refused_before_anything_starts(
    docker_node: RunningNode, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    result = await docker_node.cli("push", str(handler(tmp_path / "push-wrong.py", "x")), *flags)
    assert result.code == 2, result
    assert said in result.err
    assert (await docker_node.call("push-wrong")).status == 404


async def test_events_of_a_push_over_the_api(docker_node: RunningNode) -> None:
    archive = pack({"main.py": File(b"def handler(event):\n    return 'by hand'\n")})
    headers = {"Authorization": f"Bearer {docker_node.token}"}
    async with docker_node.http.put(f"/v1/bundles/{archive.digest}", data=archive.data, headers=headers) as stored:
        assert stored.status == 204, await stored.text()
    push = {"functions": [{"name": "push-api", "code": archive.digest, "settings": {}}]}
    async with docker_node.http.post("/v1/apps/default/push", json=push, headers=headers) as stream:
        assert stream.content_type == "application/x-ndjson"
        told = [msgspec.json.decode(line) async for line in stream.content if line.strip()]
    assert [event["phase"] for event in told] == ["stored", "starting", "ready", "live", "done"]
    assert told[3]["url"] == f"{docker_node.url}/function/push-api"
    assert await answer(docker_node, "push-api") == "by hand"


async def test_the_examples_can_be_pushed_together(docker_node: RunningNode) -> None:
    files = sorted(str(path) for path in (ROOT / "examples").glob("*.py"))
    result = await docker_node.cli("push", *files, "--app", "examples")
    assert result.code == 0, result
