"""One poisoned row in a hundred, of every kind: exactly those are set aside, and the others are what they would be."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poison_for_tests import HALF_EMOJI, Paint, links

from beholder.engine.admission import LONGEST, admit, sift
from beholder.engine.chain import run_chain
from beholder.engine.stage import Keyed, KeyMaker
from beholder.store import Store

COUNT = 200
TRAPS = [
    "a fox",
    "two lines\u2028or\u2029three",
    "nul \x00 inside",
    "\u202eright to left\u200f and back\u202c",
    "\U0001f9d1\u200d\U0001f3a8 paints \U0001d54f",
    "cafe\u0301",
    "café",
    "\ufeffmark \ufffe\uffff",
    '"}\r\n\t{"key": "0"}',
    "%s %(n)d {n} \\ud83e",
    "",
]
"""Prompts that are valid text, whatever they do to a careless writer."""
FAIL_IN_PAINT = {
    "memory": "MemoryError: Unable to allocate 3.00 PiB",
    "nan latents": "ArithmeticError: the picture has values that are not finite",
    "nan": "TypeError: a key cannot hold nan",
    "unprintable": "UnprintableError: (its message raised LookupError)",
    "message is no text": r"ValueError: cannot draw a fox \ud83e",
    "text is no text": "UnicodeEncodeError: ",
    "half emoji": "ItemNotText: 'prompt' has half of a surrogate pair at character 6",
    "long prompt": f"ItemTooLong: 'prompt' takes the item above {LONGEST} characters",
}
FAIL_IN_LOOK = {"truncated": "OSError: "}
DIE_IN_PAINT = {"exit": "WorkerDied: 2 times alone with this item", "leave": "WorkerDied: 2 times alone with this item"}
PROMPTS = {"half emoji": HALF_EMOJI, "long prompt": "a fox, " * 4_300_000}
"""What is wrong with the prompt itself; the second has 30 million characters."""


def healthy():
    return [{"n": n, "prompt": TRAPS[n % len(TRAPS)]} for n in range(COUNT)]


def poisoned(ways):
    """The healthy items, and among them two of each way, never two in one batch."""
    items = healthy()
    bad = [{"n": n, "prompt": PROMPTS.get(way, "a fox"), "do": way} for way in ways for n in range(2)]
    for place, item in enumerate(bad):
        items.insert(10 * place + place % 2, item)
    return items


def seen(run):
    return [(row["n"], row["prompt"], row["brightness"]) for row in run.ok_rows()]


def set_aside(run):
    """Way and error of every failed row; "" for one that nobody poisoned."""
    return sorted((row["item"].get("do", ""), row["error"]) for row in run.rows if row["status"] == "failed")


def ledger_bytes(store, name):
    return b"".join(path.read_bytes() for path in (store.root / "ledger" / name).glob("*.jsonl"))


def test_exactly_the_poisoned_rows_are_set_aside(kind, engine_of, store, tmp_path):
    """In-process, an item that ends the process ends the run: that kind is left to the workers of a cluster."""
    fail = {**FAIL_IN_PAINT, **(DIE_IN_PAINT if kind == "ray" else {})}
    items = poisoned([*fail, *FAIL_IN_LOOK])
    clean = run_chain(engine_of("inprocess", at=Store(tmp_path / "clean")), links(), healthy())
    assert seen(clean[1]) == [(item["n"], item["prompt"], item["n"]) for item in healthy()]

    painted, looked = run_chain(engine_of(kind, max_failed=0.15, retries=0), links(), items)
    assert [pair for pair in set_aside(painted) if not pair[0]] == []
    assert (painted.computed, painted.failed) == (COUNT + 2, 2 * len(fail))
    assert (looked.computed, looked.failed) == (COUNT, 2)
    assert seen(looked) == seen(clean[1])
    assert looked.digest == clean[1].digest
    for way, error in set_aside(painted):
        assert error.startswith(fail[way])
    assert [way for way, _ in set_aside(painted)] == sorted(2 * [*fail])
    (first, second) = (row for row in looked.rows if row["status"] == "failed")
    assert (first["item"]["n"], second["item"]["n"]) == (0, 1)
    assert first["error"].startswith(FAIL_IN_LOOK["truncated"])

    # What was written is text, one line a row, without what was too long; a later run finds it and does nothing.
    for run, name in ((painted, "paint"), (looked, "look")):
        lines = ledger_bytes(store, name).decode().splitlines()
        assert len(lines) == len(run.rows) == len({json.loads(line)["key"] for line in lines})
    assert len(ledger_bytes(store, "paint")) < LONGEST
    again = run_chain(engine_of("inprocess", max_failed=0.15, retries=0), links(), items)
    assert [(run.computed, run.failed) for run in again] == [(0, painted.failed), (0, 2)]
    assert [run.rows for run in again] == [painted.rows, looked.rows]
    assert run_chain(engine_of("inprocess"), links(), healthy())[0].digest == clean[0].digest


def test_refused_items_alone_reach_no_stage(kind, engine_of):
    """Whole batches of them, in a run of one stage, for which no worker is replaced; a valid item is left as it is."""
    items = [{"n": n, "prompt": HALF_EMOJI} for n in range(24)]
    run = engine_of(kind, max_failed=1.0).run(Paint(), [*items, {"n": 9, "prompt": "\U0001f98a"}])
    assert [row["status"] for row in run.rows] == 24 * ["failed"] + ["ok"]
    assert len({row["worker"] for row in run.rows}) <= 2
    assert run.rows[0]["item"] == {"n": 0, "prompt": r"a fox \ud83e"}
    assert run.rows[-1]["prompt"] == "\U0001f98a"


def batch_of(item):
    return sift([Keyed("key", admit(item))])


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: ["a", {"b": text}], lambda text: {text: 1}])
def test_longest_item_is_admitted_and_no_longer_one(wrap):
    spent = len("ab") if isinstance(wrap(""), list) else 0
    fits, too_long = ({"x": wrap("é" * (LONGEST - spent + more))} for more in (0, 1))
    assert admit(fits) is fits
    assert batch_of(too_long).admitted == []
    assert len(str(admit(too_long))) < 1000


def test_texts_of_an_item_count_together():
    half = "x" * (LONGEST // 2)
    assert not batch_of({"a": half, "b": half}).refused
    assert batch_of({"a": half, "b": half, "c": "x"}).refused


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANY_TEXT = TEXT | st.text(st.characters(categories=["Cs", "L"]), max_size=8)


def is_text(value):
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.dictionaries(st.sampled_from("abcd"), ANY_TEXT | st.lists(ANY_TEXT, max_size=3) | st.integers()))
def test_what_cannot_be_written_is_refused_and_nothing_else(item):
    admitted, refused = batch_of(item)
    assert bool(admitted) == is_text(item)
    assert bool(refused) != bool(admitted)
    assert is_text(admit(item))


@given(TEXT)
def test_key_of_valid_text_is_the_hash_of_its_utf8(text):
    stage = '{"batch_size":2,"stage":"paint","version":1}'
    expected = f'{{"item":{{"prompt":{json.dumps(text, ensure_ascii=False)}}},"stage":{stage}}}'.encode()
    assert KeyMaker(Paint()).key({"prompt": text}) == hashlib.sha256(expected).hexdigest()


def test_different_broken_texts_have_different_keys():
    prompts = ["\ud83e", "\ud83d", "\udd8a", r"\ud83e", "�", "\ud83e\ud83e"]
    assert len({KeyMaker(Paint()).key({"prompt": prompt}) for prompt in prompts}) == len(prompts)
