"""One parser for durations and one for sizes, used by flags, manifests, environment and API alike."""

from __future__ import annotations

import math
import re

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)(B?)", re.IGNORECASE)
_SIZE_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_duration(value: object) -> float:
    """Seconds from `30`, `1.5`, `"30"`, `"30s"`, `"1h30m"`, `"250ms"`.

    Raises:
        ValueError: naming the value and the accepted forms.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{_cut(repr(value))} is not a duration; write 30, 30s, 5m, 1h30m or 250ms")
    if isinstance(value, str):
        text = value.strip().lower()
        parts = _DURATION_PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            # Whole microseconds: 43ms is 0.043, not 0.043000000000000003.
            return round(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts), 6)
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f'"{_cut(text)}" is not a duration; write 30, 30s, 5m, 1h30m or 250ms') from None
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{value} is not a duration; it must be finite and not negative")
    return seconds


def parse_size(value: object) -> int:
    """Bytes from `1048576`, `"256M"`, `"256MB"`, `"256MiB"`; every unit is a power of 1024.

    Raises:
        ValueError: naming the value and the accepted forms.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{_cut(repr(value))} is not a size; write 1048576, 256M or 256MiB")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"{value} is not a size; it must not be negative")
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'"{_cut(value)}" is not a size; write 1048576, 256M or 256MiB')
    return int(float(match[1]) * 1024 ** _SIZE_POWERS[match[2].upper()])


def show_duration(seconds: float) -> str:
    """Shortest exact form `parse_duration` reads back: `30s`, `5m`, `1h30m`, `250ms`."""
    if seconds == 0:
        return "0s"
    left = round(seconds * 1000)
    shown = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            shown += f"{count}{unit}"
    return shown


def show_size(size: int) -> str:
    """`256MiB`, `1.5GiB`, `17B`: binary units, at most one decimal."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.1f}".removesuffix(".0") + unit
        amount /= 1024
    return f"{amount:.1f}".removesuffix(".0") + "TiB"


def _cut(text: str) -> str:
    """A value as a message repeats it: never the whole of a long one."""
    return text if len(text) <= 80 else text[:77] + "..."
