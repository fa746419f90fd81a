"""From paths to functions: names, manifests, links, ignored files, limits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from faas.cli import files as reading
from faas.cli.files import read_folder
from faas.cli.ignore import Ignore
from faas.cli.source import Source, Wishes, collect, make_name
from faas.errors import Invalid, TooLarge
from faas.model import MIB

HANDLER = "def handler(event):\n    return event\n"


def write(root: Path, **contents: str) -> Path:
    """Files under `root`; `__` in a name is `/`, a trailing extension comes after the last `_`."""
    for name, content in contents.items():
        stem, _, kind = name.rpartition("_")
        path = root / (stem.replace("__", "/") + "." + kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def only(path: Path, *, name: str = "", app: str = "") -> Source:
    (source,) = collect(path, Wishes(name, app), {})
    return source


def test_a_file(tmp_path: Path) -> None:
    write(tmp_path, hello_py=HANDLER)
    source = only(tmp_path / "hello.py")
    assert (source.name, source.app, source.notes) == ("hello", "default", ())
    assert source.files["hello.py"].content == HANDLER.encode()


@pytest.mark.parametrize(
    ("stem", "name"),
    [("My Tool", "my-tool"), ("_x_", "x"), ("Größe", "gr-e"), ("a" * 80, "a" * 63), ("v1.2", "v1-2"), ("a_b", "a_b")],
)
def test_names_are_made_valid(stem: str, name: str) -> None:
    assert make_name(stem) == name


def test_a_changed_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "My Tool.py").write_text(HANDLER)
    assert only(tmp_path / "My Tool.py").notes == ("My Tool.py becomes the function my-tool",)
    assert only(tmp_path / "My Tool.py", name="tool").name == "tool"
    (tmp_path / "v1.2.py").write_text(HANDLER)
    assert list(only(tmp_path / "v1.2.py").files) == ["v1_2.py"]


def test_no_name_can_be_made() -> None:
    with pytest.raises(Invalid, match=r"\?\?\?") as caught:
        make_name("???")
    assert "--name" in caught.value.hint


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "shop", main_py=HANDLER, lib__util_py="", main_pyc="x", __pycache____main_pyc="x", readme_md="hi")
    (tmp_path / "shop" / ".env").write_text("SECRET=1")
    source = only(tmp_path / "shop")
    assert source.name == "shop"
    assert sorted(source.files) == ["lib/util.py", "main.py", "readme.md"]


def test_a_folder_with_a_manifest(tmp_path: Path) -> None:
    toml = """
        app = "shop"
        [functions.one]
        file = "jobs/one.py"
        [functions.two]
        path = "two"
        memory = "${MEM:-1G}"
        [functions.three]
        handler = "main:three"
        [functions.four]
        handler = "main:four"
    """
    write(tmp_path, faas_toml=toml, main_py="", jobs__one_py=HANDLER, two__main_py=HANDLER)
    one, two, three, four = collect(tmp_path, Wishes(), {"MEM": "64M"})
    assert (one.name, one.app, list(one.files)) == ("one", "shop", ["one.py"])
    assert (list(two.files), two.settings.memory) == (["main.py"], 64 * MIB)
    assert sorted(three.files) == ["faas.toml", "jobs/one.py", "main.py", "two/main.py"]
    assert three.files is four.files
    assert collect(tmp_path / "faas.toml", Wishes(app="other"), {})[0].app == "other"


def test_pyproject_counts_only_with_its_table(tmp_path: Path) -> None:
    write(tmp_path / "a", pyproject_toml='[project]\nname = "x"\n', main_py=HANDLER)
    assert only(tmp_path / "a").name == "a"
    write(tmp_path / "b", pyproject_toml="[tool.faas.functions.real]\n", main_py=HANDLER)
    assert only(tmp_path / "b").name == "real"


def test_packages_in_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('# /// script\n# dependencies = ["numpy>=2", "jinja2"]\n# ///\n')
    assert only(tmp_path / "a.py").requirements == "numpy>=2\njinja2\n"
    assert only(write(tmp_path, b_py=HANDLER) / "b.py").requirements == ""


def test_packages_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, main_py=HANDLER, requirements_txt="# nothing\n")
    assert only(tmp_path, name="a").requirements == ""
    write(tmp_path, requirements_txt="numpy  # fast\n")
    assert only(tmp_path, name="a").requirements == "numpy\n"
    write(tmp_path, pyproject_toml='[project]\ndependencies = ["pandas"]\n')
    assert only(tmp_path, name="a").requirements == "numpy\n", "a list is stronger than a project"
    (tmp_path / "requirements.txt").unlink()
    assert only(tmp_path, name="a").requirements == "pandas\n"


def test_functions_of_a_folder_have_its_packages_or_their_own(tmp_path: Path) -> None:
    toml = '[functions.one]\nfile = "one.py"\n[functions.two]\npath = "two"\n[functions.three]\nfile = "three.py"\n'
    write(tmp_path, faas_toml=toml, requirements_txt="shared\n", two__requirements_txt="own\n", two__main_py=HANDLER)
    write(tmp_path, one_py='# /// script\n# dependencies = ["mine"]\n# ///\n', three_py=HANDLER)
    assert [source.requirements for source in collect(tmp_path, Wishes(), {})] == ["mine\n", "own\n", "shared\n"]


LOCK = """version = 1
revision = 3
requires-python = ">=3.9"

