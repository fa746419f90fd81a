"""Identifiers: sortable by time, unguessable, safe in URLs, file names and Redis keys."""

from __future__ import annotations

import re
import secrets
import time

_ID = re.compile(r"[a-z]{1,4}-[0-9a-f]{28}")


def new_id(prefix: str) -> str:
    """`PREFIX-` + 48 bits of Unix milliseconds + 64 random bits, in hex. Sorts by creation time."""
    return f"{prefix}-{int(time.time() * 1000):012x}{secrets.token_hex(8)}"


def is_id(text: str) -> bool:
    """True for the shape `new_id` makes, whatever the prefix."""
    return _ID.fullmatch(text) is not None
