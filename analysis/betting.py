"""Evidence that may be looked at after every participant: capital of a bettor against a mean, and intervals from it.

A bettor who starts with 1 and stakes on x_t before seeing it cannot expect to gain if the mean of every x_t, given the
past, is m. His capital K_t(m) is an e-process: P(sup K_t >= 1/alpha) <= alpha (Ville 1939), whenever one stops. The
values of m against which he has not become rich form a confidence sequence (Waudby-Smith & Ramdas 2024, JRSS-B 86:1-27,
doi:10.1093/jrsssb/qkad009).

Assumes bounded x in the order in which they became known, and a conditional mean that does not change. Wrong when
single trials are fed in although people differ, or when x_t is revised after it was used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats
from analysis.errors import EstimateError

CAP = 0.5
"""Largest share of the capital that can be lost in one bet."""

GRID = 2000
"""Steps from 0 to 1 on which means are tried; interval ends are rounded outwards to them."""

FIRST_ASYMPTOTIC = 20
"""Observations before which the asymptotic sequence says nothing."""


def _checked(x: npt.ArrayLike, alpha: float) -> Floats:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise EstimateError("observations to bet on", "one or more numbers from 0 to 1 in order of arrival")
    if not 0 < alpha < 1:
        raise EstimateError(f"alpha {alpha}", "between 0 and 1", "write .05 for 5 %")
    return values


def stakes(x: npt.ArrayLike, alpha: float) -> Floats:
    """Stake lambda_t before the cap, from x_1 … x_(t-1) only; shape (T,).

    sqrt(2 log(2/alpha) / (s2_(t-1) t log(t+1))) with mu_j = (1/2 + sum of x up to j)/(j+1) and
    s2_t = (1/4 + sum over j <= t of (x_j - mu_j)^2)/(t+1), s2_0 = 1/4.
    """
    values = _checked(x, alpha)
    t = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (t + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log(t + 1))))


def _log_growth(x: Floats, stake: Floats, m: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Log growth of the two bettors, "above m" and "below m"; `m` broadcasts against `x` and `stake`."""
    mean = np.asarray(m, dtype=np.float64)
    up, down = np.minimum(stake, CAP / mean), np.minimum(stake, CAP / (1 - mean))
    return np.log1p(up * (x - mean)), np.log1p(-down * (x - mean))


def log_capital(x: npt.ArrayLike, m: float = 0.5, *, alpha: float) -> Floats:
    """Log of the hedged capital after each observation; shape (T,).

    K = (K+ + K-)/2, K+ = prod(1 + min(lambda, c/m)(x - m)), K- = prod(1 - min(lambda, c/(1-m))(x - m)), c = 1/2.

    Parameters
    ----------
    x : array_like, shape (T,)
        Numbers from 0 to 1, in order of arrival.
    m : float
        Mean under the hypothesis, inside (0, 1).
    alpha : float
        Level the stakes are tuned to; the capital is an e-process whatever it is.
    """
    values = _checked(x, alpha)
    up, down = _log_growth(values, stakes(values, alpha), m)
    return np.asarray(np.logaddexp(np.cumsum(up), np.cumsum(down)) - math.log(2))


@dataclass(frozen=True)
class ConfidenceSequence:
    """Ends of a confidence sequence after each observation, shape (T,); NaN where no mean is left."""

    low: Floats
    high: Floats


def betting_sequence(x: npt.ArrayLike, *, alpha: float) -> ConfidenceSequence:
    """Means against which the capital has stayed below 1/alpha at every time so far.

    Intervals are nested: an excluded mean stays excluded. An empty one says that no single mean fits, for instance
    because participants changed over the study.
    """
    values = _checked(x, alpha)
    grid = np.arange(1, GRID) / GRID
    inside = np.ones(len(grid), dtype=bool)
    gain_up, gain_down = np.zeros(len(grid)), np.zeros(len(grid))
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    limit = math.log(2 / alpha)
    for t, (observed, stake) in enumerate(zip(values, stakes(values, alpha), strict=True)):
        up, down = _log_growth(observed, stake, grid)
        gain_up += up
        gain_down += down
        inside &= np.logaddexp(gain_up, gain_down) < limit
        kept = np.flatnonzero(inside)
        if not len(kept):
            break
        low[t], high[t] = grid[kept[0]] - 1 / GRID, grid[kept[-1]] + 1 / GRID
    return ConfidenceSequence(low, high)


def asymptotic_sequence(x: npt.ArrayLike, *, alpha: float, t_opt: int) -> ConfidenceSequence:
    """Narrower sequence that holds in the limit of many observations; NaN before the twentieth.

    mean +- s sqrt(2 (t rho^2 + 1)/(t^2 rho^2) log(sqrt(t rho^2 + 1)/alpha)),
    rho^2 = (-2 log alpha + log(1 - 2 log alpha))/t_opt: narrowest around t_opt observations (Waudby-Smith, Arbour,
    Sinha, Kennedy & Ramdas 2024, Ann. Statist. 52:2613-2640, doi:10.1214/24-AOS2408).
    """
    values = _checked(x, alpha)
    if t_opt < 1:
        raise EstimateError(f"t_opt {t_opt}", "1 or more", "name where the sequence should be sharpest")
    t = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / t
    spread = np.maximum(np.cumsum(values**2) / t - mean**2, 0) * t / np.maximum(t - 1, 1)
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / t_opt
    reach = np.sqrt(spread * 2 * (t * rho2 + 1) / (t**2 * rho2) * np.log(np.sqrt(t * rho2 + 1) / alpha))
    reach[: FIRST_ASYMPTOTIC - 1] = np.nan
    return ConfidenceSequence(mean - reach, mean + reach)


def holm_e(highest: Sequence[float]) -> list[float]:
    """Adjusted p values of several contrasts from the highest capital each has reached.

    1/max K is a p value that holds at any time; Holm's step (1979) then allows any dependence. E-values of dependent
    contrasts may be averaged but never multiplied.
    """
    from analysis.multiplicity import holm

    return holm([min(1.0, 1.0 / value) for value in highest])
