"""Ends everything a function has left behind: processes, files in /tmp, secrets."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time

KILL_WITHIN_S = 5.0
_PASSES = 200
SECRETS_ROOTS = ("/dev/shm", "/tmp")


def secrets_folder(root: str, instance: str) -> str:
    """Where the child keeps secrets as files: a name the supervisor can find again."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in instance)[:64]
    return os.path.join(root, f"faas-secrets-{safe}")


def remove_secrets(instance: str) -> None:
    for root in SECRETS_ROOTS:
        shutil.rmtree(secrets_folder(root, instance), ignore_errors=True)


def kill_all(alone: bool, session: int) -> bool:
    """Kill and reap every process but this one. True when none is left within KILL_WITHIN_S.

    Args:
        alone: this is PID 1 of its own namespace, where `kill(-1)` reaches all and nothing else.
        session: process group of the child, for when it is not and there is no /proc to look into; 0: none.
    """
    until = time.monotonic() + KILL_WITHIN_S
    while True:
        _kill_namespace() if alone else _kill_descendants(session)
        if _reap():
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.001)  # the killed need a moment to become reapable


def _kill_namespace() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _kill_descendants(session: int) -> None:
    """Freeze before the kill: what forks faster than we walk cannot fork while it is stopped."""
    if session and not os.path.exists("/proc/self/stat"):
        _signal(-session, signal.SIGKILL)
    known: set[int] = set()
    for _ in range(_PASSES):
        new = _descendants(os.getpid()) - known
        if not new:
            break
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        known |= new
    for pid in known:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _descendants(ancestor: int) -> set[int]:
    """Every process below `ancestor`, zombies left out. We are a subreaper: none can leave the tree."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read(1024).rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found: set[int] = set()
    todo = [ancestor]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def _reap() -> bool:
    """True when we have no children at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def contents(folder: str) -> set[str]:
    """Names in `folder`; none when it cannot be read."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def empty(folder: str, keep: set[str]) -> bool:
    """Remove all that is in `folder` but `keep`, links not followed. False when something is left."""
    for _ in range(2):
        for name in contents(folder) - keep:
            _remove(os.path.join(folder, name))
        if not contents(folder) - keep:
            return True
    return False


def _remove(path: str) -> None:
    """Best effort; directories that were made unreadable are opened first."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        os.chmod(path, 0o700)
        folders = [path]
        for folder, names, files in os.walk(path):
            for name in list(names):
                inner = os.path.join(folder, name)
                if os.path.islink(inner):
                    os.unlink(inner)
                else:
                    os.chmod(inner, 0o700)
                    folders.append(inner)
            for name in files:
                os.unlink(os.path.join(folder, name))
        for folder in reversed(folders):
            os.rmdir(folder)
    except (OSError, RecursionError):
        pass
