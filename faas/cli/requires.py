"""What code says it needs of others' packages: a header, requirements.txt, pyproject.toml, uv.lock."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from faas.cli.files import read_file
from faas.errors import Invalid
from faas.requirements import check_requirements

LOCK, LIST, PROJECT = "uv.lock", "requirements.txt", "pyproject.toml"
EXPORT_S = 60.0
_EXPORT = ("export", "--locked", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header", "--quiet")


def from_header(dependencies: Sequence[str], where: str) -> str:
    """The list in a single file's header, in normal form. Raises Invalid."""
    return check_requirements("\n".join(dependencies), f"the dependencies of {where}")


def from_folder(folder: Path, environ: Mapping[str, str]) -> str:
    """What a folder declares, in normal form; empty when it declares nothing.

    The first of: uv.lock beside pyproject.toml, requirements.txt, the dependencies in pyproject.toml.

    Args:
        environ: for uv, which reads a lock.

    Raises:
        Invalid: naming the file and what is wrong; for a lock in uv's words.
    """
    project = folder / PROJECT
    if (folder / LOCK).is_file() and project.is_file():
        return check_requirements(_exported(folder, environ), f"{folder / LOCK}")
    listed = folder / LIST
    if listed.is_file():
        return check_requirements(_text(listed), str(listed))
    return _from_project(project) if project.is_file() else ""


def _from_project(path: Path) -> str:
    try:
        table = tomllib.loads(_text(path)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not TOML: {error}", hint="Correct the line it names.") from error
    listed = table.get("dependencies", []) if isinstance(table, dict) else []
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise Invalid(f"{path}: [project] dependencies must be a list of texts", hint='Write ["numpy>=2"].')
    return check_requirements("\n".join(listed), f"[project] dependencies of {path}")


def _exported(folder: Path, environ: Mapping[str, str]) -> str:
    """The lock as requirements with hashes. uv checks that it still fits pyproject.toml."""
    import uv

    env = {**environ, "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never"}
    env.pop("VIRTUAL_ENV", None)
    command = [os.fspath(uv.find_uv_bin()), *_EXPORT]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=EXPORT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Invalid(f"uv did not read {folder / LOCK} in {EXPORT_S:g} s", hint="Run uv lock and see why.") from error
    if done.returncode != 0:
        words = done.stderr.strip().removeprefix("error: ")[-1_000:]
        raise Invalid(f"{folder / LOCK}: {words}", hint="Run uv lock to bring it up to date.")
    return done.stdout


def _text(path: Path) -> str:
    try:
        return read_file(path).content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8: {error}", hint="Save it as UTF-8.") from error
