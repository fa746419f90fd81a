"""`make demo` is the first thing anybody tries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leftovers import assert_nothing_left
from tests.support import ROOT, dies_with_us


@pytest.mark.slow
async def test_the_demo_runs_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        dies_with_us([sys.executable, "-m", "scripts.demo"]),
        cwd=ROOT, capture_output=True, text=True, timeout=110, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '{"message":"Hello, Ada!"}' in done.stdout.replace(": ", ":")
    assert "derivative" in done.stdout, "the words of LICENSE"
    assert re.search(r"hello, warm: +\d+\.\d\d ms", done.stdout)
    assert re.search(r"wordcount, from zero: +\d+\.\d\d ms", done.stdout)
    assert not list(tmp_path.iterdir())
    await assert_nothing_left(tmp_path)
