"""Images that two sets share: copies by perceptual hash, so that nobody tests on what another set taught.

Difference hashes of 64 bits; images whose hashes differ in at most `NEAR` bits count as the same picture. Measured on
the 145 pictures of AVT: of 725 copies that were resized (×½, ×2, 224²) or encoded again (JPEG 30, WebP 50), 723 differ
in 4 bits or fewer; of the 10,440 pairs of different pictures none differs in fewer than 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from beholder.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Hashes = NDArray[np.uint64]
NEAR = 4
BITS = 64
AT_ONCE = 4_000_000
"""Candidate pairs in memory at once."""


def hashes_of(images: pd.DataFrame) -> tuple[Hashes, NDArray[np.str_]]:
    """Hashes and ids of the images whose hash says something: not of pictures of one colour or one slope."""
    known = images.loc[images["dhash"].notna(), ["image_id", "dhash"]]
    values = np.array([int(h, 16) for h in known["dhash"]], dtype=np.uint64)
    telling = (values != 0) & (values != np.uint64(2**BITS - 1))
    return values[telling], known["image_id"].to_numpy().astype(str)[telling]


def near_pairs(a: Hashes, b: Hashes, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """All pairs of hashes that differ in at most `most` bits: positions in `a`, positions in `b`, bits.

    Exact: of `most` + 1 bands of bits at least one is the same in such a pair, so only pairs that share a band are
    compared.

    Raises
    ------
    UserError
        If `most` is not in 0...15: with more bands than that, almost everything shares one.
    """
    if not 0 <= most <= 15:
        raise UserError(f"{most} differing bits", "0...15")
    found = [_near(a, b, i, j, most) for low, high in _bands(most) for i, j in _sharing(a, b, low, high)]
    if not found:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), np.empty(0, dtype=np.uint8)
    rows = np.unique(np.concatenate(found), axis=0)
    return rows[:, 0], rows[:, 1], np.bitwise_count(a[rows[:, 0]] ^ b[rows[:, 1]])


def overlap(images: pd.DataFrame, other: pd.DataFrame, most: int) -> pd.DataFrame:
    """Pairs of images of two sets that are probably the same picture.

    Returns
    -------
    DataFrame
        `image_id`, `other_image_id`, `bits`, sorted.
    """
    import pandas as pd

    (a, ids), (b, other_ids) = hashes_of(images), hashes_of(other)
    i, j, bits = near_pairs(a, b, most)
    found = pd.DataFrame({"image_id": ids[i], "other_image_id": other_ids[j], "bits": bits.astype(np.int64)})
    return found.sort_values(["image_id", "other_image_id"], ignore_index=True)


def _bands(most: int) -> Iterator[tuple[int, int]]:
    """`most` + 1 ranges of bits that together are all bits."""
    edges = np.linspace(0, BITS, most + 2).astype(int)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _sharing(a: Hashes, b: Hashes, low: int, high: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Positions of all pairs that agree in bits `low`...`high`, in portions."""
    mask = np.uint64((1 << (high - low)) - 1)
    x, y = (a >> np.uint64(low)) & mask, (b >> np.uint64(low)) & mask
    order = np.argsort(y, kind="stable")
    start = np.searchsorted(y[order], x, "left")
    count = np.searchsorted(y[order], x, "right") - start
    first = 0
    while first < len(a):
        total = np.cumsum(count[first:])
        last = first + max(1, int(np.searchsorted(total, AT_ONCE, "right")))
        n = count[first:last]
        i = np.repeat(np.arange(first, min(last, len(a))), n)
        within = np.arange(len(i)) - np.repeat(np.cumsum(n) - n, n)
        yield i, order[np.repeat(start[first:last], n) + within]
        first = last


def _near(a: Hashes, b: Hashes, i: NDArray[np.intp], j: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    near = np.bitwise_count(a[i] ^ b[j]) <= most
    return np.column_stack([i[near], j[near]])
