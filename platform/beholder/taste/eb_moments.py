"""Variances from posterior moments: for many images, factor-analytic covariances, groups of people, own noise.

Each variance is put to (sum of squares of the posterior means) / (number of coefficients that the ratings determine),
MacKay (1992), doi:10.1162/neco.1992.4.3.415: the fixed point is that of EM, so the restricted likelihood's stationary
point, reached in a quarter of the steps. A covariance with factors takes plain EM steps, for which there is no such
shortcut. Posterior moments are those of `beholder.taste.eb_large`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, polygamma

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices
from beholder.taste.eb_large import Moments, Stacked, System
from beholder.taste.eb_likelihood import Prior, Problem, Variances, own_covariance, prior_of

SMALLEST = 1e-6
"""Bound of each variance, as a share of the ratings' variance: there it is as good as 0."""
STILL = 3e-4
"""Converged where no part's share of the ratings' variance moves by more than this."""


@dataclass(frozen=True)
class Freedom:
    """What the prior may adapt beyond one variance a block.

    Attributes
    ----------
    factors : int
        Directions in which own tastes may spread more than their block's variance.
    own_noise : bool
        Whether users differ in noise.
    """

    factors: int = 0
    own_noise: bool = False


@dataclass(frozen=True)
class NoisePrior:
    """Users' noise variances are `variance` times scaled inverse chi-square with `df` degrees of freedom."""

    variance: float
    df: float

    def posterior(self, sum_of_squares: Floats | float, df: Floats | float) -> Floats:
        """Expected noise variance of users with these residual sums of squares on `df` degrees of freedom."""
        if not np.isfinite(self.df):
            return np.full(np.shape(sum_of_squares), self.variance)
        return np.asarray((self.df * self.variance + sum_of_squares) / (self.df + df))


@dataclass(frozen=True, eq=False)
class Estimate:
    """The prior found, its one-variance-a-block summary, the law of users' noise, and the number of steps."""

    prior: Prior
    variances: Variances
    noise: NoisePrior
    steps: int


def estimate_prior(problem: Problem, start: Variances, freedom: Freedom, most_steps: int = 200) -> Estimate:
    """Find the prior by fixed-point steps from `start`.

    Raises
    ------
    EstimateError
        If the shares still move after `most_steps` steps, or run off to where nothing can be solved.
    """
    data = Stacked(problem)
    total, units = float(data.y.var()), _units(problem, data)
    plain = replace(problem, groups=None) if problem.groups is not None else problem
    prior, variances = prior_of(plain, start), start
    groups = data.groups.shape[1] - 1
    prior = replace(prior, shared=np.r_[prior.shared, np.tile(0.1 * np.diag(prior.own), groups)])
    noise, z, leap = NoisePrior(start.noise, np.inf), None, Leap()
    for step in range(1, most_steps + 1):
        try:
            system = System(data, prior)
        except np.linalg.LinAlgError as error:
            raise EstimateError(
                f"variances ran off within {step} steps", remedy="fewer factors, or fewer columns"
            ) from error
        z = system.solve(z, 1e-4)
        m = system.moments(z, sharpen=False)
        old, old_vector = _shares(prior, variances, units), variances.vector()
        prior, variances, noise = _improve(problem, data, prior, m, freedom, total * SMALLEST, units)
        new = _shares(prior, variances, units)
        if np.max(np.abs(new - old)) < STILL * total:
            return Estimate(prior, variances, noise, step)
        if not (freedom.factors or freedom.own_noise or groups):
            variances = Variances.from_vector(leap.from_step(old_vector, variances.vector(), new))
            prior = prior_of(plain, variances)
    raise EstimateError(
        f"variances did not converge in {most_steps} steps", remedy="raise iterations, or fewer columns"
    )


