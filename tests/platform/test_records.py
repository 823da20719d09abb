"""Canonical JSON against the standard library's own, and its fast form against it."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beholder.engine.stage import KeyMaker
from beholder.records import FlatEncoder, canonical_json, key_of, table_digest

TEXT = st.text(max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.one_of(TEXT, st.booleans(), st.none(), st.integers(), st.integers(2**70, 2**80), FLOATS)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
ITEMS = st.lists(
    st.dictionaries(TEXT | st.sampled_from(["_path", "_", "%s", '"', "é"]), VALUES, max_size=5), max_size=8
)


def reference(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(value=VALUES)
def test_canonical_json_is_the_standard_librarys(value):
    assert canonical_json(value) == reference(value)
    assert key_of(value) == hashlib.sha256(reference(value).encode("utf-8", "surrogatepass")).hexdigest()


@given(items=ITEMS, few=st.booleans())
def test_fast_form_is_the_slow_one(items, few):
    encoder = FlatEncoder()
    if few:
        encoder.FORMS = 1
    for item in items * 2:
        assert encoder.encode(item) == reference({k: v for k, v in item.items() if not k.startswith("_")})


@given(items=ITEMS)
def test_keys_of_items_are_digests_of_their_canonical_json(items):
    class Stage:
        name, version, batch_size = "s", 3, 2

        def identity(self):
            return {"dtype": "float32"}

    maker, shared = KeyMaker(Stage()), {"stage": "s", "version": 3, "dtype": "float32"}
    for item in items:
        content = {k: v for k, v in item.items() if not k.startswith("_")}
        assert maker.key(item) == key_of({"item": content, "stage": shared})


def test_keys_of_items_stay_what_they_are():
    """Ledgers are found again by these."""

    class Stage:
        name, version, batch_size = "draw", 1, 4

        def identity(self):
            return {"batch_size": 4, "guidance": 3.5}

    stage = '{"batch_size":4,"guidance":3.5,"stage":"draw","version":1}'
    text = '{"item":{"prompt":"a \\"cat\\"\u2028é","seed":7},"stage":' + stage + "}"
    item = {"seed": 7, "prompt": 'a "cat"\u2028é', "_path": "x.png"}
    assert KeyMaker(Stage()).key(item) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1: 2}, [object()], b"bytes", {"a"}])
def test_what_has_no_canonical_form_is_refused(value):
    for encode in (canonical_json, FlatEncoder().encode):
        with pytest.raises(TypeError):
            encode({"n": value})


MISSING = [math.nan, math.inf, pd.NA, pd.NaT]


def as_json(cell):
    if isinstance(cell, pd.Timestamp):
        return str(cell)
    missing = cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and not math.isfinite(cell))
    return None if missing else cell


@given(
    rows=st.lists(
        st.tuples(
            VALUES | st.sampled_from([*MISSING, pd.Timestamp("2026-04-07")]), st.floats(), st.integers(-9, 9), TEXT
        ),
        max_size=6,
    ),
    random=st.randoms(use_true_random=False),
)
def test_digest_of_a_table_is_that_of_its_rows_as_json(rows, random):
    """Whatever the order of rows and columns, and whatever the columns hold that may differ."""
    kinds = {"any": object, "%s share": float, "count": "int64", "text": "str"}
    lines = sorted(reference(dict(zip(kinds, map(as_json, row), strict=True))) for row in rows)
    random.shuffle(rows)
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    frame = pd.DataFrame({n: pd.Series([*c], dtype=kinds[n]) for n, c in zip(kinds, columns, strict=True)})
    order = [*kinds, "worker"]
    random.shuffle(order)
    found = table_digest(frame.assign(worker=np.arange(len(rows)))[order])
    assert found == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_digest_of_a_table_with_arrays_in_it():
    frame = pd.DataFrame({"vector": [np.array([0.5, np.nan]), np.array([1.0])], "known": np.array([True, False])})
    lines = ['{"known":false,"vector":[1.0]}', '{"known":true,"vector":[0.5,null]}']
    assert table_digest(frame) == hashlib.sha256("\n".join(lines).encode()).hexdigest()
