"""What a container of ours looks like to the engine. Pure: a spec in, create arguments out."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, NamedTuple

from docker.types import HostConfig, LogConfig, Mount, Ulimit

from faas.drivers.api import Found, InstanceSpec

INSIDE = "/faas/instance"
"""Where an instance finds its directory."""
DEPS = "deps"
"""Name below the instance's directory where `spec.deps` shows up."""
UID = 65532
"""The user of instances when the node is root: in no group, owner of nothing."""

LABEL = "faas"
LABEL_NODE = "faas.node"
LABEL_INSTANCE = "faas.instance"
LABEL_DATA = "faas.data"

_CPU_PERIOD_US = 100_000
_SHM = 16 * 1024 * 1024
_OPEN_FILES = 4096
# The kernel, short of memory on the whole machine, should take an instance before the node or Redis.
_OOM_SCORE = 500


class Owner(NamedTuple):
    """Who instances belong to and run as."""

    node: str
    data: str
    """Digest of the node's data directory."""
    user: str
    """`UID:GID` inside."""
    host_users: bool
    """Opt out of the engine's user remapping, so that ids inside and outside are the same."""


def container_name(instance: str) -> str:
    """The container's name is made from the instance's id: nothing needs to be remembered to find it."""
    return f"faas-{instance}"


def data_label(data_dir: Path) -> str:
    """Short digest that tells two nodes' data directories apart without naming them."""
    return hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]


def limits(memory: int, cpu: float) -> dict[str, int]:
    """Memory (bytes, swap not allowed) and CPU (cores) in the engine's words; create and update share them."""
    return {
        "mem_limit": memory,
        "memswap_limit": memory,
        "cpu_period": _CPU_PERIOD_US,
        "cpu_quota": max(1_000, round(cpu * _CPU_PERIOD_US)),
    }


def create_arguments(
    spec: InstanceSpec, owner: Owner, *, image: str, network: str, mounts: bool, api: str
) -> dict[str, Any]:
    """Arguments of `APIClient.create_container`.

    Args:
        network: the engine's name of it, or `none`.
        mounts: later mounts of the host below `spec.dir` shall show up inside.
        api: the engine's API version.
    """
    binds = [Mount(INSIDE, str(spec.dir), type="bind", read_only=True, propagation="rslave" if mounts else None)]
    if spec.deps is not None:
        binds.append(Mount(f"{INSIDE}/{DEPS}", str(spec.deps), type="bind", read_only=True))
    host = HostConfig(
        version=api,
        mounts=binds,
        network_mode=network,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        privileged=False,
        init=False,
        pids_limit=spec.pids,
        oom_score_adj=_OOM_SCORE,
        shm_size=_SHM,
        tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={spec.tmpfs}"},  # noqa: S108 - inside a container
        ulimits=[
            Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
            Ulimit(name="core", soft=0, hard=0),
        ],
        log_config=LogConfig(type=LogConfig.types.NONE),
        restart_policy={"Name": "no"},
        userns_mode="host" if owner.host_users else None,
        **limits(spec.memory, spec.cpu),
    )
    return {
        "image": image,
        "name": container_name(spec.id),
        "hostname": "faas",
        "user": owner.user,
        "environment": {"FAAS_DIR": INSIDE, "FAAS_INSTANCE": spec.id},
        "labels": {
            LABEL: "1",
            LABEL_NODE: owner.node,
            LABEL_INSTANCE: spec.id,
            LABEL_DATA: owner.data,
        },
        "host_config": host,
    }


def found_from(container: dict[str, Any]) -> Found | None:
    """One row of the engine's list; None for one that only borrowed our label."""
    labels = container.get("Labels") or {}
    if not labels.get(LABEL_INSTANCE):
        return None
    age = max(0.0, time.time() - float(container.get("Created", 0)))
    return Found(id=labels[LABEL_INSTANCE], node=labels.get(LABEL_NODE, ""), age_s=age)
