"""Sensitivity model of a paired comparison: logistic regression with crossed random effects of people and prompts.

logit P(focal chosen) = beta + gamma side + u_participant + w_prompt, side = +-1/2 (left +), fitted by maximum
likelihood with Laplace's approximation (Bates et al. 2015, doi:10.18637/jss.v067.i01) through the library mixedlm.
Tested by the likelihood ratio and by t with the smaller number of clusters minus one; Wald z rejects too often with few
clusters.

beta speaks of a median person and prompt; the win rate over people and prompts is nearer to one half and is given
beside it (`marginal_rate`). Ties are left out and counted: the model is about votes that prefer.

Assumes normal effects of people and prompts that add on the logit. Wrong when images of few source users face
everybody, and when ties depend on the condition; the win rate of `analysis.win_rates` needs neither.
"""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erfc, expit

from analysis.clusters import Floats, t_quantile, two_sided_p
from analysis.errors import EstimateError
from analysis.results import Exclusions, Population, Provenance, Result, p_text, percent
from analysis.tables import check_votes
from analysis.trials import FocalTrials, estimand_for, focal_trials

if TYPE_CHECKING:
    import pandas as pd

LARGEST_LOG_ODDS = 12.0
"""Fixed effects beyond this are taken for infinite: one exception in 160,000 votes."""

INSTEAD = "report the win rate, which needs no iteration"

INNER_TOLERANCE = 1e-10
"""Largest step of the inner iteration at which it stops: with looser ones the likelihood is too rough to climb."""

SINGULAR = 1e-4
"""Standard deviation of a random effect below which it counts as zero."""


@dataclass(frozen=True)
class CrossedFit:
    """Maximum of the likelihood of a logistic model with crossed random effects.

    Attributes
    ----------
    coefficients, se : dict of str to float
        Fixed effects and their Wald standard errors, on the logit; from the curvature of the likelihood in all
        parameters, so that the spreads are not taken for known.
    covariance : float array (k, k)
        Of the fixed effects, in the order of `coefficients`.
    sds : dict of str to float
        Standard deviations of the random effects, on the logit.
    log_likelihood : float
        Laplace's approximation.
    converged : bool
    messages : tuple of str
        What the library warned of.
    """

    coefficients: dict[str, float]
    se: dict[str, float]
    covariance: Floats
    sds: dict[str, float]
    log_likelihood: float
    converged: bool
    messages: tuple[str, ...]


def fit_crossed(frame: pd.DataFrame, formula: str, groups: Sequence[str]) -> CrossedFit:
    """Fit a binomial mixed model by maximum likelihood.

    Parameters
    ----------
    frame : DataFrame
        One row an answer.
    formula : str
        As lme4 writes it, for instance `y ~ 1 + side + (1|participant) + (1|prompt)`.
    groups : sequence of str
        Names of the random effects (one standard deviation each), in the order of the formula.

    Raises
    ------
    EstimateError
        The library finds no fit at all.

    Notes
    -----
    Estimates are those of lme4 within 1e-4 when its inner and outer iterations run until they stand still; with its
    defaults it stops a step early, and its own estimates move by up to 4e-4 (relative) when they are tightened.
    """
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        try:
            fit = _maximum(formula, frame)
        except (ValueError, np.linalg.LinAlgError) as error:  # of a likelihood without a maximum
            raise EstimateError(f"the crossed logistic model has no fit ({error})", remedy=INSTEAD) from None
    told = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)))
    names = list(fit.fixef())
    covariance = _covariance(fit) if names else np.empty((0, 0))
    se = np.sqrt(np.diag(covariance))
    return CrossedFit(
        coefficients={name: float(value) for name, value in fit.fixef().items()},
        se=dict(zip(names, se.tolist(), strict=True)),
        covariance=covariance,
        sds={name: abs(float(value)) for name, value in zip(groups, fit.theta, strict=True)},
        log_likelihood=float(fit.logLik()),
        converged=bool(fit.converged),
        messages=told,
    )


def _maximum(formula: str, frame: pd.DataFrame) -> Any:
    """The library's fit: spreads alone by gradients (effects profiled out), then all of it by a search without any.

    Gradients are cheap and get near; only the search is sure to end at the maximum.
    """
    import mixedlm
    from mixedlm import GlmerControl
    from mixedlm.families import Binomial

    near = GlmerControl(optimizer="SLSQP", tolPwrss=INNER_TOLERANCE)
    try:
        start = np.asarray(mixedlm.glmer(formula, frame, family=Binomial(), nAGQ=0, control=near).theta)
    except (ValueError, np.linalg.LinAlgError):
        return mixedlm.glmer(formula, frame, family=Binomial(), control=GlmerControl(tolPwrss=INNER_TOLERANCE))
    there = GlmerControl(tolPwrss=INNER_TOLERANCE, nAGQ0initStep=False, optCtrl={"rhobeg": 0.1})
    return mixedlm.glmer(formula, frame, family=Binomial(), start=start, control=there)


