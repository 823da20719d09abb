"""Stages side by side give what they give one after the other, on both backends, killed or not."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from stages_for_tests import AtBatch, Paying, Square, notes, working

from beholder.engine.chain import BACKLOG, Link, run_chain
from beholder.engine.progress import Quiet
from beholder.errors import EngineError
from beholder.store import Store


def follow(row):
    """Squares of numbers that are no multiple of three go on, as they are."""
    return {"n": row["square"]} if row["item"]["n"] % 3 else None


def links(batch=4):
    return [
        Link(Square(batch_size=batch), "Square", follow),
        Link(Square(name="again", batch_size=3), "Again", follow),
        Link(Square(name="last", batch_size=5), "Last"),
    ]


def one_by_one(engine, items):
    runs = []
    for link in links():
        runs.append(engine.run(link.stage, items))
        items = [item for row in runs[-1].ok_rows() if (item := link.follow(row)) is not None]
    return runs


def results(runs):
    return [[row.get("square") for row in run.rows] for run in runs]


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_chain_gives_what_its_stages_give(kind, engine_of, tmp_path, count):
    items = working(count)
    reference = one_by_one(engine_of("inprocess", at=Store(tmp_path / "reference")), items)
    runs = run_chain(engine_of(kind), links(), items)
    assert results(runs) == results(reference)
    assert [run.digest for run in runs] == [run.digest for run in reference]
    assert [run.computed for run in runs] == [run.computed for run in reference]


def test_second_chain_computes_nothing(kind, engine_of, store):
    run_chain(engine_of("inprocess"), links(), working(40))
    before = [len(notes(store, name)) for name in ("square", "again", "last")]
    runs = run_chain(engine_of(kind), links(), working(40))
    assert [run.computed for run in runs] == [0, 0, 0]
    assert [len(notes(store, name)) for name in ("square", "again", "last")] == before
    assert results(runs) == results(one_by_one(engine_of("inprocess"), working(40)))


def test_bad_items_are_set_aside_and_nothing_follows_from_them(kind, engine_of):
    items = [*working(10), {"n": 50, "do": "raise"}, *working(20)]
    runs = run_chain(engine_of(kind), links(), items)
    assert [run.failed for run in runs] == [1, 0, 0]
    assert len(runs[0].rows) == 31
    assert [row["item"]["n"] for row in runs[1].rows] == [
        n * n for n in [*range(10), *range(20)] if n % 3
    ]  # doubles of the plan come back in place
    assert runs[0].computed == 20


def test_failing_everywhere_stops_the_chain(kind, engine_of):
    with pytest.raises(EngineError, match="stage 'square'"):
        run_chain(engine_of(kind), links(), [{"n": n, "do": "raise"} for n in range(200)])


class Widest(Quiet):
    """Remembers how far the first stage was ever ahead of the second one."""

    def __init__(self):
        self.counts, self.widest = {}, 0

    @contextmanager
    def stage(self, label, total, done, failed):
        self.counts[label] = 0

        def advance(done, failed, *_):
            self.counts[label] += done + failed
            self.widest = max(self.widest, self.counts["Fast"] - self.counts["Slow"])

        yield advance


def test_a_fast_stage_waits_for_a_slow_one(kind, engine_of):
    """The second stage sleeps; the first must not run ahead by more than the backlog and what is under way."""
    size, workers = 2, 2
    progress = Widest()
    chain = [
        Link(Square(batch_size=size), "Fast", lambda row: {"n": row["square"], "do": "work"}),
        Link(Square(name="slow", batch_size=size), "Slow"),
    ]
    runs = run_chain(engine_of(kind, progress=progress), chain, [{"n": n} for n in range(300)])
    assert runs[1].computed == 300
    # Waiting, in the dispatchers' queues of both stages, and with the workers of both.
    assert progress.widest <= size * (BACKLOG + 2 * (3 * workers + 1) + 2 * 2 * workers)


@pytest.mark.ray
def test_workers_killed_in_a_chain_are_replaced(ray_address, engine_of, store, tmp_path):
    import json

    def kill():
        lines = [line for p in (store.root / "ledger").glob("*/*.jsonl") for line in p.read_text().splitlines()]
        for pid in {int(json.loads(line)["worker"].rpartition(":")[2]) for line in lines}:
            os.kill(pid, signal.SIGKILL)

    runs = run_chain(engine_of("ray", progress=AtBatch(6, kill)), links(), working(80))
    reference = one_by_one(engine_of("inprocess", at=Store(tmp_path / "reference")), working(80))
    assert [run.digest for run in runs] == [run.digest for run in reference]


def test_links_need_different_stages(engine_of):
    with pytest.raises(ValueError, match="different names"):
        run_chain(engine_of("inprocess"), [links()[0], links()[0]], working(3))


def test_what_was_done_of_a_batch_is_kept_when_a_later_stage_cannot_go_on(kind, engine_of, store):
    def onward(row):
        return {"n": row["item"]["n"]} | ({"do": "broke"} if row["item"]["n"] == 1 else {})

    chain = [Link(Square(batch_size=4), "Square", onward), Link(Paying("paying"), "Pay")]
    with pytest.raises(EngineError, match="the budget of 5"):
        run_chain(engine_of(kind, workers=1), chain, [{"n": n} for n in range(4)])
    assert sorted(row["square"] for row in store.ledger_rows("paying")) == [0, 4, 9]
    free = [chain[0], Link(Paying("paying"), "Pay")]
    again = run_chain(engine_of(kind), [Link(free[0].stage, "Square", lambda row: {"n": row["item"]["n"]}), free[1]],
                      [{"n": n} for n in range(4)])  # fmt: skip
    assert again[1].computed == 1
