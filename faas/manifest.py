"""Manifests as data: faas.toml, `[tool.faas]` of pyproject.toml, and the header of a single file (PEP 723).

Text in, data out; no file is opened here. Keys are checked against `faas.settings`; values may use `${VAR}`
and `${VAR:-default}` (`$${` writes `${`). `Entry.settings` joins what is written with flags.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from faas.errors import Invalid, did_you_mean
from faas.model import Settings
from faas.names import check_app, check_name
from faas.settings import BY_KEY, SCHEMA, build_settings

TEXT_MAX = 1024 * 1024
"""Most characters in a manifest."""
FUNCTIONS_MAX = 1_000
"""Most functions in a manifest."""

_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)\}")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_HEADER = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_TOP = ("schema", "app", "functions")
_PLACES = ("path", "file")


@dataclass(frozen=True, slots=True)
class Entry:
    """One function of a manifest. `path` (a folder) and `file` are relative to it; empty: not given.

    `name` is empty only for a single file whose header does not name it. `raw` has the settings as written.
    """

    name: str
    where: str
    path: str
    file: str
    raw: Mapping[str, object]

    def settings(self, flags: Mapping[str, object]) -> Settings:
        """What the manifest says with `flags` on top; `env` is joined name by name. Raises Invalid."""
        joined = {**self.raw, **flags}
        if "env" in self.raw and "env" in flags:
            joined["env"] = {
                **cast("dict[str, str]", self.raw["env"]),
                **cast("dict[str, str]", flags["env"]),
            }
        return build_settings(joined, self.where + (" and flags" if flags else ""))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest. `app` is empty when it does not name one."""

    app: str
    functions: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """What the header of a single file says. `dependencies` is as PEP 723 has it."""

    manifest: Manifest
    dependencies: tuple[str, ...]


def parse_manifest(text: str, where: str, variables: Mapping[str, str]) -> Manifest:
    """faas.toml.

    Args:
        where: the file's name, for messages.
        variables: what `${VAR}` may name.

    Raises:
        Invalid: naming file, table, key and rule.
    """
    return _manifest(_toml(text, where), where, "", variables)


def parse_pyproject(text: str, where: str, variables: Mapping[str, str]) -> Manifest | None:
    """`[tool.faas]` of a pyproject.toml; None when it has no such table. Raises Invalid."""
    table = _tool(_toml(text, where), where)
    return None if table is None else _manifest(table, where, "tool.faas.", variables)


def parse_script(text: str, where: str, variables: Mapping[str, str]) -> Script:
    """The header of a single Python file: `# /// script` to `# ///`. An empty answer when it has none.

    `[tool.faas]` there is a manifest, or has `name`, `app` and settings of the one function directly.

    Raises:
        Invalid: more than one header, a header that is not TOML, or what `parse_manifest` refuses.
    """
    blocks = [match for match in _HEADER.finditer(text.replace("\r\n", "\n")) if match["type"] == "script"]
    if len(blocks) > 1:
        raise Invalid(f"{where} has {len(blocks)} script headers: one is allowed", hint="Join them into one.")
    if not blocks:
        return Script(Manifest("", ()), ())
    lines = blocks[0]["content"].splitlines()
    document = _toml("\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines), where)
    dependencies = document.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(entry, str) for entry in dependencies):
        raise Invalid(f"{where}: dependencies must be a list of texts", hint='Write dependencies = ["numpy>=2"].')
    table = _tool(document, where)
    if table is None:
        manifest = Manifest("", ())
    elif "functions" in table:
        manifest = _manifest(table, where, "tool.faas.", variables)
    else:
        manifest = _single(table, where, variables)
    return Script(manifest, tuple(dependencies))


def substitute(text: str, variables: Mapping[str, str], where: str) -> str:
    """`text` with `${VAR}` and `${VAR:-default}` replaced; the default counts for empty variables too.

    Raises:
        Invalid: a variable that is not set and has no default, or a malformed reference.
    """

    def replace(match: re.Match[str]) -> str:
        escaped, inside = match[1], match[2]
        if escaped:
            return "${" + inside + "}"
        reference = _REFERENCE.fullmatch(inside)
        if reference is None:
            raise Invalid(f'{where}: "${{{inside}}}" is not a reference', hint="Write ${NAME} or ${NAME:-default}.")
        name, default = reference[1], reference[2]
        value = variables.get(name)
        if value:
            return value
        if default is not None:
            return default
        if value is None:
            hint = f"Set it, or write ${{{name}:-default}}."
            raise Invalid(f"{where}: the variable {name} is not set", hint=hint)
        return value

    return _VARIABLE.sub(replace, text)


