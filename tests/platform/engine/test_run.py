"""The engine's promises, on both backends: what is in the ledger after a run is what the items ask for."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from stages_for_tests import AtBatch, Paying, Square, interrupt, notes

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.engine.stage import KeyMaker
from beholder.errors import EngineError
from beholder.store import Store

MANY = [{"n": n} for n in range(30)]


def squares(run):
    return [row.get("square") for row in run.rows]


def lines_of(store, name="square"):
    return [json.loads(line) for p in (store.root / "ledger" / name).glob("*.jsonl") for line in p.open()]


def test_rows_come_in_the_order_of_the_items(kind, engine_of):
    order = np.random.default_rng(1).permutation(30).tolist()
    run = engine_of(kind).run(Square(), [{"n": n} for n in order])
    assert squares(run) == [n * n for n in order]
    assert (run.done, run.computed, run.failed) == (0, 30, 0)
    assert [row["key"] for row in run.rows] == [KeyMaker(Square()).key({"n": n}) for n in order]


def test_backend_batches_and_order_leave_the_digest_alone(kind, engine_of, tmp_path):
    reference = engine_of("inprocess").run(Square(), MANY).digest
    other = engine_of(kind, at=Store(tmp_path / "other"))
    other.run(Square(), MANY[7:12])
    assert other.run(Square(), MANY[::-1]).digest == reference
    assert other.run(Square(), MANY[:-1]).digest != reference


def test_second_run_computes_nothing(kind, engine_of, store):
    first = engine_of(kind).run(Square(), MANY)
    before = lines_of(store)
    for engine in (engine_of(kind), engine_of("inprocess")):
        again = engine.run(Square(), MANY)
        assert (again.done, again.computed) == (30, 0)
        assert again.rows == first.rows
    assert lines_of(store) == before
    assert Counter(notes(store)) == Counter(str(n) for n in range(30))


def test_only_what_is_missing_is_computed(kind, engine_of, store):
    engine = engine_of(kind)
    engine.run(Square(), MANY[:10])
    run = engine.run(Square(), MANY[5:20])
    assert (run.done, run.computed) == (5, 10)
    assert set(Counter(notes(store)).values()) == {1}


def test_doubles_are_computed_once_and_given_back_in_place(kind, engine_of, store):
    numbers = [3, 1, 3, 3, 2, 1]
    engine = engine_of(kind)
    run = engine.run(Square(), [{"n": n} for n in numbers])
    assert squares(run) == [9, 1, 9, 9, 4, 1]
    assert run.computed == 3
    assert sorted(notes(store)) == ["1", "2", "3"]
    assert run.digest == engine.run(Square(), [{"n": 1}, {"n": 2}, {"n": 3}]).digest


def test_another_version_or_batch_size_is_another_result(engine_of):
    engine = engine_of("inprocess")
    engine.run(Square(), MANY)
    newer = Square()
    newer.version = 2
    assert engine.run(newer, MANY).computed == 30
    assert engine.run(Square(batch_size=5), MANY).computed == 30


def test_bad_item_is_quarantined_alone(kind, engine_of):
    items = [*MANY[:5], {"n": 99, "do": "raise"}, *MANY[5:], {"n": 98, "do": "nan"}]
    run = engine_of(kind).run(Square(batch_size=8), items)
    assert (run.computed, run.failed) == (30, 2)
    raised, nan = run.rows[5], run.rows[-1]
    assert (raised["status"], raised["error"]) == ("failed", "ArithmeticError: cannot square 99")
    assert "square" not in raised
    assert nan["status"] == "failed"
    assert [row["square"] for row in run.ok_rows()] == [n * n for n in range(30)]


def test_failing_everywhere_stops_early(kind, engine_of, store):
    items = [{"n": n, "do": "raise"} for n in range(400)]
    with pytest.raises(EngineError, match=r"of 400 items failed.*ArithmeticError.*at most 20"):
        engine_of(kind).run(Square(), items)
    assert 20 < len(lines_of(store)) <= 20 + 4  # the batch that went over the limit is the last one written


def test_no_failure_is_tolerated_where_none_is_allowed(kind, engine_of):
    with pytest.raises(EngineError, match="1 of 31 items failed"):
        engine_of(kind, max_failed=0).run(Square(), [*MANY, {"n": 1, "do": "raise"}])


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_failed_items_are_retried_so_often_and_no_more(kind, engine_of, store, retries):
    items = [*MANY, {"n": 99, "do": "raise"}]
    for attempt in range(1, retries + 3):
        run = engine_of(kind, retries=retries).run(Square(), items)
        assert run.failed == 1
        assert run.rows[-1]["attempt"] == min(attempt, retries + 1)
    assert sum(row["status"] == "failed" for row in lines_of(store)) == retries + 1


def test_retry_can_mend_an_item(kind, engine_of):
    items = [{"n": 5, "do": "raise once"}]
    engine = engine_of(kind)
    assert engine.run(Square(), items).failed == 1
    mended = engine.run(Square(), items)
    assert (mended.computed, mended.failed, squares(mended)) == (1, 0, [25])
    assert (mended.rows[0]["attempt"], mended.rows[0]["error"]) == (2, None)
    assert engine_of("inprocess").run(Square(), items).rows == mended.rows


@pytest.mark.parametrize(("do", "message"), [("clash", r"\['status'\]"), ("lose", "3 results for 4 items")])
def test_broken_contract_is_a_bug_of_the_stage(kind, engine_of, do, message):
    with pytest.raises(ValueError, match=message):
        engine_of(kind).run(Square(), [{"n": n, "do": do} for n in range(4)])


def test_engine_errors_of_a_stage_stop_the_run(kind, engine_of, store):
    with pytest.raises(EngineError, match="the budget of 5 is used up"):
        engine_of(kind).run(Square(batch_size=1), [*MANY[:8], {"n": 99, "do": "broke"}, *MANY[8:]])
    assert {row["status"] for row in lines_of(store)} <= {"ok"}
    assert engine_of(kind).run(Square(batch_size=1), MANY).failed == 0


def test_error_while_loading_is_the_callers(kind, engine_of):
    with pytest.raises(FileNotFoundError, match="no weights here"):
        engine_of(kind).run(Square(fail_setup="raise"), MANY)


def test_fields_with_an_underscore_are_passed_along_and_change_nothing(kind, engine_of):
    plain = [{"n": 2}, {"n": 3}, {"n": 2}]
    with_paths = [{**item, "_path": f"somewhere/{place}"} for place, item in enumerate(plain)]
    reference = engine_of("inprocess").run(Square(name="plain"), plain)
    run = engine_of(kind).run(Square(), with_paths)
    assert (squares(run), run.computed) == ([4, 9, 4], 2)
    assert [row["item"] for row in run.rows] == plain == [row["item"] for row in reference.rows]


def test_stage_is_loaded_once_in_each_worker(kind, engine_of, store):
    engine = engine_of(kind)
    for start in (0, 10, 20):
        engine.run(Square(), MANY[start : start + 10])
        engine.run(Square(name="other"), MANY[start : start + 10])
    for name in ("square", "other"):
        assert 1 <= len(notes(store, name, "setup")) <= 2


def test_torn_last_line_is_done_again(kind, engine_of, store):
    engine_of(kind).run(Square(), MANY)
    (shard,) = (store.root / "ledger" / "square").glob("*.jsonl")
    shard.write_bytes(shard.read_bytes()[:-30])
    again = engine_of(kind).run(Square(), MANY)
    assert (again.done, again.computed, squares(again)) == (29, 1, [n * n for n in range(30)])


def test_first_ok_row_wins_whatever_the_shards_are_called(engine_of, store):
    first = engine_of("inprocess").run(Square(), [{"n": 3}]).rows[0]
    folder = store.root / "ledger" / "square"
    later = first | {"written_at": "9999", "attempt": 5, "square": 10}
    failed = first | {"written_at": "0000", "status": "failed", "attempt": 9}
    for name in ("0", "z"):
        (folder / f"{name}.jsonl").write_text(f"{json.dumps(later)}\n{json.dumps(failed)}\n")
    assert engine_of("inprocess").run(Square(), [{"n": 3}]).rows == [first]


def test_ctrl_c_leaves_the_ledger_readable(kind, engine_of, store):
    with pytest.raises(KeyboardInterrupt):
        engine_of(kind, progress=AtBatch(3, interrupt)).run(Square(), MANY)
    kept = lines_of(store)
    assert len(kept) == 3 * 4
    run = engine_of(kind).run(Square(), MANY)
    assert (run.done, run.computed) == (12, 18)
    assert squares(run) == [n * n for n in range(30)]


def test_nothing_to_do(kind, engine_of):
    run = engine_of(kind).run(Square(), [])
    assert (run.rows, run.done, run.computed, run.failed) == ([], 0, 0, 0)


def test_workers_and_ledger_share_one_store(store, tmp_path):
    with pytest.raises(EngineError, match="the ledger is in"):
        Engine(store, InProcess(Store(tmp_path / "elsewhere")), Quiet())


def test_what_was_done_of_a_batch_is_kept_when_the_stage_cannot_go_on(kind, engine_of, store):
    """One item of the second batch is one too many; its neighbours are in the ledger, and computed once in all."""
    items = [{"n": n, "do": "broke"} if n == 5 else {"n": n} for n in range(8)]
    with pytest.raises(EngineError, match="the budget of 5 is used up; to do: raise it"):
        engine_of(kind, workers=1).run(Paying(), items)
    assert sorted(row["square"] for row in lines_of(store)) == [0, 1, 4, 9, 16, 36, 49]
    assert engine_of(kind).run(Paying(), MANY[:8]).computed == 1
    assert Counter(notes(store)) == Counter(str(n) for n in range(8))


def test_the_good_half_of_a_batch_is_kept_when_the_other_stops_the_run(kind, engine_of, store):
    """The batch is halved for the bad item; the stop comes in its second half."""
    items = [{"n": 0}, {"n": 1, "do": "raise"}, {"n": 2}, {"n": 3, "do": "broke"}]
    with pytest.raises(EngineError, match="the budget of 5"):
        engine_of(kind, workers=1).run(Paying(), items)
    rows = {row["item"]["n"]: row["status"] for row in lines_of(store)}
    assert rows == {0: "ok", 1: "failed", 2: "ok"}
