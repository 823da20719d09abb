"""A batch that does not fit stops its stage and says which one would; only an item that is itself too large is set
aside. Memory is simulated by a stated limit, and real where a process can be held to one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages_for_tests import Allocating, Elastic, Hungry, Square, notes

from beholder.engine.chain import Link, run_chain
from beholder.engine.memory import is_out_of_memory, resized
from beholder.engine.probe import largest, probe
from beholder.engine.runlog import run_states
from beholder.errors import EngineError, OutOfMemoryError
from beholder.models.checked_stage import Checked
from beholder.plans import load_plan
from beholder.runs import run_job
from beholder.store import Store
from beholder.storelock import StoreLock

MANY = [{"n": n} for n in range(40)]


@given(st.integers(0, 70), st.integers(1, 64))
def test_largest_size_is_found_in_few_tries(limit, most):
    tried: list[int] = []

    def fits(size):
        tried.append(size)
        return size <= limit

    assert largest(fits, most) == min(limit, most)
    assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
    assert all(1 <= size <= most for size in tried)


@pytest.mark.parametrize(("limit", "way"), [(5, "python"), (3, "ours"), (8, "torch"), (0, "python"), (-1, "python")])
def test_probe_finds_a_stated_limit(engine_of, store, limit, way):
    backend = engine_of("inprocess").backend
    assert probe(backend, Hungry(99, limit, way), MANY[:3], 8) == max(0, limit)
    assert not (store.root / "ledger").exists()


@pytest.mark.ray
@pytest.mark.parametrize("way", ["torch", "exit"])
def test_probe_finds_a_limit_on_workers(ray_address, engine_of, store, way):
    assert probe(engine_of("ray").backend, Hungry(99, 3, way), MANY[:2], 4) == 3
    assert notes(store, "hungry", "setup") == ["1", "2", "4", "3"]


@pytest.mark.parametrize(
    ("limit", "most", "loads"),
    [(4, 4, ["1"]), (5, 16, ["1", "6", "5"]), (6, 16, ["1", "6"]), (9, 9, ["1"]), (0, 8, ["1"]), (7, 8, ["1", "6"])],
)
def test_a_stage_that_can_be_resized_is_loaded_again_only_after_a_size_that_did_not_fit(
    kind, engine_of, store, limit, most, loads
):
    """Tried are 1, 2, 4, ... and the halves of the gap; names the size at which each worker loaded the stage."""
    backend = engine_of(kind).backend
    assert probe(backend, Elastic(99, limit), MANY[:3], most) == limit
    assert notes(store, "hungry", "setup") == loads
    if kind == "inprocess" and limit:  # what a probe leaves behind is at the size that its identity says
        backend.try_out(Elastic(limit, limit), [], fresh=True)
        assert notes(store, "hungry", "setup")[-1] == str(limit)


@pytest.mark.ray
def test_a_worker_that_dies_in_a_probe_is_followed_by_a_fresh_one(ray_address, engine_of, store):
    assert probe(engine_of("ray").backend, Elastic(99, 3, "exit"), MANY[:2], 8) == 3
    assert notes(store, "hungry", "setup") == ["1", "3"]


@pytest.mark.ray
def test_probe_finds_a_real_limit_of_a_worker(ray_address, engine_of):
    assert probe(engine_of("ray").backend, Allocating(64, 2), MANY[:1], 4) == 2


def test_probe_finds_the_real_limit_of_a_process(store):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from stages_for_tests import Allocating, Store; from beholder.engine.inprocess import InProcess\n"
        "from beholder.engine.probe import probe\n"
        "print(probe(InProcess(Store(sys.argv[2])), Allocating(64, 5), [{'n': 1}], 16))"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), str(store.root)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "5", done.stderr


def test_too_large_a_batch_stops_the_run_and_names_the_one_that_fits(kind, engine_of, store):
    engine = engine_of(kind)
    with pytest.raises(OutOfMemoryError, match=r"'hungry'.* batch size of 4: .*; allowed: 3 fits; .*batch_size to 3"):
        engine.run(Hungry(4, 3), MANY)
    assert not list((store.root / "ledger" / "hungry").glob("*.jsonl"))
    assert engine.run(Hungry(3, 3), MANY).computed == 40


def test_nothing_fits(kind, engine_of):
    with pytest.raises(OutOfMemoryError, match="no batch fits, not even of 1 item"):
        engine_of(kind).run(Hungry(2, 0), MANY)


def test_weights_that_do_not_fit_stop_the_run(kind, engine_of):
    with pytest.raises(OutOfMemoryError, match=r"while loading .* no batch fits"):
        engine_of(kind).run(Hungry(2, -1), MANY)


def test_huge_items_are_set_aside(kind, engine_of):
    """Neighbours pass at the same size, so it is the items; later also in batches of nothing but huge ones."""
    items = [*MANY[:6], {"n": 99, "do": "huge"}, *MANY[6:]]
    run = engine_of(kind, workers=1, max_failed=0.5).run(
        Hungry(4, 4), [*items, *({"n": n, "do": "huge"} for n in range(50, 55))]
    )
    assert [row["item"]["n"] for row in run.rows if row["status"] == "failed"] == [99, 50, 51, 52, 53, 54]
    assert [row["square"] for row in run.ok_rows()] == [item["n"] ** 2 for item in MANY]


def test_a_stage_of_a_chain_that_does_not_fit_is_named(kind, engine_of):
    chain = [Link(Square(), "Square", lambda row: {"n": row["square"]}), Link(Hungry(4, 3), "Hungry")]
    with pytest.raises(OutOfMemoryError, match=r"'hungry'.*; allowed: 3 fits"):
        run_chain(engine_of(kind), chain, MANY)


def test_stage_whose_size_cannot_be_changed(engine_of):
    class Fixed(Square):
        def process(self, items):
            raise MemoryError("full")

    engine = engine_of("inprocess")
    with pytest.raises(EngineError, match=r"Fixed.* does not say how"):
        probe(engine.backend, Fixed(), MANY, 8)
    with pytest.raises(OutOfMemoryError, match="a smaller batch_size in the plan"):
        engine.run(Fixed(), MANY)


def job(arguments, limit=3):
    """A job of one stage that has memory for batches of so many."""

    def body(context):
        context.run_stage(Hungry(context.plan.generate.batch_size, limit, name="generate"), MANY, "Draw")

    return run_job("draw", None, ["--in-process", *map(str, arguments)], body, lambda plan: {})


def test_a_job_writes_what_its_probe_finds_into_the_plan_and_then_runs(tmp_path, capsys):
    plan, store = tmp_path / "plan.yaml", tmp_path / "store"
    plan.write_text("name: s\ngenerate:\n  batch_size: 8   # measured\n")
    arguments = ["--plan", plan, "--store", store]
    assert job(arguments) == 2
    assert "3 fits; to do: set batch_size to 3 in the plan" in capsys.readouterr().err
    assert job([*arguments, "--probe", "generate"]) == 0
    assert plan.read_text() == "name: s\ngenerate:\n  batch_size: 3   # measured\n"
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["generate.batch_size"], said["plan_hash"]) == (3, load_plan(plan).hash)
    assert job(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]["computed"] == 40


def test_a_probe_of_a_stage_that_the_job_does_not_run(tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: s\n")
    arguments = ["--plan", plan, "--store", tmp_path / "store", "--probe"]
    assert job([*arguments, "embed"], limit=4) == 2
    assert job([*arguments, "rewrite"], limit=4) == 2
    said = capsys.readouterr().err
    assert "the job ran no stage 'embed'" in said
    assert "sets no batch size of stage 'rewrite'" in said
    assert plan.read_text() == "name: s\n"


def test_a_probe_holds_the_store_as_a_run_does(tmp_path, capsys):
    plan, store = tmp_path / "plan.yaml", Store(tmp_path / "store")
    plan.write_text("name: s\ngenerate:\n  batch_size: 8\n")
    arguments = ["--plan", plan, "--store", store.url, "--probe", "generate"]
    with StoreLock(store, "score-1", "score", "p"):
        assert job(arguments) == 2
        assert "run score-1 is at work on" in capsys.readouterr().err
        assert job([*arguments, "--force"]) == 0
    assert job(arguments) == 0
    assert sorted(s.state for s in run_states(store, datetime.now(UTC))) == ["done", "done"]


@dataclass(frozen=True)
class Settings:
    batch_size: int
    steps: int


@dataclass
class Wrapped:
    settings: Settings
    name: str = "wrapped"
    version: int = 1
    _model: Any = None

    @property
    def batch_size(self):
        return self.settings.batch_size


def test_the_same_stage_at_another_size_has_loaded_nothing():
    stage = Wrapped(Settings(8, 20), _model="weights")
    changed = resized(Checked(stage, "models"), 3)
    assert (changed.batch_size, changed.stage.settings.steps, changed.stage._model) == (3, 20, None)
    assert stage._model == "weights"
    own = SimpleNamespace(name="own", resized=lambda size: SimpleNamespace(batch_size=size))
    assert resized(own, 5).batch_size == 5
    assert resized(Square(), 5) is None


def test_what_counts_as_out_of_memory():
    import numpy as np
    import torch

    with pytest.raises(MemoryError) as numpys:
        np.empty(2**62, dtype=np.uint8)
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(numpys.value)
    assert is_out_of_memory(torchs.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(EngineError("full"))


def test_error_survives_the_way_from_a_worker():
    import pickle

    error = OutOfMemoryError("found", "allowed", "remedy")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert json.dumps(str(error))
