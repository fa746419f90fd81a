"""Text for people: aligned columns, short times, one key a line. Colours only where a terminal shows them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

_STATES = {"ready": "green", "cold": "cyan", "paused": "yellow", "crash_loop": "red"}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under capital heads. Values are shown as they are; control characters are not."""
    lines = [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *lines, strict=True)]
    click.echo("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
    for line in lines:
        cells = (_colour(cell, cell.ljust(width)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """`key  value` lines, aligned; empty values are left out."""
    shown = [(key, clean(str(value))) for key, value in pairs if value not in ("", None, {}, [])]
    width = max((len(key) for key, _ in shown), default=0)
    for key, value in shown:
        click.echo(f"{key.ljust(width)}  {_colour(value, value)}")


def note(text: str) -> None:
    """A remark for people, on standard error."""
    click.echo(text, err=True)


def clean(text: str) -> str:
    """`text` without control characters: what comes from elsewhere must not steer the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def ago(moment: object) -> str:
    """`12s`, `5m`, `3h`, `8d` since a Unix time in seconds; a dash when there is none."""
    if not isinstance(moment, int | float) or moment <= 0:
        return "-"
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(unix_s: object) -> str:
    """A Unix time in seconds as local `2025-01-31 12:00:00`; a dash when there is none."""
    if not isinstance(unix_s, int | float) or unix_s <= 0:
        return "-"
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(ms: float) -> str:
    """`0.4 ms`, `42 ms`, `3.1 s`."""
    if ms < 10:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"


def size(count: object) -> str:
    """Bytes as `256MiB`; a dash when there are none."""
    from faas.units import show_size

    return show_size(count) if isinstance(count, int) else "-"


def value(view: dict[str, Any], key: str, empty: str = "-") -> Any:
    """`view[key]`, or `empty` when it is missing, None or empty text."""
    found = view.get(key)
    return empty if found is None or found == "" else found


def _colour(name: str, text: str) -> str:
    colour = _STATES.get(name)
    return click.style(text, fg=colour) if colour else text
