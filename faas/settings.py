"""The manual of a function's settings: one row a key, for manifests, flags, API and documentation.

A key is what people write in faas.toml; its flag is `--key` (with exceptions in the row); its field is where
`model.Settings` keeps the value. To add a setting, add a field there and a row here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faas import kinds
from faas.errors import Invalid, did_you_mean
from faas.kinds import Kind
from faas.model import MIB, Settings
from faas.reach import origin_text, parse_rate, route_text

HOUR = 3600.0
DAY = 24 * HOUR
SCHEMA = 1
"""Version of the manifest's format."""

_PYTHON_HANDLER = re.compile(r"[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?")
_CRON_FIELD = re.compile(r"[0-9A-Za-z*?,/#-]+")
_CRON_WORDS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")


def _cron(text: str) -> str:
    """Five fields, or a word such as `@daily`; single spaces between fields."""
    fields = text.split()
    if text.strip() in _CRON_WORDS:
        return text.strip()
    if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(field) for field in fields):
        raise ValueError(
            f'"{text}" is not a schedule: write minute hour day month weekday, such as "*/5 * * * *", '
            f"or one of {', '.join(_CRON_WORDS)}"
        )
    return " ".join(fields)


def _rate(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a rate: write 100/s, 30/m or 1000/h")
    return parse_rate(value).text if value else ""


_RATE = Kind("COUNT/s|m|h", _rate, {"type": "string", "pattern": r"^(?:\d{1,9}\s*/\s*[smh])?$"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. `doc` is one line for help texts and documentation."""

    key: str
    kind: Kind
    doc: str
    field: str = ""
    flag: str = ""

    @property
    def attribute(self) -> str:
        """Name of the field in `model.Settings`."""
        return self.field or self.key

    @property
    def option(self) -> str:
        """The flag of `faas push`."""
        return self.flag or "--" + self.key.replace("_", "-")

    @property
    def default(self) -> Any:
        return getattr(Settings(), self.attribute)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "runtime",
        kinds.text(r"[a-z][a-z0-9.-]{0,39}", 'a runtime is written like "python3.11"'),
        "Runtime that runs the code; `faas runtimes ls` lists them.",
    ),
    Setting(
        "handler",
        kinds.text(r"[^\s\x00-\x1f]{0,200}", "at most 200 characters without spaces"),
        "Handler as `module:attribute`; empty: found by the runtime's rules.",
    ),
    Setting(
        "style",
        kinds.text(r"(?:[a-z][a-z0-9-]{0,31})?", "lower-case letters, digits and -"),
        "Calling convention of the handler; empty: the runtime's own.",
    ),
    Setting(
        "memory",
        kinds.size(16 * MIB, 1024 * 1024 * MIB),
        "Memory of one instance; beyond it the instance is killed.",
    ),
    Setting("cpu", kinds.number(0.01, 1024), "CPUs of one instance; fractions are fine."),
    Setting(
        "timeout",
        kinds.duration(0.001, DAY),
        "Longest run of one call; a sync call's clock stands still during a cold start.",
        field="timeout_s",
    ),
    Setting(
        "start_timeout",
        kinds.duration(0.1, HOUR),
        "Longest start of an instance: imports and start hooks.",
        field="start_timeout_s",
    ),
    Setting(
        "max_age",
        kinds.duration(1, 30 * DAY),
        "Longest wait of a background call before it is given up.",
        field="max_age_s",
    ),
    Setting(
        "concurrency",
        kinds.integer(0, 1000),
        "Calls at once in one instance; 0: 1 for sync handlers, 16 for async ones.",
    ),
    Setting("min", kinds.integer(0, 10_000), "Instances kept even when nobody calls."),
    Setting("max", kinds.integer(1, 10_000), "Most instances over all nodes."),
    Setting(
        "idle",
        kinds.duration(0, 30 * DAY),
        "Idle time after which an instance above `min` ends.",
        field="idle_s",
    ),
    Setting("body", kinds.size(0, 1024 * MIB), "Largest request body; beyond it the caller gets 413."),
    Setting(
        "waiting",
        kinds.integer(0, 100_000),
        "Sync calls that may wait for room on one node; beyond it callers get 429.",
    ),
    Setting(
        "retries",
        kinds.integer(0, 100),
        "Further attempts of a background call after the first one failed.",
    ),
    Setting(
        "retry_wait",
        kinds.duration(0, DAY),
        "Longest wait before the second attempt; the real one is drawn between 0 and it.",
        field="retry_wait_s",
    ),
    Setting("retry_factor", kinds.number(1, 10), "What the longest wait grows by from attempt to attempt."),
    Setting(
        "retry_cap",
        kinds.duration(0, DAY),
        "Longest wait between two attempts.",
        field="retry_cap_s",
    ),
    Setting(
        "max_in_flight",
        kinds.integer(0, 100_000),
        "Background calls running at once over all nodes; 0: no limit of its own.",
    ),
    Setting(
        "env",
        kinds.variables(),
        "Environment variables, as NAME=VALUE on the command line; not for secrets.",
    ),
    Setting(
        "secrets",
        kinds.listing("NAME", kinds.variable_name, r"(?!FAAS_)[A-Za-z_][A-Za-z0-9_]{0,127}"),
        "Secrets of the app that the function gets as variables and files.",
        flag="--secret",
    ),
    Setting(
        "network",
        kinds.choice("egress", "none"),
        "What the code can reach: the outside (`egress`) or nothing (`none`).",
    ),
    Setting("public", kinds.switch(), "Anyone may call it, also from other machines without a token."),
    Setting(
        "routes",
        kinds.listing("[METHOD ][HOST]/path", route_text),
        'Paths that call the function, such as "GET /users/{id}" or "api.example.com/files/* rate=10/s body=1MiB".',
        flag="--route",
    ),
    Setting(
        "cors",
        kinds.listing("origin", origin_text),
        'Origins whose pages may call it from a browser, such as "https://app.example.com", or "*".',
    ),
    Setting(
        "rate",
        _RATE,
        "Most calls from one client address on one node, such as 100/s or 30/m; beyond it callers get 429.",
    ),
    Setting(
        "cron",
        kinds.listing("schedule", _cron),
        'Schedules that call the function, such as "*/5 * * * *".',
    ),
)
BY_KEY: Mapping[str, Setting] = {row.key: row for row in SETTINGS}


def build_settings(raw: Mapping[str, object], where: str) -> Settings:
    """Settings from keys as people write them.

    Args:
        raw: keys of the table above; a missing key keeps its default.
        where: what the values come from, for messages: `faas.toml [functions.hello]`.

    Raises:
        Invalid: naming key, value and rule, or the closest key for an unknown one.
    """
    values: dict[str, Any] = {}
    for key, value in raw.items():
        row = BY_KEY.get(key)
        if row is None:
            hint = did_you_mean(key, BY_KEY) or f"Known keys: {', '.join(BY_KEY)}."
            raise Invalid(f'{where}: unknown key "{key}"', hint=hint)
        try:
            values[row.attribute] = row.kind.parse(value)
        except (ValueError, OverflowError) as error:
            raise Invalid(f"{where}: {key}: {error}", hint=row.doc) from error
    settings = Settings(**values)
    _check_together(settings, where)
    return settings


def check_settings(settings: Settings, where: str) -> Settings:
    """`settings` after the same checks, for values that came as a struct. Raises Invalid."""
    return build_settings({row.key: getattr(settings, row.attribute) for row in SETTINGS}, where)


def show_settings(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults, as a manifest would have them; JSON-ready."""
    return {
        row.key: row.kind.show(value) for row in SETTINGS if (value := getattr(settings, row.attribute)) != row.default
    }


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of faas.toml."""
    properties: dict[str, Any] = {
        row.key: {**row.kind.schema, "description": row.doc, "default": row.kind.show(row.default)} for row in SETTINGS
    }
    properties["path"] = {"type": "string", "description": "Folder of the code, relative to this file."}
    properties["file"] = {
        "type": "string",
        "description": "Only file of the code, relative to this file.",
    }
    function = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "faas.toml",
        "type": "object",
        "properties": {
            "schema": {"const": SCHEMA, "description": "Version of this format."},
            "app": {"type": "string", "description": "App of all functions in this file."},
            "functions": {
                "type": "object",
                "description": "One table a function, under its name.",
                "additionalProperties": function,
            },
        },
        "additionalProperties": False,
    }


def settings_markdown() -> str:
    """The table as documentation."""
    lines = ["| key | flag | value | default | meaning |", "|---|---|---|---|---|"]
    for row in SETTINGS:
        value = row.kind.name.replace("|", "\\|")
        default = str(row.kind.show(row.default) or "")
        if row.kind.shape in ("list", "map"):
            default = ""
        elif row.kind.shape == "switch":
            default = str(row.default).lower()
        elif row.kind.name != "text":
            default = str(row.kind.show(row.default))
        lines.append(f"| `{row.key}` | `{row.option}` | {value} | {f'`{default}`' if default else ''} | {row.doc} |")
    return "\n".join(lines) + "\n"


def _check_together(settings: Settings, where: str) -> None:
    if settings.min > settings.max:
        raise Invalid(
            f"{where}: min = {settings.min} is more than max = {settings.max}", hint="Raise max or lower min."
        )
    both = sorted(set(settings.env) & set(settings.secrets))
    if both:
        raise Invalid(f'{where}: "{both[0]}" is in env and in secrets', hint="Keep it in one of the two.")
    if settings.handler and settings.runtime.startswith("python") and not _PYTHON_HANDLER.fullmatch(settings.handler):
        raise Invalid(
            f'{where}: handler = "{settings.handler}" is not a Python handler',
            hint='Write "module:attribute", such as "main:handler".',
        )
