"""Can these versions still run? Asked before an alias is pointed at them."""

from __future__ import annotations

from collections.abc import Sequence

from faas.control.catalog import Catalog, no_version
from faas.control.code import Code
from faas.errors import Conflict
from faas.model import Function, Version
from faas.store.registry import Registry

Wanted = tuple[Function, int]


class Runnable:
    """Finds versions with all they need to start, many at the price of a few round trips."""

    def __init__(self, catalog: Catalog, registry: Registry, code: Code) -> None:
        self._catalog = catalog
        self._registry = registry
        self._code = code

    async def find(self, wanted: Sequence[Wanted]) -> list[Version]:
        """The versions, in the same order; their code is on this node then.

        Raises:
            NotFound: there never was such a version, or it is not kept any more.
            Conflict: its code or a secret it needs is gone.
        """
        versions = await self._versions(wanted)
        bundles = {bundle for version in versions for bundle in (version.code, version.deps) if bundle}
        missing = set(await self._code.claim(bundles))
        secrets = self._catalog.snapshot.secrets
        for (function, number), version in zip(wanted, versions, strict=True):
            name = function.id
            if gone := [bundle for bundle in (version.code, version.deps) if bundle in missing]:
                raise Conflict(
                    f"the code of {name}@{number} ({gone[0][:12]}) is no longer stored", hint=f"push {name} again"
                )
            lost = [secret for secret in version.settings.secrets if f"{name.app}/{secret}" not in secrets]
            if lost:
                raise Conflict(
                    f"{name}@{number} needs the secret {lost[0]}, which app {name.app} no longer has",
                    hint=f"set it with: faas secrets set {lost[0]} --app {name.app}",
                )
        return versions

    async def _versions(self, wanted: Sequence[Wanted]) -> list[Version]:
        stored = [(function, number) for function, number in wanted if number not in function.versions]
        found = await self._registry.some_versions([(function.id, number) for function, number in stored])
        fetched = {(function.id, number): version for (function, number), version in zip(stored, found, strict=True)}
        versions = []
        for function, number in wanted:
            version = function.versions.get(number) or fetched[function.id, number]
            if version is None:
                raise no_version(function, number)
            versions.append(version)
        return versions