def _covariance(fit: Any) -> Floats:
    """Covariance of the fixed effects from central differences of the deviance in spreads and effects together.

    The library's own covariance holds the spreads at their estimates; it is used where a spread is zero (no curvature
    there) or the differences are not positive definite.
    """
    known: Floats = fit.vcov()
    free = np.flatnonzero(np.abs(fit.theta) > 10 * SINGULAR)
    if not fit.converged:
        return known
    n_theta, n_beta = len(fit.theta), len(known)
    deviance, centre = fit.as_function("deviance"), np.concatenate([fit.theta, fit.beta])
    at = np.concatenate([free, n_theta + np.arange(n_beta)])
    step = np.concatenate([0.03 * np.abs(fit.theta[free]), 0.1 * np.sqrt(np.diag(known))])

    def value(*moves: tuple[int, float]) -> float:
        point = centre.copy()
        for k, sign in moves:
            point[at[k]] += sign * step[k]
        return float(deviance(point))

    middle, hessian = value(), np.empty((len(at), len(at)))
    for j in range(len(at)):
        hessian[j, j] = (value((j, 1)) - 2 * middle + value((j, -1))) / step[j] ** 2
        for k in range(j):
            corners = sum(a * b * value((j, a), (k, b)) for a in (1, -1) for b in (1, -1))
            hessian[j, k] = hessian[k, j] = corners / (4 * step[j] * step[k])
    if not np.isfinite(hessian).all() or np.linalg.eigvalsh(hessian).min() <= 0:
        return known
    return np.asarray(2 * np.linalg.inv(hessian)[len(free) :, len(free) :])


