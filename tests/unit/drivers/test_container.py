"""A spec in the engine's words, and the engine's words as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faas.drivers.api import Exit, InstanceSpec
from faas.drivers.cgroups import usage
from faas.drivers.container import Owner, create_arguments, data_label, found_from, limits
from faas.drivers.exits import GONE, exit_from

OWNER = Owner("n-1", "d", "65532:65532", False)
SPEC = InstanceSpec(id="i-1", runtime="python3.11", dir=Path("/d/i-1"))


def created(spec: InstanceSpec = SPEC, *, mounts: bool = True, owner: Owner = OWNER) -> dict[str, Any]:
    return create_arguments(spec, owner, image="x", network="none", mounts=mounts, api="1.41")


def test_a_container_has_no_rights() -> None:
    made = created()
    host = made["host_config"]
    assert made["user"] == "65532:65532"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NetworkMode"] == "none"
    assert host["Init"] is False
    assert "Privileged" not in host
    assert set(made["environment"]) == {"FAAS_DIR", "FAAS_INSTANCE"}


def test_late_mounts_need_slave_propagation_and_other_nodes_do_without() -> None:
    assert created()["host_config"]["Mounts"][0]["BindOptions"] == {"Propagation": "rslave"}
    assert "BindOptions" not in created(mounts=False)["host_config"]["Mounts"][0]


def test_every_bind_is_read_only() -> None:
    spec = InstanceSpec(id="i-1", runtime="r", dir=Path("/d:x/i-1"), deps=Path("/d/store/y"))
    binds = created(spec)["host_config"]["Mounts"]
    assert [(bind["Source"], bind["Target"]) for bind in binds] == [
        ("/d:x/i-1", "/faas/instance"),
        ("/d/store/y", "/faas/instance/deps"),
    ]
    assert all(bind["ReadOnly"] for bind in binds)


def test_an_engine_that_remaps_users_is_told_not_to() -> None:
    assert created(owner=OWNER._replace(host_users=True))["host_config"]["UsernsMode"] == "host"


def test_limits_are_without_swap_and_never_zero() -> None:
    assert limits(100, 0.25) == {"mem_limit": 100, "memswap_limit": 100, "cpu_period": 100_000, "cpu_quota": 25_000}
    assert limits(100, 0.0001)["cpu_quota"] == 1_000


def test_data_directories_are_told_apart_without_being_named(tmp_path: Path) -> None:
    assert data_label(tmp_path / "a") != data_label(tmp_path / "b")
    assert data_label(tmp_path / "a" / ".." / "b") == data_label(tmp_path / "b")


def test_a_container_that_only_borrowed_the_label_is_not_an_instance() -> None:
    assert found_from({"Labels": {"faas": "1"}, "Created": 0}) is None
    found = found_from({"Labels": {"faas.instance": "i", "faas.node": "n"}, "Created": 2e10})
    assert found is not None
    assert (found.id, found.node, found.age_s) == ("i", "n", 0.0)


@pytest.mark.parametrize(
    ("state", "ending", "exit"),
    [
        (None, False, Exit(detail=GONE, lost=True)),
        ({"ExitCode": 0}, False, Exit(code=0)),
        ({"ExitCode": 3, "OOMKilled": True}, False, Exit(code=3)),
        ({"ExitCode": 137, "OOMKilled": True}, False, Exit(signal=9, oom=True)),
        ({"ExitCode": 137, "OOMKilled": False}, False, Exit(signal=9)),
        ({"ExitCode": 137, "OOMKilled": True}, True, Exit(signal=9, detail="destroyed")),
        ({"ExitCode": 139}, False, Exit(signal=11)),
        ({"ExitCode": 255, "Error": "oci"}, False, Exit(code=255, detail="oci")),
        ({"ExitCode": 128}, False, Exit(code=128)),
    ],
)
def test_exits(state: dict[str, Any] | None, ending: bool, exit: Exit) -> None:
    assert exit_from(state, ending) == exit


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("layout", ["docker/abc", "system.slice/docker-abc.scope"])
def test_usage_from_version_2(tmp_path: Path, layout: str) -> None:
    stat = "anon 10\ninactive_file 400\n"
    cpu = "usage_usec 2500000\nuser_usec 1\n"
    files = {"memory.current": "1000\n", "memory.stat": stat, "cpu.stat": cpu}
    write(tmp_path, {"cgroup.controllers": "cpu", **{f"{layout}/{name}": text for name, text in files.items()}})
    seen = usage("abc", tmp_path)
    assert seen is not None
    assert (seen.memory, seen.cpu_s) == (600, 2.5)


def test_usage_from_version_1(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "memory/docker/abc/memory.usage_in_bytes": "1000\n",
            "memory/docker/abc/memory.stat": "cache 1\ntotal_inactive_file 300\n",
            "cpuacct/docker/abc/cpuacct.usage": "1500000000\n",
        },
    )
    seen = usage("abc", tmp_path)
    assert seen is not None
    assert (seen.memory, seen.cpu_s) == (700, 1.5)
    assert usage("gone", tmp_path) is None
