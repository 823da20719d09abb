"""Repeated ratings against a group-by of a data frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import components
from analysis.components import repeated_ratings


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60), st.sampled_from([10, 10**9]))
def test_cells_are_those_of_a_group_by(rows: list[tuple[int, int]], n_images: int) -> None:
    table = pd.DataFrame(rows, columns=["user", "image"])
    found = repeated_ratings(table["user"].to_numpy(), table["image"].to_numpy(), 6, n_images)
    size = table.groupby(["user", "image"])["user"].transform("size")
    assert found.rows.tolist() == np.flatnonzero(size > 1).tolist()
    assert found.n_cells == len(table.drop_duplicates())
    repeated = table.iloc[found.rows].assign(cell=found.cell)
    assert found.n_repeated == repeated["cell"].nunique() == len(repeated[["user", "image"]].drop_duplicates())
    assert len(repeated.drop_duplicates()) == found.n_repeated


@pytest.mark.parametrize("n", [255, 256, 257, 600])
def test_more_repeats_than_a_byte_holds(n: int) -> None:
    user, image = np.zeros(n + 1, dtype=np.int64), np.append(np.zeros(n, dtype=np.int64), 1)
    assert components._DENSE * (n + 1) >= 2
    found = repeated_ratings(user, image, 1, 2)
    assert (len(found.rows), found.n_repeated, found.n_cells) == (n, 1, 2)