class Leap:
    """Anderson's extrapolation (1965), one step deep: the fixed-point steps shrink by a nearly constant factor."""

    def __init__(self) -> None:
        self._before: tuple[Floats, Floats] | None = None

    def from_step(self, old: Floats, new: Floats, weights: Floats) -> Floats:
        """Where the steps so far lead, given that `old` was mapped to `new`; `weights` says what matters."""
        reached, step = np.log(new), np.log(new) - np.log(old)
        before, self._before = self._before, (reached, step)
        if before is None:
            return new
        change = step - before[1]
        weight = weights[: len(new)]
        scale = float(weight @ change**2)
        back = float(np.clip(weight @ (step * change) / scale, -4.0, 0.5)) if scale > 0 else 0.0
        return np.asarray(np.exp(reached - back * (reached - before[0])))


def own_noise_of(problem: Problem, found: Estimate) -> Prior:
    """The prior of an estimate made on a part of the ratings, with users' noise from all of them."""
    data = Stacked(problem)
    prior = replace(found.prior, noise=np.full(len(problem.scores), found.noise.variance))
    system = System(data, prior)
    m = system.moments(system.solve(), sharpen=False)
    taken = len(prior.own) - np.einsum("ij,uji->u", np.linalg.inv(prior.own), m.departure_covariances())
    squares, left = _residual(data, prior, m, taken)
    return replace(prior, noise=found.noise.posterior(squares, left))


def _improve(
    problem: Problem, data: Stacked, prior: Prior, m: Moments, freedom: Freedom, floor: float, units: Floats
) -> tuple[Prior, Variances, NoisePrior]:
    """One step for every part of the prior."""
    q, columns = data.x.shape[1], _columns(problem)
    second, spread = m.own**2, m.departure_variances()
    own = np.empty(len(columns))
    own_before = np.diag(prior.own)
    for b, block in enumerate(columns):
        determined = float(np.sum(1.0 - spread[:, block] / own_before[block]))
        own[b] = max(float(second[:, block].sum()) / max(determined, 1e-9), floor / units[b])
    image = max(float(m.effects @ m.effects) / max(float(np.sum(1 - m.effect_variances / prior.image)), 1e-9), floor)
    variance = np.diag(m.shared_covariance)
    shared, groups = prior.shared.copy(), data.groups.shape[1] - 1
    for b, block in enumerate(columns[1:], start=1):
        shared[:q][block] = _ratio(m.shared[:q][block], variance[:q][block], prior.shared[:q][block], floor / units[b])
    for b, block in enumerate(columns if groups else []):
        at = (np.arange(groups + 1)[1:, None] * q + block).ravel()
        shared[at] = _ratio(m.shared[at], variance[at], prior.shared[at], floor / units[b])
    departures = m.departure_covariances() if freedom.factors else None
    if departures is None:
        taken = np.sum(1.0 - spread / own_before, axis=1)
    else:
        taken = q - np.einsum("ij,uji->u", np.linalg.inv(prior.own), departures)
    noise, law = _noise(data, prior, m, taken, freedom.own_noise)
    v = Variances(law.variance, float(own[0]), image, _each(shared, columns[1:]), tuple(own[1:].tolist()))
    covariance = own_covariance(problem, v)
    if departures is not None:
        moment = (m.own.T @ m.own + departures.sum(axis=0)) / len(m.own)
        covariance = factor_analytic(moment, columns, freedom.factors, floor / units)
        v = replace(v, user=float(covariance[0, 0]), own=_each(np.diag(covariance), columns[1:]))
    return Prior(noise, image, shared, covariance), v, law


def _ratio(means: Floats, variances: Floats, before: Floats, floor: float) -> float:
    """MacKay's step for one variance."""
    determined = float(np.sum(1.0 - variances / before))
    return max(float(means @ means) / max(determined, 1e-9), floor)


def _noise(data: Stacked, prior: Prior, m: Moments, taken: Floats, own: bool) -> tuple[Floats, NoisePrior]:
    """Each user's noise variance, and the law they follow."""
    squares, left = _residual(data, prior, m, taken)
    pooled = float(squares.sum() / left.sum())
    if not own:
        return np.full(len(squares), pooled), NoisePrior(pooled, np.inf)
    law = noise_law(squares, left)
    return law.posterior(squares, left), law


