"""Secrets: sealed in the registry, opened for instances only."""

from __future__ import annotations

import pytest

from faas.control.secrets import Secrets, check_secret
from faas.errors import Conflict, FaasError, Invalid, NotFound, Unavailable
from faas.names import FunctionName
from faas.store.secrets import SecretBox
from tests.unit.control.world import World

VALUE = "tr0ub4dor"


async def test_a_value_comes_back_only_by_open(world: World) -> None:
    secrets = world.services.secrets
    shown = await secrets.set("shop", "KEY", VALUE)
    await secrets.set("other", "KEY", "else")
    assert (shown.app, shown.name) == ("shop", "KEY")
    assert shown.updated_at > 1_700_000_000
    assert secrets.list("shop") == [shown]
    assert [secret.app for secret in secrets.list()] == ["other", "shop"]
    assert VALUE.encode() not in b"".join(world.catalog.snapshot.secrets.values())
    assert secrets.open(FunctionName("shop", "f"), ["KEY"]) == {"KEY": VALUE}
    with pytest.raises(NotFound, match="needs the secret NONE"):
        secrets.open(FunctionName("shop", "f"), ["KEY", "NONE"])


async def test_replacing_and_removing(world: World) -> None:
    secrets = world.services.secrets
    await secrets.set("default", "KEY", VALUE)
    await secrets.set("default", "KEY", "new")
    assert secrets.open(FunctionName("default", "f"), ["KEY"]) == {"KEY": "new"}
    await secrets.remove("default", "KEY")
    assert secrets.list() == []
    with pytest.raises(NotFound, match='app default has no secret "KEY"'):
        await secrets.remove("default", "KEY")


async def test_one_in_use_stays(world: World) -> None:
    secrets = world.services.secrets
    await secrets.set("default", "KEY", VALUE)
    await world.push("hello", secrets=("KEY",))
    with pytest.raises(Conflict, match="KEY is needed by hello"):
        await secrets.remove("default", "KEY")
    await world.push("hello")
    await secrets.remove("default", "KEY")


async def test_another_key_does_not_open(world: World) -> None:
    await world.services.secrets.set("default", "KEY", VALUE)
    other = Secrets(world.catalog, world.registry, SecretBox(b"x" * 32))
    with pytest.raises(Unavailable, match="is sealed with the key"):
        other.open(FunctionName("default", "f"), ["KEY"])


@pytest.mark.parametrize("value", ["a\0b", "x" * 65537, "\ud800"])
async def test_bad_values_are_refused_without_being_repeated(world: World, value: str) -> None:
    with pytest.raises(FaasError) as caught:
        await world.services.secrets.set("default", "KEY", value)
    assert caught.value.status in (413, 422)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["1A", "FAAS_X", "A-B", "", "A" * 129, "A\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(Invalid):
        check_secret(name)
