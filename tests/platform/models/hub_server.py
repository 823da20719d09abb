"""A local server that speaks the model hub's protocol: file lists, files by commit, and its errors."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "owner/gated"
"""A model whose licence nobody accepted."""


@dataclass
class Hub:
    """Where the server is, and the paths it was asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve_hub(models: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """Serve models by id, each a mapping of file names to contents; other ids are unknown."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            state.asked.append(path)
            name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
            if name == GATED:
                return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if name not in models:
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if COMMIT not in path:
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            files = models[name]
            if path.startswith(f"/api/models/{name}/tree/"):
                tree = [
                    {"type": "file", "path": p, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for p, data in files.items()
                ]
                return self._send(200, json.dumps(tree).encode(), {})
            if path.startswith("/api/models/"):
                info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": p} for p in files]}
                return self._send(200, json.dumps(info).encode(), {})
            wanted = path.split(f"/resolve/{COMMIT}/")[1]
            if wanted not in files:
                return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            etag = hashlib.sha1(files[wanted]).hexdigest()
            return self._send(200, files[wanted], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