[[package]]
name = "demo"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "tiny" }]

[package.metadata]
requires-dist = [{ name = "tiny" }]

[[package]]
name = "tiny"
version = "1.0"
source = { registry = "https://index.test/simple" }
wheels = [
    { url = "https://index.test/tiny-1.0-py3-none-any.whl", hash = "sha256:%s", size = 100 },
]
"""


def test_a_lock_is_taken_as_it_is(tmp_path: Path) -> None:
    project = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.9"\ndependencies = ["tiny"]\n'
    write(tmp_path, main_py=HANDLER, pyproject_toml=project, requirements_txt="other\n")
    (tmp_path / "uv.lock").write_text(LOCK % ("a" * 64))
    environ = {**os.environ, "UV_OFFLINE": "1", "UV_DEFAULT_INDEX": "https://index.test/simple"}
    (source,) = collect(tmp_path, Wishes("a"), environ)
    assert source.requirements == f"tiny==1.0 --hash=sha256:{'a' * 64}\n"
    write(tmp_path, pyproject_toml=project.replace("tiny", "huge"))
    with pytest.raises(Invalid, match=r"uv\.lock: ") as stale:
        collect(tmp_path, Wishes("a"), environ)
    assert "huge" in stale.value.message
    assert stale.value.hint == "Run uv lock to bring it up to date."


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("requirements.txt", "a\n-r b.txt\n", r"requirements.txt, line 2.*is an option"),
        ("requirements.txt", "./local\n", "is not a requirement"),
        ("pyproject.toml", '[project]\ndependencies = "a"\n', "must be a list"),
        ("pyproject.toml", "[project\n", "is not TOML"),
    ],
)
def test_bad_lists_of_packages(tmp_path: Path, name: str, text: str, words: str) -> None:
    write(tmp_path, main_py=HANDLER)
    (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=words):
        collect(tmp_path, Wishes("a"), {})


@pytest.mark.parametrize(
    ("contents", "path", "wishes", "words"),
    [
        ({}, "nope", {}, "does not exist"),
        ({"a_txt": "x"}, "a.txt", {}, "is not a .py file"),
        ({"a_py": ""}, "a.py", {"name": "A B"}, "not a function name"),
        ({"a_py": ""}, "a.py", {"app": "ui"}, "cannot be an app name"),
        ({"d__faas_toml": "[functions.a]\n[functions.b]\n"}, "d", {"name": "x"}, "has 2 functions"),
        ({"d__faas_toml": '[functions.a]\nfile = "x.py"\n'}, "d", {}, "there is no file"),
        ({"d__faas_toml": '[functions.a]\npath = "x"\n'}, "d", {}, "there is no folder"),
        ({"a_py": '# /// script\n# [tool.faas.functions.b]\n# path = "x"\n# ///\n'}, "a.py", {}, "no meaning"),
    ],
)
def test_bad_paths(tmp_path: Path, contents: dict[str, str], path: str, wishes: dict[str, str], words: str) -> None:
    write(tmp_path, **contents)
    with pytest.raises(Invalid, match=words):
        collect(tmp_path / path, Wishes(wishes.get("name", ""), wishes.get("app", "")), {})


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "faas.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="not UTF-8"):
        collect(tmp_path, Wishes(), {})


def test_links_inside_are_resolved(tmp_path: Path) -> None:
    write(tmp_path, real_py="real", lib__a_py="a")
    (tmp_path / "link.py").symlink_to("real.py")
    (tmp_path / "alias").symlink_to("lib")
    found = read_folder(tmp_path)
    assert found["link.py"].content == b"real"
    assert found["alias/a.py"].content == b"a"


def test_links_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    code, other = tmp_path / "code", tmp_path / "other"
    write(code, main_py="")
    write(other, secret_txt="s")
    link = code / "link"
    for target, words in (
        (other / "secret.txt", "link leaves the folder"),
        (other, "link leaves the folder"),
        (code / "nothing", "leads nowhere"),
        (link, "leads nowhere"),
        (code, "leads back"),
    ):
        link.symlink_to(target)
        with pytest.raises(Invalid, match=words):
            read_folder(code)
        link.unlink()


def test_a_manifest_cannot_reach_out_by_a_link(tmp_path: Path) -> None:
    code = write(tmp_path / "code", faas_toml='[functions.a]\nfile = "x.py"\n')
    write(tmp_path, secret_py="")
    (code / "x.py").symlink_to(tmp_path / "secret.py")
    with pytest.raises(Invalid, match="leads out of"):
        collect(code, Wishes(), {})


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(Invalid, match=r"pipe.py is a socket, pipe or device"):
        read_folder(tmp_path)
    assert only(tmp_path / "pipe.py").files["pipe.py"].content == b""
    (tmp_path / "pipe.py").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(Invalid, match="is a socket"):
            read_folder(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no files"):
        read_folder(tmp_path)


def test_limits_name_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BYTES_MAX", 100)
    write(tmp_path, a_py="x" * 60, b_bin="y" * 70)
    with pytest.raises(TooLarge, match=r"reached at b.bin") as caught:
        read_folder(tmp_path)
    assert "b.bin (70B), a.py (60B)" in caught.value.hint
    monkeypatch.setattr(reading, "FILES_MAX", 1)
    with pytest.raises(TooLarge, match="more than 1 files"):
        read_folder(write(tmp_path / "c", a_py="", b_py=""))


def test_depth_is_bounded(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    with pytest.raises(Invalid, match="64 folders deep"):
        read_folder(tmp_path)


def test_the_executable_bit_is_kept(tmp_path: Path) -> None:
    write(tmp_path, a_py="", b_sh="")
    (tmp_path / "b.sh").chmod(0o755)
    found = read_folder(tmp_path)
    assert (found["a.py"].executable, found["b.sh"].executable) == (False, True)


@pytest.mark.parametrize(
    ("rules", "path", "folder", "ignored"),
    [
        ("", "a/b/x.pyc", False, True),
        ("", ".venv", True, True),
        ("", ".venv", False, False),
        ("", "src/node_modules", True, True),
        ("", "main.py", False, False),
        ("!.env", ".env", False, False),
        ("*.csv", "a/b.csv", False, True),
        ("/*.csv", "a/b.csv", False, False),
        ("/*.csv", "b.csv", False, True),
        ("data/", "data", True, True),
        ("data/", "a/data", True, True),
        ("data/", "data", False, False),
        ("a/b", "a/b", False, True),
        ("a/b", "c/a/b", False, False),
        ("**/b", "c/a/b", False, True),
        ("a/**", "a/b/c", False, True),
        ("a/**/c", "a/c", False, True),
        ("a/**/c", "a/x/y/c", False, True),
        ("?.py", "a.py", False, True),
        ("?.py", "ab.py", False, False),
        ("[ab].py", "b.py", False, True),
        ("[!ab].py", "b.py", False, False),
        ("[!ab].py", "c.py", False, True),
        (r"\#a", "#a", False, True),
        ("# a", "# a", False, False),
        ("*.py\n!main.py", "main.py", False, False),
        ("*.py\n!main.py", "other.py", False, True),
        ("a.py  ", "a.py", False, True),
    ],
)
def test_ignore_rules(rules: str, path: str, folder: bool, ignored: bool) -> None:
    assert Ignore(rules)(path, folder=folder) is ignored


@pytest.mark.parametrize("rules", ["/", "!", "[z-a]", "x" * 501, "\n".join(f"f{n}" for n in range(1001))])
def test_bad_ignore_rules(rules: str) -> None:
    with pytest.raises(Invalid, match=r"\.faasignore"):
        Ignore(rules)


def test_an_ignore_file_is_used(tmp_path: Path) -> None:
    write(tmp_path, main_py="", data__big_csv="x")
    (tmp_path / ".faasignore").write_text("data/\n")
    assert list(read_folder(tmp_path)) == ["main.py"]
