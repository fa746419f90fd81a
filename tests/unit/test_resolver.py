"""Lists of packages, recipes, and what uv is told and says: everything that needs no network."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from faas.deps import commands, rooms
from faas.deps.recipe import Recipe, declaration, key_of, own_platform, python_of, read_recipe
from faas.deps.words import KILLED, TIMED_OUT, WORDS_MAX, DependenciesFailed, failure, needs_source, shorten
from faas.errors import Invalid, Unavailable
from faas.model import Requires
from faas.requirements import (
    COUNT_MAX,
    TEXT_MAX,
    check_index,
    check_requirements,
    has_addresses,
    is_hashed,
    secrets_in,
    with_secrets,
)

HASH = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        ("# only words\n\n", ""),
        ("numpy", "numpy\n"),
        ("numpy>=2,<3 ; python_version < '3.12'  # why\r\n", "numpy>=2,<3 ; python_version < '3.12'\n"),
        ("requests[socks, security]==2.*\nzope.interface\n", "requests[socks, security]==2.*\nzope.interface\n"),
        (f"a==1 \\\n    {HASH} \\\n    {HASH}\n", f"a==1 {HASH} {HASH}\n"),
        ("a @ https://x.test/a-1.whl#sha256=0", "a @ https://x.test/a-1.whl#sha256=0\n"),
        ("a @ git+https://x.test/a@v1", "a @ git+https://x.test/a@v1\n"),
        ("a~=1.4.2 \\", "a~=1.4.2\n"),
    ],
)
def test_lists_and_their_normal_form(text: str, normal: str) -> None:
    assert check_requirements(text, "x") == normal


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "-c limits.txt", "-e .", "--index-url https://x.test/", "--find-links /etc", ".", "./a", "/etc",
        "a @ file:///etc/passwd", "a @ ./a", "a @ /etc/passwd", "a @ ftp://x/a.whl", "file:///etc/passwd", "a.whl",
        "dir/a.whl", "https://x.test/a.whl", "a @ https://u:p@x.test/${HOME}", "a==${HOME}", "a b",
        "a==1 --config-settings=x",
        "a @ git+ssh://x/a", "a @ git+file:///a", "../a", "~/a", "a.tar.gz", "$(id)",
    ],
)  # fmt: skip
def test_what_would_reach_for_the_node_is_refused(line: str) -> None:
    with pytest.raises(Invalid, match="line 2") as refused:
        check_requirements(f"# a list\n{line}\n", "the list")
    assert refused.value.hint


def test_lists_are_bounded() -> None:
    with pytest.raises(Invalid, match="characters"):
        check_requirements("x" * (TEXT_MAX + 1), "x")
    with pytest.raises(Invalid, match="requirements: at most"):
        check_requirements("a\n" * (COUNT_MAX + 1), "x")


def test_locks_and_addresses_are_known() -> None:
    assert is_hashed(check_requirements(f"a==1 {HASH}\nb==2 \\\n {HASH}", "x"))
    assert not is_hashed(f"a==1 {HASH}\nb==2\n")
    assert not is_hashed("")
    assert has_addresses("a @ https://x.test/a.whl\n")
    assert not has_addresses("a\n")


def test_secrets_of_an_index() -> None:
    url = check_index("https://me:${PASS}@x.test/${PATH_1}/simple")
    assert secrets_in(url) == ("PASS", "PATH_1")
    assert with_secrets(url, {"PASS": "a/b@c", "PATH_1": "p"}) == "https://me:a%2Fb%40c@x.test/p/simple"


@pytest.mark.parametrize("url", ["", "x", "file:///x", "https:///x", "https://a b/", "https://a:b@x/", "--index"])
def test_bad_addresses_of_an_index(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_index(url)
    assert "a:b" not in refused.value.message


def test_a_recipe_is_named_by_its_text() -> None:
    recipe = Recipe(lock=f"a==1 {HASH}\n", runtime="python3.11", platform=own_platform())
    data = recipe.encode()
    assert read_recipe(key_of(data), data) == recipe
    assert read_recipe("0" * 64, data) is None, "another text under this name"
    assert read_recipe(key_of(b"\x28\xb5"), b"\x28\xb5") is None, "an archive"
    newer = data.replace(b"{", b'{"colour":"red",', 1)
    with pytest.raises(Invalid, match="another version"):
        read_recipe(key_of(newer), newer)


def test_what_decides_a_declaration() -> None:
    one = Requires(requirements="a\n")
    assert declaration(one, "python3.11") == declaration(Requires(requirements="a\n"), "python3.11")
    others = {
        declaration(one, "python3.12"),
        declaration(Requires(requirements="b\n"), "python3.11"),
        declaration(Requires(requirements="a\n", index="https://x.test/"), "python3.11"),
    }
    assert len(others | {declaration(one, "python3.11")}) == 4


def test_only_python_has_packages() -> None:
    assert python_of("python3.13") == "3.13"
    for runtime in ("exec", "node22", "python"):
        with pytest.raises(Invalid, match="Python runtimes only"):
            python_of(runtime)


def test_the_node_runs_wheels_only_and_keeps_its_own_to_itself(tmp_path: Path) -> None:
    options = commands.wheels_for("3.11", "x86_64-manylinux_2_28", "/py")
    assert options[:2] == ["--only-binary", ":all:"]
    env = commands.node_environment(
        {"FAAS_ADMIN_TOKEN": "t", "PYTHONPATH": "p", "HTTPS_PROXY": "x", "UV_INDEX": "https://a:b@x/"}, tmp_path
    )
    assert "FAAS_ADMIN_TOKEN" not in env
    assert "PYTHONPATH" not in env
    assert (env["HTTPS_PROXY"], env["UV_INDEX"], env["UV_CACHE_DIR"]) == ("x", "https://a:b@x/", str(tmp_path))
    assert commands.node_environment({"UV_CACHE_DIR": "/mine"}, tmp_path)["UV_CACHE_DIR"] == "/mine"


def test_a_workshop_sees_no_credentials_of_the_operator(tmp_path: Path) -> None:
    environ = {
        "UV_DEFAULT_INDEX": "https://a:hunter2@x/", "UV_INDEX": "https://open.test/", "AWS_SECRET": "s",
        "HOME": "/root",
        "SSL_CERT_FILE": str(tmp_path), "UV_FIND_LINKS": f"{tmp_path},https://x.test/links",
    }  # fmt: skip
    env = commands.workshop_environment(environ, "https://me:p@own.test/")
    assert "hunter2" not in str(env)
    assert "AWS_SECRET" not in env
    assert env["UV_INDEX"] == "https://me:p@own.test/ https://open.test/"
    assert commands.shown_to_workshops("/uv", environ) == [Path("/uv"), tmp_path, tmp_path]


def test_words_are_short_and_without_secrets() -> None:
    output = "Using CPython 3.11\n\x1b[31merror\x1b[0m: no solution\n  cause: https://me:pw@x/ and hunter2\n"
    assert shorten(output, ["hunter2", ""]) == "no solution\n  cause: https://***@x/ and ***"
    long = shorten("error: first\n" + "x" * 50_000 + "\nlast")
    assert len(long) < WORDS_MAX + 100
    assert long.startswith("first")
    assert long.endswith("last")


def test_whose_fault_it_is() -> None:
    solver = failure("resolving", 1, "error: No solution found", (), 1)
    assert isinstance(solver, DependenciesFailed)
    assert "No solution found" in solver.message
    assert isinstance(failure("resolving", 2, "error: x\n  cause: dns error", (), 1), Unavailable)
    assert "longer than 5 seconds" in failure("building", TIMED_OUT, "", (), 5).message
    assert "memory" in failure("building", KILLED, "", (), 5).message
    assert "said nothing" in failure("building", 3, "", (), 5).message


def test_a_missing_wheel_is_told_from_a_conflict() -> None:
    assert needs_source("Because docopt==0.6.2 has no usable wheels and you require")
    assert not needs_source("Because nosuch was not found in the package registry")


def test_what_a_package_left_is_read_safely(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").write_text("0123456789")
    assert rooms.read_plain(tmp_path / "link", 100) == ""
    assert rooms.read_plain(tmp_path / "pipe", 100) == ""
    assert rooms.read_plain(tmp_path / "none", 100) == ""
    assert rooms.read_plain(tmp_path / "plain", 4) == "6789"


def test_a_sealed_tree_holds_nothing_odd_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    site = tmp_path / "site"
    (site / "pkg").mkdir(parents=True)
    (site / "pkg" / "tool").write_text("x")
    (site / "pkg" / "tool").chmod(0o4777)
    (site / "pkg" / "data").write_text("x")
    (site / "pkg" / "link").symlink_to(outside)
    (site / "pkg").chmod(0o777)
    os.mkfifo(site / "pkg" / "pipe")
    rooms.seal(site)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in site.rglob("*") if not path.is_symlink()}
    assert modes == {"pkg": 0o755, "tool": 0o555, "data": 0o444}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600
    assert rooms.size_of(site) > 0
