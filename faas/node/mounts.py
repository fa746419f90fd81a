"""Bind mounts of dependency bundles into instance directories, and their removal. Linux, root.

Mounting an existing directory takes constant time, whatever its size, so a function with numpy starts as fast
as one without. The source is a read-only view of the store, because a later remount of the bind itself would not
reach into containers that already run; the target lies below a shared mount, so that it does.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from faas.drivers import mounts
from faas.errors import Unavailable


def read_only_view(store: Path, view: Path) -> Path:
    """A read-only bind of `store` at `view`; `store` itself where mounting is not allowed."""
    view.mkdir(mode=0o755, exist_ok=True)
    try:
        mounts.bind_read_only(store, view)
    except OSError:
        unbind(view)
        return store
    return view


def bind(source: Path, target: Path) -> None:
    """Show `source` at `target`. Raises Unavailable with the cause."""
    try:
        mounts.bind(source, target)
    except OSError as cause:
        raise Unavailable(
            f"dependencies could not be mounted: {cause.strerror}",
            hint="The node needs CAP_SYS_ADMIN to mount, or a driver that binds at start.",
        ) from cause


def unbind(target: Path) -> None:
    """Detach `target`; not being mounted is fine."""
    with contextlib.suppress(OSError):
        mounts.detach(target)


def sweep(root: Path) -> int:
    """Detach every mount at or below `root`: what a killed node left behind. Returns how many."""
    points = [one.point for one in mounts.mounts() if one.point == root or root in one.point.parents]
    for point in sorted(points, key=lambda path: len(path.parts), reverse=True):
        unbind(point)
    return len(points)
