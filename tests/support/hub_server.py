"""A stand-in for the Hugging Face hub: repositories in memory, behind the interface that is used."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Repositories = dict[str, dict[str, bytes]]


@contextmanager
def hub_server(repositories: Repositories) -> Iterator[str]:
    """Serves `repositories` (name to files by path), which uploads change; gives the address."""

    class Handler(_Handler):
        stored = repositories

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    stored: Repositories

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            given = json.loads(body)
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.stored.setdefault(name, {})
            self._json({"url": f"http://{self.headers['Host']}/{name}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/\w+", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in files
            ]
            self._json({"files": modes})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/\w+", path):
            files = self.stored[found[1]]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "deletedFile":
                    files.pop(entry["value"]["path"], None)
            address = f"http://{self.headers['Host']}/{found[1]}/commit/{self._commit(found[1])}"
            self._json({"commitUrl": address, "commitOid": self._commit(found[1])})
        else:
            self._missing()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/(.+)/tree/[\w.-]+", path):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in self.stored.get(found[1], {}).items()
            ]
            self._json(entries)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([\w.-]+))?", path):
            if found[1] not in self.stored or found[2] not in (
                None,
                "main",
                self._commit(found[1]),
            ):
                self._missing()
                return
            siblings = [{"rfilename": name} for name in self.stored[found[1]]]
            commit = self._commit(found[1])
            self._json({"id": found[1], "modelId": found[1], "sha": commit, "siblings": siblings})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([\w.-]+)/(.+)", path):
            data = self.stored.get(found[1], {}).get(found[3])
            if data is None:
                self._missing()
                return
            self._send(data, etag=_etag(data), commit=self._commit(found[1]))
        else:
            self._missing()

    do_HEAD = do_GET  # noqa: N815

    def _commit(self, name: str) -> str:
        parts = sorted((path, _etag(data)) for path, data in self.stored[name].items())
        return hashlib.sha1(json.dumps(parts).encode()).hexdigest()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), kind="application/json")

    def _missing(self) -> None:
        self._send(b"{}", status=404, error="RepoNotFound")

    def _send(
        self, data: bytes, *, status: int = 200, kind: str = "text/plain", **more: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        names = {"etag": "ETag", "commit": "X-Repo-Commit", "error": "X-Error-Code"}
        for key, value in more.items():
            self.send_header(names[key], f'"{value}"' if key == "etag" else value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
