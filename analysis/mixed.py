"""What moves ratings? Linear mixed model with crossed users and images, and its ordinal version beside it.

Linear: ratings in units of each user's own spread (drawn together for users with few ratings), fixed effects of the
named columns, random intercepts of users, images and, where ratings were repeated, their cells; REML through `mixedlm`.
Tests are t with the smaller number of users and images minus one, because a factor that varies between images only has
no more information than there are images. Ordinal: the same columns in a cumulative logit model of five answers
(`analysis.ordinal`), which needs no distances between answers. Where the two disagree in direction or clearly in their
tests, the linear one leans on the ends of the slider.

The linear model is adequate unless more than 15 % of the ratings lie at the ends. Both assume additive effects; wrong
when a column's effect differs between people (then compare people's own effects), or was not assigned at random.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import charts
from analysis.clusters import Floats, integer_codes, t_quantile, two_sided_p
from analysis.components import moment_components
from analysis.errors import EstimateError, TableError, UserError
from analysis.multiplicity import holm
from analysis.ordinal import OrdinalFit, fit_ordinal
from analysis.results import Exclusions, Population, Provenance, Result, p_text
from analysis.slider import five_answers, slider_use, standardised
from analysis.tables import Scale, check_ratings
from analysis.user_means import estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MOST_LEVELS = 50
"""Different values of a text column beyond which it is no factor but an id."""


@dataclass(frozen=True)
class RatingEffect:
    """One fixed effect.

    Attributes
    ----------
    term : str
        `column` for numbers, `column[value]` against the first value otherwise.
    estimate, ci_low, ci_high, se, t, p : float
        Linear, in standard deviations of a user's ratings.
    p_holm : float
        Corrected over all terms.
    log_odds, log_odds_se, log_odds_p : float
        Ordinal; NaN without it. t with the same degrees of freedom.
    """

    term: str
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    t: float
    p: float
    p_holm: float
    log_odds: float
    log_odds_se: float
    log_odds_p: float


@dataclass(frozen=True, kw_only=True)
class RatingEffects(Result):
    """See `rating_effects`.

    Attributes
    ----------
    effects : tuple of RatingEffect
    df : int
    sd_user, sd_image, sd_cell, sd_residual : float
        Linear; standardising takes users' levels out, so `sd_user` is near 0. `sd_cell` is NaN without repeats.
    log_likelihood : float
        Restricted, of the linear model.
    ordinal_thresholds : tuple of float
    ordinal_sd_user, ordinal_sd_image : float
        On the logit; NaN without the ordinal model.
    at_ends : float
        Share of ratings at the ends of the slider.
    n_ratings, n_users, n_images : int
    """

    effects: tuple[RatingEffect, ...]
    df: int
    sd_user: float
    sd_image: float
    sd_cell: float
    sd_residual: float
    log_likelihood: float
    ordinal_thresholds: tuple[float, ...]
    ordinal_sd_user: float
    ordinal_sd_image: float
    at_ends: float
    confidence: float
    n_ratings: int
    n_users: int
    n_images: int

    def summary(self) -> str:
        """One sentence a term."""
        level = f"{100 * self.confidence:g} % CI"
        lines = [
            f"{e.term}: {e.estimate:+.3f} SD ({level} {e.ci_low:+.3f} to {e.ci_high:+.3f}, t({self.df}) = {e.t:.2f}, "
            f"Holm {p_text(e.p_holm)})"
            + ("" if math.isnan(e.log_odds) else f", ordinal log odds {e.log_odds:+.3f} ({p_text(e.log_odds_p)})")
            for e in self.effects
        ]
        tail = f"{self.n_ratings} ratings, {self.n_users} users, {self.n_images} images."
        return f"{'; '.join(lines)}. {tail} Estimand: {self.estimand.text}."

    def to_frame(self) -> pd.DataFrame:
        """One row a term."""
        import pandas as pd

        return pd.DataFrame([vars(e) for e in self.effects])

    def plot(self) -> alt.LayerChart:
        """Linear effects with their intervals."""
        frame = self.to_frame().rename(columns={"term": "label"})
        return charts.interval_chart(frame, "label", "SD of a user's ratings", "What moves ratings", null=0)


def rating_effects(
    ratings: pd.DataFrame,
    fixed: Sequence[str],
    *,
    ordinal: bool = True,
    confidence: float = 0.95,
    population: Population | None = None,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> RatingEffects:
    """Effects of columns on ratings.

    Parameters
    ----------
    ratings : DataFrame
        See `analysis.tables`, with the columns named in `fixed`; join them from the images table first.
    fixed : sequence of str
        Numbers enter as they are, text as factors against its first value in sorted order.
    ordinal : bool
        Also fit the ordinal model (the slower part).
    confidence : float
    population : Population, optional
        New users and new images only; both are random effects here.
    scale : Scale, optional
    provenance : Provenance, optional

    Raises
    ------
    TableError
        A missing column, missing values, a text column that is an id.
    EstimateError
        Columns that do not vary or that repeat each other, no convergence.
    """
    population = population or Population()
    if population != Population():
        raise UserError("users or images held fixed", "new-people,new-prompts", "both are random effects here")
    rated = check_ratings(ratings, scale)
    design, terms = design_matrix(rated, fixed)
    z = standardised(rated["score"], rated["user_id"])
    kept = np.isfinite(z)
    codes = [integer_codes(rated[name][kept])[0] for name in ("user_id", "image_id")]
    linear = _linear(z[kept], design[kept], *codes)
    n_users, n_images = (int(c.max()) + 1 for c in codes)
    df = min(n_users, n_images) - 1
    coarse = _ordinal(five_answers(rated["score"], scale)[kept], codes, design[kept]) if ordinal else None
    use = slider_use(rated, scale)
    estimand, few = estimand_for("effects on ratings", population, n_users, n_images, "images")
    n_out = int((~kept).sum())
    reasons = (("user without spread of ratings", n_out),) if n_out else ()
    return RatingEffects(
        estimand=estimand,
        exclusions=Exclusions(len(rated), len(rated) - n_out, reasons, "ratings"),
        warnings=few + use.warnings + _disagreements(terms, linear, coarse),
        provenance=provenance or Provenance.of({"ratings": ratings}),
        effects=_effects(terms, linear, coarse, df, confidence),
        df=df,
        sd_user=linear.sds["user"],
        sd_image=linear.sds["image"],
        sd_cell=linear.sds.get("cell", math.nan),
        sd_residual=linear.sds["residual"],
        log_likelihood=linear.log_likelihood,
        ordinal_thresholds=() if coarse is None else tuple(coarse.thresholds.tolist()),
        ordinal_sd_user=math.nan if coarse is None else float(coarse.sds[0]),
        ordinal_sd_image=math.nan if coarse is None else float(coarse.sds[1]),
        at_ends=use.at_low + use.at_high,
        confidence=confidence,
        n_ratings=int(kept.sum()),
        n_users=n_users,
        n_images=n_images,
    )


def design_matrix(table: pd.DataFrame, fixed: Sequence[str]) -> tuple[Floats, list[str]]:
    """Columns (n, p) of the fixed effects without intercept, and their names.

    Raises `TableError` or `EstimateError` for what cannot enter; see `rating_effects`.
    """
    import pandas as pd

    columns: list[Floats] = []
    terms: list[str] = []
    for name in fixed:
        if name not in table:
            raise TableError(f"ratings: no column {name!r}", ", ".join(map(str, table.columns)), "join it first")
        values = table[name]
        if values.isna().any():
            raise TableError(f"ratings: {int(values.isna().sum())} rows without {name}", "a value in every row")
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns.append(values.to_numpy(dtype=np.float64))
            terms.append(name)
            continue
        text = values.astype("str").to_numpy(dtype=object)
        levels = sorted(set(text))
        if len(levels) > MOST_LEVELS:
            raise TableError(f"ratings: {name} has {len(levels)} values", f"at most {MOST_LEVELS}", "name a factor")
        columns += [(text == level).astype(np.float64) for level in levels[1:]]
        terms += [f"{name}[{level}]" for level in levels[1:]]
    if not columns:
        raise EstimateError(f"columns {', '.join(fixed) or 'none'} hold one value", "columns that vary")
    design = np.stack(columns, axis=1)
    spread = design.std(axis=0)
    whole = np.column_stack([np.ones(len(design)), (design - design.mean(axis=0)) / np.where(spread > 0, spread, 1)])
    if (spread == 0).any() or np.linalg.matrix_rank(whole) < whole.shape[1]:
        raise EstimateError(f"columns {', '.join(fixed)} do not vary or repeat each other", "distinct columns")
    return design, terms


@dataclass(frozen=True)
class _Linear:
    coefficients: Floats
    se: Floats
    sds: dict[str, float]
    log_likelihood: float


def _linear(y: Floats, design: Floats, user: Any, image: Any) -> _Linear:
    import mixedlm
    import pandas as pd

    parts = moment_components(y, user, image)  # refuses what is not crossed, counts repeats
    codes = {"user": user, "image": image}
    if parts.separable:
        codes["cell"] = user * (int(image.max()) + 1) + image
    names = [f"x{k}" for k in range(design.shape[1])]
    frame = pd.DataFrame({"y": y, **dict(zip(names, design.T, strict=True))})
    frame = frame.assign(**{name: pd.Categorical(values) for name, values in codes.items()})
    formula = f"y ~ 1 + {' + '.join(names)} + " + " + ".join(f"(1 | {name})" for name in codes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of levels of users at 0, which standardising brings about
        fit = mixedlm.lmer(formula, frame, REML=True)
    if not fit.converged:
        raise EstimateError("the linear mixed model did not converge", remedy="drop or rescale a column")
    effects = fit.fixef()
    order = list(effects)
    covariance = np.asarray(fit.vcov(), dtype=np.float64)
    at = [order.index(name) for name in names]
    sds = {name: float(group.stddev["(Intercept)"]) for name, group in fit.VarCorr().groups.items()}
    sds["residual"] = float(fit.sigma)
    values = np.array([float(effects[name]) for name in names])
    return _Linear(values, np.sqrt(np.diag(covariance)[at]), sds, float(fit.logLik()))


def _ordinal(answers: Any, codes: list[Any], design: Floats) -> OrdinalFit:
    if np.ptp(answers) == 0:
        raise EstimateError("all ratings are the same answer of five", "answers that vary", "use ordinal=False")
    return fit_ordinal(np.unique(answers, return_inverse=True)[1], codes, design)


def _effects(
    terms: list[str], linear: _Linear, coarse: OrdinalFit | None, df: int, confidence: float
) -> tuple[RatingEffect, ...]:
    t = linear.coefficients / linear.se
    p = [two_sided_p(float(value), df) for value in t]
    reach = t_quantile(0.5 + confidence / 2, df) * linear.se
    found = []
    for k, (term, p_holm) in enumerate(zip(terms, holm(p), strict=True)):
        value, se = float(linear.coefficients[k]), float(linear.se[k])
        odds, odds_se = (math.nan, math.nan) if coarse is None else (float(coarse.coefficients[k]), float(coarse.se[k]))
        odds_p = two_sided_p(odds / odds_se, df) if odds_se > 0 else math.nan
        ends = value - float(reach[k]), value + float(reach[k])
        found.append(RatingEffect(term, value, *ends, se, float(t[k]), p[k], p_holm, odds, odds_se, odds_p))
    return tuple(found)


def _disagreements(terms: list[str], linear: _Linear, coarse: OrdinalFit | None) -> tuple[str, ...]:
    """Terms of which one model is sure and the other points the other way."""
    if coarse is None:
        return ()
    ratios = linear.coefficients / linear.se, coarse.coefficients / coarse.se
    return tuple(
        f"{term}: the linear and the ordinal model point in opposite directions"
        for term, a, b in zip(terms, *ratios, strict=True)
        if a * b < 0 and max(abs(a), abs(b)) > 2
    )
