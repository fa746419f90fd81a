"""Command lines that start a supervisor as a process: in a bubblewrap sandbox or plainly. Pure but for `probe`."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from faas.drivers.api import InstanceSpec
from faas.drivers.container import DEPS, INSIDE, UID

RUNTIME_INSIDE = "/faas/runtime"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_FILES = 4096
_SHM = 16 * 1024 * 1024
# RLIMIT_DATA counts private memory when it is asked for, not when it is used; an interpreter with a few threads
# asks for this much more than it touches. RLIMIT_AS would count mapped files too and break ordinary programs.
_DATA_HEADROOM = 256 * 1024 * 1024
_PROBE_S = 10.0
# What programs need of /etc to resolve names, check certificates and find libraries. No passwords, no keys.
_ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "passwd", "group", "nsswitch.conf", "hosts",
    "resolv.conf", "localtime", "timezone", "services", "protocols", "mime.types", "ssl/certs",
    "ssl/openssl.cnf", "ca-certificates", "pki", "gai.conf",
)  # fmt: skip


def environment(instance: str, folder: str) -> dict[str, str]:
    """All that a supervisor gets to see of ours."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "FAAS_DIR": folder, "FAAS_INSTANCE": instance}


def limited(memory: int, command: Sequence[str]) -> list[str]:
    """`command` under resource limits, set by a shell that then becomes it: no code of ours runs after a fork."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    data = (memory + _DATA_HEADROOM) // 1024
    script = f'ulimit -c 0; ulimit -n {files}; ulimit -d {data}; exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *command]


def plain(command: Sequence[str]) -> list[str]:
    """`command`, told by the kernel when the node dies: it then ends what it started, and itself."""
    if shutil.which("setpriv"):
        return ["setpriv", "--pdeathsig", "TERM", "--", *command]
    return list(command)


def bubblewrap(spec: InstanceSpec, runtime: Path, command: Sequence[str]) -> list[str]:
    """`command` in a sandbox that shows it the system, the interpreter, the runtime and its own directory."""
    arguments = _base(spec.network == "egress", spec.tmpfs)
    arguments += [
        *_passable(Path(INSIDE).parent),
        "--ro-bind",
        str(runtime),
        RUNTIME_INSIDE,
        "--ro-bind",
        str(spec.dir),
        INSIDE,
    ]
    if spec.deps is not None:
        arguments += ["--ro-bind", str(spec.deps), f"{INSIDE}/{DEPS}"]
    return [*arguments, "--", *_as_nobody(), *command]


def workshop(room: Path, shows: Sequence[Path], network: bool, tmpfs: int, command: Sequence[str]) -> list[str]:
    """`command` in a sandbox that may write to `room`; `shows` are seen at their own places."""
    arguments = [*_base(network, tmpfs), *_passable(Path(INSIDE).parent), "--bind", str(room), INSIDE]
    for path in shows:
        if not path.is_relative_to("/usr"):
            arguments += [*_passable(path.parent), "--ro-bind", str(path), str(path)]
    return [*arguments, "--", *_as_nobody(), *command]


def probe() -> str:
    """Empty when a sandbox can be started here, else why not. Really starts one; blocks a few milliseconds."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    command = [*_base(False, 1 << 20), "--", *_as_nobody(), interpreter(), "-I", "-S", "-c", ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as cause:
        return f"bubblewrap does not work here: {cause}"
    return "" if done.returncode == 0 else f"bubblewrap does not work here: {done.stderr.strip()[-300:]}"


def interpreter() -> str:
    """The Python that functions run on: the one this node runs on, without its virtual environment."""
    base: str = getattr(sys, "_base_executable", sys.executable) or sys.executable
    return os.path.realpath(base)


def _base(network: bool, tmpfs: int) -> list[str]:
    root = os.geteuid() == 0
    arguments = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not network:
        arguments.append("--unshare-net")
    if root:
        # Real root needs no user namespace; it gives up all but the right to become nobody, and then that too.
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments.append("--unshare-user")
    arguments += ["--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "faas"]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        arguments += _like_host(Path("/") / name)
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        arguments += [*_passable(prefix.parent), "--ro-bind", str(prefix), str(prefix)]
    # Parents that bubblewrap makes by itself are root's alone: nobody could read a name server's address.
    arguments += _passable(Path("/etc/ssl"))
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(_SHM), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108 - inside
    arguments += ["--size", str(tmpfs), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - inside
    return [*arguments, "--chdir", "/"]


def _passable(folder: Path) -> list[str]:
    """Empty folders down to `folder` that anyone may pass; those bubblewrap makes by itself may be root's only."""
    steps = [*reversed(folder.parents), folder][1:]
    return [word for step in steps for word in ("--perms", "0755", "--dir", str(step))]


def _like_host(path: Path) -> list[str]:
    """A link where the host has one (merged /usr), the folder where it has that, nothing where it has none."""
    if path.is_symlink():
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind-try", str(path), str(path)]


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = ["--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]
    # The change of user cancels bubblewrap's --die-with-parent: ask the kernel again.
    return ["setpriv", *user, "--no-new-privs", "--pdeathsig", "KILL", "--"]
