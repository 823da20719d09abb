from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beholder.engine.cluster import connect
from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.store import Store

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


BUSY = {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_register_timeout_seconds": "600"}
"""Lets no worker be killed because others on the machine take its memory, or its time while it starts."""


@pytest.fixture(scope="module", autouse=True)
def only_new_garbage() -> Iterator[None]:
    """Spare the engine, which collects garbage where memory ran out, half a second a time for all that is loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """One private Ray for all tests; its workers find the tests' stages by PYTHONPATH."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
            patch.delenv(variable, raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])))
        for variable, value in BUSY.items():
            patch.setenv(variable, value)
        connect(None, 2)
        import ray

        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(params=["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def kind(request: pytest.FixtureRequest) -> str:
    """Every test that asks for this runs on both backends."""
    if request.param == "ray":
        request.getfixturevalue("ray_address")
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def engine_of(store: Store) -> Iterator[Callable[..., Engine]]:
    """Makes engines on a fresh backend, which see what lies in the store; closes them in the end."""
    made: list[Engine] = []

    def make(kind: str, *, workers: int = 2, at: Store | None = None, **settings: Any) -> Engine:
        where = at or store
        if kind == "ray":
            from beholder.engine.raypool import RayPool

            backend: Any = RayPool(where, workers=workers)
        else:
            backend = InProcess(where)
        made.append(Engine(where, backend, settings.pop("progress", Quiet()), **settings))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
