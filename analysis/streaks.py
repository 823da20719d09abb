"""How likely is a streak? Longest run of one side in a participant's answers, against fair coins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def longest_run(answers: Sequence[object] | np.ndarray) -> int:
    """Length of the longest run of equal neighbours; 0 for no answers."""
    values = np.asarray(answers)
    if not len(values):
        return 0
    breaks = np.flatnonzero(values[1:] != values[:-1]) + 1
    return int(np.diff(np.concatenate([[0], breaks, [len(values)]])).max())


def run_p(n: int, longest: int) -> float:
    """P(some run of either side is `longest` or longer) in `n` flips of a fair coin, exactly.

    A run of L equal flips is a run of L - 1 "same as before" among the n - 1 neighbours, which are fair coins too. With
    q_m the chance of no such run of k in m flips, q_m = q_(m-1) - q_(m-k-1) / 2^(k+1) (Feller 1968, ch. XIII.7).

    Assumes sides were drawn at random for each trial; where they are balanced instead, long runs are rarer still.
    """
    k, m = longest - 1, n - 1
    if longest > n:
        return 0.0
    if k <= 0:
        return 1.0
    none = [1.0] * k + [1 - 0.5**k]
    for j in range(k + 1, m + 1):
        none.append(none[j - 1] - none[j - k - 1] * 0.5 ** (k + 1))
    return 1 - none[m]
