from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.errors import Invalid
from faas.model import MIB, Settings
from faas.settings import (
    BY_KEY,
    SETTINGS,
    build_settings,
    check_settings,
    json_schema,
    settings_markdown,
    show_settings,
)


def test_table_and_model_have_the_same_fields() -> None:
    assert sorted(row.attribute for row in SETTINGS) == sorted(field.name for field in msgspec.structs.fields(Settings))


def test_no_two_rows_share_a_flag() -> None:
    flags = [row.option for row in SETTINGS]
    assert len(set(flags)) == len(flags)


def test_every_row_is_documented_in_one_line() -> None:
    for row in SETTINGS:
        assert row.doc, row.key
        assert "\n" not in row.doc
        assert f"| `{row.key}` |" in settings_markdown()


def test_defaults_pass_their_own_rules_and_are_not_shown() -> None:
    assert build_settings({}, "x") == Settings()
    assert check_settings(Settings(), "x") == Settings()
    assert show_settings(Settings()) == {}


def test_reads_what_people_write() -> None:
    raw = {
        "memory": "512M",
        "timeout": "1m30s",
        "cpu": "0.5",
        "min": "1",
        "public": "yes",
        "env": {"A": "1"},
        "secrets": ["KEY"],
        "routes": ["get /users/{id}", "/files/{name}/raw"],
        "cron": ["*/5  * * * *", "@daily"],
        "network": "none",
        "handler": "main:handler",
    }
    settings = build_settings(raw, "x")
    assert settings.memory == 512 * MIB
    assert settings.timeout_s == 90.0
    assert settings.cpu == 0.5
    assert settings.min == 1
    assert settings.public is True
    assert settings.routes == ("GET /users/{id}", "/files/{name}/raw")
    assert settings.cron == ("*/5 * * * *", "@daily")
    assert check_settings(settings, "x") == settings
    assert build_settings(show_settings(settings), "x") == settings


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"memroy": "1G"}, ['unknown key "memroy"', "memory"]),
        ({"nothing_like_it": 1}, ["unknown key", "Known keys"]),
        ({"memory": "1M"}, ["memory", "1M", "16MiB"]),
        ({"memory": "much"}, ["memory", "much", "256MiB"]),
        ({"memory": True}, ["memory", "True"]),
        ({"timeout": "0"}, ["timeout", "1ms", "1d"]),
        ({"timeout": "25h"}, ["timeout", "25h"]),
        ({"timeout": [1]}, ["timeout", "[1]"]),
        ({"cpu": 0}, ["cpu", "0.01"]),
        ({"cpu": float("nan")}, ["cpu", "nan"]),
        ({"cpu": 10**400}, ["cpu"]),
        ({"timeout": 10**400}, ["timeout"]),
        ({"memory": "9" * 400 + "T"}, ["memory"]),
        ({"min": -1}, ["min", "-1", "from 0"]),
        ({"min": 1.5}, ["min", "1.5", "whole number"]),
        ({"max": 0}, ["max", "from 1"]),
        ({"min": 5, "max": 2}, ["min = 5", "max = 2"]),
        ({"min": 21}, ["min = 21", "max = 20"]),
        ({"concurrency": "many"}, ["concurrency", "many"]),
        ({"public": "maybe"}, ["public", "maybe", "true or false"]),
        ({"public": 1}, ["public", "1"]),
        ({"network": "host"}, ["network", "host", "egress, none"]),
        ({"env": ["A=1"]}, ["env", "table"]),
        ({"env": {"1A": "x"}}, ["env", "1A"]),
        ({"env": {"A-B": "x"}}, ["env", "A-B"]),
        ({"env": {"FAAS_X": "x"}}, ["env", "FAAS_X", "platform"]),
        ({"env": {"A": 8080}}, ["env", 'A = "8080"']),
        ({"env": {"A": "x\0"}}, ["env", "NUL"]),
        ({"env": {"A": "x" * 70_000}}, ["env", "64KiB"]),
        ({"secrets": "KEY"}, ["secrets", "list"]),
        ({"secrets": ["FAAS_KEY"]}, ["secrets", "FAAS_KEY"]),
        ({"secrets": ["A", "A"]}, ["secrets", "twice"]),
        ({"secrets": ["A"], "env": {"A": "x"}}, ['"A"', "env and in secrets"]),
        ({"secrets": [f"A{n}" for n in range(101)]}, ["secrets", "100"]),
        ({"routes": ["users"]}, ["routes", "users"]),
        ({"routes": ["FETCH /x"]}, ["routes", "GET"]),
        ({"routes": ["/v1/x"]}, ["routes", "platform"]),
        ({"routes": ["/a//b"]}, ["routes", "segment"]),
        ({"routes": ["/{a}/{a}"]}, ["routes", "twice"]),
        ({"routes": ["/../x"]}, ["routes", ".."]),
        ({"cron": ["every day"]}, ["cron", "every day", "minute hour"]),
        ({"cron": [5]}, ["cron", "5"]),
        ({"runtime": "Python 3"}, ["runtime", "python3.11"]),
        ({"runtime": 3.11}, ["runtime", "3.11"]),
        ({"handler": "a b"}, ["handler", "a b"]),
        ({"handler": "a/b.py"}, ["handler", "module:attribute"]),
        ({"style": "Big"}, ["style", "Big"]),
        ({"body": "2G"}, ["body", "2G"]),
    ],
)
def test_bad_values_name_place_key_value_and_rule(raw: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        build_settings(raw, "faas.toml [functions.a]")
    text = f"{caught.value.message} {caught.value.hint}"
    assert "faas.toml [functions.a]" in text
    for word in words:
        assert word in text
    assert len(caught.value.message) < 500


def test_checks_values_that_came_as_a_struct() -> None:
    with pytest.raises(Invalid, match="memory"):
        check_settings(Settings(memory=1), "push of hello")
    with pytest.raises(Invalid, match="timeout"):
        check_settings(Settings(timeout_s=float("inf")), "push of hello")


@given(
    st.builds(
        Settings,
        memory=st.integers(16 * MIB, 2**40),
        cpu=st.floats(0.01, 1024),
        timeout_s=st.integers(1, 86_400_000).map(lambda ms: ms / 1000),
        min=st.integers(0, 20),
        body=st.integers(0, 1024 * MIB),
        public=st.booleans(),
        env=st.dictionaries(st.from_regex(r"[A-EG-Z][A-Z0-9_]{0,9}", fullmatch=True), st.text("ab=\n")),
    )
)
def test_what_is_shown_reads_back(settings: Settings) -> None:
    assert build_settings(show_settings(settings), "x") == settings


@given(
    st.sampled_from(sorted(BY_KEY)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda leaf: st.lists(leaf) | st.dictionaries(st.text(), leaf),
        max_leaves=5,
    ),
)
def test_nothing_but_invalid_is_raised(key: str, value: Any) -> None:
    try:
        settings = build_settings({key: value}, "x")
    except Invalid:
        return
    assert check_settings(settings, "x") == settings


def test_schema_is_valid_and_knows_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    function = schema["properties"]["functions"]["additionalProperties"]
    assert set(BY_KEY) <= set(function["properties"])
    good = {
        "schema": 1,
        "app": "shop",
        "functions": {"a": {"memory": "1G", "timeout": 5, "routes": ["/x"], "env": {"A": "b"}}},
    }
    jsonschema.validate(good, schema)
    for bad in ({"memry": 1}, {"network": "host"}, {"env": {"FAAS_A": "x"}}, {"min": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"functions": {"a": bad}}, schema)
