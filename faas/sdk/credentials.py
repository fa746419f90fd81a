"""Which node, and with which token: flags > environment > the current context > the local node's file.

A token is sent only to the address it belongs to: a context's to that context's URL, the local node's to
loopback. Contexts live in `$XDG_CONFIG_HOME/faas/config.toml`, which only its owner can read.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from faas.config import default_data_dir
from faas.errors import Forbidden, Invalid, NotFound, did_you_mean
from faas.names import check_name

DEFAULT_URL = "http://127.0.0.1:8080"
_FILE_MAX = 1024 * 1024


class Credentials(NamedTuple):
    """Where to go. `source` says in words where the token came from; `token` may be empty."""

    url: str
    token: str
    source: str


class Context(NamedTuple):
    """A node that `faas login` has saved."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Contexts:
    """The saved nodes by name, and the one in use (empty: none)."""

    current: str = ""
    saved: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """Raises NotFound naming what is there."""
        if name not in self.saved:
            known = ", ".join(sorted(self.saved)) or "none"
            hint = did_you_mean(name, self.saved) or f"Saved contexts: {known}."
            raise NotFound(f'there is no context "{name}"', hint=hint)
        return self.saved[name]

    def add(self, name: str, context: Context) -> Contexts:
        """With `context` saved under `name` and in use. Raises Invalid for a bad name."""
        return Contexts(check_name(name, "context name"), {**self.saved, name: context})

    def use(self, name: str) -> Contexts:
        """With `name` in use. Raises NotFound."""
        self.get(name)
        return replace(self, current=name)

    def remove(self, name: str) -> Contexts:
        """Without `name`. Raises NotFound."""
        self.get(name)
        saved = {key: value for key, value in self.saved.items() if key != name}
        return Contexts("" if self.current == name else self.current, saved)


def find(environ: Mapping[str, str], *, url: str = "", token: str = "", context: str = "") -> Credentials:
    """The node and token to use.

    Args:
        environ: the process environment: FAAS_URL, FAAS_TOKEN, XDG_CONFIG_HOME, FAAS_DATA_DIR.
        url, token, context: flags; empty: not given.

    Raises:
        NotFound: no such context.
        Invalid, Forbidden: the file with contexts is broken or open to others.
    """
    contexts = load(environ)
    chosen = contexts.get(context) if context else None
    if chosen is None and not environ.get("FAAS_URL") and contexts.current:
        chosen = contexts.get(contexts.current)
    address = url or (chosen.url if chosen else "") or environ.get("FAAS_URL") or DEFAULT_URL
    if token:
        return Credentials(address, token, "--token")
    if environ.get("FAAS_TOKEN") and not context:
        return Credentials(address, environ["FAAS_TOKEN"], "FAAS_TOKEN")
    for name, saved in contexts.saved.items():
        if saved.token and _origin(saved.url) == _origin(address) and (not context or name == context):
            return Credentials(address, saved.token, f"context {name}")
    if _is_loopback(address):
        path = local_token_file(environ)
        return Credentials(address, _read_token(path), str(path))
    return Credentials(address, "", "none")


def local_token_file(environ: Mapping[str, str]) -> Path:
    """Where a node on this machine, started by this user, writes the admin's token."""
    data_dir = environ.get("FAAS_DATA_DIR") or default_data_dir(environ, root=os.geteuid() == 0)
    return Path(data_dir) / "admin-token"


def config_file(environ: Mapping[str, str]) -> Path:
    """The file with contexts."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/", ".config")
    return Path(base) / "faas" / "config.toml"


def load(environ: Mapping[str, str]) -> Contexts:
    """Every saved context; none when there is no file.

    Raises:
        Forbidden: others may read the file.
        Invalid: it cannot be read as what `save` writes.
    """
    path = config_file(environ)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Forbidden(f"{path} holds tokens and others may read it", hint=f"Run: chmod 600 {path}")
            document = tomllib.loads(file.read(_FILE_MAX).decode())
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: {error}", hint="Correct it, or remove it and log in again.") from error
    return _decode(document, path)


def save(environ: Mapping[str, str], contexts: Contexts) -> Path:
    """Write the file whole, mode 0600; the old one stays until the new one is complete. Raises Invalid."""
    path = config_file(environ)
    lines = [f"current = {_quote(contexts.current)}"]
    for name, context in sorted(contexts.saved.items()):
        lines += ["", f"[contexts.{_quote(name)}]", f"url = {_quote(context.url)}", f"token = {_quote(context.token)}"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}", hint="Set XDG_CONFIG_HOME elsewhere.") from error
    return path


def _decode(document: Mapping[str, Any], path: Path) -> Contexts:
    current, tables = document.get("current", ""), document.get("contexts", {})
    broken = Invalid(f"{path} is not a file of contexts", hint="Correct it, or remove it and log in again.")
    if not isinstance(current, str) or not isinstance(tables, dict):
        raise broken
    saved: dict[str, Context] = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or not isinstance(table.get("url"), str):
            raise broken
        saved[name] = Context(table["url"], str(table.get("token", "")))
    return Contexts(current if current in saved else "", saved)


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, "", None
    return parts.scheme, parts.hostname or "", port


def _is_loopback(url: str) -> bool:
    host = _origin(url)[1]
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def _read_token(path: Path) -> str:
    """The token in `path`; empty when there is no such file or it is not ours to read."""
    try:
        with path.open(encoding="ascii") as file:
            return file.read(4096).strip()
    except (OSError, ValueError):
        return ""
