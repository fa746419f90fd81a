"""Build the runtime images with `faas runtimes build`, if a Docker engine answers; else say so and succeed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import docker
from docker.errors import DockerException

RUNTIMES = ("python3.11",)
FAAS = os.fspath(Path(sys.executable).with_name("faas"))


def missing_images() -> list[str] | None:
    """Runtimes that have no image on the engine that `DOCKER_HOST` names, or the local one. None: none answers."""
    try:
        client = docker.from_env(timeout=10)
    except DockerException:
        return None
    try:
        return [name for name in RUNTIMES if not client.images.list(name=f"faas-runtime-{name}")]
    except (DockerException, OSError):
        return None
    finally:
        client.close()


def build_command(runtime: str) -> list[str]:
    """What a user would type."""
    return [FAAS, "runtimes", "build", runtime]


def main() -> int:
    """Exit code of the first build that failed, else 0. An image that is up to date is not built again."""
    if missing_images() is None:
        print("images: no Docker engine answers, nothing to build", file=sys.stderr)
        return 0
    for runtime in RUNTIMES:
        code = subprocess.run(build_command(runtime), stdin=subprocess.DEVNULL).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
