"""Runtime images are built once a content, without a network, and say what went wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from faas.drivers.engine import Engine
from faas.drivers.images import BuildFailed, RuntimeImages
from faas.drivers.runtimes import find, runtimes_dir
from faas.errors import NotFound
from faas.ids import new_id
from tests.support import require

pytestmark = pytest.mark.docker
NAME = "python3.11"


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """An image with Python whose user is root, as a base is."""
    require("docker", "images")
    tag = f"faas-test-base-{new_id('t')[-8:]}:latest"
    client = docker.APIClient(version="auto")
    recipe = io.BytesIO(b"FROM faas-runtime-python3.11:latest\nUSER 0\n")
    story = list(client.build(fileobj=recipe, tag=tag, rm=True, decode=True))
    assert not [line for line in story if "error" in line], story
    yield tag
    client.remove_image(tag)
    client.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    require("docker", "images")
    async with Engine() as engine:
        yield engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A runtimes folder of the test's own."""
    shutil.copytree(runtimes_dir() / find(NAME).manifest.folder.name, tmp_path / "python")
    return tmp_path


@pytest.fixture
async def images(engine: Engine, folder: Path) -> AsyncIterator[RuntimeImages]:
    prefix = f"faas-test-{new_id('t')[-8:]}-"
    yield RuntimeImages(engine, prefix=prefix, runtimes=folder)
    for name in await RuntimeImages(engine, prefix=prefix).names():
        await engine.call(partial(_remove, f"{prefix}{name}:latest"))


def _remove(tag: str, client: Any) -> None:
    client.remove_image(tag, force=True)


async def test_it_is_built_once_and_again_when_something_changed(
    images: RuntimeImages, folder: Path, base: str
) -> None:
    lines: list[str] = []
    first = await images.build(NAME, base_image=base, progress=lines.append)
    assert first.changed
    assert await images.names() == [NAME]
    second = await images.build(NAME, base_image=base, progress=lines.append)
    assert not second.changed
    assert "up to date" in lines[-1]
    (folder / "python" / "lib" / "faas" / "more.py").write_text("x = 1\n")
    assert (await images.build(NAME, base_image=base, progress=lines.append)).changed


async def test_a_failing_dockerfile_tells_its_last_words(images: RuntimeImages, folder: Path, base: str) -> None:
    (folder / "python" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nUSER 0\nRUN echo eels && exit 3\n")
    with pytest.raises(BuildFailed, match="eels"):
        await images.build(NAME, base_image=base, progress=lambda _: None)
    assert await images.names() == []


async def test_a_base_that_is_nowhere_is_named(images: RuntimeImages) -> None:
    with pytest.raises(NotFound, match="no-such-image-here:1"):
        await images.build(NAME, base_image="localhost:1/no-such-image-here:1", progress=lambda _: None)


async def test_an_unknown_runtime_lists_the_known(images: RuntimeImages) -> None:
    with pytest.raises(NotFound) as error:
        await images.build("cobol85", progress=lambda _: None)
    assert "python3.11" in error.value.hint
