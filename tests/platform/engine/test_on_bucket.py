"""Runs whose images, rows, tables and state lie in a bucket alone, through a real S3 server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder import shards
from beholder.engine.chain import Link, run_chain
from beholder.engine.inprocess import InProcess
from beholder.engine.ledger import Ledger, short_key
from beholder.engine.progress import Quiet
from beholder.engine.raypool import RayPool
from beholder.engine.run import Engine
from beholder.engine.runlog import RunCancelledError, RunLog, ask, run_state
from beholder.errors import StorageError
from beholder.models.stages import read_image
from beholder.records import key_of
from beholder.store import Store


class Paint:
    """Draws a picture of one colour and puts it into the store."""

    name, version, batch_size = "paint", 1, 4

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        self.store = store

    def process(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.paint(item) for item in items]

    def paint(self, item: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (item["n"] % 256, 7, 9)).save(buffer, "PNG")
        return {"path": self.store.put_image(item["_key"], buffer.getvalue()), "n": item["n"]}


class Redness(Paint):
    """Reads a picture back."""

    name = "redness"

    def paint(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"red": int(read_image(self.store, item["_path"])[..., 0].max())}


LINKS = [
    Link(Paint(), "Paint", lambda row: {"image": row["key"], "_path": row["path"]}),
    Link(Redness(), "Look"),
]


def items(count):
    return [{"n": n} for n in range(count)]


def drive(url: str, count: str, kind: str) -> None:
    """A programme of its own, for tests that kill it, or need a Ray that knows the bucket's server."""
    store = Store(url)
    with Engine(store, RayPool(store, workers=1) if kind == "ray" else InProcess(store), Quiet()) as engine:
        run_chain(engine, LINKS, items(int(count)))


def test_run_on_a_bucket_gives_what_a_folder_gives(bucket_url, tmp_path):
    digests = []
    for root in (bucket_url, tmp_path / "folder"):
        store = Store(root)
        with Engine(store, InProcess(store), Quiet()) as engine:
            painted, seen = run_chain(engine, LINKS, items(21))
            assert (painted.computed, seen.computed) == (21, 21)
            assert [row["red"] for row in seen.iter_rows()] == list(range(21))
        assert [row["n"] for row in painted.iter_rows()] == list(range(21))  # readable after the end
        with Engine(store, InProcess(store), Quiet()) as engine:
            again = engine.run(Paint(), items(23))
            assert (again.done, again.computed) == (21, 2)
        digests.append((painted.digest, seen.digest, again.digest))
        assert len(store.names("images", ".png")) == 23
        assert sorted(row["n"] for row in store.ledger_rows("paint")) == list(range(23))
    assert digests[0] == digests[1]


def test_killed_run_goes_on_and_does_nothing_twice(bucket_url):
    store = Store(bucket_url)
    with subprocess.Popen([sys.executable, __file__, bucket_url, "90", "inprocess"]) as process:
        while len(store.names("ledger/redness")) < 6:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    recorded = {row["key"] for row in store.ledger_rows("paint")}
    assert 24 <= len(recorded) < 90
    with Engine(store, InProcess(store), Quiet()) as engine:
        painted, seen = run_chain(engine, LINKS, items(90))
    assert painted.done == len(recorded)
    assert painted.done + painted.computed == seen.done + seen.computed == 90
    for stage in ("paint", "redness"):
        keys = [row["key"] for row in store.ledger_rows(stage)]
        assert len(keys) == len(set(keys)) == 90


@pytest.mark.ray
@pytest.mark.slow
def test_workers_on_ray_write_to_the_bucket(bucket_url):
    with subprocess.Popen([sys.executable, __file__, bucket_url, "24", "ray"]) as driver:
        assert driver.wait(300) == 0
    store = Store(bucket_url)
    assert f":{driver.pid}" not in " ".join(row["worker"] for row in store.ledger_rows("redness"))
    with Engine(store, InProcess(store), Quiet()) as engine:
        runs = [*run_chain(engine, LINKS, items(24))]
    assert [row["red"] for row in runs[1].iter_rows()] == list(range(24))
    assert len(store.names("images")) == 24


