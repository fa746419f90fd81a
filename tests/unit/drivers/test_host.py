"""What the drivers read of this machine: mounts, processes, notes on disk, runtimes, sandbox command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faas.drivers import base, mounts, procfs, sandbox, vendor
from faas.drivers.api import InstanceSpec
from faas.drivers.mounts import Mount
from faas.drivers.records import Records
from faas.drivers.runtimes import find, manifests
from faas.errors import Internal, NotFound, Unavailable
from tests.support import wait_until_sync


def test_a_path_lives_on_the_longest_and_latest_mount() -> None:
    known = [
        Mount(Path("/"), "/", True),
        Mount(Path("/data"), "/", False),
        Mount(Path("/data"), "/x", True),
        Mount(Path("/data2"), "/", False),
    ]
    assert mounts.mount_of(Path("/data/a"), known) == known[2]
    assert mounts.mount_of(Path("/database"), known) == known[0]


def test_the_kernels_own_list_can_be_read() -> None:
    assert any(mount.point == Path("/") for mount in mounts.mounts())


def test_this_process_is_what_proc_says() -> None:
    me = procfs.stat(os.getpid())
    assert me is not None
    assert (me.pid, me.parent, me.alive) == (os.getpid(), os.getppid(), True)
    assert procfs.is_same(me.pid, me.start)
    assert not procfs.is_same(me.pid, me.start + 1)
    assert procfs.private_memory(me.pid) > 1 << 20
    assert 0 < procfs.age_s(me) < procfs.uptime_s()


def test_a_name_with_brackets_and_spaces_does_not_confuse(tmp_path: Path) -> None:
    strange = tmp_path / "a) Z 1 (b"
    strange.symlink_to("/bin/sleep")
    process = subprocess.Popen([strange, "60"])
    try:
        wait_until_sync(lambda: "a) Z" in Path(f"/proc/{process.pid}/stat").read_text(), 5, "it has its name")
        seen = procfs.stat(process.pid)
        assert seen is not None
        assert seen.parent == os.getpid()
        assert seen.alive
        assert process.pid in {one.pid for one in procfs.descendants(os.getpid())}
    finally:
        process.kill()
        process.wait()
    assert procfs.stat(process.pid) is None


def test_processes_are_found_by_what_is_in_their_environment() -> None:
    def marked() -> list[int]:
        return [one.pid for one in procfs.with_variable("FAAS_TEST_MARK").get("here=1", [])]

    process = subprocess.Popen(["/bin/sleep", "60"], env={"FAAS_TEST_MARK": "here=1"})
    try:
        wait_until_sync(lambda: marked() == [process.pid], 5, "it is found")
    finally:
        process.kill()
        process.wait()


def test_notes_of_another_boot_and_broken_ones_are_thrown_away(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.open()
    records.write("i-1", "n-1", 10, 20)
    (tmp_path / "i-2.json").write_text('{"instance":"i-2","node":"n","pid":1,"start":1,"boot":"another"}')
    (tmp_path / "i-3.json").write_text("{")
    assert [(one.instance, one.pid, one.start) for one in records.all()] == [("i-1", 10, 20)]
    assert [path.name for path in tmp_path.iterdir()] == ["i-1.json"]
    records.remove("i-1")
    records.remove("i-1")
    assert records.get("i-1") is None
    with pytest.raises(ValueError, match="cannot be the name"):
        records.write("../x", "n", 1, 1)


def test_the_runtimes_that_come_with_the_package() -> None:
    assert find("python3.11").base == "python:3.11-slim"
    with pytest.raises(NotFound) as error:
        find("pyton3.11")
    assert "python3.11" in error.value.hint
    for manifest in manifests():
        assert "{python}" in " ".join(manifest.command) or manifest.language != "python"


@pytest.mark.parametrize("text", ["schema = 2", "", "schema = 1\nlanguage = 'x'", "=", "schema = 1\nversions = 3"])
def test_a_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "runtime.toml").write_text(text)
    with pytest.raises(Internal, match=r"x/runtime\.toml"):
        manifests(tmp_path)


def test_a_staged_runtime_imports_its_private_packages(tmp_path: Path) -> None:
    vendor.stage(find(f"python{vendor.own_version()}"), tmp_path / "r", lambda _: None)
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'r' / 'vendor')!r}); import msgpack; print(msgpack)"
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
    assert not list((tmp_path / "r").rglob("*.pyc"))


def test_the_digest_is_of_content_and_names_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_text("1")
    os.utime(tmp_path / "b" / "sub" / "x", (1, 1))
    assert vendor.digest(tmp_path / "a") == vendor.digest(tmp_path / "b")
    assert vendor.digest(tmp_path / "a") != vendor.digest(tmp_path / "a", "another base")
    (tmp_path / "b" / "sub" / "x").chmod(0o755)
    assert vendor.digest(tmp_path / "a") != vendor.digest(tmp_path / "b")


def test_a_package_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-package") as error:
        vendor.add("no-such-package>=1", vendor.own_version(), tmp_path, print)
    assert "pip install" in error.value.hint


def test_the_sandbox_shows_what_was_asked_for_only(tmp_path: Path) -> None:
    spec = InstanceSpec(id="i-1", runtime="r", dir=tmp_path, network="none", tmpfs=123, deps=tmp_path / "d")
    command = sandbox.bubblewrap(spec, Path("/r"), ["python", "start.py"])
    text = " ".join(command)
    assert "--unshare-net" in command
    assert "--size 123 --perms 1777 --tmpfs /tmp" in text
    assert f"--ro-bind {tmp_path} /faas/instance --ro-bind {tmp_path}/d /faas/instance/deps" in text
    assert " --bind " not in text
    assert command[-2:] == ["python", "start.py"]
    open_ = InstanceSpec(id="i-1", runtime="r", dir=tmp_path, network="egress")
    assert "--unshare-net" not in sandbox.bubblewrap(open_, Path("/r"), ["x"])


def test_limits_hold_for_what_is_started() -> None:
    command = sandbox.limited(64 << 20, ["/bin/sh", "-c", "ulimit -c; ulimit -n; ulimit -d; echo $1", "sh", "a b"])
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == ["0", "4096", str((64 + 256) * 1024), "a b"]


@pytest.mark.parametrize(
    ("release", "version", "suite", "tool", "said"),
    [
        ({"ID": "fedora", "PRETTY_NAME": "Fedora 41"}, "3.11", "bookworm", True, "Fedora 41 do not have Python 3.11"),
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, "3.11", "bookworm", True, "do not have Python 3.11"),
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, "3.12", "", True, "do not have Python 3.12"),
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, "3.11", "bookworm", False, "mmdebstrap is not installed"),
    ],
)
def test_why_no_base_can_be_made_here(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], version: str, suite: str, tool: bool, said: str
) -> None:
    monkeypatch.setattr(base, "os_release", lambda: release)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/mmdebstrap" if tool else None)
    trouble = base.cannot_bootstrap(version, suite)
    assert trouble is not None
    assert said in trouble[0]
    assert "Run: apt-get install" in trouble[1] or "--base" in trouble[1]
