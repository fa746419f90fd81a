"""Copies of a runtime's files with its private Python packages beside them, ready to be run or built."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faas.drivers.runtimes import Runtime
from faas.errors import Unavailable

_PIP_S = 300.0
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "vendor", "tests")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def stage(runtime: Runtime, target: Path, progress: Callable[[str], None]) -> None:
    """Copy the runtime to `target`, a folder that is not there yet, and fill its `vendor/`. Blocks.

    Raises:
        Unavailable: a package can be had neither here nor from an index.
    """
    shutil.copytree(runtime.manifest.folder, target, ignore=_SKIPPED)
    (target / "vendor").mkdir()
    for requirement in runtime.manifest.vendor:
        add(requirement, runtime.version, target / "vendor", progress)


def digest(folder: Path, *more: str) -> str:
    """sha256, hex, over names, modes and contents below `folder`, and the words in `more`."""
    total = hashlib.sha256("\0".join(more).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            executable = bool(path.stat().st_mode & 0o100)
            total.update(f"{path.relative_to(folder).as_posix()}\0{executable}\0{content}\n".encode())
    return total.hexdigest()


def add(requirement: str, version: str, vendor: Path, progress: Callable[[str], None]) -> None:
    """Installed here for the same Python: copied. Else fetched as a wheel. Else the installed one without C."""
    if version == own_version():
        _copy_installed(requirement, vendor, compiled=True)
        return
    progress(f"fetching {requirement} for Python {version}")
    trouble = _fetch(requirement, version, vendor)
    if trouble:
        progress(f"no wheel of {requirement} for Python {version} ({trouble}); its slower pure form is used")
        _copy_installed(requirement, vendor, compiled=False)


def own_version() -> str:
    """Python version of this process, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _copy_installed(requirement: str, vendor: Path, *, compiled: bool) -> None:
    match = _NAME.match(requirement)
    name = match[0] if match else requirement
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as cause:
        raise Unavailable(f"{name} is not installed beside faas", hint=f"pip install '{requirement}'") from cause
    for file in files:
        unwanted = file.suffix in (".pyc", ".pyi", ".pyx") or ".." in file.parts
        if unwanted or (file.suffix == ".so" and not compiled):
            continue
        target = vendor / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(str(file.locate())), target)


def _fetch(requirement: str, version: str, vendor: Path) -> str:
    """Unpack a wheel for another Python into `vendor`; the reason if that does not work."""
    machine = platform.machine()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", version]
    command += ["--platform", f"manylinux2014_{machine}", "--platform", f"manylinux_2_28_{machine}"]
    command += ["--target", str(vendor), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as cause:
        return str(cause)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
