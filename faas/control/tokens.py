"""Who is calling: bearer tokens, the roles they carry, and a limit on guessing.

Tokens are kept as sha256 only. They are long random strings, so a fast hash is enough: there is no
dictionary to try. Looking one up by its hash tells a guesser nothing about other hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from faas.errors import Invalid

Role = Literal["admin", "deploy", "invoke", "read"]

_INCLUDES: dict[Role, frozenset[Role]] = {
    "admin": frozenset({"admin", "deploy", "invoke", "read"}),
    "deploy": frozenset({"deploy", "invoke", "read"}),
    "invoke": frozenset({"invoke"}),
    "read": frozenset({"read"}),
}
TOKEN_MIN = 16
"""Shortest admin token accepted, in characters."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated caller, until `expires_at` (Unix seconds). `apps` limits it; None: all apps."""

    name: str
    roles: frozenset[Role]
    apps: frozenset[str] | None = None
    expires_at: float = float("inf")

    def may(self, role: Role, app: str | None = None) -> bool:
        """True when one of its roles includes `role`, in `app`; None: for what belongs to no app."""
        return any(role in _INCLUDES[own] for own in self.roles) and (app is None or self.sees(app))

    def sees(self, app: str) -> bool:
        """True when it is not limited to other apps."""
        return self.apps is None or app in self.apps

    def exceeds(self, other: Principal) -> str:
        """What this one could do that `other` cannot, in words; empty when there is nothing."""
        if more := sorted(role for role in self.roles if not other.may(role)):
            return f"the role {more[0]}"
        if other.apps is not None and self.apps is None:
            return "all apps"
        if other.apps is not None and (more_apps := sorted((self.apps or frozenset()) - other.apps)):
            return f"app {more_apps[0]}"
        return "a longer life" if self.expires_at > other.expires_at else ""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A stored credential: what `digest` (sha256 of the token) stands for, and until when (Unix seconds)."""

    digest: bytes
    principal: Principal
    expires_at: float = float("inf")


def digest_of(token: str) -> bytes:
    """The only form in which a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def bearer(headers: Mapping[str, str]) -> str:
    """The token in `Authorization: Bearer TOKEN`; empty when there is none."""
    value = headers.get("Authorization")
    if value is None or value[:7].lower() != "bearer ":
        return ""
    return value[7:].strip()


class Tokens:
    """Every credential this node accepts. `authenticate` costs one sha256 and one lookup.

    Args:
        tokens: accepted for ever, whatever `replace` brings: the admin's of the data directory.
    """

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._fixed = {token.digest: token for token in tokens}
        self._tokens = self._fixed

    @classmethod
    def with_admin(cls, token: str) -> Tokens:
        """Only the admin's."""
        admin = Principal(name="admin", roles=frozenset({"admin"}))
        return cls([Token(digest=digest_of(token), principal=admin)])

    def replace(self, tokens: Iterable[Token]) -> None:
        """Accept exactly these from now on, besides those given at the start."""
        self._tokens = {**self._fixed, **{token.digest: token for token in tokens}}

    def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """Who sent this; None without a token, with an unknown one, or with one that has expired.

        An unknown token is not an error here: on the data plane the header may be meant for the function.
        """
        presented = bearer(headers)
        return self.check(presented) if presented else None

    def check(self, presented: str) -> Principal | None:
        """Whose token this is."""
        digest = digest_of(presented)
        token = self._tokens.get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest) or token.expires_at <= time.time():
            return None
        return token.principal


def load_admin_token(data_dir: Path, given: str = "") -> str:
    """The admin token: `given` by the operator, else the one in DATA_DIR/admin-token, made at the first start.

    Blocking; for start-up. Raises Invalid when the token is too short or the file is empty.
    """
    path = data_dir / "admin-token"
    where = "the admin token given" if given else f"the admin token in {path}"
    token = given.strip() or _read_or_create(path)
    if len(token) < TOKEN_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(
            f"{where} must be at least {TOKEN_MIN} printable ASCII characters without spaces",
            hint="make one with: openssl rand -hex 32",
        )
    return token


def _read_or_create(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = f"faas_{secrets.token_urlsafe(32)}"
    # Written whole under another name and then linked: whoever reads the file finds a whole token, and of
    # two first starts at once one wins and both use its token.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:
        return path.read_text().strip()
    finally:
        fresh.unlink(missing_ok=True)
    return token
