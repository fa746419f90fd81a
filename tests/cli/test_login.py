"""Where commands go and with which token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faas.errors import FaasError, Forbidden, Invalid, NotFound
from faas.sdk.credentials import DEFAULT_URL, Context, Contexts, config_file, find, load, save
from tests.cli.conftest import Faas
from tests.cli.fakenode import TOKEN, FakeNode


@pytest.fixture
def remote(environment: pytest.MonkeyPatch, node: FakeNode) -> FakeNode:
    """A node that only `faas login` can lead to."""
    environment.delenv("FAAS_URL")
    environment.delenv("FAAS_TOKEN")
    node.json("GET", "/v1/status", {"version": "0.1.0"})
    node.json("GET", "/v1/functions", {"functions": []})
    return node


def test_login_saves_and_uses(faas: Faas, remote: FakeNode) -> None:
    ran = faas("login", remote.url + "/", "--name", "box", stdin=TOKEN + "\n")
    assert ran.code == 0, ran.err
    path = config_file(os.environ)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert faas("ls").code == 0
    assert remote.asked[-1].headers["Authorization"] == f"Bearer {TOKEN}"
    assert "* " in faas("contexts", "ls").out
    assert TOKEN not in faas("contexts", "ls", "--json").out
    assert faas("contexts", "rm", "box").code == 0
    assert load(os.environ) == Contexts()


def test_login_with_the_flag(faas: Faas, remote: FakeNode) -> None:
    assert faas("login", remote.url, "--token", "-", stdin=TOKEN).code == 0
    assert load(os.environ).current == "127-0-0-1"
    assert faas("login", remote.url, "--token", "given-directly").code == 0
    assert load(os.environ).saved["127-0-0-1"].token == "given-directly"


def test_a_refused_token_is_not_saved(faas: Faas, remote: FakeNode) -> None:
    remote.problem("GET", "/v1/status", 401, code="unauthorized", detail="unknown token")
    ran = faas("login", remote.url, stdin=TOKEN)
    assert (ran.code, config_file(os.environ).exists()) == (4, False)


def test_wrong_logins(faas: Faas, remote: FakeNode) -> None:
    assert faas("login", remote.url, stdin="").code == 2
    assert faas("login", remote.url, stdin="two words").code == 2
    assert faas("login", "nope", stdin=TOKEN).code == 2
    assert faas("login", remote.url, "--name", "A B", stdin=TOKEN).code == 2
    assert remote.asked == []


def test_contexts(faas: Faas, environment: pytest.MonkeyPatch) -> None:
    contexts = Contexts().add("one", Context("http://a:1", "ta")).add("two", Context("http://b:2", "tb"))
    save(os.environ, contexts)
    assert load(os.environ) == contexts
    assert [line["current"] for line in faas("contexts", "ls", "--json").documents] == [False, True]
    assert faas("contexts", "use", "one").code == 0
    assert find(os.environ) == ("http://a:1", "ta", "context one")
    assert find(os.environ, context="two") == ("http://b:2", "tb", "context two")
    ran = faas("contexts", "use", "ome")
    assert (ran.code, 'Did you mean "one"?' in ran.err) == (2, True)
    assert faas("contexts", "rm", "one").code == 0
    assert load(os.environ).current == ""
    assert faas("ls", "--context", "one").code == 2


def test_a_token_goes_only_where_it_belongs(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("FAAS_DATA_DIR", str(tmp_path))
    (tmp_path / "admin-token").write_text("local-token\n")
    save(os.environ, Contexts().add("one", Context("https://a.example", "ta")))
    assert find(os.environ).token == "ta"
    assert find(os.environ, url="https://a.example:443/").token == "ta"
    assert find(os.environ, url="http://a.example").token == ""
    assert find(os.environ, url="https://evil.example").token == ""
    assert find(os.environ, url="http://127.0.0.1:9").token == "local-token"
    assert find(os.environ, url="http://127.evil.example").token == ""
    assert find(os.environ, url="http://localhost:9", context="one").token == "local-token"
    assert find(os.environ, url="http://x", token="t") == ("http://x", "t", "--token")


def test_the_environment_is_stronger_than_the_current_context(environment: pytest.MonkeyPatch) -> None:
    save(os.environ, Contexts().add("one", Context("http://a:1", "ta")))
    environment.setenv("FAAS_URL", "http://b:2")
    assert find(os.environ)[:2] == ("http://b:2", "")
    environment.setenv("FAAS_TOKEN", "tb")
    assert find(os.environ)[:2] == ("http://b:2", "tb")
    assert find(os.environ, context="one")[:2] == ("http://a:1", "ta")


def test_nothing_known(environment: pytest.MonkeyPatch) -> None:
    assert find(os.environ)[:2] == (DEFAULT_URL, "")


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        ("x = [", 0o600, Invalid),
        ("current = 5", 0o600, Invalid),
        ("contexts = 5", 0o600, Invalid),
        ("[contexts]\na = 1", 0o600, Invalid),
        ("[contexts.a]\ntoken = 'x'", 0o600, Invalid),
        ("", 0o644, Forbidden),
    ],
)
def test_broken_files(environment: pytest.MonkeyPatch, content: str, mode: int, error: type[FaasError]) -> None:
    path = config_file(os.environ)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(error, match=r"config\.toml"):
        load(os.environ)


def test_strange_characters_survive(environment: pytest.MonkeyPatch) -> None:
    contexts = Contexts().add("a", Context("http://a", 'q"\\\n\t\x7fü\U0001f600'))
    save(os.environ, contexts)
    assert load(os.environ) == contexts


def test_a_folder_that_cannot_be_written(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(Invalid, match="cannot be"):
        save(os.environ, Contexts())


def test_removing_what_is_not_there() -> None:
    with pytest.raises(NotFound, match='"x"'):
        Contexts().remove("x")
