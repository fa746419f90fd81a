"""Makes the process the function's: environment, secrets, module path, working directory."""

from __future__ import annotations

import os
import shutil
import site
import sys
from typing import Any

from faas_runtime.codec import forget_msgpack
from faas_runtime.faults import LoadError
from faas_runtime.reaper import SECRETS_ROOTS, secrets_folder


def apply(spec: dict[str, Any], instance: str) -> None:
    """Set up the process for INIT's `spec`. Raises LoadError or OSError."""
    for name, value in {**spec["env"], **spec["secrets"]}.items():
        try:
            os.environ[name] = value
        except ValueError as error:
            raise LoadError(f"environment variable {name!r} cannot be set: {error}") from None
    if spec["secrets"]:
        os.environ["FAAS_SECRETS"] = _write_secrets(spec["secrets"], instance)
    os.chdir(spec["code"])
    _module_path(spec["code"], spec["deps"])
    forget_msgpack([spec["code"], *spec["deps"]])


def _write_secrets(secrets: dict[str, str], instance: str) -> str:
    """One file a secret, on a file system in memory. The supervisor removes the folder after our end."""
    for name in secrets:
        if "/" in name or name in ("", ".", "..") or "\0" in name:
            raise LoadError(f"secret {name!r} cannot be a file name")
    folder = _private_folder(instance)
    for name, value in secrets.items():
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(fd, "wb") as file:
            file.write(value.encode("utf-8"))
    return folder


def _private_folder(instance: str) -> str:
    failed = ""
    for root in SECRETS_ROOTS:
        folder = secrets_folder(root, instance)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder, 0o700)  # never into a folder that someone else has made
            return folder
        except OSError as error:
            failed = f"{failed}; {error}" if failed else str(error)
    raise LoadError(f"there is no place in memory for the secrets: {failed}")


def _module_path(code: str, deps: list[str]) -> None:
    """Code before everything; dependencies behind the standard library, before the image's own packages."""
    before = len(sys.path)
    for folder in deps:
        site.addsitedir(folder)  # with its .pth files, as if installed
    added = sys.path[before:] or []
    del sys.path[before:]
    at = next((i for i, p in enumerate(sys.path) if p.endswith(("site-packages", "dist-packages"))), before)
    sys.path[at:at] = added
    sys.path.insert(0, code)
