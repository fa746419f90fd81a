"""A recipe: all that decides what is installed. It is kept in Redis under the hash of its own text."""

from __future__ import annotations

import hashlib
import platform

import msgspec

from faas.errors import Invalid
from faas.model import Requires

SCHEMA = 1
_LANGUAGE = "python"


class Recipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which packages, for which Python. Names the same directory on every node."""

    lock: str
    """Requirements with versions and hashes, one a line."""
    runtime: str
    """Such as `python3.11`."""
    platform: str
    """What wheels must fit, such as `x86_64-manylinux_2_28`."""
    workshop: bool = False
    """Installed in a workshop, where packages can be built from source."""
    index: str = ""
    app: str = ""
    """Whose secrets `index` names."""
    schema: int = SCHEMA

    def encode(self) -> bytes:
        """The same bytes for the same recipe."""
        return msgspec.json.encode(self)


def key_of(data: bytes) -> str:
    """The name of an encoded recipe, and of the directory made from it: sha256, hex."""
    return hashlib.sha256(data).hexdigest()


def read_recipe(key: str, data: bytes) -> Recipe | None:
    """The recipe in `data`, or None when this is something else, such as an archive of a bundle.

    Raises:
        Invalid: a recipe of another version of this platform.
    """
    if not data.startswith(b"{") or key_of(data) != key:
        return None
    try:
        recipe = msgspec.json.decode(data, type=Recipe)
    except msgspec.MsgspecError:
        recipe = None
    if recipe is None or recipe.schema != SCHEMA:
        raise Invalid(f"the recipe {key[:12]} is from another version of faas", hint="Push the function again.")
    return recipe


def declaration(requires: Requires, runtime: str) -> str:
    """sha256, hex, of what decides how a declaration is resolved, besides the day."""
    return hashlib.sha256(msgspec.json.encode([requires, runtime, own_platform()])).hexdigest()


def python_of(runtime: str) -> str:
    """The Python of a runtime, such as `3.11`. Raises Invalid for a runtime of another language."""
    version = runtime.removeprefix(_LANGUAGE)
    if version == runtime or not version[:1].isdigit():
        raise Invalid(
            f"packages are installed for Python runtimes only, not for {runtime}",
            hint="Put what the function needs into its folder.",
        )
    return version


def own_platform() -> str:
    """The wheels that fit runtimes on this machine: glibc 2.28 is older than any base that runtimes have."""
    machine = platform.machine()
    return f"{ {'arm64': 'aarch64', 'amd64': 'x86_64'}.get(machine, machine) }-manylinux_2_28"