def _residual(data: Stacked, prior: Prior, m: Moments, taken: Floats) -> tuple[Floats, Floats]:
    """Each user's residual sum of squares and its degrees of freedom; `taken` is what own slopes took.

    What image effects and shared slopes took is spread evenly over the ratings.
    """
    counts = np.array([s.stop - s.start for s in data.parts], dtype=float)
    squares = np.asarray(np.bincount(data.user, m.residuals**2, len(counts)), dtype=np.float64)
    common = float(np.sum(1 - m.effect_variances / prior.image))
    common += float(np.sum(1 - np.diag(m.shared_covariance) / prior.shared))
    return squares, np.maximum(counts - taken - common * counts / counts.sum(), 0.02 * counts)


def noise_law(squares: Floats, df: Floats) -> NoisePrior:
    """The law of users' noise variances by moments of their logarithms, Smyth (2004), doi:10.2202/1544-6115.1027.

    Parameters
    ----------
    squares, df : arrays, shape (U,)
        Residual sums of squares and their degrees of freedom; users with none are left out.
    """
    usable = (squares > 0) & (df > 1)
    half = df[usable] / 2
    pooled = float(squares.sum() / df.sum())
    if len(half) < 3:
        return NoisePrior(pooled, np.inf)
    logs = np.log(squares[usable] / df[usable]) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - np.mean(polygamma(1, half)))
    if excess <= 0:
        return NoisePrior(pooled, np.inf)
    prior_half = _inverse_trigamma(excess)
    return NoisePrior(float(np.exp(logs.mean() + digamma(prior_half) - np.log(prior_half))), 2 * prior_half)


def _inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = value, by Newton's method on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def factor_analytic(moment: Floats, columns: list[Indices], factors: int, floors: Floats, steps: int = 20) -> Floats:
    """The covariance `L L' + one variance a block` nearest `moment` in likelihood, shape (q, q).

    The intercept is a block by itself and no part of the factors. Alternates principal components of the scaled
    moment (Tipping and Bishop 1999, doi:10.1111/1467-9868.00196) with the blocks' variances.
    """
    diagonal = np.array([np.mean(np.diag(moment)[block]) for block in columns])
    loadings = np.zeros((len(moment), factors))
    for _ in range(steps):
        psi = np.empty(len(moment))
        for block, variance in zip(columns, diagonal, strict=True):
            psi[block] = variance
        slopes = moment[1:, 1:] / np.sqrt(np.outer(psi[1:], psi[1:]))
        values, vectors = np.linalg.eigh(slopes)
        lead = np.maximum(values[-factors:] - 1.0, 0.0)
        loadings[1:] = np.sqrt(psi[1:, None]) * vectors[:, -factors:] * np.sqrt(lead)
        rest = np.diag(moment) - np.sum(loadings**2, axis=1)
        new = np.maximum([np.mean(rest[block]) for block in columns], floors)
        if np.allclose(new, diagonal, rtol=1e-6):
            break
        diagonal = new
    for block, variance in zip(columns, diagonal, strict=True):
        psi[block] = variance
    return loadings @ loadings.T + np.diag(psi)


def _columns(problem: Problem) -> list[Indices]:
    """Positions of the intercept and of each block among (1, phi)."""
    place = np.arange(1 + problem.columns)
    return [place[:1], *(place[1:][block] for block in problem.blocks)]


def _units(problem: Problem, data: Stacked) -> Floats:
    """Variance of a rating for a variance of 1 of each block's coefficients; the intercept first."""
    spread = np.r_[1.0, data.x[:, 1:].var(axis=0)]
    return np.array([spread[block].sum() for block in _columns(problem)])


def _each(values: Floats, columns: list[Indices]) -> tuple[float, ...]:
    return tuple(float(np.mean(values[block])) for block in columns)


def _shares(prior: Prior, v: Variances, units: Floats) -> Floats:
    """What each part contributes to the variance of a rating, in squared ticks."""
    groups = prior.shared[len(prior.own) :]
    return np.r_[v.noise, v.user, v.image, units[1:] * v.shared, units[1:] * v.own, groups.sum()]
