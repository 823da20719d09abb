"""Checkpoints of folders and of a hub: a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, check_digest, digest_of, files_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "clip"}',
    "model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit(1)",
    "README.md": b"# hello",
    "1_Pooling/config.json": b"{}",
}


@dataclass
class Hub:
    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Models `owner/open`, `owner/gated` (licence not accepted), `owner/pickle`; everything else is unknown."""
    state = Hub()
    pages = {"owner/open": FILES, "owner/pickle": {"pytorch_model.bin": b"a pickle", "config.json": b"{}"}}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            state.asked.append(path)
            name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
            if name == "owner/gated":
                return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if name not in pages:
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if COMMIT not in path:
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            files = pages[name]
            if path.startswith(f"/api/models/{name}/tree/"):
                tree = [
                    {"type": "file", "path": p, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for p, data in files.items()
                ]
                return self._send(200, json.dumps(tree).encode(), {})
            if path.startswith("/api/models/"):
                info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": p} for p in files]}
                return self._send(200, json.dumps(info).encode(), {})
            data = files[path.split(f"/resolve/{COMMIT}/")[1]]
            return self._send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

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
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


FETCH = """
import sys
from beholder.errors import UserError
from beholder.models.checkpoints import Checkpoint
try:
    model, revision, offline = sys.argv[1:4]
    print(Checkpoint(model, revision).fetch(offline=offline == "offline", endpoint=sys.argv[4] or None))
except UserError as error:
    print(f"{type(error).__name__}: {error}")
"""


def fetch(hub: Hub, cache: Path, model: str, revision: str = COMMIT, offline: bool = False) -> str:
    """Fetch in a process of its own: the hub's client reads its settings once."""
    import os

    variables = {**os.environ, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    variables.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", FETCH, model, revision, "offline" if offline else "", hub.address],
        capture_output=True, text=True, check=True, env=variables,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def test_a_pinned_model_is_fetched_once_without_pickles_or_code(hub: Hub, tmp_path: Path) -> None:
    missing = fetch(hub, tmp_path / "hub", "owner/open", offline=True)
    assert missing.startswith(f"WeightsError: owner/open at {COMMIT} is not in the cache")
    assert not hub.asked
    folder = Path(fetch(hub, tmp_path / "hub", "owner/open"))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "1_Pooling/config.json"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    asked = len(hub.asked)
    assert fetch(hub, tmp_path / "hub", "owner/open", offline=True) == str(folder)
    assert len(hub.asked) == asked
    assert digest_of(folder) == Checkpoint(str(folder)).identity()["weights"]


def test_each_trouble_is_one_line_that_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    gated = fetch(hub, tmp_path, "owner/gated")
    assert gated == (
        "WeightsError: the licence of owner/gated was not accepted by this account, or no token is set; to do: "
        "accept it at https://huggingface.co/owner/gated and set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
    )
    assert "the hub shows no model owner/none; to do: check the id" in fetch(hub, tmp_path, "owner/none")
    other = "f" * 40
    assert f"owner/open has no revision {other}" in fetch(hub, tmp_path, "owner/open", other)
    assert "holds no weights; allowed: safetensors" in fetch(hub, tmp_path, "owner/pickle")


@pytest.mark.slow  # the hub's client tries for 23 seconds
def test_a_hub_that_nobody_answers_for(hub: Hub, tmp_path: Path) -> None:
    hub.address = "http://127.0.0.1:9"
    assert "was not reached" in fetch(hub, tmp_path, "owner/open")


def test_names_that_are_no_checkpoint(tmp_path: Path) -> None:
    for model in ("nothing/at/all", "./here", "", "models/minilm2", str(tmp_path / "none")):
        with pytest.raises(WeightsError, match="no folder"):
            Checkpoint(model, COMMIT)
    for revision in (None, "main", COMMIT[:12], COMMIT.upper()):
        with pytest.raises(UserError, match=r"branches and tags can move; to do: copy it from .*/owner/open/commits"):
            Checkpoint("owner/open", revision)
    with pytest.raises(UserError, match="no revision for a folder"):
        Checkpoint(str(tmp_path), COMMIT)
    assert Checkpoint("owner/open", COMMIT).identity() == {"model": "owner/open", "revision": COMMIT}
    assert Checkpoint("owner/open", COMMIT).name == "owner/open"


def test_a_digest_names_what_loading_may_read(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    names = [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path)]
    assert names == ["1_Pooling/config.json", "config.json", "model.safetensors", "modeling.py"]
    lines = [f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in names]
    digest = digest_of(tmp_path)
    assert digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "README.md").write_text("changed")
    (tmp_path / ".hidden.json").write_text("{}")
    assert digest_of(tmp_path) == digest
    check_digest(tmp_path, {"weights": digest})
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    with pytest.raises(WeightsError, match="give all workers the same files"):
        check_digest(tmp_path, {"weights": digest})
