"""Packages made on the spot, and a private index that serves them: tests of dependencies need no network for these."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BACKEND = """
import sys; sys.path.insert(0, ".")
from wheels import build

def build_wheel(folder, config_settings=None, metadata_directory=None):
    {before}
    return build(folder)
"""
# What a build backend needs, so that the build itself needs no other package.
WHEELS = """
import base64, hashlib, os, zipfile

def build(folder):
    files = {{"{module}.py": {content!r}, "{name}-{version}.dist-info/METADATA": {metadata!r},
             "{name}-{version}.dist-info/WHEEL": {wheel!r}}}
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{{path}},sha256={{digest}},{{len(text)}}\\n"
    files["{name}-{version}.dist-info/RECORD"] = record + "{name}-{version}.dist-info/RECORD,,\\n"
    made = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, made), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def metadata(name: str, version: str, needs: tuple[str, ...] = ()) -> str:
    """METADATA of a package."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n"


def make_wheel(folder: Path, name: str, version: str, content: str, needs: tuple[str, ...] = ()) -> Path:
    """A wheel with the module NAME.py."""
    info = f"{name}-{version}.dist-info"
    files = {f"{name}.py": content, f"{info}/METADATA": metadata(name, version, needs), f"{info}/WHEEL": WHEEL}
    record = ""
    for member, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{member},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    return path


def make_sdist(folder: Path, name: str, version: str, content: str, before: str = "pass") -> Path:
    """A source package with the module NAME.py; `before` is Python that runs while it is built."""
    top = f"{name}-{version}"
    wheels = WHEELS.format(
        module=name, name=name, version=version, content=content, metadata=metadata(name, version), wheel=WHEEL
    )
    project = (
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    files = {
        "pyproject.toml": project,
        "PKG-INFO": metadata(name, version),
        "backend.py": BACKEND.format(before=before.replace("\n", "\n    ")),
        "wheels.py": wheels,
    }
    path = folder / f"{top}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in files.items():
            info = tarfile.TarInfo(f"{top}/{member}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@contextmanager
def index_of(folder: Path, user: str, password: str) -> Iterator[str]:
    """A package index on loopback that asks for a password; yields `127.0.0.1:PORT`."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            if self.headers.get("Authorization") != wanted:
                self._answer(401, b"who are you?", "text/plain")
            elif parts[0] == "files" and (folder / parts[-1]).is_file():
                self._answer(200, (folder / parts[-1]).read_bytes(), "application/octet-stream")
            elif parts[0] == "simple" and (found := sorted(folder.glob(f"{parts[-1]}-*"))):
                links = "".join(f'<a href="/files/{path.name}">{path.name}</a>' for path in found)
                self._answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
            else:
                self._answer(404, b"", "text/plain")

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, name="package-index")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
