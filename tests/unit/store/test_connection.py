"""What is shown of a Redis URL."""

from __future__ import annotations

import pytest

from faas.store.connection import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:hunter2@host/1", "redis://:***@host/1"),
        ("rediss://me:hunter2@host:7000", "rediss://me:***@host:7000"),
        ("redis://me@host", "redis://me@host"),
        ("redis://me:@host", "redis://me:***@host"),
        ("redis://me:hunt@er2@host", "redis://me:***@host"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix:///r.sock?db=2&password=hunter2", "unix:///r.sock?db=2&password=***"),
        ("hunter2", "(a text without redis:// or unix://)"),
        ("redis://:hunter2@[::1", "(unreadable URL)"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown
