"""The node's own settings: one row a key, read from flag > environment > /etc/faas/faas.toml > default.

Nothing here reads a file or the environment: both are passed in. The key `admin_listen` is the flag
`--admin-listen` and the variable `FAAS_ADMIN_LISTEN`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from faas import kinds
from faas.errors import Invalid, did_you_mean
from faas.kinds import Address, Kind, Network
from faas.model import MIB
from faas.settings import settings_markdown

CONFIG_FILE = "/etc/faas/faas.toml"
GIB = 1024 * MIB


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a node runs. `CONFIG` is its manual; durations in `_s` are seconds, sizes are bytes."""

    listen: Address
    admin_listen: Address
    data_dir: str
    driver: str
    redis: str
    durability: str
    admin_token_file: str
    memory: int
    stem_cells: int
    drain_s: float
    workers: int
    log_format: str
    log_level: str
    secret_key_file: str
    node_name: str
    allow_private_networks: bool
    cluster_secret_file: str
    max_body: int
    trusted_proxies: tuple[Network, ...]
    tls_cert: str
    tls_key: str
    admin_token: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of the node. `variable` is a second variable; `flag` False: environment and file only."""

    key: str
    default: object
    kind: Kind
    doc: str
    field: str = ""
    variable: str = ""
    flag: bool = True

    @property
    def attribute(self) -> str:
        """Name of the field in `NodeConfig`."""
        return self.field or self.key

    @property
    def option(self) -> str:
        """The flag of `faas up`."""
        return "--" + self.key.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the first one wins."""
        own = "FAAS_" + self.key.upper()
        return (own, self.variable) if self.variable else (own,)


CONFIG: tuple[Row, ...] = (
    Row(
        "listen",
        "127.0.0.1:8080",
        kinds.address(),
        "Address for calls; if loopback, also for the control API.",
    ),
    Row(
        "admin_listen",
        "127.0.0.1:8081",
        kinds.address(),
        "Address of control API and dashboard when `listen` is not loopback.",
    ),
    Row("data_dir", "", kinds.path(), "Folder for code, logs and keys; one node each. Root: /var/lib/faas."),
    Row(
        "driver",
        "auto",
        kinds.choice("auto", "docker", "process"),
        "What runs instances; `auto`: decided at first start.",
    ),
    Row(
        "redis",
        "",
        kinds.hidden("write redis://HOST:PORT/0, rediss:// or unix:///path"),
        "URL of Redis or Valkey; empty: the node starts an embedded server.",
        variable="FAAS_REDIS_URL",
    ),
    Row(
        "durability",
        "fsync",
        kinds.choice("fsync", "memory"),
        "`memory`: take background calls although Redis may lose them.",
    ),
    Row("admin_token_file", "", kinds.path(), "File with the admin's token; empty: DATA_DIR/admin-token."),
    Row(
        "memory",
        0,
        kinds.size(0, 1024 * 1024 * GIB),
        "Memory all instances may use together; 0: 80 % of the machine.",
    ),
    Row("stem_cells", 2, kinds.integer(0, 100), "Started idle instances kept per runtime and network."),
    Row("drain", "30s", kinds.duration(0, 3600), "Longest wait for running calls at stop.", field="drain_s"),
    Row("workers", 0, kinds.integer(0, 256), "Additional processes that only speak HTTP."),
    Row(
        "log_format",
        "auto",
        kinds.choice("auto", "console", "json"),
        "Form of the node's log; `auto`: by terminal.",
    ),
    Row(
        "log_level",
        "info",
        kinds.choice("debug", "info", "warning", "error"),
        "Least level of its log.",
    ),
    Row("secret_key_file", "", kinds.path(), "File with the key that seals secrets; empty: one in DATA_DIR."),
    Row(
        "node_name",
        "",
        kinds.text(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}))?", "letters, digits, . _ -, at most 63"),
        "Name shown for this node; empty: the machine's.",
    ),
    Row(
        "allow_private_networks",
        False,
        kinds.switch(),
        "Functions with network `egress` may reach private addresses too.",
    ),
    Row("cluster_secret_file", "", kinds.path(), "File with the secret that nodes of one cluster share."),
    Row("max_body", "256MiB", kinds.size(1, GIB), "Largest body of any request, whatever a function allows."),
    Row(
        "trusted_proxies",
        "",
        kinds.networks(),
        "Networks of reverse proxies whose X-Forwarded-For, -Proto and -Host are believed.",
    ),
    Row(
        "tls_cert",
        "",
        kinds.path(),
        "File with certificate and chain (PEM): `listen` speaks HTTPS; read anew on change.",
    ),
    Row("tls_key", "", kinds.path(), "File with the certificate's private key (PEM)."),
    Row(
        "admin_token",
        "",
        kinds.hidden("one line of text"),
        "The admin's token itself, instead of a file.",
        flag=False,
    ),
    Row(
        "secret_key",
        "",
        kinds.hidden("32 bytes as hex or base64"),
        "The key itself, instead of a file.",
        flag=False,
    ),
)
BY_KEY: Mapping[str, Row] = {row.key: row for row in CONFIG}


