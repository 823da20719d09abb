"""What a search promises and what holds: the expected maximum of noisy candidates, and scores drawn to their mean.

With reward(candidate j, seed k) = a_j + s_k + g_jk, sd of a = tau and of g = sigma, seeds shared by all candidates (so
that s_k cancels), the best of N candidates on m seeds is reported at e_N sqrt(tau^2 + sigma^2/m) above the mean but is
worth e_N tau^2/sqrt(tau^2 + sigma^2/m); the difference is optimism, not gain. e_N is the expected maximum of N standard
normals (Tippett 1925).

Assumes Gaussian candidates and noise, alike for all candidates. Wrong for heavy tails (the promise is larger and the
true gain may even fall with N), for searches that keep an old maximum, and for rewards other than the one searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from analysis.clusters import Floats
from analysis.errors import EstimateError


@lru_cache(maxsize=256)
def expected_best(n: int) -> float:
    """Expected maximum of `n` standard normals: e_1 = 0, e_2 = .5642, e_20 = 1.867.

    The integral over x > 0 of 1 - Phi(x)^n less that of (1 - Phi(x))^n, by Gauss-Legendre quadrature on 0 … 12.
    """
    if n < 1:
        raise EstimateError(f"the best of {n}", "1 or more candidates")
    points, weights = np.polynomial.legendre.leggauss(400)
    x, weights = 6 * (points + 1), 6 * weights
    above = -np.expm1(n * log_ndtr(x))
    below = np.exp(n * log_ndtr(-x))
    return float((weights * (above - below)).sum())


@dataclass(frozen=True)
class ExpectedSearch:
    """Expectations of the best of N candidates on m seeds, in units of the reward above the candidates' mean."""

    reported: float
    true: float
    bias: float


def expected_search(n: int, seeds: int, sd_candidates: float, sd_noise: float) -> ExpectedSearch:
    """What best-of-`n` on `seeds` shared seeds reports, is worth, and the difference.

    Parameters
    ----------
    n : int
        Candidates.
    seeds : int
        Seeds each of them is drawn with.
    sd_candidates, sd_noise : float
        tau and sigma, in the unit of the reward.

    Raises
    ------
    EstimateError
        No candidate or seed, negative or no spread.
    """
    if n < 1 or seeds < 1 or min(sd_candidates, sd_noise) < 0 or sd_candidates + sd_noise == 0:
        raise EstimateError(
            f"{n} candidates, {seeds} seeds, spreads {sd_candidates:g} and {sd_noise:g}", "1 or more, some spread"
        )
    noise = sd_noise**2 / seeds
    total = math.sqrt(sd_candidates**2 + noise)
    best = expected_best(n)
    return ExpectedSearch(best * total, best * sd_candidates**2 / total, best * noise / total)


@dataclass(frozen=True)
class CandidateSpread:
    """Variances of candidates, seeds and their interaction (with noise); unbiased, so they may be below 0."""

    v_candidate: float
    v_seed: float
    v_noise: float
    n_candidates: int
    n_seeds: int


def candidate_spread(rewards: npt.ArrayLike) -> CandidateSpread:
    """Variances of one round from the mean squares of its table.

    Parameters
    ----------
    rewards : array_like, shape (candidates, seeds)
        All candidates on the same seeds.

    Raises
    ------
    EstimateError
        Fewer than two candidates or seeds, missing values.
    """
    x = np.asarray(rewards, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise EstimateError(f"rewards of shape {x.shape}", "two candidates and two common seeds or more")
    n, m = x.shape
    candidates, seeds = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    noise = float(((x - candidates - seeds + x.mean()) ** 2).sum()) / ((n - 1) * (m - 1))
    between = m * float(candidates.var(ddof=1))
    across = n * float(seeds.var(ddof=1))
    return CandidateSpread((between - noise) / m, (across - noise) / n, noise, n, m)


def shrunken_scores(rewards: npt.ArrayLike) -> Floats:
    """Mean of each candidate drawn to the mean of all by how noisy it is, shape (candidates,): what it is worth.

    mean + tau^2/(tau^2 + sigma^2/m) (x_j - mean) with the variances of `candidate_spread`. Candidates on the same
    seeds keep their order; the best one's promise shrinks to what will hold.
    """
    x = np.asarray(rewards, dtype=np.float64)
    found = candidate_spread(x)
    true = max(found.v_candidate, 0.0)
    noise = found.v_noise / found.n_seeds
    kept = true / (true + noise) if true + noise > 0 else 0.0
    means = x.mean(axis=1)
    return np.asarray(means.mean() + kept * (means - means.mean()))
