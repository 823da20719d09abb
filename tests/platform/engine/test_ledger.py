"""The index over a stage's shards, against reading every line as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages_for_tests import Square

from beholder.engine import ledger as module
from beholder.engine.ledger import Ledger, short_key
from beholder.engine.stage import KeyMaker
from beholder.records import key_of
from beholder.store import Store

ROW = st.builds(
    lambda n, failed, attempt, time, text, modern: (
        {"key": key_of(n), "status": "failed" if failed else "ok", "attempt": attempt, "written_at": f"{time:04}"}
        | {"item": {"status": "ok", "text": text}}
        if modern
        else {"item": {"n": n}, "attempt": attempt, "status": "failed" if failed else "ok"}
        | {"key": key_of(n), "written_at": f"{time:04}"}
    ),
    st.integers(0, 6),
    st.booleans(),
    st.integers(1, 120),
    st.integers(0, 9999),
    st.text(max_size=8),
    st.booleans(),
)


def which_counts(rows):
    """By definition: the earliest ok row of a key, or else a failed one with the most attempts."""
    best = {}
    for row in rows:
        rank = (row["status"] == "failed", -row["attempt"] if row["status"] == "failed" else 0, row["written_at"])
        if row["key"] not in best or rank < best[row["key"]][0]:
            best[row["key"]] = (rank, row)
    return {key: row for key, (_, row) in best.items()}


@given(
    shards=st.lists(st.lists(ROW, max_size=6), max_size=3), torn=st.booleans(), block=st.sampled_from([64, 300, 4096])
)
def test_index_gives_the_row_that_counts(tmp_path_factory, shards, torn, block):
    store = Store(tmp_path_factory.mktemp("store"))
    folder = store.root / "ledger" / "s"
    folder.mkdir(parents=True)
    for number, rows in enumerate(shards):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{number}.jsonl").write_text(text + ('{"key": "0123' if torn else ""))
    expected = which_counts(row for rows in shards for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        ledger = Ledger(store, "s")
    assert len(ledger) == len(expected)
    keys = np.array([short_key(key_of(n)) for n in range(8)], dtype="S16")
    ok, failed, attempts = ledger.status(keys)
    for n in range(8):
        row = expected.get(key_of(n))
        assert ok[n] == (row is not None and row["status"] == "ok")
        assert failed[n] == (row is not None and row["status"] == "failed")
        assert attempts[n] == (0 if row is None else row["attempt"]) == (ledger.state(key_of(n)) or (0, 0))[1]
        if row is None:
            with pytest.raises(KeyError):
                ledger.row(short_key(key_of(n)))
        else:
            found = ledger.row(short_key(key_of(n)))
            assert (found["status"], found["attempt"], found["written_at"]) == (
                row["status"], row["attempt"], row["written_at"],
            )  # fmt: skip
    ledger.close()


@given(puts=st.lists(st.lists(ROW, max_size=5), max_size=4), limit=st.sampled_from([1, 3, 1000]))
def test_rows_put_are_found_at_once_and_by_the_next_reader(tmp_path_factory, puts, limit):
    store = Store(tmp_path_factory.mktemp("store"))
    ledger = Ledger(store, "s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RECENT", limit)
        for rows in puts:
            ledger.put(rows)
    put = [row for rows in puts for row in rows]
    # Rows put later never replace an ok one, whatever their time: the ledger keeps what it gave out.
    for key, row in which_counts([{**row, "written_at": f"{n:04}"} for n, row in enumerate(put)]).items():
        assert ledger.row(short_key(key))["status"] == row["status"]
        assert ledger.row(short_key(key))["attempt"] == row["attempt"]
    again = Ledger(store, "s")
    assert len(again) == len(ledger) == len({row["key"] for row in put})
    for each in (ledger, again):
        each.close()


def test_keys_made_in_two_ways_are_the_same():
    items = [{"n": 1}, {"n": 2, "_path": "x"}, {"text": "ünï", "deep": {"b": [1, 2.5], "a": None}}]
    stage = Square()
    shared = {"stage": "square", "version": 1, "batch_size": 4, "fail_setup": ""}
    for item in items:
        content = {name: value for name, value in item.items() if name != "_path"}
        assert KeyMaker(stage).key(item) == key_of({"item": content, "stage": shared})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {"a": {2: 3}}, object(), np.int64(1)])
def test_items_that_have_no_canonical_form_are_refused(value):
    with pytest.raises(TypeError):
        KeyMaker(Square()).key({"n": value})
