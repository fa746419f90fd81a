"""The commands of this repository: the lock fits pyproject.toml, scripts parse, `make` explains itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.source import files, text
from tests.support import ROOT

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
TARGET = re.compile(r"^([a-z]+):([^#\n]*)(?:## (.+))?$", re.MULTILINE)
SCRIPTS = [name for name in files() if name.endswith(".sh") or name == ".ci/run"]


def _wanted() -> list[Requirement]:
    project = tomllib.loads(text("pyproject.toml"))
    groups = project["dependency-groups"]
    return [Requirement(line) for line in [*project["project"]["dependencies"], *groups["dev"]]]


def test_the_lock_pins_what_the_project_asks_for() -> None:
    pins = dict(PIN.findall(text("requirements.lock")))
    for wanted in _wanted():
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned, f"{wanted} is not in requirements.lock: make lock"
        assert wanted.specifier.contains(pinned), f"{wanted} is locked at {pinned}: make lock"


def test_every_pin_has_hashes() -> None:
    for entry in re.split(r"^(?=[a-z0-9-]+==)", text("requirements.lock"), flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"no hash: {entry.splitlines()[0]}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    shell = "bash" if "bash" in text(script).splitlines()[0] else "sh"
    assert "set -e" in text(script)
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr


def test_make_explains_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", text("Makefile"), re.MULTILINE)
    assert phony
    explained = {name for name, _, doc in TARGET.findall(text("Makefile")) if doc}
    assert set(phony[1].split()) == explained


@pytest.mark.skipif(not shutil.which("make"), reason="needs make: there is none on PATH")
def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    for target in ("demo", "up", "test", "lint", "types", "clean"):
        assert re.search(rf"^  make {target} +\S", done.stdout, re.MULTILINE)
