"""Strengths of conditions from votes with ties, with standard errors for new people and new prompts.

Davidson (1970, doi:10.1080/01621459.1970.10481082): P(i beats j) = pi_i / D, P(tie) = nu sqrt(pi_i pi_j) / D,
D = pi_i + pi_j + nu sqrt(pi_i pi_j); the left image may have its strength multiplied by gamma (Davidson & Beaver 1977,
doi:10.2307/2529466). Rao & Kupper (1967, doi:10.1080/01621459.1967.10482901) instead give ties a threshold theta:
P(i beats j) = pi_i / (pi_i + theta pi_j). Without any tie both are the Bradley-Terry model.

Fitted by Newton steps on the counts of (left, right, choice); both likelihoods are concave in the parameters used here
(log strengths, log gamma, and log nu or log theta). The variance is a sandwich, see `analysis.sandwich`.

Assumes one utility per condition on one dimension and that ties say "close". Wrong when preferences are intransitive,
or when groups of people have opposite tastes: then the mean strength is nobody's preference; report win rates too.
Counting ties as half wins is another model and shrinks the strengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, log_expit

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError

Ties = Literal["davidson", "rao-kupper"]

LEFT, RIGHT, TIE = range(3)
MAX_STEPS = 100
TOLERANCE = 1e-9
"""Gain in log-likelihood left at the last step but one; Newton's last step squares what remains."""


