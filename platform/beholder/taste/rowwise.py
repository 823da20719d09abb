"""Matrix products in which a row's result does not depend on the rows beside it."""

from __future__ import annotations

import numpy as np

from beholder.taste.base import Floats

CHUNK = 64
"""Rows per product. BLAS chooses its kernels by shape, so one fixed, padded shape gives one result per row."""


def row_products(rows: Floats, weights: Floats) -> Floats:
    """`rows @ weights`, the same to the bit for a row alone and among thousands.

    A reward must not change because its image was scored in another batch: results are named by content.

    Parameters
    ----------
    rows : array, shape (n, d)
    weights : array, shape (d, k)

    Returns
    -------
    array, shape (n, k)
    """
    n, d = rows.shape
    fixed = np.ascontiguousarray(weights, dtype=np.float64)
    out = np.empty((n, fixed.shape[1]))
    buffer = np.zeros((CHUNK, d))
    for start in range(0, n, CHUNK):
        piece = rows[start : start + CHUNK]
        buffer[: len(piece)] = piece
        out[start : start + CHUNK] = (buffer @ fixed)[: len(piece)]
    return out


def row_quadratics(rows: Floats, matrix: Floats) -> Floats:
    """`row' matrix row` for each row, shape (n,); the same to the bit in any batch."""
    return np.einsum("np,np->n", row_products(rows, matrix), rows)