def default_data_dir(environ: Mapping[str, str], *, root: bool) -> str:
    """Where a node keeps its data when nobody says: /var/lib/faas for root, else the user's data folder."""
    if root:
        return "/var/lib/faas"
    home = environ.get("XDG_DATA_HOME") or os.path.join(environ.get("HOME") or "/tmp", ".local", "share")  # noqa: S108
    return os.path.join(home, "faas")


def load_config(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    toml_text: str | None = None,
    *,
    root: bool | None = None,
) -> NodeConfig:
    """The node's settings from all sources.

    Args:
        flags: by key, such as `admin_listen`; None: not given.
        environ: the process environment.
        toml_text: content of the configuration file; None: there is none.
        root: whether the node runs as root; None: ask the system.

    Raises:
        Invalid: naming key, value, rule and source; unknown keys with the closest known one.
    """
    file = _parse_file(toml_text)
    _refuse_unknown(flags, "flags", [row.key for row in CONFIG if row.flag])
    _refuse_unknown(file, CONFIG_FILE, BY_KEY)
    values: dict[str, Any] = {}
    for row in CONFIG:
        where, value = _pick(row, flags, environ, file)
        try:
            values[row.attribute] = row.kind.parse(value)
        except (ValueError, OverflowError) as error:
            raise Invalid(f"{where}: {error}", hint=row.doc) from error
    is_root = os.geteuid() == 0 if root is None else root
    values["data_dir"] = _absolute(values["data_dir"] or default_data_dir(environ, root=is_root), environ)
    for key in ("admin_token_file", "secret_key_file", "cluster_secret_file", "tls_cert", "tls_key"):
        values[key] = _absolute(values[key], environ)
    config = NodeConfig(**values)
    _check_together(config)
    return config


def read_flags(arguments: Sequence[str]) -> dict[str, str]:
    """`--listen HOST:PORT --driver=process --allow-private-networks` as flags for `load_config`.

    Raises:
        Invalid: an unknown flag (with the closest one), a missing value, or an argument that is no flag.
    """
    known = {row.option: row for row in CONFIG if row.flag}
    flags: dict[str, str] = {}
    rest = list(reversed(arguments))
    while rest:
        option, equals, value = rest.pop().partition("=")
        row = known.get(option)
        if row is None and option.startswith("--no-"):
            row = known.get("--" + option.removeprefix("--no-"))
            if row is not None and row.kind.shape == "switch" and not equals:
                flags[row.key] = "false"
                continue
            row = None
        if row is None:
            raise Invalid(f'unknown flag "{option}"', hint=did_you_mean(option, known) or "See `faas up -h`.")
        if not equals:
            if row.kind.shape == "switch":
                value = "true"
            elif not rest:
                raise Invalid(f"{option} needs a value", hint=row.doc)
            else:
                value = rest.pop()
        flags[row.key] = value
    return flags


