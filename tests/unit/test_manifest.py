from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.errors import Invalid
from faas.manifest import parse_manifest, parse_pyproject, parse_script, substitute
from faas.model import MIB

WHERE = "faas.toml"


def manifest(text: str, **variables: str) -> Any:
    return parse_manifest(text, WHERE, variables)


def test_reads_functions_with_their_settings() -> None:
    found = manifest("""
        schema = 1
        app = "shop"
        [functions.resize]
        file = "images/resize.py"
        memory = "1G"
        env = { SIZE = "big" }
        [functions.web]
        path = "site/"
        handler = "main:handle"
        routes = ["GET /users/{id}"]
    """)
    assert found.app == "shop"
    resize, web = found.functions
    assert (resize.name, resize.file, resize.path) == ("resize", "images/resize.py", "")
    assert (web.name, web.path) == ("web", "site")
    assert resize.settings({}).memory == 1024 * MIB
    assert web.settings({}).routes == ("GET /users/{id}",)


def test_flags_are_stronger_and_env_is_joined() -> None:
    entry = manifest('[functions.a]\nmemory = "1G"\nenv = { A = "1", B = "2" }\n').functions[0]
    settings = entry.settings({"memory": 512 * MIB, "env": {"B": "3", "C": "4"}})
    assert settings.memory == 512 * MIB
    assert settings.env == {"A": "1", "B": "3", "C": "4"}
    with pytest.raises(Invalid, match=r"faas.toml \[functions.a\] and flags"):
        entry.settings({"min": 30})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("functions = [", ["faas.toml is not TOML"]),
        ("x = " + "[" * 5000, ["faas.toml is not TOML"]),
        ("schema = 1", ["no functions", "[functions.NAME]"]),
        ("schema = 2\n[functions.a]", ["schema = 2", "schema = 1"]),
        ("schema = true\n[functions.a]", ["schema = True"]),
        ("function = 1", ['unknown key "function"', "functions"]),
        ("functions = 1", ["[functions]", "table"]),
        ("[functions]\na = 1", ["[functions.a]", "table"]),
        ("app = 5\n[functions.a]", ["app = 5", "quotes"]),
        ('app = "A B"\n[functions.a]', ["A B", "app name"]),
        ('app = "v1"\n[functions.a]', ["v1"]),
        ('[functions."My F"]', ["My F", "function name"]),
        ("[functions.a]\nmemroy = 1", ["[functions.a]", "memroy", "memory"]),
        ("[functions.a]\nmemory = []", ["[functions.a]", "memory", "[]"]),
        ("[functions.a]\nmin = 3\nmax = 2", ["[functions.a]", "min = 3"]),
        ('[functions.a]\npath = "../x"', ["[functions.a]: path", "../x", "leaves the folder"]),
        ('[functions.a]\nfile = "/etc/passwd"', ["[functions.a]: file", "/etc/passwd"]),
        ("[functions.a]\nfile = 1", ["[functions.a]: file", "1"]),
        ('[functions.a]\nfile = "a.py"\npath = "b"', ["path and file"]),
        ('[functions.a]\nruntime = "${NOPE}"', ["[functions.a]: runtime", "NOPE is not set", "${NOPE:-default}"]),
        ('[functions.a]\nruntime = "${1x}"', ["${1x}", "reference"]),
    ],
)
def test_bad_manifests_name_file_table_key_and_rule(text: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        manifest(text)
    shown = f"{caught.value.message} {caught.value.hint}"
    for word in [WHERE, *words]:
        assert word in shown
    assert len(caught.value.message) < 600


def test_limits() -> None:
    with pytest.raises(Invalid, match="1048576"):
        manifest("#" * (1024 * 1024 + 1))
    with pytest.raises(Invalid, match="at most 1000"):
        manifest("\n".join(f"[functions.f{n}]" for n in range(1001)))


def test_variables_are_replaced_everywhere_in_values() -> None:
    found = manifest(
        'app = "${APP:-shop}"\n[functions.a]\nmemory = "${MEM}"\nsecrets = ["${KEY}"]\n'
        'env = { A = "x${B:-}y", C = "$${B}" }\n',
        MEM="64M",
        KEY="TOKEN",
    )
    settings = found.functions[0].settings({})
    assert found.app == "shop"
    assert settings.memory == 64 * MIB
    assert settings.secrets == ("TOKEN",)
    assert settings.env == {"A": "xy", "C": "${B}"}


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("plain $5 {x}", {}, "plain $5 {x}"),
        ("${A}", {"A": "${B}"}, "${B}"),
        ("${A}", {"A": ""}, ""),
        ("${A:-x y}", {"A": ""}, "x y"),
        ("${A:-:-}", {}, ":-"),
        ("${A}${A}", {"A": "1"}, "11"),
    ],
)
def test_substitution(text: str, variables: dict[str, str], expected: str) -> None:
    assert substitute(text, variables, "x") == expected


