"""What the struct of a push cannot say by itself: `Settings` ignores unknown keys, a person's typo must not be."""

from __future__ import annotations

from typing import Any

import msgspec

from faas.errors import Invalid, did_you_mean
from faas.model import Settings

_KNOWN = frozenset(Settings.__struct_fields__)


class _Item(msgspec.Struct):
    name: Any = ""
    settings: Any = None


class _Push(msgspec.Struct):
    functions: Any = None


def refuse_unknown_settings(body: bytes) -> None:
    """Raises Invalid naming the first unknown settings key. Anything else wrong is left to the real decoding."""
    try:
        items = msgspec.convert(msgspec.json.decode(body, type=_Push).functions, list[_Item])
    except (msgspec.MsgspecError, RecursionError):
        return
    for item in items:
        if not isinstance(item.settings, dict):
            continue
        for key in item.settings:
            if key not in _KNOWN:
                raise Invalid(
                    f'function "{str(item.name)[:80]}": unknown setting "{key[:80]}"',
                    hint=did_you_mean(key, _KNOWN) or f"known ones: {', '.join(sorted(_KNOWN))}",
                )