def config_table_markdown() -> str:
    """The table as documentation."""
    lines = ["| key | flag | variable | value | default | meaning |", "|---|---|---|---|---|---|"]
    for row in CONFIG:
        option = f"`{row.option}`" if row.flag else ""
        names = ", ".join(f"`{name}`" for name in row.variables)
        kind = row.kind.name.replace("|", "\\|")
        default = str(row.default).lower() if row.kind.shape == "switch" else str(row.default)
        lines.append(f"| `{row.key}` | {option} | {names} | {kind} | {f'`{default}`' if default else ''} | {row.doc} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """docs/settings.md: every setting of functions and of nodes. `python -m faas.config` prints it."""
    return (
        "# Settings\n\n"
        "Generated from the tables in `faas/settings.py` and `faas/config.py`: `python -m faas.config > "
        "docs/settings.md`.\n\n"
        "Durations: `30`, `30s`, `5m`, `1h30m`, `250ms`. Sizes: `1048576`, `256M`, `256MiB`; every unit is a power of "
        "1024.\n\n"
        "## Functions\n\n"
        "Keys of a function in `faas.toml` (or `[tool.faas]`), and flags of `faas push`. Flags are stronger.\n\n"
        + settings_markdown()
        + f"\n## Nodes\n\nFlags of `faas up`. A flag is stronger than its variable, that than `{CONFIG_FILE}`.\n\n"
        + config_table_markdown()
    )


def _parse_file(text: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        raise Invalid(
            f"{CONFIG_FILE} is not TOML: {error}", hint="Correct the line named, then start again."
        ) from error


def _pick(
    row: Row, flags: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, Any]
) -> tuple[str, object]:
    """(source, value) of the strongest source that has the key. An empty variable counts as unset."""
    if flags.get(row.key) is not None:
        return row.option, flags[row.key]
    for name in row.variables:
        if environ.get(name):
            return name, environ[name]
    if row.key in file:
        return f"{CONFIG_FILE}: {row.key}", file[row.key]
    return f"default of {row.key}", row.default


def _refuse_unknown(given: Mapping[str, object], where: str, known: Sequence[str] | Mapping[str, Row]) -> None:
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known) or f"Known keys: {', '.join(known)}."
            raise Invalid(f'{where}: unknown key "{key}"', hint=hint)


def _absolute(path: str, environ: Mapping[str, str]) -> str:
    if not path:
        return ""
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return os.path.abspath(path)


def _check_together(config: NodeConfig) -> None:
    if not config.listen.loopback and config.listen.port and config.listen == config.admin_listen:
        raise Invalid(
            f"listen and admin_listen are both {config.listen}: public calls and the control API need one each",
            hint="Leave out --admin-listen, or give it another port.",
        )
    if config.redis and not config.redis.startswith(("redis://", "rediss://", "unix://")):
        raise Invalid(
            "redis is not a URL that starts with redis://, rediss:// or unix://",
            hint="Write --redis redis://HOST:6379/0, or leave it out for the embedded server.",
        )
    if config.cluster_secret_file and not config.redis:
        raise Invalid(
            f'cluster_secret_file = "{config.cluster_secret_file}" is for several nodes: they need one Redis',
            hint="Give --redis too.",
        )
    if bool(config.tls_cert) != bool(config.tls_key):
        missing = "tls_key" if config.tls_cert else "tls_cert"
        raise Invalid(f"{missing} is missing: TLS needs a certificate and its key", hint="Give both files, or none.")
    for key in ("admin_token", "secret_key"):
        if getattr(config, key) and getattr(config, key + "_file"):
            raise Invalid(f"{key} and {key}_file are both given", hint="Keep one of the two.")


if __name__ == "__main__":
    print(settings_page(), end="")
