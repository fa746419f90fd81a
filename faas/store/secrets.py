"""Secrets at rest: AES-256-GCM, bound to their app and name, under a key that never enters Redis.

A sealed secret is `0x01 | key id (8) | nonce (12) | ciphertext and tag`; app and name are authenticated with it,
so a value moved to another name does not open. No error here contains a value or a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from faas.errors import Internal, Invalid, TooLarge, Unavailable

KEY_BYTES = 32
VALUE_MAX = 64 * 1024
"""Largest secret, in bytes of UTF-8."""
_FORMAT = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD = len(_FORMAT) + _ID_BYTES


class SecretBox:
    """Seals and opens with one key. `key_id` names the key without telling it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Invalid(f"the secret key has {len(key)} bytes: it needs {KEY_BYTES}")
        self._cipher = AESGCM(key)
        self._id = hashlib.sha256(b"faas secret key id\0" + key).digest()[:_ID_BYTES]

    def __repr__(self) -> str:
        return f"SecretBox(key_id={self.key_id!r})"

    @property
    def key_id(self) -> str:
        return self._id.hex()

    def seal(self, app: str, name: str, value: str) -> bytes:
        """The sealed form of `value`, different each time. Raises Invalid, TooLarge."""
        try:
            plain = value.encode()
        except UnicodeEncodeError:
            raise Invalid(f'the value of secret "{name}" is not valid Unicode') from None
        if len(plain) > VALUE_MAX:
            raise TooLarge(f'secret "{name}" has {len(plain)} bytes: the limit is {VALUE_MAX}')
        head = _FORMAT + self._id
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, plain, _bound(head, app, name))

    def open(self, app: str, name: str, sealed: bytes) -> str:
        """The value that `seal` got.

        Raises:
            Unavailable: sealed under another key; the message names both key ids.
            Internal: damaged, or moved from another app or name.
        """
        head, nonce, rest = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE_BYTES], sealed[_HEAD + _NONCE_BYTES :]
        if len(head) < _HEAD or not head.startswith(_FORMAT):
            raise Internal(f'secret "{name}" of app "{app}" is not in a known form', hint="Set it again.")
        if head[len(_FORMAT) :] != self._id:
            raise Unavailable(
                f'secret "{name}" of app "{app}" is sealed with the key {head[len(_FORMAT) :].hex()},'
                f" this node has the key {self.key_id}",
                hint="Give every node the same FAAS_SECRET_KEY, or set the secret again.",
            )
        try:
            return self._cipher.decrypt(nonce, rest, _bound(head, app, name)).decode()
        except (InvalidTag, ValueError):
            raise Internal(
                f'secret "{name}" of app "{app}" is damaged or belongs to another name', hint="Set it again."
            ) from None


def load_or_create_key(data_dir: Path, given: str = "", file: Path | None = None) -> bytes:
    """The node's secret key, 32 bytes.

    Args:
        given: the key itself, from FAAS_SECRET_KEY: 64 hex digits or base64. It wins.
        file: a file with the key, made by the operator.
        data_dir: without either, `data_dir/secret-key` (0600), made at the first start.

    Raises:
        Invalid: what is given is not a key.
        Unavailable: a file cannot be read or written.
    """
    if given:
        return _parse(given, "FAAS_SECRET_KEY")
    path = file or data_dir / "secret-key"
    try:
        if file is None and not path.exists():
            _create(path)
        return _parse(path.read_text("ascii"), str(path))
    except UnicodeDecodeError:
        raise _not_a_key(str(path)) from None
    except OSError as cause:
        raise Unavailable(
            f"cannot read the secret key {path}: {cause.strerror or cause}",
            hint="Check that the file exists and that the node's user may read it.",
        ) from cause


def _bound(head: bytes, app: str, name: str) -> bytes:
    return head + f"{app}/{name}".encode()


def _parse(text: str, where: str) -> bytes:
    text = text.strip()
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
        key = base64.b64decode(padded, validate=True)
    except (ValueError, binascii.Error):
        raise _not_a_key(where) from None
    if len(key) != KEY_BYTES:
        raise _not_a_key(where)
    return key


def _not_a_key(where: str) -> Invalid:
    return Invalid(
        f"{where} does not hold a secret key: {KEY_BYTES} bytes as {2 * KEY_BYTES} hex digits or base64",
        hint="Make one with: openssl rand -hex 32",
    )


def _create(path: Path) -> None:
    """Complete or not there at all; of two at once the first wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temp = tempfile.mkstemp(dir=path.parent, prefix=".secret-key-")
    try:
        with open(fd, "w") as stream:
            stream.write(secrets.token_hex(KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temp, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temp)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
