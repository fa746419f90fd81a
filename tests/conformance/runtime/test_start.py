"""From HELLO to READY, or to INIT_FAILED with something a person can act on."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from faas.wire import messages as m
from tests.conformance.runtime.node import PYTHON, RUNTIME, Node


def test_hello_ready_call(node: Node) -> None:
    assert node.init("hello")[0] == m.READY
    assert node.ready["concurrency"] == 1
    assert node.ready["mode"] == "sync"
    assert node.ready["handler"] == "hello:handler"
    assert node.ready["healthz"] is False
    assert node.ready["import_ms"] > 0
    answer = node.call(b'{"name": "Ada"}')
    assert (answer.status, answer.body) == (200, b'{"hello":"Ada"}')
    assert answer.headers == {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("names", "spec", "kind", "wanted", "hint"),
    [
        (["no_handler"], {}, "LoadError", "has no handler: none of handler, main", "It has: something"),
        (["only_app"], {}, "LoadError", "has only an `app`", "plain handler"),
        (["broken"], {}, "ModuleNotFoundError", "not_a_real_package_xyz", "dependencies"),
        (["syntax"], {}, "SyntaxError", "(syntax.py, line 2)", ""),
        (["greedy"], {}, "LoadError", "needs 3 arguments (one, two, three)", "def handler(event)"),
        (["exits_at_import"], {}, "SystemExit", "nothing to do", ""),
        (["start_fails"], {}, "ConnectionError", "no database", ""),
        (["hello", "event"], {"function": "other"}, "LoadError", "cannot tell which of these", "--handler"),
        (["hello"], {"handler": "hello:nope"}, "LoadError", 'no attribute "nope"', "It has: handler"),
        (["hello"], {"handler": "nope"}, "LoadError", 'no module "nope"', "hello.py"),
        (["two_marked"], {}, "LoadError", 'is called "hello"', "--handler two_marked:NAME"),
        ([], {}, "LoadError", "no Python file", ".py"),
        (["hello"], {"secrets": {"../x": "1"}}, "LoadError", "cannot be a file name", ""),
        (["hello"], {"style": "lambda"}, "LoadError", 'no handler style "lambda"', "style"),
        (["hello"], {"env": {"A=B": "1"}}, "LoadError", "cannot be set", ""),
    ],
)
def test_start_that_fails(
    node: Node, names: list[str], spec: dict[str, object], kind: str, wanted: str, hint: str
) -> None:
    message = node.init(*names, **spec)
    assert message[0] == m.INIT_FAILED
    error = message[1]
    assert (error["kind"], error["type"]) == ("start", kind)
    assert wanted in error["message"]
    assert hint in error["hint"]
    assert "faas_runtime" not in error["traceback"], "our own frames are nobody's business"
    cause, _ = node.exited()
    assert cause["code"] == 0
    for path in node.code.iterdir():
        path.unlink()
    assert node.init("hello")[0] == m.READY, "the next child takes another INIT"


def test_traceback_of_a_start_has_the_users_frames(node: Node) -> None:
    error = node.init("start_fails")[1]
    assert 'start_fails.py", line 7, in connect' in error["traceback"]
    assert error["traceback"].count("File ") == 1
    assert [log[4] for log in node.logs] == ["connecting"]


@pytest.mark.parametrize(
    ("names", "function", "handler", "label"),
    [
        (["two_marked"], "first-one", "", "two_marked:one"),
        (["two_marked"], "two", "", "two_marked:two"),
        (["two_marked"], "x", "two_marked:one", "two_marked:one"),
        (["hello", "event"], "event", "", "event:handler"),
        (["request"], "x", "", "request:handle"),
        (["hooks"], "x", "", "hooks:serve"),
    ],
)
def test_which_handler(node: Node, names: list[str], function: str, handler: str, label: str) -> None:
    assert node.init(*names, function=function, handler=handler)[0] == m.READY
    assert node.ready["handler"] == label


def test_file_called_like_a_module_that_is_loaded(node: Node) -> None:
    for name in ("json", "faas", "link"):
        (node.code / f"{name}.py").write_text("import json\ndef handler(event): return [json.dumps(1), __name__]\n")
        assert node.init(handler=name)[0] == m.READY
        expected = b'["1","link"]' if name == "link" else f'["1","function_{name}"]'.encode()
        if name != "json":
            assert node.call().body == expected
        node.data.send(m.drain(1000))
        node.exited()
        (node.code / f"{name}.py").unlink()


def test_users_modules_with_our_names_are_found(node: Node) -> None:
    (node.code / "main.py").write_text("import link, calls, vendor\ndef handler(event): return link.x\n")
    for name in ("link", "calls", "vendor"):
        (node.code / f"{name}.py").write_text("x = 5\n")
    assert node.init()[0] == m.READY
    assert node.call().body == b"5"


def test_dependencies_come_behind_code_and_before_site_packages(node: Node) -> None:
    deps = node.folder / "deps"
    for folder, value in ((node.code, "code"), (deps, "deps")):
        folder.mkdir(exist_ok=True)
        (folder / "both.py").write_text(f"x = '{value}'\n")
        (folder / f"only_{value}.py").write_text("x = 1\n")
    (deps / "pytest.py").write_text("x = 'deps'\n")
    (deps / "more.pth").write_text("extra\n")
    (deps / "extra").mkdir()
    (deps / "extra" / "by_pth.py").write_text("x = 'pth'\n")
    (node.code / "main.py").write_text(
        "import both, pytest, only_deps, by_pth\ndef handler(event): return [both.x, pytest.x, by_pth.x]\n"
    )
    assert node.init(deps=[str(deps)])[0] == m.READY
    assert node.call().body == b'["code","deps","pth"]'


def test_stem_cell_that_has_practised_leaves_no_trace(node: Node) -> None:
    node.data.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        node.data.read()  # longer than a stem cell waits before it practises
    node.data.sock.settimeout(10)
    (node.code / "main.py").write_text(
        "import sys\n"
        "def handler(event):\n"
        "    return [m for m in sys.modules if 'warm_up' in m] + [p for p in sys.path if 'sample' in p]\n"
    )
    assert node.init()[0] == m.READY
    assert not [log for log in node.logs if "warm-up failed" in log[4]]
    assert not [x for x in node.control.waiting() if x[0] == m.LOG]
    assert node.call().body == b"[]"


def test_secrets_and_environment(node: Node) -> None:
    assert node.init("secret", secrets={"API_KEY": "s3cret"}, env={"COLOUR": "blue"})[0] == m.READY
    body = node.call().body.decode()
    assert '"env":"s3cret","helper":"s3cret","mode":"0o400"' in body
    assert "push it with --secret OTHER" in body
    assert '"plain":"blue"' in body
    folder = "/dev/shm/faas-secrets-i-test"
    assert os.listdir(folder) == ["API_KEY"]
    node.control.send(m.kill("test"))
    cause, _ = node.exited()
    assert cause["detail"] == "killed: test"
    assert not os.path.exists(folder)


def test_supervisor_without_a_node() -> None:
    command = [PYTHON, "-I", str(RUNTIME / "start.py")]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "FAAS_DIR and FAAS_INSTANCE must be set" in done.stderr
    environ = {"FAAS_DIR": "/nowhere", "FAAS_INSTANCE": "i"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "cannot reach the node at /nowhere/sock" in done.stderr


def test_term_ends_a_supervisor_that_is_not_pid_1(node: Node) -> None:
    node.init("stubborn")
    node.open()
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    with pytest.raises((EOFError, ConnectionResetError)):
        node.until(node.data, m.REPLY)


def test_users_msgpack_wins(node: Node) -> None:
    deps = node.folder / "deps" / "msgpack"
    deps.mkdir(parents=True)
    (deps / "__init__.py").write_text("version = (0, 0, 1)\n")
    assert node.init("uses_msgpack", deps=[str(deps.parent)])[0] == m.READY
    assert node.call().body == b'{"version":[0,0,1],"path":[]}'
