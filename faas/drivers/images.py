"""Runtime images: built from the runtimes folder on the best base this machine can get, once a content."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker.errors
import msgspec

from faas.drivers import base, vendor
from faas.drivers.container import LABEL
from faas.drivers.docker import IMAGE_PREFIX, RUNTIME_LABEL, built_runtimes
from faas.drivers.engine import Client, Engine
from faas.drivers.runtimes import Runtime, find
from faas.errors import NotFound, PlatformError, Unavailable

CONTEXT_LABEL = "faas.context"
_BUILD_S = 900.0
_LAYER = re.compile(r"---> ([0-9a-f]{12})$")
Progress = Callable[[str], None]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What `build` leaves behind."""

    tag: str
    base: str
    changed: bool
    """False: an image of the same content was there already."""


class RuntimeImages:
    """Builds and lists runtime images on an open engine.

    Args:
        runtimes: folder of runtimes; None: the one that comes with the package.
    """

    def __init__(self, engine: Engine, *, prefix: str = IMAGE_PREFIX, runtimes: Path | None = None) -> None:
        self._runtimes = runtimes
        self._engine = engine
        self._prefix = prefix

    async def names(self) -> list[str]:
        """Runtimes with an image here."""
        return await built_runtimes(self._engine, self._prefix)

    async def build(self, name: str, *, base_image: str | None = None, progress: Progress = print) -> Built:
        """Build the image of runtime `name`, unless it is there with the same content on the same base.

        Args:
            base_image: build on this image; None: the official one if it can be had, else one made from the
                machine's own packages.
            progress: told each step in a line.

        Raises:
            NotFound: no such runtime, or no such base.
            Unavailable: the engine, the base or a package cannot be had; the message has the fix.
        """
        runtime = find(name, self._runtimes)
        chosen = await base.choose(self._engine, runtime, base_image, progress)
        tag = f"{self._prefix}{name}:latest"
        with tempfile.TemporaryDirectory(prefix="faas-build-") as room:
            context = Path(room) / "context"
            await asyncio.to_thread(vendor.stage, runtime, context, progress)
            content = await asyncio.to_thread(vendor.digest, context, chosen.id, name)
            before, known = await self._seen(tag)
            if known == content:
                progress(f"{tag} is up to date")
                return Built(tag=tag, base=chosen.tag, changed=False)
            progress(f"building {tag} on {chosen.tag}")
            await self._engine.call(lambda client: self._build(client, context, runtime, chosen.tag, content, tag))
        if before:
            await self._engine.call(lambda client: _discard(client, before))
        progress(f"{tag} is ready")
        return Built(tag=tag, base=chosen.tag, changed=True)

    async def _seen(self, tag: str) -> tuple[str, str]:
        """Id and content label of the image there is; empty for none."""
        try:
            image = await self._engine.call(lambda client: client.inspect_image(tag))
        except NotFound:
            return "", ""
        return str(image["Id"]), str((image["Config"].get("Labels") or {}).get(CONTEXT_LABEL, ""))

    def _build(self, client: Client, context: Path, runtime: Runtime, base_tag: str, content: str, tag: str) -> None:
        labels = {LABEL: "1", RUNTIME_LABEL: runtime.name, CONTEXT_LABEL: content}
        output = client.build(
            path=str(context),
            tag=tag,
            buildargs={"BASE": base_tag},
            labels=labels,
            rm=True,
            forcerm=True,
            network_mode="none",  # all a runtime needs is in the folder: the same offline as online
            timeout=_BUILD_S,
            decode=True,
        )
        story: list[str] = []
        layer = ""
        for line in output:
            story = [*story, str(line.get("stream", "")).strip()][-20:]
            if made := _LAYER.match(story[-1]):
                layer = made[1]
            if "error" in line:
                _discard(client, layer)
                told = "\n".join(part for part in story if part)
                raise BuildFailed(f"{tag} could not be built on {base_tag}: {line['error']}\n{told}")


def _discard(client: Client, image: str) -> None:
    """Remove an image that has no name (any more), and the nameless ones below it; others stay, as do used ones."""
    with contextlib.suppress(docker.errors.APIError):
        if image and not client.inspect_image(image).get("RepoTags"):
            client.remove_image(image)


class BuildFailed(PlatformError):
    """The engine ran the Dockerfile and a step of it failed; the message ends with its last output."""

    code, status = "build_failed", 500


async def build_missing(engine: Engine, name: str, progress: Progress) -> bool:
    """Build `name` if this engine has no image of it; False, with the reason told, when that does not work."""
    images = RuntimeImages(engine)
    if name in await images.names():
        return True
    try:
        await images.build(name, progress=progress)
    except (Unavailable, BuildFailed, NotFound) as error:
        progress(f"{error.message} {error.hint}".strip())
        return False
    return True
