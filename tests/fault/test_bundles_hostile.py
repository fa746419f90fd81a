"""Archives that mean harm, through the endpoint that takes them: refused with the rule, the disk clean afterwards."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from faas.archive import File, pack
from tests.fault.hostile import assert_serves, push
from tests.integration.node import RunningNode
from tests.support import require

pytestmark = pytest.mark.docker
MIB = 1024 * 1024
Member = tuple[str, bytes, dict[str, Any]]


@pytest.fixture(scope="module")
async def node(docker_node: RunningNode) -> RunningNode:
    require("docker", "images")
    await push(docker_node)
    return docker_node


async def put(node: RunningNode, data: bytes, digest: str = "") -> tuple[int, dict[str, Any], str]:
    """Upload `data` under `digest`, else its own hash. Status, problem document, and the name it was sent under."""
    name = digest or hashlib.sha256(data).hexdigest()
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.put(f"/v1/bundles/{name}", data=io.BytesIO(data), headers=headers) as answer:
        document = await answer.json(content_type=None) if answer.status >= 400 else {}
        return answer.status, document, name


async def assert_refused(node: RunningNode, data: bytes, said: str, *, code: str = "invalid") -> None:
    """Refused with a reason, within seconds; nothing of it is on the disk, in memory or in Redis."""
    disk, memory, begun = _disk(node), _memory(node), time.monotonic()
    status, problem, name = await put(node, data)
    assert (status, problem["code"], problem["fault"]) == ({"invalid": 422, "too_large": 413}[code], code, "caller"), (
        problem
    )
    assert said in problem["detail"], problem
    assert time.monotonic() - begun < 10
    assert _disk(node) == disk
    assert _memory(node) - memory < 200 * MIB
    headers = {"Authorization": f"Bearer {node.token}"}
    async with node.http.head(f"/v1/bundles/{name}", headers=headers) as answer:
        assert answer.status == 404
    await assert_serves(node, "neighbour")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../../../etc/cron.d/x", b"", {})], "'..'"),
        ([("a/../../x", b"", {})], "'..'"),
        ([("/etc/passwd", b"", {})], "absolute"),
        ([("x", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "symbolic link"),
        ([("d", b"", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("d/x", b"", {})], "symbolic link"),
        ([("x", b"", {"type": tarfile.LNKTYPE, "linkname": "../../../admin-token"})], "hard link"),
        ([("x", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})], "device"),
        ([("x", b"", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0})], "device"),
        ([("x", b"", {"type": tarfile.FIFOTYPE})], "named pipe"),
        ([("A.py", b"1", {}), ("a.py", b"2", {})], "case"),
        ([("straße", b"1", {}), ("STRASSE", b"2", {})], "case"),
        ([("é", b"1", {}), ("e\u0301", b"2", {})], "Unicode"),
        ([("x", b"1", {}), ("x", b"2", {})], "twice"),
        ([("x", b"1", {}), ("x/y", b"2", {})], "file"),
        ([("x\0y", b"", {"pax_headers": {"path": "x\0y"}})], "control"),
        ([("x\ny", b"", {})], "control"),
        ([("d/" * 100 + "x", b"", {})], "64"),
        ([("x" * 300, b"", {})], "255"),
    ],
)
async def test_entries_that_lead_out_or_collide_are_refused(
    node: RunningNode, members: list[Member], said: str
) -> None:
    await assert_refused(node, zstandard.compress(_tar(members)), said)


async def test_a_million_files_are_refused(node: RunningNode) -> None:
    squeeze = zstandard.ZstdCompressor(level=1).compressobj()
    packed = b"".join(squeeze.compress(block) for block in _empty_files(1_000_000)) + squeeze.flush()
    await assert_refused(node, packed, "more than 20,000 files", code="too_large")


async def test_a_bomb_is_refused(node: RunningNode) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 8 << 30
    squeeze = zstandard.ZstdCompressor(level=1).compressobj()
    block = bytes(16 * MIB)
    packed = squeeze.compress(info.tobuf(tarfile.GNU_FORMAT)) + b"".join(squeeze.compress(block) for _ in range(64))
    await assert_refused(node, packed + squeeze.flush(), "unpacks to more than 512MiB", code="too_large")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "middle"),
        (b"not an archive", "not readable"),
        (os.urandom(100_000), "not readable"),
        (b"\x28\xb5\x2f\xfd", ""),
    ],
    ids=["nothing", "text", "noise", "a beginning"],
)
async def test_what_is_no_archive_is_refused(node: RunningNode, data: bytes, said: str) -> None:
    await assert_refused(node, data, said)


async def test_half_an_archive_is_refused(node: RunningNode) -> None:
    whole = pack({"app.py": File(os.urandom(50_000))}).data
    await assert_refused(node, whole[: len(whole) // 2], "")


async def test_another_content_than_its_name_says_is_refused(node: RunningNode) -> None:
    disk = _disk(node)
    mine, other = pack({"app.py": File(b"1")}), pack({"app.py": File(b"2")})
    status, problem, _ = await put(node, mine.data, other.digest)
    assert (status, problem["code"]) == (422, "invalid")
    assert "digest" in problem["detail"]
    assert _disk(node) == disk


@pytest.mark.parametrize("name", ["x", "../../etc", "%2e%2e%2f", "A" * 64, "0" * 63, "0" * 65])
async def test_a_name_that_is_no_hash_is_refused(node: RunningNode, name: str) -> None:
    status, problem, _ = await put(node, b"x", name)
    assert status in (404, 422)
    assert problem["fault"] == "caller"


async def test_more_than_the_endpoint_takes_is_413(node: RunningNode) -> None:
    status, problem, _ = await put(node, bytes(64 * MIB + 1))
    assert (status, problem["code"]) == (413, "too_large")
    assert "64MiB" in problem["detail"]


def _tar(members: list[Member]) -> bytes:
    out = io.BytesIO()
    for name, content, attributes in members:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in attributes.items():
            setattr(info, key, value)
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(content + bytes(-len(content) % 512))
    return out.getvalue() + bytes(1024)


def _empty_files(count: int) -> Iterator[bytes]:
    """Headers of so many empty files, a thousand at a time: one is made, the others are that one renumbered."""
    model = bytearray(tarfile.TarInfo("0000000").tobuf(tarfile.USTAR_FORMAT))
    rest = sum(model) - sum(model[148:156]) - sum(b"0000000") + 8 * 32
    block = bytearray()
    for number in range(count):
        name = b"%07d" % number
        model[0:7] = name
        model[148:156] = b"%06o\0 " % (rest + sum(name))
        block += model
        if len(block) >= 512_000:
            yield bytes(block)
            block.clear()
    yield bytes(block) + bytes(1024)


def _disk(node: RunningNode) -> list[str]:
    """What the bundle store holds, unfinished work included."""
    return sorted(entry.name for entry in (node.data_dir / "store").iterdir())


def _memory(node: RunningNode) -> int:
    """Resident bytes of the node's process."""
    with open(f"/proc/{node.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096
