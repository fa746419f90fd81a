"""Command lines of uv, and the environments it gets. Pure.

Both kinds run in a room: `in.txt` and `lock.txt` are there, `deps` is made there. `{python}` in a command stands for
the interpreter of the runtime and is filled in by the workshop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from faas.requirements import is_hashed

LISTED, LOCK, SITE, OUTPUT, CACHE = "in.txt", "lock.txt", "deps", "output.txt", "cache"

_PYTHON = "{python}"
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_FOR_WORKSHOPS = (
    *_INDEXES, "UV_INDEX_STRATEGY", "UV_FIND_LINKS", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT", "UV_OFFLINE", "UV_NO_INDEX",
    "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "no_proxy",
)  # fmt: skip
_NOT_FOR_UV = re.compile(r"FAAS_.*|PYTHON.*|VIRTUAL_ENV|CONDA_.*|UV_(PROJECT|PYTHON|WORKING|CONSTRAINT|OVERRIDE).*")
_FIXED = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}


def resolve(uv: str, target: list[str]) -> list[str]:
    """Read LISTED, write LOCK."""
    return [uv, "pip", "compile", LISTED, "--output-file", LOCK, "--quiet", *_LOCKED, *target]


_LOCKED = ("--generate-hashes", "--no-annotate", "--no-header")


def try_lock(uv: str, target: list[str]) -> list[str]:
    """See whether LISTED, which is a lock already, can be installed."""
    return [uv, "pip", "install", "--dry-run", "--target", SITE, "--require-hashes", "-r", LISTED, *target]


def install(uv: str, lock: str, target: list[str]) -> list[str]:
    """Read LOCK, whose text is `lock`, and make SITE. A package from a repository has a commit instead of a hash."""
    hashed = ["--require-hashes"] if is_hashed(lock) else []
    return [uv, "pip", "install", "--target", SITE, "-r", LOCK, *hashed, *target]


def compile_all() -> list[str]:
    """Byte code for SITE, never to be checked against its source: nobody can write to either.

    Not for packages' own tests: they are half of some packages, and no function imports them.
    """
    flags = ["-q", "-q", "-j", "2", "-x", "/tests?/", "--invalidation-mode", "unchecked-hash"]
    return [_PYTHON, "-I", "-B", "-m", "compileall", *flags, SITE]


def wheels_for(python: str, platform: str, interpreter: str) -> list[str]:
    """Options for a Python that is not at hand: only wheels, so nothing of a package is run."""
    target = ["--python-version", python, "--python-platform", platform]
    return ["--only-binary", ":all:", "--python", interpreter, *target]


def in_place() -> list[str]:
    """Options inside a workshop: the Python there, and packages may be built."""
    return ["--python", _PYTHON]


def node_environment(environ: Mapping[str, str], cache: Path) -> dict[str, str]:
    """For uv as the node: the operator's own settings, without what is the platform's.

    Args:
        cache: where downloads are kept, unless the operator says otherwise.
    """
    kept = {name: value for name, value in environ.items() if not _NOT_FOR_UV.fullmatch(name)}
    return {"UV_CACHE_DIR": str(cache), **kept, **_FIXED}


def workshop_environment(environ: Mapping[str, str], index: str) -> dict[str, str]:
    """For a workshop, where code of packages runs: how to get out, but no credentials of the operator's.

    Args:
        index: the push's own, with its secrets filled in: they are the function's anyway. Empty: none.
    """
    kept = {name: environ[name] for name in _FOR_WORKSHOPS if environ.get(name) and not _private(name, environ[name])}
    if index:
        kept["UV_INDEX"] = f"{index} {kept.get('UV_INDEX', '')}".strip()
    return {**kept, **_FIXED, "UV_CACHE_DIR": CACHE, "UV_NO_CONFIG": "1", "HOME": "/tmp"}  # noqa: S108 - inside


def shown_to_workshops(uv: str, environ: Mapping[str, str]) -> list[Path]:
    """Files and folders of this machine that a workshop sees at the same place, read-only."""
    named = [environ.get("SSL_CERT_FILE", ""), *re.split(r"[\s,]+", environ.get("UV_FIND_LINKS", ""))]
    return [Path(uv), *(Path(text) for text in named if text.startswith("/") and Path(text).exists())]


def _private(name: str, value: str) -> bool:
    return (name in _INDEXES or name == "UV_FIND_LINKS") and re.search(r"://[^/\s]*@", value) is not None
