"""What is told of people: read from a table, looked up by id, small groups masked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from beholder.errors import TableError
from beholder.taste.people import People

USERS = pd.DataFrame(
    {
        "user_id": ["u3", "u1", "u2", "u4", "u5", "u6"],
        "age": ["20-29", "20-29", "20-29", "20-29", "20-29", "60-69"],
        "gender": ["f", None, "m", "f", "m", "f"],
        "shoe": [41, 42, 43, 44, 45, 46],
    }
)


def test_people_are_sorted_and_gaps_are_empty() -> None:
    people = People.from_frame(USERS)
    assert people.user_ids.tolist() == ["u1", "u2", "u3", "u4", "u5", "u6"]
    assert list(people.demographics) == ["age", "gender"]
    assert people.demographics["gender"].tolist() == ["", "m", "f", "f", "m", "f"]
    assert people.dataset.tolist() == [""] * 6


def test_a_group_under_five_is_masked() -> None:
    masked = People.from_frame(USERS).masked()
    assert masked.demographics["age"].tolist() == ["20-29"] * 5 + [""]
    assert set(masked.demographics["gender"]) == {""}


def test_of_looks_up_by_id_and_knows_nothing_of_strangers() -> None:
    people = People.from_frame(USERS)
    found = People(people.user_ids, people.demographics, people.dataset, np.arange(12.0).reshape(6, 2)).of(
        ["u5", "zoe", "u2", "u5"]
    )
    assert found.user_ids.tolist() == ["u2", "u5", "zoe"]
    assert found.demographics["age"].tolist() == ["20-29", "20-29", ""]
    assert found.profiles is not None
    np.testing.assert_array_equal(found.profiles, [[2, 3], [8, 9], [0, 0]])
    assert People(np.array([], dtype="<U1"), {"age": np.array([], dtype="<U1")}).of(["a"]).demographics["age"] == [""]


def test_doubles_and_missing_columns_are_refused() -> None:
    with pytest.raises(TableError, match="one person twice"):
        People.from_frame(pd.concat([USERS, USERS.iloc[:1]]))
    with pytest.raises(TableError, match="without column height"):
        People.from_frame(USERS, ["height"])
    with pytest.raises(TableError, match="other lengths"):
        People(np.array(["a", "b"]), {"age": np.array(["20-29"])})
