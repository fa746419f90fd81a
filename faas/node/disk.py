"""Is there room on the data directory's disk? Said in the log when it changes, and to whoever asks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

LOW_BYTES = 16 * 1024 * 1024
"""Free bytes below which a disk counts as full: what writes next may fail, and Redis writes all the time."""
LOOK_S = 2.0

_log = structlog.get_logger("faas.disk")


def problem(root: Path) -> str:
    """What is wrong with the disk of `root`; empty while it has room."""
    try:
        found = os.statvfs(root)
    except OSError as cause:
        return f"the data directory {root} cannot be looked at: {cause.strerror}"
    free = found.f_bavail * found.f_frsize
    if found.f_files and not found.f_favail:
        return f"the disk of the data directory {root} is full: no inodes are left"
    if free < LOW_BYTES:
        return f"the disk of the data directory {root} is full: {free >> 10} KiB are free"
    return ""


async def watch(root: Path) -> None:
    """Say in the log when the disk becomes full and when it no longer is. Until cancelled."""
    full = False
    while True:
        finding = problem(root)
        if finding and not full:
            _log.error("pushes, cold starts and logs may fail; warm calls go on. Free some space", finding=finding)
        elif full and not finding:
            _log.info("the disk has room again")
        full = bool(finding)
        await asyncio.sleep(LOOK_S)