def _toml(text: str, where: str) -> dict[str, Any]:
    if len(text) > TEXT_MAX:
        raise Invalid(f"{where} has {len(text)} characters: at most {TEXT_MAX}")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{where} is not TOML: {error}", hint="Correct the line it names.") from error


def _tool(document: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    tool = document.get("tool", {})
    table = tool.get("faas") if isinstance(tool, dict) else None
    if table is None:
        return None
    return _table(table, f"{where} [tool.faas]")


def _manifest(document: Mapping[str, Any], where: str, prefix: str, variables: Mapping[str, str]) -> Manifest:
    top = f"{where} [{prefix.rstrip('.')}]" if prefix else where
    _check_keys(document, _TOP, top)
    app = _head(document, top, variables)
    tables = _table(document.get("functions", {}), f"{where} [{prefix}functions]")
    if not tables:
        raise Invalid(f"{top} has no functions", hint=f"Add a table [{prefix}functions.NAME].")
    if len(tables) > FUNCTIONS_MAX:
        raise Invalid(f"{top} has {len(tables)} functions: at most {FUNCTIONS_MAX}")
    entries = []
    for name, table in tables.items():
        place = f"{where} [{prefix}functions.{name}]"
        _checked(check_name, name, place)
        entries.append(_entry(name, _table(table, place), place, variables))
    return Manifest(app, tuple(entries))


def _single(table: Mapping[str, Any], where: str, variables: Mapping[str, str]) -> Manifest:
    """`[tool.faas]` of a script that has the settings of its one function directly."""
    place = f"{where} [tool.faas]"
    own = ("schema", "app", "name")
    _check_keys(table, (*own, "functions", *BY_KEY), place)
    app = _head(table, place, variables)
    name = _text(table.get("name", ""), f"{place}: name", variables)
    if name:
        _checked(check_name, name, f"{place}: name")
    settings = {key: value for key, value in table.items() if key not in own}
    return Manifest(app, (_entry(name, settings, place, variables),))


def _head(table: Mapping[str, Any], where: str, variables: Mapping[str, str]) -> str:
    """Check `schema`; the app or an empty string."""
    schema = table.get("schema", SCHEMA)
    if isinstance(schema, bool) or schema != SCHEMA:
        raise Invalid(
            f"{where}: schema = {repr(schema)[:80]} is not known here",
            hint=f"Write schema = {SCHEMA}, or update faas.",
        )
    app = _text(table.get("app", ""), f"{where}: app", variables)
    return _checked(check_app, app, f"{where}: app") if app else ""


def _entry(name: str, table: Mapping[str, Any], where: str, variables: Mapping[str, str]) -> Entry:
    _check_keys(table, (*BY_KEY, *_PLACES), where)
    raw = {key: _substitute_all(value, variables, f"{where}: {key}") for key, value in table.items()}
    path, file = (_place(raw.pop(key, ""), f"{where}: {key}") for key in _PLACES)
    if path and file:
        raise Invalid(f"{where}: path and file are both given", hint="Keep one: path is a folder, file a single file.")
    build_settings(raw, where)
    return Entry(name, where, path, file, raw)


def _checked(check: Callable[[str], str], text: str, where: str) -> str:
    """A name that passes `check`, whose error says where it stands."""
    try:
        return check(text)
    except Invalid as error:
        raise Invalid(f"{where}: {error.message}", hint=error.hint) from error


def _place(value: object, where: str) -> str:
    """A relative path inside the manifest's folder, normalised."""
    if not isinstance(value, str):
        raise Invalid(f"{where} = {repr(value)[:80]} is not text")
    if not value:
        return ""
    clean = posixpath.normpath(value)
    if "\0" in value or posixpath.isabs(clean) or clean == ".." or clean.startswith("../"):
        raise Invalid(f'{where} = "{value[:200]}" leaves the folder of the manifest', hint="Write a path inside it.")
    return clean


def _substitute_all(value: object, variables: Mapping[str, str], where: str) -> object:
    match value:
        case str():
            return substitute(value, variables, where)
        case list():
            return [_substitute_all(item, variables, where) for item in value]
        case dict():
            return {key: _substitute_all(item, variables, f"{where}.{key}") for key, item in value.items()}
        case _:
            return value


def _text(value: object, where: str, variables: Mapping[str, str]) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{where} = {repr(value)[:80]} is not text", hint="Write it in quotes.")
    return substitute(value, variables, where)


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be a table, not {value!r}"[:300], hint="Write its keys under a line in brackets.")
    return value


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known) or f"Known keys: {', '.join(known)}."
            raise Invalid(f'{where}: unknown key "{key}"', hint=hint)
