"""Who may import whom. See `floors.py` for the map."""

from __future__ import annotations

import pytest

from tests.house.floors import ONLY_FOR_TESTS, breach, place, room
from tests.house.source import imports, module_name, python_files


def test_every_module_is_on_the_map() -> None:
    for name in python_files("faas"):
        module = module_name(name)
        if not room(module):
            continue
        try:
            place(module)
        except KeyError:
            pytest.fail(f"{name}: no floor; give `{room(module)}` a place in tests/house/floors.py", pytrace=False)


def test_modules_import_only_lower_floors_and_their_own_room() -> None:
    for name in python_files("faas"):
        module = module_name(name)
        for imported, line in imports(name):
            if imported.split(".")[0] not in ("faas", "tests"):
                continue
            why = breach(module, imported)
            assert not why, f"{name}:{line}: {module} imports {imported}: {why}"


def test_runtimes_never_import_the_platform() -> None:
    # `faas` inside an instance is the runtime's own small module, in a folder `lib`.
    for name in python_files("runtimes"):
        own = {module_name(other.split("/lib/", 1)[1]) for other in python_files("runtimes") if "/lib/faas/" in other}
        for imported, line in imports(name):
            if imported.split(".")[0] == "faas":
                assert imported in own, f"{name}:{line}: a runtime imports {imported} of the platform"


@pytest.mark.parametrize(
    ("module", "imported", "fine"),
    [
        ("faas.model", "faas.names", True),
        ("faas.names", "faas.policy.backoff", False),
        ("faas.store.queue", "faas.model", True),
        ("faas.store.queue", "faas.store.keys", True),
        ("faas.store.queue", "faas.drivers.api", False),
        ("faas.node.pool", "faas.drivers.api", True),
        ("faas.node.pool", "faas.control.catalog", False),
        ("faas.api.routes", "faas.gateway.handler", False),
        ("faas.cli.push", "faas.sdk.client", True),
        ("faas.cli.push", "faas.control.push", False),
        ("faas.sdk.client", "faas.cli.exits", False),
        ("faas.serve", "faas.gateway.handler", True),
        ("faas.serve", "faas.sdk.client", False),
        ("faas.serve", ONLY_FOR_TESTS[1], False),
    ],
)
def test_the_rule_itself(module: str, imported: str, fine: bool) -> None:
    assert (breach(module, imported) == "") is fine
