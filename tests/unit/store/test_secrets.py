"""Sealing, opening, and where the key comes from."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.errors import Internal, Invalid, TooLarge, Unavailable
from faas.store.secrets import VALUE_MAX, SecretBox, load_or_create_key

KEY = bytes(range(32))
BOX = SecretBox(KEY)


@given(st.text(max_size=200))
def test_what_is_sealed_opens(value: str) -> None:
    sealed = BOX.seal("shop", "KEY", value)
    assert BOX.open("shop", "KEY", sealed) == value
    assert SecretBox(KEY).open("shop", "KEY", sealed) == value
    assert sealed != BOX.seal("shop", "KEY", value), "a nonce is never used twice"


@pytest.mark.parametrize(("app", "name"), [("shop", "OTHER"), ("other", "KEY")])
def test_a_moved_value_does_not_open(app: str, name: str) -> None:
    with pytest.raises(Internal, match="another name"):
        BOX.open(app, name, BOX.seal("shop", "KEY", "hunter2"))


def test_every_flipped_byte_is_noticed() -> None:
    sealed = BOX.seal("shop", "KEY", "hunter2")
    for at in range(len(sealed)):
        broken = bytearray(sealed)
        broken[at] ^= 1
        with pytest.raises((Internal, Unavailable)) as caught:
            BOX.open("shop", "KEY", bytes(broken))
        assert "hunter2" not in str(caught.value)
    for size in range(len(sealed)):
        with pytest.raises((Internal, Unavailable)):
            BOX.open("shop", "KEY", sealed[:size])


def test_another_key_names_both_keys_and_the_fix() -> None:
    other = SecretBox(bytes(32))
    with pytest.raises(Unavailable, match=f"{BOX.key_id}.*{other.key_id}") as caught:
        other.open("shop", "KEY", BOX.seal("shop", "KEY", "x"))
    assert "FAAS_SECRET_KEY" in caught.value.hint


def test_nothing_tells_the_key() -> None:
    assert KEY.hex() not in repr(BOX)
    assert BOX.key_id not in KEY.hex()


def test_values_are_bounded() -> None:
    BOX.seal("a", "K", "x" * VALUE_MAX)
    with pytest.raises(TooLarge, match="65536"):
        BOX.seal("a", "K", "é" * VALUE_MAX)
    with pytest.raises(Invalid, match="Unicode"):
        BOX.seal("a", "K", "\ud800")
    with pytest.raises(Invalid, match="31 bytes"):
        SecretBox(bytes(31))


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper() + "\n",
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode().rstrip("="),
        base64.b64encode(b"\xff\xfe" * 16).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe" * 16).decode(),
    ],
)
def test_a_given_key_is_read(tmp_path: Path, text: str) -> None:
    assert len(load_or_create_key(tmp_path, text)) == 32
    file = tmp_path / "given"
    file.write_text(text)
    assert load_or_create_key(tmp_path, file=file) == load_or_create_key(tmp_path, text)
    assert not (tmp_path / "secret-key").exists()


@pytest.mark.parametrize(
    "text", ["short", "z" * 64, "0" * 63, base64.b64encode(bytes(31)).decode(), "é" * 44, "!" * 44]
)
def test_a_wrong_key_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="FAAS_SECRET_KEY does not hold") as caught:
        load_or_create_key(tmp_path, text)
    assert text not in caught.value.message
    (tmp_path / "f").write_text(text)
    with pytest.raises(Invalid, match="does not hold"):
        load_or_create_key(tmp_path, file=tmp_path / "f")


def test_the_first_start_makes_one_key_for_all(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: load_or_create_key(data), range(8)))
    assert len(keys) == 1
    assert [p.name for p in data.iterdir()] == ["secret-key"]
    assert stat.S_IMODE((data / "secret-key").stat().st_mode) == 0o600
    assert load_or_create_key(data) in keys


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone"):
        load_or_create_key(tmp_path, file=tmp_path / "gone")
    (tmp_path / "secret-key").write_text("")
    with pytest.raises(Invalid, match="secret-key"):
        load_or_create_key(tmp_path)
