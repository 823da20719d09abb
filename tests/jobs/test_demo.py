"""The reduced demo as a user runs it: in one process, and on Ray, killed without warning and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from beholder.engine.environment import worker_environment
from beholder.models import weights
from beholder.store import Store

ROOT = Path(__file__).parents[2]
COMMAND = [
    sys.executable,
    "jobs/demo.py",
    "--plan",
    "jobs/studies/reduced.yaml",
    "--set",
    "generate.calibration_prompts=24",
]
HERE, TWO, ONE = ("--in-process",), ("--workers", "2"), ("--workers", "1")
LIMIT = 1800.0
"""Seconds after which a run counts as hanging; no measure of speed."""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.models,
    pytest.mark.skipif(
        os.environ.get("CI") != "true" and not all(weights.present(n, None) for n in weights.names_of("embedded")),
        reason="embedded models are not in the cache: beholder models fetch embedded",
    ),
]


def begin(store: Path, log: Path, how: Sequence[str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        # A session of its own, so that a kill takes the workers along and nobody else. With the variables that a job
        # starts itself again to set, it starts once.
        return subprocess.Popen(
            [*COMMAND, "--store", str(store), *how], cwd=ROOT, env={**os.environ, **worker_environment()},
            stdout=subprocess.PIPE, stderr=stream, start_new_session=True,
        )  # fmt: skip


def finish(store: Path, log: Path, how: Sequence[str]) -> dict[str, Any]:
    """Run to the end; the last line of standard output."""
    process = begin(store, log, how)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, log.read_text()[-3000:]
    last: dict[str, Any] = json.loads(output.decode().strip().splitlines()[-1])
    return last


def kill_when(store: Path, log: Path, how: Sequence[str], happened: Callable[[], bool]) -> None:
    """Start, wait until something is in the store, and kill everything at once."""
    process = begin(store, log, how)
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert process.poll() is None, f"ended before it could be killed: {log.read_text()[-3000:]}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def rows_of(store: Path, stage: str) -> int:
    return sum(shard.read_bytes().count(b"\n") for shard in (store / "ledger" / stage).glob("*.jsonl"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder / "store", finish(folder / "store", folder / "log", HERE)


def test_killed_three_times_and_resumed_on_other_workers_gives_the_tables_of_one_process(
    unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole, last = unbroken
    store, log = tmp_path / "store", tmp_path / "log"
    pictures = rows_of(whole, "generate")
    kill_when(store, log, TWO, lambda: rows_of(store, "generate") > 0)
    assert rows_of(store, "generate") < pictures
    kill_when(store, log, ONE, lambda: rows_of(store, "rewrite") > 0)
    assert not Store(store).has_table("steered_images")
    kill_when(store, log, TWO, lambda: Store(store).has_table("votes"))
    again = finish(store, log, ONE)
    assert again["tables"] == last["tables"]
    assert again["digest"] == last["digest"]


def test_a_second_run_computes_nothing(unbroken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    store, first = unbroken
    second = finish(store, tmp_path / "log", TWO)
    assert second["digest"] == first["digest"]
    assert second["counts"].get("computed", 0) == 0


def test_the_planted_effect_lies_inside_its_interval(unbroken: tuple[Path, dict[str, Any]]) -> None:
    found = Store(unbroken[0]).read_table("contrasts").set_index("against")
    recovered = Store(unbroken[0]).read_table("recovered")
    assert set(found.index) == {"other", "population", "statistics", "unoptimised"}
    own_other = recovered[recovered["quantity"].str.contains("own chosen over other")].iloc[0]
    assert own_other["ci_low"] <= own_other["planted"] <= own_other["ci_high"]
    assert own_other["estimate"] == pytest.approx(found.loc["other", "estimate"])


def test_votes_follow_the_known_taste(unbroken: tuple[Path, dict[str, Any]]) -> None:
    """Recomputed from the stored truth: the share of left choices is what the exact probabilities say."""
    store = Store(unbroken[0])
    votes = store.read_table("votes").merge(store.read_table("truth_votes"), on="trial_id")
    votes = votes[votes["kind"] == "main"]
    answers = votes["choice"].map({"left": 1.0, "tie": 0.5, "right": 0.0})
    expected = votes["p_left"] + votes["p_tie"] / 2
    spread = (votes["p_left"] + votes["p_tie"] / 4 - expected**2).sum() ** 0.5
    assert abs((answers - expected).sum()) < 4 * spread


def test_every_table_has_its_record(unbroken: tuple[Path, dict[str, Any]]) -> None:
    store, last = Store(unbroken[0]), unbroken[1]
    for name, digest in last["tables"].items():
        record = store.read_record(f"table-{name}")
        assert record is not None
        assert record["digest"] == digest
        assert record["seed"] == 3
        assert record["instruction_set"]
        assert record["versions"]["numpy"]
        assert isinstance(store.read_table(name), pd.DataFrame)
