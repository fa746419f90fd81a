"""Tokens, roles, the admin's file, and the limit on guesses."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faas.control.guesses import ADDRESSES, BURST, PER_SECOND, Guesses
from faas.control.tokens import Principal, Role, Token, Tokens, digest_of, load_admin_token
from faas.errors import Invalid, TooManyRequests


@pytest.mark.parametrize(
    ("role", "includes"),
    [
        ("admin", {"admin", "deploy", "invoke", "read"}),
        ("deploy", {"deploy", "invoke", "read"}),
        ("invoke", {"invoke"}),
        ("read", {"read"}),
    ],
)
def test_roles(role: Role, includes: set[Role]) -> None:
    roles: tuple[Role, ...] = ("admin", "deploy", "invoke", "read")
    who = Principal(name="x", roles=frozenset({role}))
    assert {wanted for wanted in roles if who.may(wanted)} == includes
    scoped = Principal(name="x", roles=frozenset({role}), apps=frozenset({"shop"}))
    assert scoped.may(role, "shop")
    assert not scoped.may(role, "other")
    assert not Principal(name="x", roles=frozenset()).may("read")


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"Authorization": "Bearer the-token-itself"}, True),
        ({"Authorization": "bearer  the-token-itself "}, True),
        ({"Authorization": "Bearer the-token-itsel"}, False),
        ({"Authorization": "Basic the-token-itself"}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": "Bearer \udcff"}, False),
        ({}, False),
    ],
)
def test_authenticate(headers: dict[str, str], known: bool) -> None:
    who = Tokens.with_admin("the-token-itself").authenticate(headers)
    assert (who is not None) == known
    assert who is None or who.name == "admin"


def test_expired_tokens_are_unknown() -> None:
    who = Principal(name="x", roles=frozenset({"read"}))
    tokens = Tokens([Token(digest=digest_of("t"), principal=who, expires_at=1.0)])
    assert tokens.check("t") is None
    tokens.replace([Token(digest=digest_of("t"), principal=who)])
    assert tokens.check("t") == who


def test_the_first_start_makes_a_token(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = load_admin_token(data)
    assert len(token) > 40
    assert (data / "admin-token").read_text() == token + "\n"
    assert (data / "admin-token").stat().st_mode & 0o777 == 0o600
    assert load_admin_token(data) == token
    assert load_admin_token(data, "given-by-the-operator") == "given-by-the-operator"
    assert os.listdir(data) == ["admin-token"]


def test_first_starts_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: load_admin_token(tmp_path), range(16)))) == 1


@pytest.mark.parametrize("token", ["short", "has a space in it!!", "ümlaut-ümlaut-ümlaut", "\x00" * 20])
def test_weak_admin_tokens_are_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(Invalid, match="at least 16 printable ASCII") as caught:
        load_admin_token(tmp_path, token)
    assert token not in caught.value.message
    (tmp_path / "admin-token").write_text("")
    with pytest.raises(Invalid, match="admin-token"):
        load_admin_token(tmp_path)


def test_guesses_run_out_and_come_back() -> None:
    guesses = Guesses()
    for number in range(BURST):
        guesses.check("a", 0.0)
        guesses.wrong("a", digest_of(str(number)), 0.0)
    with pytest.raises(TooManyRequests) as caught:
        guesses.check("a", 0.0)
    assert caught.value.retry_after_s == pytest.approx(1 / PER_SECOND)
    guesses.check("b", 0.0)
    guesses.check("a", 1 / PER_SECOND)


def test_the_same_wrong_token_is_one_guess() -> None:
    guesses = Guesses()
    for _ in range(1000):
        guesses.wrong("a", digest_of("stale"), 0.0)
    guesses.check("a", 0.0)


def test_the_table_is_bounded() -> None:
    guesses = Guesses()
    for number in range(ADDRESSES + 100):
        guesses.wrong(str(number), b"x", 0.0)
    assert len(guesses._buckets) == ADDRESSES


def test_guesses_guard_the_lookup() -> None:
    """Out of guesses, even the right token is not looked at: else waiting would cost a guesser nothing."""
    tokens, guesses = Tokens.with_admin("the-token-itself"), Guesses()
    assert guesses.identify(tokens, "", "a", 0.0) is None
    for number in range(BURST):
        assert guesses.identify(tokens, f"wrong-{number}", "a", 0.0) is None
    with pytest.raises(TooManyRequests):
        guesses.identify(tokens, "the-token-itself", "a", 0.0)
    assert guesses.identify(tokens, "the-token-itself", "b", 0.0), "another address is not held up"
    assert guesses.identify(tokens, "the-token-itself", "a", 60.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "more"),
    [
        (Principal(name="a", roles=frozenset({"deploy"})), Principal(name="b", roles=frozenset({"admin"})), ""),
        (Principal(name="a", roles=frozenset({"admin"})), Principal(name="b", roles=frozenset({"deploy"})), "role"),
        (
            Principal(name="a", roles=frozenset({"read"})),
            Principal(name="b", roles=frozenset({"read"}), apps=frozenset({"x"})),
            "all apps",
        ),
    ],
)
def test_exceeds(mine: Principal, theirs: Principal, more: str) -> None:
    found = mine.exceeds(theirs)
    assert more in found if more else not found
