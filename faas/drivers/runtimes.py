"""The runtimes folder and its manifests: what can be built into images and what can run as a process."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

import faas.errors
from faas.errors import Internal, NotFound, did_you_mean

SCHEMA = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A `runtime.toml`. One folder serves several versions of a language: runtime `LANGUAGE` + `VERSION`."""

    folder: Path
    language: str
    bases: dict[str, str]
    """Version to the official image to build on."""
    command: tuple[str, ...]
    """How its supervisor is started; `{python}` and `{dir}` are to be filled in."""
    vendor: tuple[str, ...]
    """Python packages to put into `vendor/` before an image is built."""

    def names(self) -> list[str]:
        return [self.language + version for version in self.bases]


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one manifest, such as python3.11."""

    name: str
    version: str
    base: str
    manifest: Manifest


def runtimes_dir() -> Path:
    """The folder of runtimes: inside an installed package, else beside the package in a checkout.

    Raises:
        NotFound: neither is there.
    """
    package = Path(faas.errors.__file__).resolve().parent
    for folder in (package / "_runtimes", package.parent / "runtimes"):
        if folder.is_dir():
            return folder
    raise NotFound(f"no runtimes folder in {package} or beside it", hint="Install the faas package again.")


def manifests(folder: Path | None = None) -> list[Manifest]:
    """Every runtime there is, sorted by folder. Raises Internal naming a broken manifest."""
    return [_read(path) for path in sorted((folder or runtimes_dir()).glob("*/runtime.toml"))]


def find(name: str, folder: Path | None = None) -> Runtime:
    """The runtime called `name`. Raises NotFound with what there is."""
    known: list[str] = []
    for manifest in manifests(folder):
        for version, base in manifest.bases.items():
            if manifest.language + version == name:
                return Runtime(name=name, version=version, base=base, manifest=manifest)
        known += manifest.names()
    hint = did_you_mean(name, known) or f"There are: {', '.join(known) or 'none'}."
    raise NotFound(f'no runtime "{name[:80]}"', hint=hint)


def _read(path: Path) -> Manifest:
    try:
        data = tomllib.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema is {data['schema']}, this version reads {SCHEMA}")
        versions: dict[str, Any] = data["versions"]
        return Manifest(
            folder=path.parent,
            language=str(data["language"]),
            bases={str(version): str(row["base"]) for version, row in versions.items()},
            command=tuple(data["start"]["command"]),
            vendor=tuple(data.get("vendor", {}).get("packages", ())),
        )
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise Internal(f"{path} is not a runtime manifest: {cause!r}") from cause
