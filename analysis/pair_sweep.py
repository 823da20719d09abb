"""Accuracy at many tie margins by one sweep over the scores, compiled where numba is installed.

Items enter in order of their scores; counts of those that have entered among the first p in order of the ratings are
kept as they go. When an item has entered, two look-ups a margin tell how many of the items rated below it were scored
lower, and how many of those rated above it. Counts are kept in blocks, so that an entry changes a part of one block
and the starts of the blocks behind it; all margins of one user cost O(n (k + n/256 + 256/16)), the last two terms being
additions that the processor does 16 at a time.

The same functions run uncompiled (slowly), and `analysis.pairs` has a version in numpy for machines without numba; all
give the same bits.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.clusters import Floats, Ints

WORTH_COMPILING = 1_000_000
"""Items times margins from which loading the compiled sweep (half a second) pays."""

LARGEST_SPAN = 1 << 16
"""Ticks between the lowest and the highest rating up to which counts by tick are kept in a table."""

BLOCK_BITS = 8
"""Counts are kept in blocks of 256."""

Kernels = tuple[Callable[..., None], Callable[..., None]]
"""`tally` and `finish`, compiled or not."""


def sweep_pays(truth: Ints, n_margins: int) -> bool:
    """Whether the compiled sweep is at hand, fits the ratings and is worth loading."""
    if len(truth) * n_margins < WORTH_COMPILING or truth.max() - truth.min() > LARGEST_SPAN:
        return False
    return importlib.util.find_spec("numba") is not None


@functools.cache
def compiled() -> Kernels:
    """`tally` and `finish` as machine code, kept on disk between runs."""
    numba = importlib.import_module("numba")

    def made(cache: bool) -> Kernels:
        compile_it = numba.njit(cache=cache, error_model="numpy")
        return compile_it(tally), compile_it(finish)

    try:
        return made(cache=True)
    except RuntimeError:  # no folder to keep machine code in
        return made(cache=False)


def swept_curves(
    kernels: Kernels, rows: list[Ints], truth: Ints, score: Floats, margins: Ints
) -> tuple[Floats, Ints, Floats]:
    """Accuracy (users, margins), usable pairs (users, margins) and influences (n, margins) of many users.

    Parameters
    ----------
    kernels : Kernels
        `compiled()`, or `(tally, finish)`.
    rows : list of Ints
        Rows of each user.
    truth : Ints, shape (n,)
        Ticks, no further apart than `LARGEST_SPAN`.
    score : Floats, shape (n,)
        Finite.
    margins : Ints, shape (k,)
        0 or more.

    Notes
    -----
    Numbers and formulas are those of `analysis.pairs.accuracy_by_user`.
    """
    count, end = kernels
    shape = len(rows), len(margins)
    accuracy, n_pairs = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    influence = np.zeros((len(truth), len(margins)))
    usable, twice = np.empty((2, max((len(own) for own in rows), default=0), len(margins)), dtype=np.int32)
    cuts = np.minimum(margins, LARGEST_SPAN + 1)
    for u, own in enumerate(rows):
        n = len(own)
        if n < 2:
            continue
        ticks, scores = truth[own], score[own]
        ticks = ticks - ticks.min()
        below = np.zeros(int(ticks.max()) + 2, dtype=np.int32)
        np.cumsum(np.bincount(ticks), out=below[1:])
        place = np.empty(n, dtype=np.int64)
        place[np.argsort(ticks)] = np.arange(n)
        count(ticks, below, place, scores, np.argsort(scores), cuts, usable, twice)
        end(usable[:n], twice[:n], own, accuracy[u], n_pairs[u], influence)
    return accuracy, n_pairs, influence


def tally(ticks: Any, below: Any, place: Any, score: Any, by_score: Any, margins: Any, usable: Any, twice: Any) -> None:
    """Usable pairs of each item at each margin, and twice the credit among them, for one user.

    Parameters
    ----------
    ticks : int array (n,)
        Ratings from 0.
    below : int array (span + 2,)
        Items with a rating below each tick.
    place : int array (n,)
        Position in order of the ratings.
    score : array (n,)
    by_score : int array (n,)
        Items in order of their scores.
    margins : int array (k,)
    usable, twice : int array (n or more, k)
        Written. Twice the credit is right less wrong plus usable.
    """
    n, k, top = len(ticks), len(margins), len(below) - 1
    inside, blocks = np.zeros(n + 1, np.int32), np.zeros((n >> BLOCK_BITS) + 1, np.int32)
    start = 0
    while start < n:  # items with equal scores, start … stop-1, are looked up before and after they all enter
        stop = start + 1
        while stop < n and score[by_score[stop]] == score[by_score[start]]:
            stop += 1
        for entered in range(2):
            if entered == 1:
                for t in range(start, stop):
                    i = place[by_score[t]]
                    block = (i >> BLOCK_BITS) + 1
                    for p in range(np.uint32(i + 1), np.uint32(min(block << BLOCK_BITS, n + 1))):
                        inside[p] += 1
                    for p in range(np.uint32(block), np.uint32(len(blocks))):
                        blocks[p] += 1
            elif stop == start + 1:  # alone: before it entered there was one less below the upper end
                continue
            for t in range(start, stop):
                i = by_score[t]
                for m in range(k):
                    low = np.uint32(below[max(ticks[i] - margins[m], 0)])
                    high = np.uint32(below[min(ticks[i] + margins[m] + 1, top)])
                    found = inside[low] + inside[high] + blocks[low >> BLOCK_BITS] + blocks[high >> BLOCK_BITS]
                    if entered == 0:
                        twice[i, m] = found
                    else:
                        before = found - 1 if stop == start + 1 else twice[i, m]
                        usable[i, m] = low + n - high
                        twice[i, m] = before + found - start - stop + 2 * (n - high)
        start = stop


def finish(usable: Any, twice: Any, rows: Any, accuracy: Any, n_pairs: Any, influence: Any) -> None:
    """Accuracy and usable pairs of one user by margin, and the influence of each of his rows."""
    n, k = usable.shape
    total, credit = np.zeros(k, np.int64), np.zeros(k, np.int64)
    for i in range(n):
        for m in range(k):
            total[m] += usable[i, m]
            credit[m] += twice[i, m]
    mean, pairs = np.zeros(k), np.ones(k)
    for m in range(k):
        n_pairs[m] = total[m] // 2
        if n_pairs[m] > 0:
            pairs[m] = n_pairs[m]
            mean[m] = (credit[m] / 2.0) / (2.0 * pairs[m])
            accuracy[m] = mean[m]
    for i in range(n):
        for m in range(k):
            influence[rows[i], m] = (twice[i, m] / 2.0 - mean[m] * usable[i, m]) / pairs[m]
