"""Is this push allowed? Everything that can be said before any work: pure, from the push and the snapshot."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from faas.control.code import check_sha
from faas.control.routes import check_wants
from faas.deps.recipe import python_of
from faas.errors import Invalid, NotFound, did_you_mean
from faas.model import FunctionPush, Push, Requires
from faas.names import LIVE, FunctionName, check_alias, check_app, check_name
from faas.requirements import check_index, check_requirements, secrets_in
from faas.settings import check_settings
from faas.store.registry import Snapshot

FUNCTIONS_MAX = 1_000
"""Most functions in one push."""
SECRETS_MAX = 512 * 1024
"""Most bytes of secrets one function gets: they travel to its instances in one frame."""


class PushRefused(Exception):
    """Carries which function of a push an error belongs to. Internal to the push: never reaches a caller."""

    def __init__(self, function: FunctionName, error: Exception, version: int = 0) -> None:
        super().__init__(f"{function}: {error}")
        self.function = function
        self.error = error
        self.version = version


def check_push(app: str, push: Push, snapshot: Snapshot, runtimes: Collection[str]) -> list[FunctionPush]:
    """The functions with their settings in normal form.

    Raises:
        Invalid, NotFound: what concerns the push as a whole.
        Conflict: a route belongs to another function.
        PushRefused: what concerns one function of it.
    """
    check_app(app)
    check_alias(push.alias)
    if not push.functions:
        raise Invalid("the push has no functions", hint="push a .py file or a folder")
    if len(push.functions) > FUNCTIONS_MAX:
        raise Invalid(f"the push has {len(push.functions)} functions; at most {FUNCTIONS_MAX} go at once")
    seen: set[str] = set()
    checked = []
    for item in push.functions:
        name = FunctionName(app, check_name(item.name))
        if item.name in seen:
            raise Invalid(f"the push has {name} twice")
        seen.add(item.name)
        try:
            checked.append(_check(name, item, snapshot, runtimes))
        except (Invalid, NotFound) as error:
            raise PushRefused(name, error) from error
    if push.alias == LIVE:
        wants = {FunctionName(app, item.name): item.settings.routes for item in checked}
        check_wants(wants, (), snapshot)
    return checked


def _check(name: FunctionName, item: FunctionPush, snapshot: Snapshot, runtimes: Collection[str]) -> FunctionPush:
    check_sha(item.code)
    if item.deps:
        check_sha(item.deps)
    settings = check_settings(item.settings, str(name))
    if settings.runtime not in runtimes:
        known = ", ".join(sorted(runtimes)) or "none"
        raise NotFound(
            f'{name}: this node has no runtime "{settings.runtime}"; it has: {known}',
            hint=did_you_mean(settings.runtime, runtimes) or f"build it with: faas runtimes build {settings.runtime}",
        )
    _check_secrets(name, settings.secrets, snapshot)
    return replace(item, settings=settings, requires=_check_requires(name, item, settings.runtime, snapshot))


def _check_requires(name: FunctionName, item: FunctionPush, runtime: str, snapshot: Snapshot) -> Requires | None:
    """The declaration in normal form; None when nothing is required."""
    if item.requires is None:
        return None
    if item.deps:
        raise Invalid(f"{name}: both deps and requires are given", hint="Give one of them.")
    listed = check_requirements(item.requires.requirements, f"the requirements of {name}")
    if not listed:
        return None
    python_of(runtime)
    index = item.requires.index
    if index:
        _check_secrets(name, secrets_in(check_index(index)), snapshot)
    return Requires(requirements=listed, index=index)


def _check_secrets(name: FunctionName, wanted: tuple[str, ...], snapshot: Snapshot) -> None:
    size = 0
    for secret in wanted:
        sealed = snapshot.secrets.get(f"{name.app}/{secret}")
        if sealed is None:
            have = [key.partition("/")[2] for key in snapshot.secrets if key.startswith(f"{name.app}/")]
            close = did_you_mean(secret, have)
            raise NotFound(
                f"{name}: app {name.app} has no secret {secret}",
                hint=close or f"set it with: faas secrets set {secret} --app {name.app}",
            )
        size += len(sealed)
    if size > SECRETS_MAX:
        raise Invalid(f"{name}: its secrets take {size} bytes; at most {SECRETS_MAX} reach one function")