Kernel = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""(difference d of the two utilities (m,), tie parameter (m,)) -> log probability of left, right, tie (m, 3), and its
gradient (m, 3, 2) and Hessian (m, 3, 2, 2) in (d, tie parameter)."""


def _davidson(d: Floats, tie: Floats) -> tuple[Floats, Floats, Floats]:
    """Multinomial logit with linear predictors d/2, -d/2 and log nu."""
    design = np.array([[0.5, 0], [-0.5, 0], [0, 1]])
    eta = np.stack([d / 2, -d / 2, tie], axis=1)
    log_p = eta - np.logaddexp.reduce(eta, axis=1)[:, None]
    p = np.exp(log_p)
    mean = p @ design
    gradient = design[None] - mean[:, None]
    hessian = np.einsum("ma,ai,aj->mij", p, design, design) - mean[:, :, None] * mean[:, None]
    return log_p, gradient, -np.repeat(hessian[:, None], 3, axis=1)


def _rao_kupper(d: Floats, tie: Floats) -> tuple[Floats, Floats, Floats]:
    """P(left) = logistic(d - tau), P(right) = logistic(-d - tau), P(tie) = (e^2tau - 1) P(left) P(right), tau > 0."""
    log_left, log_right = log_expit(d - tie), log_expit(-d - tie)
    log_p = np.stack([log_left, log_right, np.log(np.expm1(2 * tie)) + log_left + log_right], axis=1)
    lose_left, lose_right = expit(tie - d), expit(tie + d)
    left, right = np.stack([lose_left, -lose_left], axis=1), np.stack([-lose_right, -lose_right], axis=1)
    grow = -2 / np.expm1(-2 * tie)
    gradient = np.stack([left, right, left + right + np.stack([0 * grow, grow], axis=1)], axis=1)
    h_left = -(lose_left * (1 - lose_left))[:, None, None] * np.array([[1, -1], [-1, 1]])
    h_right = -(lose_right * (1 - lose_right))[:, None, None] * np.ones((2, 2))
    h_tie = h_left + h_right
    h_tie[:, 1, 1] -= grow**2 * np.exp(-2 * tie)
    return log_p, gradient, np.stack([h_left, h_right, h_tie], axis=1)


KERNELS: dict[str, Kernel] = {"davidson": _davidson, "rao-kupper": _rao_kupper}
START = {"davidson": -1.0, "rao-kupper": 0.5}


def choice_log_probabilities(d: Floats, tie: float | None, ties: Ties) -> Floats:
    """Log probabilities of left, right and tie (m, 3) for differences `d` of the utilities.

    `tie` is log nu or log theta; None stands for a model without ties.
    """
    if tie is None:
        return np.stack([log_expit(d), log_expit(-d), np.full_like(d, -np.inf)], axis=1)
    return KERNELS[ties](d, np.full_like(d, tie))[0]


@dataclass(frozen=True)
class Counts:
    """Votes as counts of ordered pairs: `left`, `right` (m,) condition codes, `votes` (m, 3) left, right, tie."""

    left: Ints
    right: Ints
    votes: Floats
    n_conditions: int

    @property
    def has_ties(self) -> bool:
        """Whether any vote is a tie."""
        return bool(self.votes[:, TIE].any())


@dataclass(frozen=True)
class Fit:
    """Maximum of the likelihood.

    Attributes
    ----------
    parameters : array (k,)
        Coefficients of `design`, then log nu (Davidson) or log theta (Rao-Kupper) where there are ties.
    information : array (k, k)
        Negative Hessian at the maximum.
    scores : array (m, 3, k)
        Score of one vote of each ordered pair and choice.
    log_likelihood : float
    steps : int
    design : array (m, q)
        What was fitted: utility differences of the ordered pairs are `design @ parameters[:q]`.
    ties : {"davidson", "rao-kupper"}
    """

    parameters: Floats
    information: Floats
    scores: Floats
    log_likelihood: float
    steps: int
    design: Floats
    ties: Ties

    @property
    def differences(self) -> Floats:
        """Utility of the left condition less that of the right, with the order effect, for each ordered pair (m,)."""
        return np.asarray(self.design @ self.parameters[: self.design.shape[1]])

    @property
    def tie(self) -> float | None:
        """Log nu or log theta; None without ties."""
        return float(self.parameters[-1]) if len(self.parameters) > self.design.shape[1] else None


def strength_design(counts: Counts, reference: int, order_effect: bool) -> Floats:
    """One utility per condition but the reference, then a constant for the left side where asked; shape (m, q)."""
    m = len(counts.left)
    design = np.zeros((m, counts.n_conditions))
    design[np.arange(m), counts.left] = 1
    design[np.arange(m), counts.right] -= 1
    design = np.delete(design, reference, axis=1)
    return np.column_stack([design, np.ones(m)]) if order_effect else design


def fit_counts(counts: Counts, design: Floats, ties: Ties) -> Fit:
    """Newton's method with step halving.

    Parameters
    ----------
    counts : Counts
    design : array (m, q)
        Linear predictor of the utility differences, see `strength_design`.
    ties : {"davidson", "rao-kupper"}

    Raises
    ------
    EstimateError
        The information matrix is singular (an effect that the design cannot tell apart) or Newton does not converge.

    Notes
    -----
    Where the maximum lies at infinity the steps stop at large differences: see `analysis.existence` for the checks.
    """
    n_utility, m = design.shape[1], len(counts.left)
    kernel, has_ties = KERNELS[ties], counts.has_ties

    def evaluate(theta: Floats) -> tuple[float, Floats, Floats]:
        d = design @ theta[:n_utility]
        if not has_ties:  # nu = 0: the Bradley-Terry model, whose gradient is the logistic one
            log_p = np.stack([log_expit(d), log_expit(-d)], axis=1)
            slope = np.stack([expit(-d), -expit(d)], axis=1)
            scores = np.concatenate([slope[:, :, None] * design[:, None], np.zeros((m, 1, n_utility))], axis=1)
            weight = counts.votes.sum(axis=1) * expit(d) * expit(-d)
            return float((counts.votes[:, :2] * log_p).sum()), scores, _weighted_cross(design, weight)
        log_p, gradient, hessian = kernel(d, np.full_like(d, theta[-1]))
        total = np.einsum("mc,mcij->mij", counts.votes, hessian)
        information = np.empty((n_utility + 1, n_utility + 1))
        information[:-1, :-1] = _weighted_cross(design, -total[:, 0, 0])
        information[:-1, -1] = information[-1, :-1] = -design.T @ total[:, 0, 1]
        information[-1, -1] = -total[:, 1, 1].sum()
        scores = np.concatenate([gradient[:, :, :1] * design[:, None], gradient[:, :, 1:]], axis=2)
        return float((counts.votes * log_p).sum()), scores, information

    theta = np.zeros(n_utility + has_ties)
    if has_ties:
        theta[-1] = START[ties]
    bounded = has_ties and ties == "rao-kupper"
    theta, information, scores, value, steps = _newton(evaluate, theta, counts.votes, bounded)
    return Fit(theta, information, scores, value, steps, design, ties)


def _newton(
    evaluate: Callable[[Floats], tuple[float, Floats, Floats]], theta: Floats, votes: Floats, bounded: bool
) -> tuple[Floats, Floats, Floats, float, int]:
    """Maximum, information, scores, value and steps; `bounded` keeps the last parameter positive."""
    value, scores, information = evaluate(theta)
    for step in range(1, MAX_STEPS + 1):
        gradient = np.einsum("mc,mck->k", votes, scores)
        move = _move(information, gradient, examine=step == 1)
        if gradient @ move < 2 * max(TOLERANCE, 1e-14 * abs(value)):  # twice the gain still to be had
            theta = theta + move
            value, scores, information = evaluate(theta)
            return theta, information, scores, value, step
        scale = 1.0
        while True:
            candidate = theta + scale * move
            if not (bounded and candidate[-1] <= 0):
                new_value, new_scores, new_information = evaluate(candidate)
                if new_value >= value - 1e-12 * abs(value):
                    break
            scale /= 2
            if scale < 1e-10:
                raise EstimateError("the likelihood could not be improved", remedy="check the votes for odd pairs")
        theta, value, scores, information = candidate, new_value, new_scores, new_information
    raise EstimateError(f"no convergence in {MAX_STEPS} Newton steps", remedy="look for a condition that always wins")


def _weighted_cross(design: Floats, weight: Floats) -> Floats:
    """Design' diag(weight) design; with hundreds of conditions most of the design is zeros."""
    if design.shape[1] <= 200:
        return np.asarray((design * weight[:, None]).T @ design)
    from scipy.sparse import csr_array

    sparse = csr_array(design)
    return np.asarray((sparse.T.multiply(weight) @ sparse).toarray())


def _move(information: Floats, gradient: Floats, examine: bool) -> Floats:
    """Newton's step; singular information at the start means that the design cannot tell two effects apart."""
    try:
        move = np.linalg.solve(information, gradient)
    except np.linalg.LinAlgError:
        move = np.full_like(gradient, np.nan)
    if not np.isfinite(move).all() or (examine and np.linalg.cond(information, 1) > 1e13):
        raise EstimateError(
            "the votes cannot tell all strengths and the order effect apart",
            "pairs that connect all conditions, seen in both orders",
            "drop the order effect or add pairs",
        )
    return np.asarray(move, dtype=np.float64)
