"""From a path on the command line to functions ready to push: code, name, app and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faas.archive import File
from faas.cli.files import read_file, read_folder
from faas.cli.requires import from_folder, from_header
from faas.errors import Invalid
from faas.manifest import Entry, Manifest, parse_manifest, parse_pyproject, parse_script
from faas.model import Settings
from faas.names import DEFAULT_APP, check_app, check_name

MANIFEST = "faas.toml"
PYPROJECT = "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Source:
    """One function to push. `notes` are remarks for people. Functions of one folder share `files`.

    `requirements` lists the packages it needs, in the normal form of `faas.requirements`; empty: none.
    """

    name: str
    app: str
    files: Mapping[str, File]
    settings: Settings
    notes: tuple[str, ...] = ()
    requirements: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the flags say: `name` and `app` (empty: not given), and settings by key."""

    name: str = ""
    app: str = ""
    settings: Mapping[str, object] | None = None


def collect(path: Path, wishes: Wishes, environ: Mapping[str, str]) -> list[Source]:
    """The functions at `path`: a .py file, a folder, or a folder with a manifest.

    Args:
        environ: what `${VAR}` in a manifest may name.

    Raises:
        Invalid, TooLarge: naming the file and the rule.
    """
    if path.name == MANIFEST and path.is_file():
        path = path.parent
    if path.is_dir():
        return _folder(path, wishes, environ)
    if not path.exists():
        raise Invalid(f"{path} does not exist", hint="Give a .py file, or a folder with code.")
    if path.suffix != ".py":
        raise Invalid(f"{path} is not a .py file", hint="Give a .py file, or the folder that holds the code.")
    return _file(path, wishes, environ)


def make_name(text: str) -> str:
    """The closest valid function name to a file's or folder's: `My Tool` becomes `my-tool`. Raises Invalid."""
    name = re.sub(r"[^a-z0-9_]+", "-", text.lower())[:63].strip("-_")
    if not name:
        raise Invalid(f'no function name can be made of "{text}"', hint="Give one with --name.")
    return check_name(name)


def _file(path: Path, wishes: Wishes, environ: Mapping[str, str]) -> list[Source]:
    file = read_file(path)
    script = parse_script(file.content.decode("utf-8", "replace"), str(path), environ)
    required = from_header(script.dependencies, str(path))
    entries = script.manifest.functions or (_bare(str(path)),)
    for entry in entries:
        if entry.path or entry.file:
            raise Invalid(f"{entry.where}: path and file have no meaning in a single file", hint="Remove the key.")
    default, notes = _default_name(path.stem, path.name, entries, wishes)
    # The runtime imports the file by its name, in which a dot would mean a package.
    files = {path.stem.replace(".", "_") + ".py": file}
    manifest = Manifest(script.manifest.app, tuple(entries))
    return [_source(entry, manifest, files, default, wishes, notes, required) for entry in entries]


def _folder(path: Path, wishes: Wishes, environ: Mapping[str, str]) -> list[Source]:
    manifest = _find_manifest(path, environ) or Manifest("", (_bare(str(path)),))
    default, notes = _default_name(path.resolve().name, f"{path}/", manifest.functions, wishes)
    known: dict[Path, tuple[Mapping[str, File], str]] = {}
    sources = []
    for entry in manifest.functions:
        place = path / (entry.path or entry.file)
        if place not in known:
            known[place] = (_code(path, place, entry), _requirements(path, place, environ))
        sources.append(_source(entry, manifest, known[place][0], default, wishes, notes, known[place][1]))
        notes = ()
    return sources


def _find_manifest(path: Path, environ: Mapping[str, str]) -> Manifest | None:
    for name in (MANIFEST, PYPROJECT):
        file = path / name
        if not file.is_file():
            continue
        try:
            text = read_file(file).content.decode()
        except UnicodeDecodeError as error:
            raise Invalid(f"{file} is not UTF-8: {error}", hint="Save it as UTF-8.") from error
        if name == MANIFEST:
            return parse_manifest(text, str(file), environ)
        return parse_pyproject(text, str(file), environ)
    return None


def _code(root: Path, place: Path, entry: Entry) -> Mapping[str, File]:
    """The files of one entry. Its place must be inside the manifest's folder, links followed."""
    if not place.resolve().is_relative_to(root.resolve()):
        raise Invalid(f"{entry.where}: {place} leads out of {root}", hint="Keep the code inside the folder.")
    if entry.file:
        if not place.is_file():
            raise Invalid(f"{entry.where}: there is no file {place}", hint="Correct `file`.")
        return {place.name: read_file(place)}
    if not place.is_dir():
        raise Invalid(f"{entry.where}: there is no folder {place}", hint="Correct `path`.")
    return read_folder(place)


def _requirements(root: Path, place: Path, environ: Mapping[str, str]) -> str:
    """What the code at `place` declares itself: in a file's header or its own folder; else what `root` does."""
    if place.is_file():
        text = read_file(place).content.decode("utf-8", "replace")
        own = from_header(parse_script(text, str(place), environ).dependencies, str(place))
    else:
        own = from_folder(place, environ)
    return own or (from_folder(root, environ) if place != root else "")


def _default_name(stem: str, shown: str, entries: Sequence[Entry], wishes: Wishes) -> tuple[str, tuple[str, ...]]:
    """The name for an entry without one, and a remark when it had to be changed to be valid."""
    if wishes.name:
        if len(entries) > 1:
            raise Invalid(f"--name given, but {shown} has {len(entries)} functions", hint="Name them in the manifest.")
        return check_name(wishes.name), ()
    if all(entry.name for entry in entries):
        return "", ()
    name = make_name(stem)
    return name, ((f"{shown} becomes the function {name}",) if name != stem else ())


def _source(
    entry: Entry,
    manifest: Manifest,
    files: Mapping[str, File],
    default: str,
    wishes: Wishes,
    notes: tuple[str, ...],
    requirements: str,
) -> Source:
    name = wishes.name or entry.name or default
    app = check_app(wishes.app) if wishes.app else manifest.app or DEFAULT_APP
    return Source(name, app, files, entry.settings(wishes.settings or {}), notes, requirements)


def _bare(where: str) -> Entry:
    """The entry of code without a manifest."""
    return Entry("", where, "", "", {})
