"""What goes wrong around a job: each ends in one clear line, leaves nothing half-written, and the next run goes on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beholder.cli_runs import runs
from beholder.store import Store

JOB = Path(__file__).with_name("bulky_job.py")
PLAN = Path(__file__).parents[2] / "jobs" / "studies" / "demo.yaml"
ROWS = 40


@cache
def namespace() -> tuple[str, ...]:
    """A command that runs another with mounts of its own."""
    ways = [("unshare", "-m"), ("unshare", "-rm"), ("sudo", "-n", "-E", "unshare", "-m")]
    mount = "mount -t tmpfs none /mnt && umount /mnt"
    for way in ways:
        if shutil.which(way[0]) and not subprocess.run([*way, "sh", "-c", mount], capture_output=True).returncode:
            return way
    pytest.skip("no right to mount a file system here")


def command(store: Path | str, plan: Path = PLAN) -> list[str]:
    return [sys.executable, str(JOB), "--plan", str(plan), "--store", str(store), "--in-process"]


def run(store: Path | str, plan: Path = PLAN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(store, plan), capture_output=True, text=True, timeout=600)


def mounted(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with mounts of its own."""
    return subprocess.run([*namespace(), "bash", "-c", script], capture_output=True, text=True, timeout=600)


def refusal(text: str) -> str:
    """The line of standard error that says why the job ended: the only one beside the progress."""
    lines = [line for line in text.splitlines() if not line.startswith("Bulky: ")]
    assert len(lines) == 1, text
    assert lines[0].startswith("bulky: ")
    assert "; to do: " in lines[0]
    return lines[0]


def check_whole(store: Path) -> int:
    """Nothing of the store is in pieces; returns the number of rows."""
    assert not list(store.rglob("*.tmp"))
    rows = list(Store(store).ledger_rows("bulky"))
    for shard in (store / "ledger" / "bulky").glob("*.jsonl"):
        assert shard.read_bytes().endswith(b"\n")
    for picture in (store / "images").rglob("*.png"):
        assert picture.stat().st_size == 20_000
    assert len({row["key"] for row in rows}) == len(rows)
    assert {row["status"] for row in rows} <= {"ok"}, "no item is to blame for a full disk"
    return len(rows)


def check_goes_on(store: Path, before: int) -> None:
    done = run(store)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])["counts"]
    assert counts == {"computed": ROWS - before, "found": before, "quarantined": 0}
    assert check_whole(store) == ROWS
    assert Store(store).read_table("lengths")["length"].tolist() == [20_000] * ROWS


def test_full_disk(tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=500k none {disk} && {shlex.join(command(disk / 'store'))}; code=$?; "
        f"cp -r {disk}/store {kept}; exit $code"
    )
    done = mounted(script)
    assert done.returncode == 2
    assert "No space left on device; to do: free some space there" in refusal(done.stderr)
    before = check_whole(kept)
    assert 0 < before < ROWS
    check_goes_on(kept, before)


def test_file_that_may_not_grow(tmp_path):
    """The limit of a file's size tears a batch in the middle of a row: what is written of it is taken back."""
    store = tmp_path / "store"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 250; exec {shlex.join(command(store))}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "File too large; to do: raise the limit of a file's size" in refusal(done.stderr)
    before = check_whole(store)
    assert 0 < before < ROWS
    check_goes_on(store, before)


def test_read_only_store(tmp_path):
    store = tmp_path / "store"
    Store(store)
    tree = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    read_only = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && "
    for place in (store, tmp_path / "new"):
        done = mounted(read_only + shlex.join(command(place)))
        assert done.returncode == 2
        assert "Read-only file system; to do: mount it for writing, or choose another --store" in refusal(done.stderr)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == tree
    assert not (tmp_path / "new").exists()


def test_store_of_another_user(tmp_path):
    """Whoever may not write there is told so. Root may everywhere, so a child gives that up first."""
    code = (
        "import os, sys; from beholder.store import Store; from beholder.errors import StoreError\n"
        "store = Store(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: store.write_record('x', {})\n"
        "except StoreError as error: print(error)"
    )
    store = Store(tmp_path / "store").root
    store.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=600)
    store.chmod(0o755)
    assert "Permission denied; to do: give this user the right to write there" in done.stdout, done.stderr
    assert [path.name for path in store.iterdir()] == ["store.json"]


@pytest.mark.parametrize(
    ("marker", "said"),
    [('{"format": 99}', "has format 99; allowed: format 1; to do: use the version of beholder that made it"),
     ('{"forma', "says no format"), ("[]", "says no format")],
)  # fmt: skip
def test_store_of_another_version(tmp_path, marker, said):
    (tmp_path / "store.json").write_text(marker)
    done = run(tmp_path)
    assert done.returncode == 2
    assert said in refusal(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_second_run_and_changed_plan(tmp_path):
    """While a job is at work a second run is refused, under a changed plan with both hashes; the first ends well."""
    plan, store = tmp_path / "plan.yaml", tmp_path / "store"
    shutil.copy(PLAN, plan)
    with subprocess.Popen(
        command(store, plan), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"BULKY_WAIT": "1"},
    ) as first:  # fmt: skip
        while first.stderr.readline() != "waiting\n":
            assert first.poll() is None
        assert f"is at work on {store}: process {first.pid} of" in refusal(run(store, plan).stderr)
        text = plan.read_text()
        assert "seed: " in text
        plan.write_text(text.replace("seed: ", "seed: 1"))
        again = run(store, plan)
        assert again.returncode == 2
        assert "is at work on" in refusal(again.stderr)
        assert "under another plan (hash " in again.stderr
        out, said = first.communicate("", timeout=600)
        assert first.returncode == 0
    assert f"bulky: {plan} changed while this ran (hash " in said
    assert json.loads(out.splitlines()[-1])["counts"]["computed"] == ROWS
    done = run(store, plan)
    assert (done.returncode, "changed while" in done.stderr) == (0, False)


def test_run_whose_state_tells_of_another_plan_is_refused(tmp_path):
    assert run(tmp_path).returncode == 0
    (state,) = (tmp_path / "runs").glob("*/state.json")
    content = json.loads(state.read_text())
    state.write_text(json.dumps(content | {"plan_hash": "0" * 64}))
    done = run(tmp_path)
    assert done.returncode == 2
    assert "has another plan (hash 000000000000, this one " in refusal(done.stderr)
    assert json.loads(state.read_text())["plan_hash"] == "0" * 64


def test_job_runs_on_a_bucket_alone(bucket_url, tmp_path, monkeypatch):
    """The whole command line, with nothing left on this machine."""
    monkeypatch.chdir(tmp_path)
    for found in (0, ROWS):
        done = run(bucket_url)
        assert done.returncode == 0, done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["store"], last["counts"]["found"]) == (bucket_url, found)
    store = Store(bucket_url)
    assert (len(store.names("ledger")), len(store.names("images"))) == (1, ROWS // 2)
    listed = CliRunner().invoke(runs, ["--store", bucket_url])
    assert last["run_id"] in listed.output
    assert "done" in listed.output
    assert not list(tmp_path.iterdir())
