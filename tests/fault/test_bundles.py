"""Code and dependencies inside real instances: there, whole, shared with the store, and out of reach."""

from __future__ import annotations

import hashlib
from pathlib import Path

from faas.archive import Archive, File, pack
from tests.fault.conftest import NodeMaker
from tests.integration.node import RunningNode
from tests.support import ROOT, require, wait_until

VANDAL = ROOT / "tests" / "fixtures" / "handlers" / "vandal.py"
USES_DEPS = b"""
import dep_one, dep_two.inner
def handler(event):
    with open("/proc/self/mountinfo") as lines:
        mounted = [line.split()[5] for line in lines if line.split()[4].endswith("/deps")]
    return {"found": [dep_one.WORD, dep_two.inner.WORD], "mounted": mounted, "from": dep_one.__file__}
"""
DEPS = {
    "dep_one.py": File(b"WORD = 'one'\n"),
    "dep_two/__init__.py": File(b""),
    "dep_two/inner.py": File(b"WORD = 'two'\n"),
}
WITHOUT_MOUNTS = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--")
"""Root without CAP_SYS_ADMIN, as in most containers: the node may not mount."""


async def test_in_containers_code_is_out_of_reach_and_many_files_are_fine(
    docker_node: RunningNode, tmp_path: Path
) -> None:
    await _attack(docker_node)
    await _many_files(docker_node, tmp_path)


async def test_in_sandboxes_too_and_dependencies_are_found(make_node: NodeMaker, tmp_path: Path) -> None:
    require("bwrap")
    node = await make_node("--driver", "process")
    await _attack(node)
    await _many_files(node, tmp_path)
    await _push(node, "b-deps", pack({"main.py": File(USES_DEPS)}), pack(DEPS))
    assert (await node.call("b-deps", json={})).json()["found"] == ["one", "two"]


async def _attack(node: RunningNode) -> None:
    """No function changes what others will run."""
    code, deps = pack({"main.py": File(VANDAL.read_bytes())}), pack(DEPS)
    await _push(node, "b-vandal", code, deps)
    before = _digests(node)
    reply = await node.call("b-vandal", json={})
    assert reply.json() == {"worked": [], "tried": ["code", "deps"]}
    assert _digests(node) == before
    stored = node.data_dir / "store" / code.digest / "main.py"
    assert stored.stat().st_nlink == 2, "the instance's file is the store's, not a copy"
    await _remove(node, "b-vandal")
    await wait_until(lambda: stored.stat().st_nlink == 1, 20, "the instance's link goes with it")
    assert stored.read_bytes() == VANDAL.read_bytes()


async def _many_files(node: RunningNode, tmp_path: Path) -> None:
    folder = tmp_path / "b-many"
    for number in range(500):
        package = folder / f"part{number % 10}"
        package.mkdir(parents=True, exist_ok=True)
        (package / f"m{number}.py").write_text(f"N = {number}\n")
    (folder / "main.py").write_text(
        "import importlib\n"
        "TOTAL = sum(importlib.import_module(f'part{n % 10}.m{n}').N for n in range(500))\n"
        "def handler(event): return TOTAL\n"
    )
    await node.push(folder, "--name", "b-many")
    assert (await node.call("b-many", json={})).json() == sum(range(500))
    await _remove(node, "b-many")


async def test_dependencies_are_mounted_into_a_running_stem_cell(docker_node: RunningNode) -> None:
    await wait_until(lambda: _stems(docker_node), 30, "stem cells")
    await _push(docker_node, "b-deps", pack({"main.py": File(USES_DEPS)}), pack(DEPS))
    found = (await docker_node.call("b-deps", json={})).json()
    assert found["found"] == ["one", "two"]
    # The last mount is on top. It came after the container's start, and still nobody can write to it.
    assert found["mounted"], "bound, not copied"
    assert all(options.split(",")[0] == "ro" for options in found["mounted"])
    mounts = _mounts(docker_node)
    assert [one for one in mounts if one.endswith("/deps")], "bound by the node"
    await _remove(docker_node, "b-deps")
    await wait_until(lambda: not [one for one in _mounts(docker_node) if one.endswith("/deps")], 20, "unmounted")


async def test_dependencies_where_the_node_may_not_mount(make_node: NodeMaker) -> None:
    require("docker", "images", "root")
    node = await make_node("--driver", "docker", "--stem-cells", "1", wrapper=WITHOUT_MOUNTS)
    assert not _mounts(node)
    await _push(node, "b-deps", pack({"main.py": File(USES_DEPS)}), pack(DEPS))
    found = (await node.call("b-deps", json={})).json()
    assert found["found"] == ["one", "two"]
    assert [options.split(",")[0] for options in found["mounted"]] == ["ro"], "bound when the container was made"
    assert not _mounts(node)


async def test_a_bundle_nobody_has_is_refused_by_the_push(docker_node: RunningNode) -> None:
    unknown = "0" * 64
    events = await _events(docker_node, "b-none", unknown, "")
    assert '"failed"' in events
    assert f"PUT /v1/bundles/{unknown}" in events


async def _push(node: RunningNode, name: str, code: Archive, deps: Archive) -> None:
    for archive in (code, deps):
        await node.api("PUT", f"/v1/bundles/{archive.digest}", data=archive.data)
    events = await _events(node, name, code.digest, deps.digest)
    assert '"done"' in events, events


async def _events(node: RunningNode, name: str, code: str, deps: str) -> str:
    push = {"functions": [{"name": name, "code": code, "deps": deps, "settings": {}}]}
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.post("/v1/apps/default/push", json=push, headers=headers) as answer:
        return await answer.text()


async def _remove(node: RunningNode, name: str) -> None:
    assert (await node.cli("rm", name, "--yes")).code == 0


async def _stems(node: RunningNode) -> bool:
    return bool((await node.api("GET", "/v1/status"))["instances"].get("stem"))


def _digests(node: RunningNode) -> dict[str, str]:
    """Of every file in the node's store, with its mode."""
    store = node.data_dir / "store"
    files = sorted(path for path in store.rglob("*") if path.is_file())
    return {str(path): f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}


def _mounts(node: RunningNode) -> list[str]:
    points = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if Path(point).is_relative_to(node.data_dir)]
