"""Tokens people make: roles, apps, expiry, and every node following."""

from __future__ import annotations

from typing import Any

import pytest

from faas.control.access import FORGET_S, Access
from faas.control.catalog import Catalog
from faas.control.tokens import Principal, Role, Tokens, digest_of
from faas.errors import Conflict, Forbidden, Invalid, NotFound
from faas.store.connection import connect
from faas.store.registry import Change
from tests.unit.control.world import World

ADMIN = Principal(name="admin", roles=frozenset({"admin"}))


def access(world: World) -> Access:
    return world.services.access


async def make(
    world: World, name: str = "ci", *roles: Role, apps: list[str] | None = None, life_s: float | None = None
) -> str:
    """The token itself."""
    made = await access(world).create(ADMIN, name, roles or ("deploy",), apps, life_s)
    return made.token


async def test_a_new_token_works_here_and_elsewhere(world: World) -> None:
    other_tokens, other = Tokens(), Catalog(world.registry)
    Access(other, world.registry, other_tokens)
    token = await make(world, "ci", "deploy", apps=["shop"])
    await other.load()
    for tokens in (world.services.tokens, other_tokens):
        who = tokens.check(token)
        assert who is not None
        assert (who.name, set(who.roles), set(who.apps or ())) == ("ci", {"deploy"}, {"shop"})
        assert who.may("deploy", "shop")
        assert not who.may("deploy", "other")
    await access(world).revoke(ADMIN, "ci")
    await other.load()
    assert world.services.tokens.check(token) is other_tokens.check(token) is None
    assert world.services.tokens.check("admin-token-for-tests"), "the admin's stays"


async def test_a_token_is_kept_as_a_hash_only(world: World) -> None:
    token = await make(world)
    redis = await connect(world.url)
    try:
        stored: Any = await redis.hgetall("faas:{r}:registry")
    finally:
        await redis.aclose()
    assert any(digest_of(token).hex().encode() in field for field in stored)
    assert token.encode() not in b"".join((*stored, *stored.values()))
    (view,) = access(world).list(ADMIN)
    assert not hasattr(view, "token")
    assert token not in repr(view)


async def test_expiry(world: World) -> None:
    now = 1_000_000.0
    room = Access(world.catalog, world.registry, world.services.tokens, clock=lambda: now)
    token = (await room.create(ADMIN, "short", ["read"], None, 60)).token
    assert world.services.tokens.check(token) is None, "its time was over long ago by the real clock"
    assert room.list(ADMIN)[0].expires_at == now + 60
    now += 61
    await room.create(ADMIN, "short", ["read"], None, 60)
    now += FORGET_S + 1
    await room.create(ADMIN, "other", ["read"], None, None)
    assert [view.name for view in room.list(ADMIN)] == ["other", "short"], "the first one is forgotten"


SHOP_ADMIN = Principal(name="boss", roles=frozenset({"admin"}), apps=frozenset({"shop", "till"}), expires_at=9e9)


@pytest.mark.parametrize(
    ("who", "roles", "apps", "life_s", "more"),
    [
        (Principal(name="d", roles=frozenset({"deploy"})), ["admin"], None, None, "the role admin"),
        (Principal(name="r", roles=frozenset({"read"})), ["read", "invoke"], None, None, "the role invoke"),
        (SHOP_ADMIN, ["read"], ["shop", "other"], None, "app other"),
        (SHOP_ADMIN, ["read"], ["shop"], 9e9, "at most ten years"),
        (Principal(name="s", roles=frozenset({"admin"}), expires_at=5.0), ["read"], None, 60, "a longer life"),
    ],
)
async def test_no_token_makes_a_mightier_one(
    world: World, who: Principal, roles: list[Role], apps: Any, life_s: float | None, more: str
) -> None:
    with pytest.raises((Forbidden, Invalid), match=more):
        await access(world).create(who, "ci", roles, apps, life_s)
    assert access(world).list(ADMIN) == []


async def test_what_is_left_out_is_inherited(world: World) -> None:
    made = await access(world).create(SHOP_ADMIN, "ci", ["deploy"], None, None)
    assert (made.apps, made.expires_at, made.created_by) == (["shop", "till"], 9e9, "boss")


@pytest.mark.parametrize(
    ("name", "roles", "apps", "life_s", "words"),
    [
        ("A b", ["read"], None, None, "is not a token name"),
        ("ci", [], None, None, "at least one role"),
        ("ci", ["read"], [], None, "1 to 100 apps"),
        ("ci", ["read"], ["A"], None, "is not a app name"),
        ("ci", ["read"], ["v1"], None, "cannot be an app name"),
        ("ci", ["read"], None, 0, "expires = 0 s"),
        ("ci", ["read"], None, float("nan"), "expires = nan"),
        ("ci", ["read"], None, float("inf"), "expires = inf"),
    ],
)
async def test_bad_tokens(world: World, name: str, roles: Any, apps: Any, life_s: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        await access(world).create(ADMIN, name, roles, apps, life_s)


async def test_names_are_taken_once(world: World) -> None:
    await make(world, "ci")
    with pytest.raises(Conflict, match='there is a token called "ci"') as caught:
        await make(world, "ci")
    assert caught.value.hint == "revoke it first with: faas token revoke ci"


async def test_revoke_by_id_and_what_one_may_see(world: World) -> None:
    await make(world, "ci", apps=["shop"])
    await make(world, "everywhere")
    mine = access(world).list(SHOP_ADMIN)
    assert [view.name for view in mine] == ["ci"]
    with pytest.raises(NotFound, match='there is no token "everywhere"'):
        await access(world).revoke(SHOP_ADMIN, "everywhere")
    with pytest.raises(NotFound) as caught:
        await access(world).revoke(SHOP_ADMIN, "c1")
    assert "everywhere" not in caught.value.hint
    assert (await access(world).revoke(SHOP_ADMIN, mine[0].id)).name == "ci"


async def test_a_record_that_cannot_be_read_is_no_token(world: World) -> None:
    token = await make(world)
    changes = [Change("t:" + digest_of("x").hex(), b"{"), Change("t:zz", b'{"name":"a"}')]
    await world.registry.apply(records=changes)
    await world.catalog.load()
    assert world.services.tokens.check("x") is None
    assert world.services.tokens.check(token) is not None
    assert len(access(world).list(ADMIN)) == 1


async def test_there_is_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faas.control.access.TOKENS_MAX", 2)
    await make(world, "a")
    await make(world, "b")
    with pytest.raises(Conflict, match="there are 2 tokens"):
        await make(world, "c")
