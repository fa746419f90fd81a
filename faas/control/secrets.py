"""An app's secrets: sealed before they leave this module, opened only for an instance that starts.

The registry holds, per secret, eight bytes (Unix milliseconds of the last change, big endian) and the sealed
value. Values never appear in an error, a log line or a reply.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable

import msgspec

from faas.control.catalog import Catalog
from faas.errors import Conflict, Invalid, NotFound, did_you_mean
from faas.kinds import variable_name
from faas.names import FunctionName
from faas.store.registry import Registry
from faas.store.secrets import SecretBox

PER_APP_MAX = 1_000
NAME_MAX = 128

_STAMP = struct.Struct(">Q")


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a secret."""

    app: str
    name: str
    updated_at: float
    """Unix seconds."""


def check_secret(text: str) -> str:
    """`text` itself, if a secret may be called so. Raises Invalid naming the rule."""
    try:
        variable_name(text)
    except ValueError as error:
        raise Invalid(str(error)) from error
    if len(text) > NAME_MAX:
        raise Invalid(f"a secret's name has at most {NAME_MAX} characters; this one has {len(text)}")
    return text


class Secrets:
    """Sets, lists, removes and opens them."""

    def __init__(
        self, catalog: Catalog, registry: Registry, box: SecretBox, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._box = box
        self._clock = clock

    def list(self, app: str | None = None) -> list[SecretView]:
        """Those of one app or of all, by app and name."""
        views = []
        for key, stored in sorted(self._catalog.snapshot.secrets.items()):
            owner, _, name = key.partition("/")
            if app is None or owner == app:
                (stamp,) = _STAMP.unpack_from(stored)
                views.append(SecretView(app=owner, name=name, updated_at=stamp / 1000))
        return views

    async def set(self, app: str, name: str, value: str) -> SecretView:
        """Create or replace one. Instances that already run keep the old value until they end.

        Raises:
            Invalid, TooLarge: the value is too long or holds a NUL; the app has too many.
        """
        if "\0" in value:
            raise Invalid(f"the value of {name} holds a NUL character, which a variable cannot carry")
        key, known = f"{app}/{name}", self._catalog.snapshot.secrets
        if key not in known and sum(other.startswith(f"{app}/") for other in known) >= PER_APP_MAX:
            raise Invalid(f"app {app} has {PER_APP_MAX} secrets, which is the limit")
        stamp = int(self._clock() * 1000)
        stored = _STAMP.pack(stamp) + self._box.seal(app, name, value)
        await self._registry.apply(put_secrets={key: stored})
        await self._catalog.until(lambda now: now.secrets.get(key) == stored)
        return SecretView(app=app, name=name, updated_at=stamp / 1000)

    async def remove(self, app: str, name: str) -> None:
        """Delete one.

        Raises:
            NotFound: the app has no such secret.
            Conflict: a version that an alias points to needs it.
        """
        snapshot = self._catalog.snapshot
        key = f"{app}/{name}"
        if key not in snapshot.secrets:
            have = [other.partition("/")[2] for other in snapshot.secrets if other.startswith(f"{app}/")]
            raise NotFound(
                f'app {app} has no secret "{name}"',
                hint=did_you_mean(name, have) or f"list them with: faas secrets ls --app {app}",
            )
        users = [
            str(function.id)
            for function in snapshot.functions.values()
            if function.app == app and any(name in version.settings.secrets for version in function.versions.values())
        ]
        if users:
            shown = ", ".join(sorted(users)[:5])
            raise Conflict(f"{name} is needed by {shown}", hint="push those without it first, or remove them")
        await self._registry.apply(delete_secrets=[key])
        await self._catalog.until(lambda now: key not in now.secrets)

    def open(self, function: FunctionName, names: Iterable[str]) -> dict[str, str]:
        """The values an instance of `function` gets.

        Raises:
            NotFound: one was removed since the push.
            Unavailable: sealed under another key than this node's.
        """
        values = {}
        for name in names:
            key = f"{function.app}/{name}"
            stored = self._catalog.snapshot.secrets.get(key)
            if stored is None:
                raise NotFound(
                    f"{function} needs the secret {name}, which app {function.app} no longer has",
                    hint=f"set it with: faas secrets set {name} --app {function.app}",
                )
            values[name] = self._box.open(function.app, name, stored[_STAMP.size :])
        return values
