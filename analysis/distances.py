"""Statistics of distances between images or between people, beside the test of style in `analysis.consistency`.

* PERMANOVA (Anderson 2001, doi:10.1111/j.1442-9993.2001.01070.pp.x): with d the distances, n objects in a groups,
  SS_T = sum_{i<j} d_ij^2 / n and SS_W = sum over groups of sum_{i<j in it} d_ij^2 / n_g,
  F = ((SS_T - SS_W) / (a - 1)) / (SS_W / (n - a)) and R^2 = 1 - SS_W / SS_T. Labels are permuted within strata.
* Mantel (1967): Pearson's correlation of the entries of two distance matrices of the same people; one of them has its
  people permuted, rows and columns together.

Both are descriptions here. PERMANOVA of images by person, prompts as strata, asks whether a person's runs are alike or
scattered unlike others' runs: it rejects without any style when people's runs differ in spread, so style is claimed
from T2 alone. Mantel's correlation of rating profiles with steering (people alike in taste are steered alike) needs
eight people and says nothing of causes.

Assume objects (people) are exchangeable within strata under the hypothesis. Wrong when groups differ in size and spread
together (PERMANOVA), and when distances depend on where people's images come from (Mantel).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.clusters import Floats, Ints, integer_codes
from analysis.consistency import ROUNDING, steered_array, style_directions
from analysis.errors import EstimateError
from analysis.tables import check_steered

if TYPE_CHECKING:
    import pandas as pd

PERMUTATIONS = 9_999
FEWEST_FOR_MANTEL = 4
"""People below whom no permutation can give p < .05; from eight on the correlation is worth reading."""


@dataclass(frozen=True)
class Permanova:
    """See `permanova`: pseudo-F, share of squared distance between groups, p, and what was permuted."""

    f: float
    r2: float
    p: float
    df_groups: int
    df_residual: int
    n_permutations: int


@dataclass(frozen=True)
class Mantel:
    """See `mantel`: correlation of the distances, one-sided p (large is alike), and what was permuted."""

    r: float
    p: float
    n_people: int
    n_permutations: int


def permanova(
    distances: Floats,
    groups: Sequence[Any],
    *,
    rng: np.random.Generator,
    strata: Sequence[Any] | None = None,
    draws: int = PERMUTATIONS,
) -> Permanova:
    """Whether groups of objects lie apart, from the distances of the objects.

    Parameters
    ----------
    distances : float array (n, n)
        Symmetric, zero on the diagonal.
    groups : sequence (n,)
        Label of each object, for instance the user an image was steered for.
    rng : Generator
    strata : sequence (n,), optional
        Labels change places within a stratum only, for instance within a prompt.
    draws : int
        Permutations; 0 for the statistic alone (p is NaN).

    Raises
    ------
    EstimateError
        No distance matrix, fewer than two groups, as many groups as objects, no distance at all.
    """
    squares = _checked(distances) ** 2
    labels, n_groups = integer_codes(np.asarray(groups))
    n = len(squares)
    if len(labels) != n:
        raise EstimateError(f"{len(labels)} labels for {n} objects", "one label an object")
    if not 2 <= n_groups < n:
        raise EstimateError(f"{n_groups} groups of {n} objects", "2 groups or more, fewer than objects")
    total = float(squares.sum()) / 2 / n
    if total == 0:
        raise EstimateError("all distances are zero", "objects that differ", "check the embeddings")
    blocks = np.zeros(n, dtype=np.int64) if strata is None else integer_codes(np.asarray(strata))[0]
    if len(blocks) != n:
        raise EstimateError(f"{len(blocks)} strata for {n} objects", "one stratum an object")
    sizes = np.bincount(labels, minlength=n_groups)
    within = _within(squares, labels, sizes)
    below = sum(
        _within(squares, _shuffled(labels, blocks, rng), sizes) <= within + ROUNDING * total for _ in range(draws)
    )
    f = (total - within) / (n_groups - 1) / (within / (n - n_groups)) if within > 0 else math.inf
    p = (1 + below) / (1 + draws) if draws else math.nan
    return Permanova(f, 1 - within / total, p, n_groups - 1, n - n_groups, draws)


def _within(squares: Floats, labels: Ints, sizes: Ints) -> float:
    """Sum of squares within groups."""
    member = np.eye(len(sizes))[labels]
    return float((((squares @ member) * member).sum(axis=0) / (2 * sizes)).sum())


def _shuffled(labels: Ints, blocks: Ints, rng: np.random.Generator) -> Ints:
    """The labels in a random order within each block."""
    order = np.lexsort((rng.random(len(labels)), blocks))
    result = np.empty_like(labels)
    result[np.argsort(blocks, kind="stable")] = labels[order]
    return result


def mantel(first: Floats, second: Floats, *, rng: np.random.Generator, draws: int = PERMUTATIONS) -> Mantel:
    """Whether people who are near in one matrix of distances are near in another.

    Parameters
    ----------
    first, second : float array (U, U)
        Distances of the same people in the same order.
    rng : Generator
    draws : int
        Permutations; 0 for the correlation alone (p is NaN).

    Raises
    ------
    EstimateError
        No distance matrices, of different sizes, fewer than four people, or constant distances.
    """
    a, b = _checked(first), _checked(second)
    if len(a) != len(b) or len(a) < FEWEST_FOR_MANTEL:
        raise EstimateError(
            f"distances of {len(a)} and of {len(b)} people", f"the same people, {FEWEST_FOR_MANTEL} or more"
        )
    upper = np.triu_indices(len(a), 1)
    x, y = (m[upper] - m[upper].mean() for m in (a, b))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    if scale <= ROUNDING * max(1.0, float(a.max() * b.max())):
        raise EstimateError("all distances are the same", "distances that vary", "check the profiles")
    centred = np.zeros_like(b)
    centred[upper] = y
    centred += centred.T
    r = float(x @ y) / scale
    above = 0
    for _ in range(draws):
        order = rng.permutation(len(a))
        above += float(x @ centred[np.ix_(order, order)][upper]) / scale >= r - ROUNDING
    return Mantel(r, (1 + above) / (1 + draws) if draws else math.nan, len(a), draws)


def _checked(distances: Floats) -> Floats:
    d = np.asarray(distances, dtype=np.float64)
    tiny = ROUNDING * max(1.0, float(np.abs(d).max(initial=0.0)))
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not np.isfinite(d).all():
        raise EstimateError(f"distances of shape {d.shape}", "a square table of finite numbers")
    if np.abs(d - d.T).max(initial=0.0) > tiny or np.abs(d.diagonal()).max(initial=0.0) > tiny or (d < 0).any():
        raise EstimateError("no distances", "symmetric, zero on the diagonal, nowhere negative")
    return d


def steering_distances(steered: pd.DataFrame) -> tuple[Floats, list[str]]:
    """Euclidean distances (U, U) between users' mean steering directions over prompts and runs, and the users' ids.

    The direction of an image is its embedding less the mean over users (same prompt and run), scaled to length one.
    `steered` is described in `analysis.tables`; one condition, every user on every prompt in every run.
    """
    z, users = steered_array(check_steered(steered))
    mean = style_directions(z).mean(axis=(1, 2))
    return np.asarray(np.linalg.norm(mean[:, None] - mean[None], axis=-1)), users
