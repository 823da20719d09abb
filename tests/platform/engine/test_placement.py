"""Where workers run: shares of a GPU by stated memory, machines by main memory, packages by the stage's word."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages_for_tests import Here, Square

from beholder.engine.environment import worker_environment
from beholder.engine.placement import SMALL_GB, STEP, USABLE, Demand, demand_of, hosts, next_slot
from beholder.engine.raypool import RayPool
from beholder.errors import EngineError
from beholder.models.interfaces import Needs
from beholder.runs import open_context, parser

GB = 10**9


def asking(identity=None, runtime_env=None, **needs):
    """A stage with these needs."""
    stage = Square()
    if needs:
        stage.needs = SimpleNamespace(**needs)
    if identity is not None:
        stage.identity = lambda: identity
    if runtime_env is not None:
        stage.runtime_env = lambda: runtime_env
    return stage


def test_a_stage_that_says_nothing_asks_for_nothing():
    demand = demand_of(Square())
    assert (demand.gpu, demand.memory_gb) == (False, 0.0)
    assert demand.runtime_env == {"env_vars": worker_environment()}
    assert demand.gpu_share(24) == 0.0


def test_needs_as_models_state_them():
    stage = asking({"device": "cuda"})
    stage.needs = Needs(memory_gb=6, gpu_memory_gb=9.5)
    demand = demand_of(stage)
    assert (demand.gpu, demand.memory_gb, demand.gpu_memory_gb) == (True, 6, 9.5)
    assert demand.gpu_share(100) == pytest.approx(0.1)  # 9.5 of 95 usable


@pytest.mark.parametrize(
    ("identity", "gpu_memory_gb", "gpu"),
    [({"device": "cuda"}, 0, True), ({"device": "cpu"}, 8, False), ({}, 8, True), ({}, 0, False)],
)
def test_the_device_decides_and_stated_memory_where_none_is_named(identity, gpu_memory_gb, gpu):
    assert demand_of(asking(identity, gpu_memory_gb=gpu_memory_gb)).gpu is gpu


def test_packages_are_the_stages_and_threads_the_engines():
    own = {"py_executable": "/somewhere/python", "env_vars": {"HF_HOME": "/cache", "OMP_NUM_THREADS": "8"}}
    environment = demand_of(asking(runtime_env=own)).runtime_env
    assert environment["py_executable"] == "/somewhere/python"
    assert environment["env_vars"] == {**worker_environment(), "HF_HOME": "/cache"}
    assert demand_of(asking(python="/other/python")).runtime_env["py_executable"] == "/other/python"
    assert "py_executable" not in demand_of(asking(python=None)).runtime_env


@given(st.floats(0.1, 200), st.floats(1, 200))
def test_stages_whose_stated_memory_fits_share_a_gpu(need, gpu_gb):
    demand = Demand(gpu=True, gpu_memory_gb=need)
    if need > USABLE * gpu_gb:
        with pytest.raises(EngineError, match="GB of GPU memory"):
            demand.gpu_share(gpu_gb)
        return
    share = demand.gpu_share(gpu_gb)
    assert need / (USABLE * gpu_gb) - 1e-9 <= share <= need / (USABLE * gpu_gb) + STEP + 1e-9
    assert share / STEP == pytest.approx(round(share / STEP))


def test_small_stages_are_not_counted_by_memory():
    """Else four warm pools of embedded models, a gigabyte a worker, would push each other out on a laptop."""
    assert demand_of(asking(memory_gb=SMALL_GB)).memory_gb == 0.0
    assert demand_of(asking(memory_gb=2 * SMALL_GB)).memory_gb == 2 * SMALL_GB


def test_a_gpu_stage_without_stated_memory_takes_a_whole_one():
    assert Demand(gpu=True).gpu_share(24) == 1.0


def test_main_memory_and_cores_bound_the_workers():
    machines = [{"CPU": 8, "memory": 32 * GB}, {"CPU": 2, "memory": 32 * GB}, {"memory": 64 * GB}]
    assert hosts(Demand(), machines) == 10
    assert hosts(Demand(memory_gb=10), machines) == 3 + 2
    assert hosts(Demand(memory_gb=33), machines) == 0


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=6), st.data())
def test_slots_fill_evenly_and_avoided_machines_last(machines, data):
    taken = data.draw(st.lists(st.integers(0, len(machines) - 1), max_size=8))
    avoided = frozenset(data.draw(st.sets(st.sampled_from(["a", "b", "c"]))))
    slot = next_slot(machines, taken, avoided)
    good = [s for s, machine in enumerate(machines) if machine not in avoided]
    if any(s not in taken for s in good):
        assert slot in good
        assert slot not in taken
    elif avoided and any(s in good for s in taken):
        assert slot is None  # those that work go on alone
    else:
        assert taken.count(slot) == min(taken.count(s) for s in range(len(machines)))


@pytest.mark.ray
def test_more_memory_than_any_machine_has_is_refused_at_once(ray_address, engine_of):
    with pytest.raises(EngineError, match=r"states 100000 GB of main memory; allowed: at most the .* GB"):
        engine_of("ray").run(asking(memory_gb=1e5), [{"n": 1}])


@pytest.mark.ray
def test_stated_memory_bounds_the_workers(ray_address, engine_of):
    import ray

    whole = ray.cluster_resources()["memory"] / GB
    run = engine_of("ray", workers=2).run(asking(memory_gb=0.6 * whole), [{"n": n, "do": "work"} for n in range(40)])
    assert len({row["worker"] for row in run.rows}) == 1


@pytest.mark.ray
def test_workers_get_the_stages_environment(ray_address, engine_of):
    rows = engine_of("ray").run(Here("A_WORD", {"env_vars": {"A_WORD": "hello"}}), [{"n": 1}]).rows
    assert rows[0]["value"] == "hello"


@pytest.mark.ray
def test_stage_for_a_gpu_needs_one(ray_address, store):
    with pytest.raises(EngineError, match="no GPU"):
        next(RayPool(store).outcomes(asking({"device": "cuda"}), [[]], 1))


def test_a_job_is_told_the_memory_of_the_smallest_of_unlike_cards(tmp_path, capsys):
    """What is stated is not asked of a worker: no cluster is there to be asked."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: s\n")
    where = ["--plan", str(plan), "--store", str(tmp_path / "store")]
    told = open_context(parser("job", None).parse_args([*where, "--gpu-memory-gb", "24"])).engine.backend
    assert told._gpu_memory() == 24
    assert Demand(gpu=True, gpu_memory_gb=11.4).gpu_share(told._gpu_memory()) == pytest.approx(0.5)
    for wrong in ("0", "-1", "inf", "nan", "much"):
        with pytest.raises(SystemExit, match="2"):
            parser("job", None).parse_args([*where, "--gpu-memory-gb", wrong])
        assert "--gpu-memory-gb: " in capsys.readouterr().err
