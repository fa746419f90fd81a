"""Tokens that people make: kept in the registry by their sha256, followed by every node, shown once.

create --> registry t:SHA256 --> catalog swap --> Tokens.replace, on every node
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection

import msgspec
import structlog

from faas.control.catalog import Catalog
from faas.control.tokens import Principal, Role, Token, Tokens, digest_of
from faas.errors import Conflict, Forbidden, Invalid, NotFound, did_you_mean
from faas.names import check_app, check_name
from faas.store import keys
from faas.store.registry import Change, Record, Registry, Snapshot

_log = structlog.get_logger("faas.access")

TOKENS_MAX = 1_000
APPS_MAX = 100
LIFE_MAX_S = 10 * 366 * 86_400.0
FORGET_S = 7 * 86_400.0
"""How long an expired token stays in the list."""
_ID = 12


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token's record. `apps` None: all; `expires_at` None: never (Unix seconds)."""

    name: str
    roles: list[Role]
    apps: list[str] | None
    created_at: float
    created_by: str
    expires_at: float | None = None

    def principal(self) -> Principal:
        return Principal(
            name=self.name,
            roles=frozenset(self.roles),
            apps=None if self.apps is None else frozenset(self.apps),
            expires_at=float("inf") if self.expires_at is None else self.expires_at,
        )


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a token. `id` is the start of its hash."""

    id: str
    name: str
    roles: list[Role]
    apps: list[str] | None
    """Apps it is limited to; null: all."""
    created_at: float
    created_by: str
    expires_at: float | None
    """Unix seconds; null: never."""


class NewToken(TokenView, frozen=True, kw_only=True):
    """A token just made. `token` is shown this once: only its hash is kept."""

    token: str


class Access:
    """Makes, lists and revokes tokens, and keeps `tokens` in step with the registry."""

    def __init__(
        self, catalog: Catalog, registry: Registry, tokens: Tokens, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._tokens = tokens
        self._clock = clock
        self._seen: dict[str, Record] = {}
        self._stored: dict[str, _Stored] = {}
        catalog.subscribe(self._follow)
        self._follow(catalog.snapshot)

    def list(self, who: Principal) -> list[TokenView]:
        """The tokens that reach no further than `who`'s apps, by name; expired ones for a week more."""
        shown = [_view(field, stored) for field, stored in self._stored.items() if _within(stored, who)]
        return sorted(shown, key=lambda token: (token.name, token.created_at))

    async def create(
        self, who: Principal, name: str, roles: Collection[Role], apps: Collection[str] | None, life_s: float | None
    ) -> NewToken:
        """Make a token.

        Args:
            who: makes it, and may give away no more than it has.
            apps: limit to these; None: to those of `who`.
            life_s: seconds until it expires; None: as long as `who`'s own.

        Raises:
            Invalid: a name, role, app or lifetime that cannot be.
            Forbidden: mightier than `who`.
            Conflict: the name is taken, or there are too many.
        """
        now = self._clock()
        wanted = _wanted(who, name, roles, apps, life_s, now)
        if more := wanted.principal().exceeds(who):
            raise Forbidden(
                f"{who.name} cannot make a token with {more}: it does not have that itself",
                hint="ask for less, or ask an admin whose token has it",
            )
        await self._catalog.load()
        stale = [field for field, old in self._stored.items() if _expired(old, now - FORGET_S)]
        if any(old.name == name and not _expired(old, now) for old in self._stored.values()):
            raise Conflict(f'there is a token called "{name}"', hint=f"revoke it first with: faas token revoke {name}")
        if len(self._stored) - len(stale) >= TOKENS_MAX:
            raise Conflict(f"there are {TOKENS_MAX} tokens, which is the limit", hint="revoke some; see: faas token ls")
        token = f"faas_{secrets.token_urlsafe(32)}"
        field = keys.TOKEN + digest_of(token).hex()
        changes = [Change(field, msgspec.json.encode(wanted), 0), *(Change(old, None) for old in stale)]
        await self._registry.apply(records=changes)
        await self._catalog.until(lambda snapshot: field in snapshot.others)
        return NewToken(**msgspec.structs.asdict(_view(field, wanted)), token=token)

    async def revoke(self, who: Principal, handle: str) -> TokenView:
        """End a token, by name or id. It is refused from now on, on the other nodes within a moment.

        Raises:
            NotFound: `who` can see no such token.
            Conflict: two have that name; names their ids.
        """
        await self._catalog.load()
        mine = {field: stored for field, stored in self._stored.items() if _within(stored, who)}
        found = [field for field, stored in mine.items() if handle in (stored.name, _id(field))]
        if not found:
            raise NotFound(
                f'there is no token "{handle}"',
                hint=did_you_mean(handle, [stored.name for stored in mine.values()]) or "see: faas token ls",
            )
        if len(found) > 1:
            raise Conflict(f'several tokens are called "{handle}": {", ".join(map(_id, found))}', hint="name one by id")
        view = _view(found[0], mine[found[0]])
        await self._registry.apply(records=[Change(found[0], None)])
        await self._catalog.until(lambda snapshot: found[0] not in snapshot.others)
        return view

    def _follow(self, snapshot: Snapshot) -> None:
        """Accept what the registry says now. Decodes only when a token's record has changed."""
        records = {field: record for field, record in snapshot.others.items() if field.startswith(keys.TOKEN)}
        if records == self._seen:
            return
        stored = {}
        for field, record in records.items():
            try:
                bytes.fromhex(field[len(keys.TOKEN) :])
                stored[field] = msgspec.json.decode(record.payload, type=_Stored)
            except (msgspec.MsgspecError, ValueError):
                _log.exception("a token's record is not readable; the token is refused", token=_id(field))
        self._seen, self._stored = records, stored
        self._tokens.replace(_token(field, kept) for field, kept in stored.items())


def _wanted(
    who: Principal, name: str, roles: Collection[Role], apps: Collection[str] | None, life_s: float | None, now: float
) -> _Stored:
    check_name(name, "token name")
    if not roles:
        raise Invalid("a token needs at least one role: admin, deploy, invoke or read")
    if apps is None:
        apps = who.apps
    elif not apps or len(apps) > APPS_MAX:
        raise Invalid(f"a token is limited to 1 to {APPS_MAX} apps; leave the apps out for all")
    if life_s is not None and not 0 < life_s <= LIFE_MAX_S:
        raise Invalid(f"expires = {life_s:g} s: it is more than 0 and at most ten years")
    until = who.expires_at if life_s is None else now + life_s
    return _Stored(
        name=name,
        roles=sorted(set(roles)),
        apps=None if apps is None else sorted({check_app(app) for app in apps}),
        created_at=now,
        created_by=who.name,
        expires_at=None if until == float("inf") else until,
    )


def _token(field: str, stored: _Stored) -> Token:
    principal = stored.principal()
    digest = bytes.fromhex(field[len(keys.TOKEN) :])
    return Token(digest=digest, principal=principal, expires_at=principal.expires_at)


def _within(stored: _Stored, who: Principal) -> bool:
    return who.apps is None or (stored.apps is not None and who.apps.issuperset(stored.apps))


def _expired(stored: _Stored, now: float) -> bool:
    return stored.expires_at is not None and stored.expires_at <= now


def _id(field: str) -> str:
    return field[len(keys.TOKEN) :][:_ID]


def _view(field: str, stored: _Stored) -> TokenView:
    return TokenView(
        id=_id(field),
        name=stored.name,
        roles=stored.roles,
        apps=stored.apps,
        created_at=stored.created_at,
        created_by=stored.created_by,
        expires_at=stored.expires_at,
    )
