from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from faas.config import (
    CONFIG,
    NodeConfig,
    config_table_markdown,
    default_data_dir,
    load_config,
    read_flags,
    settings_page,
)
from faas.errors import Invalid
from faas.kinds import Address

ROOT = Path(__file__).resolve().parents[2]


def load(
    flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None, toml: str | None = None
) -> NodeConfig:
    return load_config(flags or {}, {"HOME": "/home/ann", **(environ or {})}, toml, root=False)


def test_table_and_struct_have_the_same_fields() -> None:
    assert sorted(row.attribute for row in CONFIG) == sorted(field.name for field in msgspec.structs.fields(NodeConfig))


def test_docs_are_in_step() -> None:
    """Write the page anew with `python -m faas.config > docs/settings.md`."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()
    assert all(f"`{row.key}`" in config_table_markdown() for row in CONFIG)


def test_defaults() -> None:
    config = load()
    assert config.listen == Address("127.0.0.1", 8080)
    assert config.listen.loopback
    assert config.data_dir == "/home/ann/.local/share/faas"
    assert config.drain_s == 30.0
    assert config.redis == ""
    assert config.allow_private_networks is False
    assert load_config({}, {}, root=True).data_dir == "/var/lib/faas"


def test_data_dir_follows_the_user() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/x"}, root=False) == "/x/faas"
    assert load(environ={"FAAS_DATA_DIR": "~/node"}).data_dir == "/home/ann/node"
    assert load({"data_dir": "~"}).data_dir == "/home/ann"


def test_flag_beats_variable_beats_file_beats_default() -> None:
    toml = 'stem_cells = 7\ndriver = "process"\ndrain = "5s"\n'
    environ = {"FAAS_STEM_CELLS": "5", "FAAS_DRIVER": "docker"}
    config = load({"stem_cells": "3", "driver": None}, environ, toml)
    assert (config.stem_cells, config.driver, config.drain_s) == (3, "docker", 5.0)
    assert load({}, {"FAAS_DRIVER": ""}, toml).driver == "process"


def test_redis_has_two_variables() -> None:
    assert load(environ={"FAAS_REDIS_URL": "redis://a:6379/0"}).redis == "redis://a:6379/0"
    both = {"FAAS_REDIS": "redis://b:6379/0", "FAAS_REDIS_URL": "redis://a:6379/0"}
    assert load(environ=both).redis == "redis://b:6379/0"


def test_secrets_do_not_show() -> None:
    config = load(environ={"FAAS_ADMIN_TOKEN": "s3cret-value", "FAAS_REDIS_URL": "redis://:passw0rd@a"})
    assert config.admin_token == "s3cret-value"
    assert "s3cret-value" not in repr(config)
    assert "passw0rd" not in repr(config)
    with pytest.raises(Invalid) as caught:
        load(environ={"FAAS_SECRET_KEY": "s3cret\nvalue"})
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("flags", "environ", "toml", "words"),
    [
        ({"listen": "8080"}, {}, None, ["--listen", "8080", "HOST:PORT"]),
        ({"listen": "a:99999"}, {}, None, ["--listen", "99999"]),
        ({}, {"FAAS_LISTEN": "nope"}, None, ["FAAS_LISTEN", "nope"]),
        ({"drivr": "docker"}, {}, None, ["drivr", "driver"]),
        ({"admin_token": "x"}, {}, None, ["admin_token"]),
        ({}, {}, "lisen = 'a:1'", ["/etc/faas/faas.toml", "lisen", "listen"]),
        ({}, {}, "listen = [", ["/etc/faas/faas.toml", "TOML"]),
        ({}, {}, "listen = 8080", ["/etc/faas/faas.toml: listen", "8080"]),
        ({"driver": "podman"}, {}, None, ["--driver", "podman", "docker"]),
        ({"redis": "localhost"}, {}, None, ["redis://"]),
        ({"drain": "2h"}, {}, None, ["--drain", "1h"]),
        ({"node_name": "a b"}, {}, None, ["--node-name", "a b"]),
        ({"listen": "0.0.0.0:1", "admin_listen": "0.0.0.0:1"}, {}, None, ["listen and admin_listen", "0.0.0.0:1"]),
        ({"cluster_secret_file": "/s"}, {}, None, ["cluster_secret_file", "--redis"]),
        ({"admin_token_file": "/a"}, {"FAAS_ADMIN_TOKEN": "x"}, None, ["admin_token and admin_token_file"]),
    ],
)
def test_bad_values_name_source_value_and_rule(
    flags: dict[str, Any], environ: dict[str, str], toml: str | None, words: list[str]
) -> None:
    with pytest.raises(Invalid) as caught:
        load(flags, environ, toml)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_addresses() -> None:
    assert str(load({"listen": "[::1]:0"}).listen) == "[::1]:0"
    assert load({"listen": "[::1]:0"}).listen.loopback
    assert not load({"listen": "0.0.0.0:8080"}).listen.loopback
    assert load({"listen": "localhost:8080"}).listen.loopback


def test_hosts_that_only_look_local_are_not() -> None:
    assert not load({"listen": "127.example.org:8080"}).listen.loopback


def test_reads_flags() -> None:
    flags = read_flags(
        ["--listen", "a:1", "--driver=process", "--allow-private-networks", "--drain", "5s", "--data-dir="]
    )
    assert flags == {
        "listen": "a:1",
        "driver": "process",
        "allow_private_networks": "true",
        "drain": "5s",
        "data_dir": "",
    }
    assert read_flags(["--no-allow-private-networks"]) == {"allow_private_networks": "false"}
    assert read_flags([]) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lisen", "a:1"], ["--lisen", "--listen"]),
        (["listen"], ["listen"]),
        (["--listen"], ["--listen needs a value"]),
        (["--no-driver"], ["--no-driver"]),
        (["--admin-token", "x"], ["--admin-token"]),
    ],
)
def test_wrong_flags(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_flags(arguments)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"