def test_run_is_told_and_cancelled_through_the_bucket(bucket_url):
    store = Store(bucket_url)
    log = RunLog(store, "paint-1", "paint", "p", Quiet())

    class Asking(InProcess):
        def outcomes(self, *arguments):
            for number, outcomes in enumerate(super().outcomes(*arguments)):
                if number == 2:
                    ask(store, "paint-1", "cancel", datetime.now(UTC))
                yield outcomes

    with pytest.raises(RunCancelledError), log, Engine(store, Asking(store), log) as engine:
        engine.run(Paint(), items(40))
    state = run_state(store, "paint-1", datetime.now(UTC))
    assert (state.state, state.stages[0].done) == ("cancelled", 12)


def test_bucket_that_stops_answering_stops_the_run_and_loses_nothing(bucket_url, proxy):
    """Throttled for longer than patience in the midst of a run: one error, no quarantine, and the rest later."""
    store = Store(bucket_url, patience=1.0)
    proxy.concerns = lambda method, path: method == "PUT" and len(proxy.requests) > 40
    proxy.troubles.extend(["throttle"] * 1000)
    with (
        Engine(store, InProcess(store), Quiet()) as engine,
        pytest.raises(StorageError, match="it answers 503 SlowDown, for 1 s; to do: is the bucket reachable"),
    ):
        engine.run(Paint(), items(100))
    proxy.troubles.clear()
    before = list(store.ledger_rows("paint"))
    assert 0 < len(before) < 100
    assert {row["status"] for row in before} == {"ok"}
    with Engine(store, InProcess(store), Quiet()) as engine:
        run = engine.run(Paint(), items(100))
    assert (run.done, run.done + run.computed) == (len(before), 100)


def row(n, **more):
    return {"key": key_of(n), "status": "ok", "attempt": 1, "written_at": f"{n:04}", "n": n} | more


@pytest.mark.parametrize("merged", [2, 3, 100])
def test_small_objects_are_put_together(bucket_url, monkeypatch, merged):
    monkeypatch.setattr(shards, "MERGED", merged)
    store = Store(bucket_url)
    ledger = Ledger(store, "s")
    for n in range(0, 14, 2):
        ledger.put([row(n), row(n + 1)])
    assert len(store.names("ledger/s")) == {2: 4, 3: 3, 100: 7}[merged]
    ledger.close()
    assert len(store.names("ledger/s")) == {2: 4, 3: 3, 100: 1}[merged]
    assert sorted(each["n"] for each in store.ledger_rows("s")) == list(range(14))
    again = Ledger(store, "s")
    keys = np.array([short_key(key_of(n)) for n in range(14)], dtype="S16")
    assert [each["n"] for each in again.rows(keys)] == [each["n"] for each in ledger.rows(keys)] == list(range(14))


def test_kill_between_putting_together_and_deleting_costs_nothing(bucket_url):
    store = Store(bucket_url)
    for name, numbers in [("w.00000000-00000000", [0]), ("w.00000001-00000001", [1]), ("w.00000000-00000001", [0, 1]),
                          ("w.00000002-00000002", [2]), ("v.00000000-00000000", [3]), ("old", [4])]:  # fmt: skip
        text = "".join(json.dumps(row(n)) + "\n" for n in numbers)
        assert store.storage.create(f"ledger/s/{name}.jsonl", text.encode())
    assert sorted(each["n"] for each in store.ledger_rows("s")) == [0, 1, 2, 3, 4]
    assert len(Ledger(store, "s")) == 5


def test_reader_that_meets_a_writer_putting_together_finds_every_row(bucket_url, proxy):
    """After the list the listed objects are replaced by one that holds their rows: the reader looks again."""
    store, direct = Store(bucket_url), Path(bucket_url.removeprefix("s3://"))
    writer = store.ledger_writer("s")
    for n in range(5):
        writer.put([row(n)])
    first = True

    def close_after_the_list(method, path):
        nonlocal first
        if first and method == "GET" and "list-type" not in path and direct.name in path:
            first = False
            writer.close()
        return False

    proxy.concerns = close_after_the_list
    proxy.troubles.append("pass")
    reader = Ledger(Store(bucket_url), "s")
    assert not first
    assert len(reader) == 5


if __name__ == "__main__":
    drive(*sys.argv[1:])
    os._exit(0)
