"""Checkpoints of folders and of a hub: a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, check_digest, digest_of, files_of

sys.path.insert(0, str(Path(__file__).parent))
from hub_server import COMMIT, GATED, Hub, serve_hub

FILES = {
    "config.json": b'{"model_type": "clip"}',
    "model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit(1)",
    "README.md": b"# hello",
    "1_Pooling/config.json": b"{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pickled = {"pytorch_model.bin": b"a pickle", "config.json": b"{}"}
    with serve_hub({"owner/open": FILES, "owner/pickle": pickled}) as state:
        yield state


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
    gated = fetch(hub, tmp_path, GATED)
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
