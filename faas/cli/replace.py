"""Commands that are another program: this process becomes it, so signals and exit codes are its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from faas.errors import Unavailable


def become(module: str, *arguments: str) -> NoReturn:
    """Run `python -m module` in place of this process.

    Raises:
        Unavailable: the interpreter cannot be started.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a json.py in the folder one happens to be in must not replace the standard library's. Not in our own
    # source tree, where that folder is what makes the package importable.
    ours = Path(__file__).resolve().parents[2] == Path.cwd()
    argv = [sys.executable, *([] if ours else ["-P"]), "-m", module, *arguments]
    try:
        os.execv(sys.executable, argv)  # noqa: S606
    except OSError as error:
        raise Unavailable(f"{sys.executable} cannot be started: {error.strerror}") from error
