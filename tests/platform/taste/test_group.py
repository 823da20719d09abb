"""Batches shared out: every entry falls to one process, and nobody's are torn apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beholder.taste.group import ALONE, part_of
from beholder.taste.train_network import ranked_pairs


@dataclass(frozen=True)
class Place:
    rank: int
    size: int

    def add(self, tensors: object) -> None:
        raise AssertionError("nothing to add")


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 7))
def test_parts_make_up_the_whole_and_nobody_is_in_two(codes: list[int], size: int) -> None:
    ordered = np.array(sorted(codes), dtype=np.intp)
    parts = [ordered[part_of(Place(rank, size), ordered)] for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), ordered)
    people = [set(part.tolist()) for part in parts]
    assert sum(len(p) for p in people) == len(set(codes))
    longest = max((codes.count(code) for code in codes), default=0)
    assert all(len(part) <= len(codes) / size + longest + 1 for part in parts)
    assert part_of(ALONE, ordered) == slice(0, len(codes))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_ranked_pairs_are_neighbours_of_one_user_with_other_ratings(rated: list[tuple[int, int]]) -> None:
    rated.sort(key=lambda pair: pair[0])
    counted = sum(
        rated[i][0] == rated[i + apart][0] and rated[i][1] != rated[i + apart][1]
        for apart in (1, 2)
        for i in range(len(rated) - apart)
    )
    who, target = np.array([[*pair] for pair in rated], dtype=np.intp).reshape(-1, 2).T
    assert ranked_pairs(target.astype(np.float32), who) == counted
