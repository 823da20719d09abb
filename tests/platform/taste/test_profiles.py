"""Texts of people: whose may be told, and embeddings that leave no trace of a text in a ledger, message or error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.errors import TableError
from beholder.records import pack, unpack
from beholder.store import Store
from beholder.taste.fold_stage import join_people
from beholder.taste.people import People
from beholder.taste.profiles import EmbedProfiles, digest_of, profile_items, tellable, with_profiles

OWN = [f"I have lived by the sea for {k} years" for k in range(12)]


def users(texts: Sequence[str | None], **columns: Sequence[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [f"u{k:02d}" for k in range(len(texts))], "profile": texts, **columns})


def test_words_of_ones_own_are_told_and_gaps_are_counted() -> None:
    told = tellable(users([*OWN[:3], None, "  ", OWN[5]]))
    assert told.texts == {"u00": OWN[0], "u01": OWN[1], "u02": OWN[2], "u05": OWN[5]}
    assert (told.withheld, told.silent) == (0, 2)


def test_who_is_masked_in_a_demographic_is_masked_in_words() -> None:
    """Four people over sixty: their age is masked, and so is what they wrote."""
    age = ["60-69"] * 4 + ["20-29"] * 7 + [None]
    told = tellable(users(OWN, age=age))
    assert list(told.texts) == [f"u{k:02d}" for k in range(4, 12)]
    assert told.withheld == 4
    assert tellable(users(OWN, age=["60-69"] * 5 + ["20-29"] * 7)).withheld == 0
    assert tellable(users(OWN, age=age), smallest=4).withheld == 0


def test_descriptions_of_groups_are_told_of_five_people_or_more() -> None:
    texts = ["a woman of 20 to 29"] * 6 + ["a man of 20 to 29"] * 5 + ["a man of 60 to 69"]
    told = tellable(users(texts))
    assert set(told.texts.values()) == {"a woman of 20 to 29", "a man of 20 to 29"}
    assert told.withheld == 1
    assert len(profile_items(told)) == 2, "each text is embedded once"


def test_masking_people_masks_their_profiles() -> None:
    people = People.from_frame(users(OWN, gender=["x"] * 4 + ["f"] * 8))
    masked = with_profiles(people, people.user_ids.tolist(), np.ones((12, 3))).masked()
    np.testing.assert_array_equal(masked.profiles, np.repeat([[0.0] * 3, [1.0] * 3], [4, 8], axis=0))


def test_profiles_stand_at_their_people() -> None:
    people = People.from_frame(users(OWN[:4]))
    found = with_profiles(people, ["u03", "stranger", "u01"], np.array([[3.0, 3], [9, 9], [1, 1]]))
    np.testing.assert_array_equal(found.profiles, [[0, 0], [1, 1], [0, 0], [3, 3]])
    with pytest.raises(TableError, match="2 embeddings of the texts of 1 people"):
        with_profiles(people, ["u01", "u01"], np.ones((2, 2)))
    with pytest.raises(TableError, match="gaps or infinities in the embeddings of profiles"):
        with_profiles(people, ["u01"], np.array([[np.nan, 1.0]]))
    with pytest.raises(TableError, match="without column profile"):
        tellable(users(OWN).drop(columns="profile"))


def test_a_set_without_profiles_joins_one_that_has_them() -> None:
    one = with_profiles(People(np.array(["a:1", "a:2"])), ["a:1"], np.ones((1, 2)))
    joined = join_people([one, People(np.array(["b:1"]))])
    np.testing.assert_array_equal(joined.profiles, [[1, 1], [0, 0], [0, 0]])
    other = with_profiles(People(np.array(["b:1"])), ["b:1"], np.ones((1, 3)))
    with pytest.raises(TableError, match="profiles of 2 and 3 numbers"):
        join_people([one, other])


@dataclass
class Letters:
    """A text encoder: how often each vowel occurs; one text it cannot read, and says so by repeating it."""

    name: str = "letters"
    version: int = 1
    batch_size: int = 4
    needs: None = None

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": "letters"}

    def setup(self, store: Store) -> None:
        pass

    def process(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        for item in items:
            if "unreadable" in item["text"]:
                raise ValueError(f"cannot read {item['text']!r}")
        return [
            {"text": i["text"], "vector": pack(np.array([i["text"].count(v) for v in "aeiou"], dtype=np.float32))}
            for i in items
        ]


def test_no_file_of_the_store_holds_a_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = [*OWN[:6], "an unreadable secret of mine"]
    told, store = tellable(users(texts)), Store(tmp_path / "store")
    with Engine(store, InProcess(store), Quiet()) as engine:
        found = engine.run(EmbedProfiles(Letters()), profile_items(told))
    assert (found.computed, found.failed) == (6, 1)
    rows = {row["profile"]: row["vector"] for row in found.ok_rows()}
    for text in OWN[:6]:
        np.testing.assert_array_equal(unpack([rows[digest_of(text)]])[0], [text.count(v) for v in "aeiou"])
    written = b"".join(path.read_bytes() for path in store.path("").rglob("*") if path.is_file())
    assert b"a text of a person cannot be embedded (ValueError)" in written
    said = "".join(capfd.readouterr())
    for text in texts:
        assert text.encode() not in written
        assert text not in said