def test_pyproject() -> None:
    assert parse_pyproject('[project]\nname = "x"\n', "pyproject.toml", {}) is None
    assert parse_pyproject("tool = 1", "pyproject.toml", {}) is None
    found = parse_pyproject('[tool.faas]\napp = "shop"\n[tool.faas.functions.a]\nmin = 1\n', "pyproject.toml", {})
    assert found is not None
    assert (found.app, found.functions[0].name) == ("shop", "a")
    with pytest.raises(Invalid, match=r"pyproject.toml \[tool.faas.functions.a\]: unknown key"):
        parse_pyproject("[tool.faas.functions.a]\nmni = 1\n", "pyproject.toml", {})


def header(*lines: str) -> str:
    return "\n".join(["import os", "", "# /// script", *(f"# {line}".rstrip() for line in lines), "# ///", "", "x = 1"])


def test_script_with_settings_of_its_one_function() -> None:
    text = header('requires-python = ">=3.11"', "dependencies = []", "", "[tool.faas]", 'name = "hi"', 'memory = "1G"')
    script = parse_script(text, "hello.py", {})
    assert script.dependencies == ()
    entry = script.manifest.functions[0]
    assert entry.name == "hi"
    assert entry.settings({}).memory == 1024 * MIB
    assert parse_script(text.replace("\n", "\r\n"), "hello.py", {}).manifest.functions[0].name == "hi"


def test_script_with_several_functions() -> None:
    lines = ("[tool.faas.functions.a]", 'handler = "hello:a"', "[tool.faas.functions.b]", 'handler = "hello:b"')
    script = parse_script(header(*lines), "hello.py", {})
    assert [entry.name for entry in script.manifest.functions] == ["a", "b"]


def test_script_without_a_header() -> None:
    assert parse_script("x = 1\n# /// script\nx = 2", "hello.py", {}).manifest.functions == ()
    assert parse_script("# /// other\n# a\n# ///\n", "hello.py", {}).dependencies == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (header("dependencies = ["), ["hello.py", "TOML"]),
        (header("dependencies = 5"), ["hello.py", "dependencies"]),
        (header("dependencies = [5]"), ["hello.py", "dependencies"]),
        (header("[tool.faas]", "memroy = 1"), ["hello.py [tool.faas]", "memroy", "memory"]),
        (header("[tool]", "faas = 1"), ["hello.py [tool.faas]", "table"]),
        (header("[tool.faas]", 'name = "A B"'), ["hello.py [tool.faas]", "A B"]),
        (header("x = 1") + "\n" + header("x = 1"), ["2 script headers"]),
    ],
)
def test_bad_headers(text: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_script(text, "hello.py", {})
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_script_dependencies_are_reported_not_judged() -> None:
    assert parse_script(header('dependencies = ["numpy>=2"]'), "hello.py", {}).dependencies == ("numpy>=2",)


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_invalid(text: str) -> None:
    for read in (parse_manifest, parse_pyproject, parse_script):
        with contextlib.suppress(Invalid):
            read(text, "x", {})
