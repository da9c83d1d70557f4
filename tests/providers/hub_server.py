"""As much of the Hugging Face hub as its own client asks for, on this machine: one repository, out of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "8" * 40


class Hub:
    """What it serves, what it was asked for, and how it lies."""

    def __init__(self, repository: str, folder: Path) -> None:
        self.repository, self.folder = repository, folder
        self.asked: list[tuple[str, str]] = []
        self.stated: dict[str, str] = {}
        """File -> the SHA-256 that is stated for it, where it is not the true one."""
        self.gated = False
        self.address = ""

    def files(self) -> list[dict]:
        entries = []
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            name, data = path.relative_to(self.folder).as_posix(), path.read_bytes()
            entry = {"type": "file", "path": name, "rfilename": name, "size": len(data), "oid": _etag(data)}
            entry["blobId"] = entry["oid"]
            if name.endswith((".safetensors", ".bin")):
                digest = self.stated.get(name, hashlib.sha256(data).hexdigest())
                entry["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        return entries


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serve(repository: str, folder: Path):
    hub = Hub(repository, folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path))
            api = f"/api/models/{hub.repository}"
            if hub.gated:
                self.reply(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"}, body)
            elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                facts = {"id": hub.repository, "sha": COMMIT, "siblings": hub.files()}
                self.reply(200, json.dumps(facts).encode(), {}, body)
            elif path.startswith(f"{api}/tree/"):
                self.reply(200, json.dumps(hub.files()).encode(), {}, body)
            elif path.startswith(f"{api}/revision/"):
                self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            elif path.startswith(f"/{hub.repository}/resolve/"):
                self.file(path.split("/resolve/")[1].partition("/")[2], body)
            else:
                self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

        def file(self, name: str, body: bool) -> None:
            entry = next((entry for entry in hub.files() if entry["path"] == name), None)
            if entry is None:
                self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                return
            etag = entry["lfs"]["sha256"] if "lfs" in entry else entry["oid"]
            head = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self.reply(200, (hub.folder / name).read_bytes(), head, body)

        def reply(self, status: int, data: bytes, head: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **head}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
