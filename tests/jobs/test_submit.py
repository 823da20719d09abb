"""A job submitted to a real cluster gives the tables it gives by hand."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
JOB = ["jobs/generate.py", "--plan", "jobs/studies/reduced.yaml", "--set", "generate.prompts=6"]
JOB += ["--set", "generate.calibration_prompts=4", "--store"]

pytestmark = [pytest.mark.ray, pytest.mark.models]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The dashboard's address of a head started with `ray start`, and the environment that may talk to it."""
    dashboard = free_port()
    # The job's `python` is the first on the PATH of `ray start`; the token is the same on head and client.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "BEHOLDER_MODELS": str(Path(os.environ.get("BEHOLDER_MODELS", ROOT / "models")).absolute()),
    }
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    command += [f"--port={free_port()}", f"--dashboard-port={dashboard}", "--object-store-memory=200000000"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    log = tmp_path_factory.mktemp("ray") / "log"
    with log.open("wb") as stream:
        head = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(address, head, log)
        yield address, environment
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(600)


def wait_for(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert head.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, and wants a token
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no answer from {address}: {log.read_text()[-3000:]}")


def test_submitted_job_gives_the_tables_of_one_run_by_hand(cluster: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = cluster
    packages = json.dumps({"py_modules": ["platform/beholder", "analysis"], "excludes": ["docs", "tests"]})
    submit = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--runtime-env-json"]
    submitted = subprocess.run(
        [*submit, packages, "--", "python", *JOB, str(tmp_path / "submitted")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
    by_hand = subprocess.run(
        [sys.executable, *JOB, str(tmp_path / "by_hand"), "--in-process"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert by_hand.returncode == 0, by_hand.stderr[-3000:]
    lines = [line for line in submitted.stdout.splitlines() if line.strip().startswith('{"job"')]
    assert json.loads(lines[-1])["tables"] == json.loads(by_hand.stdout.splitlines()[-1])["tables"]


def test_cluster_refuses_a_stranger(cluster: tuple[str, dict[str, str]]) -> None:
    address, environment = cluster
    stranger = environment | {"RAY_AUTH_TOKEN": "0" * 64}
    refused = subprocess.run(
        [str(BIN / "ray"), "job", "list", "--address", address],
        env=stranger,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert refused.returncode != 0