def marginal_rate(log_odds: float, sd: float) -> float:
    """Mean of logistic(log_odds + sd Z) over a standard normal Z: the win rate over people and prompts.

    Gauss-Hermite quadrature with 60 nodes; close to logistic(log_odds / sqrt(1 + .346 sd^2)).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(weights @ expit(log_odds + sd * nodes) / weights.sum())


@dataclass(frozen=True, kw_only=True)
class CrossedLogistic(Result):
    """See `crossed_logistic`.

    Attributes
    ----------
    log_odds, se, ci_low, ci_high, df, t, p : number
        Conditional effect with the interval and test of t(min(P, I) - 1).
    likelihood_ratio, p_likelihood_ratio : float
        Twice the gain over no effect, and its chi-squared p; with few clusters read `p`.
    win_rate, win_rate_low, win_rate_high : float
        Marginal win rate given no tie, and the interval of `log_odds` on that scale at the estimated spreads.
    side, side_se, side_p : float or None
        log odds the left side gains; None when the focal image was always on one side.
    sd_participant, sd_prompt : float
        Spread of people and prompts on the logit.
    share_above_half : float
        Share of people whose own win rate, over prompts, lies above one half if their effects are normal.
    """

    focal: str
    against: str
    log_odds: float
    se: float
    ci_low: float
    ci_high: float
    df: int
    t: float
    p: float
    likelihood_ratio: float
    p_likelihood_ratio: float
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    side: float | None
    side_se: float | None
    side_p: float | None
    sd_participant: float
    sd_prompt: float
    share_above_half: float
    log_likelihood: float
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float

    def summary(self) -> str:
        """One paragraph for a results section."""
        side = "" if self.side is None else f", side {self.side:+.3f} (SE {self.side_se:.3f})"
        return (
            f"Crossed logistic model of {self.n_votes} votes without ties: log odds of {self.focal} over "
            f"{self.against} {self.log_odds:.3f} "
            f"({100 * self.confidence:g} % CI {self.ci_low:.3f} to {self.ci_high:.3f}; "
            f"t({self.df}) = {self.t:.2f}, {p_text(self.p)}; likelihood ratio {self.likelihood_ratio:.2f}, "
            f"{p_text(self.p_likelihood_ratio)}), a win rate of {percent(self.win_rate)} over people and prompts; SD "
            f"of {self.n_participants} participants {self.sd_participant:.3f}, of {self.n_prompts} prompts "
            f"{self.sd_prompt:.3f}{side}. Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        left_out = ("estimand", "exclusions", "warnings", "provenance")
        return pd.DataFrame([{k: v for k, v in vars(self).items() if k not in left_out}])


def crossed_logistic(
    votes: pd.DataFrame,
    focal: str,
    against: str,
    *,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> CrossedLogistic:
    """Log odds that `focal` is chosen over `against`, with random effects of participants and prompts.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes of this pair are used, ties are left out.
    focal, against : str
        The two conditions.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Unknown condition, fewer than two participants or prompts, answers that do not vary, an infinite estimate, or a
        fit that did not converge.
    """
    votes = check_votes(votes)
    trials = focal_trials(votes, focal, against)
    frame, n_ties = _answers(trials)
    n_people, n_items = (int(frame[name].nunique()) for name in ("participant", "prompt"))
    for count, name in ((n_people, "participants"), (n_items, "prompts")):
        if count < 2:
            raise EstimateError(f"{count} {name} with votes that are no ties", "at least 2", f"collect more {name}")
    side = " + side" if np.ptp(frame["side"]) else ""
    groups, random = ("participant", "prompt"), " + (1|participant) + (1|prompt)"
    fit = usable(fit_crossed(frame, f"y ~ 1{side}{random}", groups))
    null = fit_crossed(frame, f"y ~ 0{side}{random}", groups)
    beta, se = fit.coefficients["(Intercept)"], fit.se["(Intercept)"]
    ratio = max(2 * (fit.log_likelihood - null.log_likelihood), 0.0)
    df = min(n_people, n_items) - 1
    ends = [beta + sign * t_quantile(0.5 + confidence / 2, df) * se for sign in (-1, 1)]
    sd = math.hypot(fit.sds["participant"], fit.sds["prompt"])
    rates = [marginal_rate(x, sd) for x in (beta, *ends)]
    quantity = f"conditional log odds that {focal} is chosen over {against}, given no tie"
    estimand, few = estimand_for(quantity, Population(), n_people, n_items)
    gamma, gamma_se = fit.coefficients.get("side"), fit.se.get("side")
    reasons = (("tie", n_ties),) if n_ties else ()
    exclusions = Exclusions(len(trials.y), len(frame), reasons, "votes").after(trials.exclusions)
    return CrossedLogistic(
        estimand=estimand,
        exclusions=exclusions,
        warnings=few + _spread_warnings(fit),
        provenance=provenance or Provenance.of({"votes": votes}),
        focal=focal,
        against=against,
        log_odds=beta,
        se=se,
        ci_low=ends[0],
        ci_high=ends[1],
        df=df,
        t=beta / se,
        p=two_sided_p(beta / se, df),
        likelihood_ratio=ratio,
        p_likelihood_ratio=float(erfc(math.sqrt(ratio / 2))),
        win_rate=rates[0],
        win_rate_low=rates[1],
        win_rate_high=rates[2],
        side=gamma,
        side_se=gamma_se,
        side_p=None if gamma is None or gamma_se is None else two_sided_p(gamma / gamma_se, df),
        sd_participant=fit.sds["participant"],
        sd_prompt=fit.sds["prompt"],
        share_above_half=_share_above(beta, fit.sds["participant"]),
        log_likelihood=fit.log_likelihood,
        n_votes=len(frame),
        n_participants=n_people,
        n_prompts=n_items,
        confidence=confidence,
    )


def _answers(trials: FocalTrials) -> tuple[pd.DataFrame, int]:
    """Votes that prefer, as the model's table, and the number of ties."""
    import pandas as pd

    decided = trials.y != 0.5
    y = trials.y[decided]
    if not len(y) or np.ptp(y) == 0:
        raise EstimateError(
            f"{len(y)} votes that are no ties" + (f", all {y[0]:g}" if len(y) else ""),
            "answers that vary",
            "no log odds exist; report the count",
        )
    frame = {
        "y": y,
        "side": np.where(trials.focal_left[decided], 0.5, -0.5),
        "participant": np.char.add("u", trials.people[decided].astype(str)),
        "prompt": np.char.add("p", trials.items[decided].astype(str)),
    }
    return pd.DataFrame(frame), int((~decided).sum())


def usable(fit: CrossedFit) -> CrossedFit:
    """The fit, or an `EstimateError` where it did not converge or an effect is infinite."""
    largest = max(map(abs, fit.coefficients.values()))
    if largest > LARGEST_LOG_ODDS:
        raise EstimateError(
            f"an infinite estimate (log odds beyond {LARGEST_LOG_ODDS:g})",
            "wins and losses on both sides",
            "collect more votes; report the count",
        )
    if not fit.converged or not all(math.isfinite(x) for x in (*fit.se.values(), fit.log_likelihood)):
        raise EstimateError(
            f"the crossed logistic model did not converge ({'; '.join(fit.messages)})",
            remedy=INSTEAD,
        )
    return fit


def _spread_warnings(fit: CrossedFit) -> tuple[str, ...]:
    zero = [name for name, sd in fit.sds.items() if sd < SINGULAR]
    found = [f"the spread of {name}s is estimated as zero" for name in zero]
    return (*found, *(m for m in fit.messages if "singular" not in m))


def _share_above(beta: float, sd: float) -> float:
    if sd < SINGULAR:
        return float(beta > 0) if beta else 0.5
    return float(erfc(-beta / sd / math.sqrt(2)) / 2)
