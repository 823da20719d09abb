"""Corrections for several tests at once: Holm's step-down p values and the maximum of correlated t statistics.

Holm (1979, Scand. J. Statist. 6:65-70) controls the chance of any false claim whatever the dependence of the tests. The
single-step max-T method (Hothorn, Bretz & Westfall 2008, doi:10.1002/bimj.200810425) uses the correlation of the
estimates and gives intervals that hold together; with few clusters the correlation is noisy and it is slightly liberal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.clusters import Floats
from analysis.errors import EstimateError

DRAWS = 100_000
"""Draws of the multivariate t behind a simultaneous quantile: Monte Carlo error about .008."""


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given.

    Raises `EstimateError` for a p outside 0 … 1 (a test that does not exist cannot be corrected for).
    """
    values = np.asarray(p, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise EstimateError(f"p values {list(p)}", "numbers from 0 to 1", "leave out tests that were not made")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return [float(x) for x in result]


def max_t_draws(correlation: Floats, df: float, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Sorted draws of max |T_j| for a multivariate t with this correlation and `df` degrees of freedom, shape (draws,).

    The correlation may be singular (all pairwise differences); negative eigenvalues of rounding are cut off.
    """
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    normal = np.abs(rng.standard_normal((draws, len(values))) @ root.T).max(axis=1)
    return np.sort(normal / np.sqrt(rng.chisquare(df, draws) / df))


def max_t_quantile(correlation: Floats, df: float, confidence: float, rng: np.random.Generator) -> float:
    """The `confidence` quantile of max |T_j|, by Monte Carlo."""
    return float(np.quantile(max_t_draws(correlation, df, rng), confidence))


def max_t_p(t: Sequence[float], correlation: Floats, df: float, rng: np.random.Generator) -> list[float]:
    """Single-step adjusted p values (1 + #{max |T| >= |t|}) / (1 + draws)."""
    sorted_draws = max_t_draws(correlation, df, rng)
    above = len(sorted_draws) - np.searchsorted(sorted_draws, np.abs(t), side="left")
    return [float(x) for x in (1 + above) / (1 + len(sorted_draws))]
