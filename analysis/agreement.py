"""How far people agree on images, with each other and with themselves, and what the best model could reach.

Ratings are y = mu + a_image + b_user + x_user:image + e: shared taste, use of the slider, private taste, and what the
same person would answer differently next time. Components come from restricted maximum likelihood (`analysis.reml`)
with moments beside them (`analysis.components`); intervals are for new users and new images
(`analysis.component_spread`). Private taste and noise can be told apart only where users rated images again; without
repeats the "beholder index" of the two together would read .65 where private taste is half.

The beholder index b1 = v_user_image/(v_user_image + v_image) is the private share of taste (Hoenekopp 2006,
doi:10.1037/0096-1523.32.2.199): about .4 for faces, .75 for abstract art (Leder et al. 2016,
doi:10.3389/fnhum.2016.00155). It reads too high when users stretch the slider differently, so it is repeated on ratings
standardised within users. Two occasions are the least; with two it is still unstable (Martinez, Funk & Todorov 2020,
doi:10.3758/s13428-019-01323-0).

Assumes that the parts add, are independent of each other and of which images a user was given, and have one variance
each. Wrong when users saw images they chose themselves, when second ratings were given in sight of the first, and when
most ratings lie at the ends of the slider.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis import charts
from analysis.agreement_numbers import (
    SHARES,
    ceilings_of,
    five_answer_numbers,
    index_of_standardised,
    influence_intervals,
    percentile_intervals,
)
from analysis.alpha import Metric, alpha_interval, krippendorff_alpha
from analysis.component_spread import component_spread
from analysis.components import Components, moment_components
from analysis.errors import UserError
from analysis.intraclass import component_icc
from analysis.reml import reml_fit
from analysis.resampling import Crossed, Draws, component_draws
from analysis.results import Exclusions, Population, Provenance, Result
from analysis.retest import Retest, repeated_pairs, retest_of
from analysis.slider import FEWEST_FOR_Z, SliderUse, slider_use
from analysis.tables import Scale, check_ratings
from analysis.user_means import estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Method = Literal["reml", "moments"]


@dataclass(frozen=True, kw_only=True)
class Agreement(Result):
    """See `rating_agreement`. Variances are in squared ticks; NaN (null) where they cannot be told.

    Attributes
    ----------
    v_image, v_user, v_user_image, v_error : float
        Shared taste, users' levels, private taste, noise. The last two need repeats.
    v_within : float
        The last two together.
    separable : bool
        Whether there are repeats enough; `why_not_separable` says why not.
    beholder_index : float
        b1, the private share of taste.
    beholder_index_z : float
        The same by moments on ratings standardised within users of thirty ratings or more.
    beholder_index_2 : float or None
        b2, which counts users' levels as taste; only on request.
    reliability : float
        Retest correlation inside users, from the components.
    krippendorff_alpha : float
        With `alpha_metric`; first ratings only.
    icc : mapping
        ICC(A,1), ICC(C,1), ICC(A,k), ICC(C,k) from the components, and k.
    ceilings : mapping
        `personal`, `population`, `own_first_rating` each with plcc, srocc, accuracy of the best such predictor of
        single ratings; `image_mean` of the means of k raters; `headroom` in accuracy from population to personal.
    intervals : mapping
        Name -> [low, high] for variances, shares, alpha and the ceilings of accuracy.
    moments : mapping
        The moment estimates, as a check of REML.
    retest : Retest or None
    slider : SliderUse
    ordinal : mapping
        `beholder_index`, `krippendorff_alpha` of the ratings as five answers, by moments.
    method : str
    log_likelihood : float
        Restricted; NaN for moments.
    interval_method : str
    n_ratings, n_users, n_images, n_repeats : int
    """

    v_image: float
    v_user: float
    v_user_image: float
    v_error: float
    v_within: float
    separable: bool
    why_not_separable: str | None
    beholder_index: float
    beholder_index_z: float
    beholder_index_2: float | None
    reliability: float
    krippendorff_alpha: float
    alpha_metric: Metric
    icc: Mapping[str, float]
    ceilings: Mapping[str, Any]
    intervals: Mapping[str, tuple[float, float]]
    moments: Mapping[str, float]
    retest: Mapping[str, Any] | None
    slider: Mapping[str, Any]
    ordinal: Mapping[str, float]
    method: Method
    log_likelihood: float
    interval_method: str
    confidence: float
    n_ratings: int
    n_users: int
    n_images: int
    n_repeats: int
    frames: Mapping[str, pd.DataFrame] = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        total = self.v_image + self.v_user + self.v_within
        level = f"{100 * self.confidence:g} % CI"
        head = (
            f"{self.n_ratings} ratings of {self.n_images} images by {self.n_users} users: shared taste "
            f"{_share_text(self.v_image, total)} of the variance, users' levels {_share_text(self.v_user, total)}, "
        )
        if self.separable:
            low, high = self.intervals["beholder_index"]
            body = (
                f"private taste {_share_text(self.v_user_image, total)}, noise {_share_text(self.v_error, total)} "
                f"({self.method}). Private share of taste {self.beholder_index:.3f} ({level} {low:.3f} to {high:.3f}; "
                f"{self.beholder_index_z:.3f} after standardising users), reliability {self.reliability:.3f}. No "
                f"model can order more than {self.ceilings['personal']['accuracy']:.3f} of the pairs of single users "
                f"right, none without knowledge of the user more than {self.ceilings['population']['accuracy']:.3f}."
            )
        else:
            body = (
                f"private taste and noise together {_share_text(self.v_within, total)} ({self.method}); they cannot be "
                f"told apart: {self.why_not_separable}. No model that does not know the user can order more than "
                f"{self.ceilings['population']['accuracy']:.3f} of the pairs right."
            )
        alpha = f"Krippendorff's alpha ({self.alpha_metric}) {self.krippendorff_alpha:.3f}."
        return " ".join((head + body, alpha, f"Estimand: {self.estimand.text}."))

    def to_frame(self) -> pd.DataFrame:
        """One row a number with its interval."""
        import pandas as pd

        names = ["v_image", "v_user", "v_user_image", "v_error", "beholder_index", "reliability", "krippendorff_alpha"]
        rows = [(name, getattr(self, name), *self.intervals.get(name, (math.nan, math.nan))) for name in names]
        return pd.DataFrame(rows, columns=["quantity", "estimate", "ci_low", "ci_high"])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Numbers; slider use by user; retest by user, image and time between, where there are repeats."""
        return {"result": self.to_frame(), **self.frames}

    def plot(self) -> alt.LayerChart:
        """Shares and ceilings with their intervals."""
        import pandas as pd

        rows = [
            (name.replace("_", " "), value, *self.intervals.get(key, (math.nan, math.nan)))
            for name, key, value in (
                ("beholder index", "beholder_index", self.beholder_index),
                ("reliability", "reliability", self.reliability),
                ("alpha", "krippendorff_alpha", self.krippendorff_alpha),
                ("ceiling, personal", "accuracy_personal", self.ceilings["personal"]["accuracy"]),
                ("ceiling, population", "accuracy_population", self.ceilings["population"]["accuracy"]),
            )
            if not math.isnan(value)
        ]
        frame = pd.DataFrame(rows, columns=["label", "estimate", "ci_low", "ci_high"])
        return charts.interval_chart(frame, "label", "share", "Agreement and ceilings", null=None)


def _share_text(part: float, total: float) -> str:
    return f"{100 * max(part, 0.0) / total:.0f} %" if total > 0 else "none"


def rating_agreement(
    ratings: pd.DataFrame,
    *,
    method: Method = "reml",
    metric: Metric = "interval",
    with_index_2: bool = False,
    confidence: float = 0.95,
    bootstraps: int = 0,
    rng: np.random.Generator | None = None,
    population: Population | None = None,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> Agreement:
    """Variance components of ratings and everything that follows from them.

    Parameters
    ----------
    ratings : DataFrame
        See `analysis.tables`; `occasion` tells repeats, `rated_at` times between them, `start_position` where the
        slider stood.
    method : {"reml", "moments"}
    metric : str
        Of Krippendorff's alpha; see `analysis.alpha`.
    with_index_2 : bool
        Also b2, which counts users' levels as private taste.
    confidence : float
    bootstraps : int
        0: intervals from the influence of users and images. Otherwise percentiles of this many resamples of users and
        images, which are wider than need be.
    rng : Generator, optional
        Needed with `bootstraps`.
    population : Population, optional
    scale : Scale, optional
    provenance : Provenance, optional

    Notes
    -----
    Ceilings are those of Gaussian taste and noise: personal r = sqrt(reliability), population
    r = sqrt(v_image/(v_image + v_within)), own first rating r = reliability; accuracy 1/2 + asin(r)/pi.

    Raises
    ------
    TableError, EstimateError
        Malformed table; ratings that are not crossed or do not vary.
    """
    if method not in ("reml", "moments"):
        raise UserError(f"method {method!r}", "reml, moments")
    if bootstraps and rng is None:
        raise UserError(
            "bootstrap intervals without rng", "a numpy Generator", "pass rng=numpy.random.default_rng(seed)"
        )
    population = population or Population()
    rated = check_ratings(ratings, scale)
    y, user, image = rated["score"].to_numpy(dtype=np.float64), rated["user_id"], rated["image_id"]
    moments = moment_components(y, user, image)
    fit = reml_fit(y, user, image) if method == "reml" else None
    parts = fit.components if fit else moments
    spread = component_spread(y, user, image)
    at = np.array([parts.v_image, parts.v_user, parts.v_within, parts.v_error])
    if bootstraps and rng is not None:
        crossed = Crossed.of(y, user, image)
        drawn = component_draws(crossed, Draws.random(crossed, bootstraps, rng, population))
        intervals = percentile_intervals(np.stack(list(vars(drawn).values()), axis=1), at, confidence)
    else:
        intervals = influence_intervals(spread, at, confidence, population)
    first = _first(rated)
    alpha = krippendorff_alpha(first["score"].to_numpy(), first["image_id"], metric)
    if metric in ("interval", "ordinal"):
        intervals["krippendorff_alpha"] = alpha_interval(
            first["score"].to_numpy(), first["user_id"], first["image_id"], metric, confidence, population
        )
    raters = 1 / float(np.mean(1 / first["image_id"].value_counts().to_numpy()))
    use = slider_use(rated, scale, confidence)
    retest = retest_of(repeated_pairs(rated), confidence=confidence, population=population)
    estimand, few = estimand_for("variance components of ratings", population, parts.n_users, parts.n_images, "images")
    index_2 = SHARES["beholder_index_2"](at)
    return Agreement(
        estimand=estimand,
        exclusions=Exclusions.none(len(rated), "ratings"),
        warnings=few + _warnings(rated, parts, moments, method) + use.warnings,
        provenance=provenance or Provenance.of({"ratings": ratings}),
        v_image=parts.v_image,
        v_user=parts.v_user,
        v_user_image=parts.v_user_image,
        v_error=parts.v_error,
        v_within=parts.v_within,
        separable=parts.separable,
        why_not_separable=parts.why_not_separable,
        beholder_index=parts.beholder_index,
        beholder_index_z=index_of_standardised(rated),
        beholder_index_2=index_2 if with_index_2 else None,
        reliability=parts.reliability,
        krippendorff_alpha=alpha,
        alpha_metric=metric,
        icc=component_icc(parts, raters),
        ceilings=ceilings_of(parts, raters),
        intervals=intervals,
        moments={name: getattr(moments, name) for name in ("v_image", "v_user", "v_user_image", "v_error", "v_within")},
        retest=retest.to_json() if retest else None,
        slider=use.to_json(),
        ordinal=five_answer_numbers(rated, first, scale),
        method=method,
        log_likelihood=fit.log_likelihood if fit else math.nan,
        interval_method=f"{bootstraps} resamples of users and images" if bootstraps else "influence, two-way clusters",
        confidence=confidence,
        n_ratings=len(rated),
        n_users=parts.n_users,
        n_images=parts.n_images,
        n_repeats=0 if retest is None else retest.n_pairs,
        frames=_frames(use, retest),
    )


def _first(rated: pd.DataFrame) -> pd.DataFrame:
    """The first rating of each user and image."""
    if "occasion" not in rated:
        return rated
    return rated.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"])


def _warnings(rated: pd.DataFrame, parts: Components, moments: Components, method: Method) -> tuple[str, ...]:
    found = []
    if parts.why_not_separable:
        found.append(f"private taste and noise cannot be told apart: {parts.why_not_separable}")
    elif "occasion" in rated and int(rated["occasion"].nunique()) <= 2:
        found.append("two occasions only: the private share is still unstable")
    below = [name for name in ("v_image", "v_user", "v_user_image") if getattr(moments, name) < 0]
    if below:
        found.append(f"{', '.join(below)} came out below 0 by moments: the data hold little of it")
    counts = rated.groupby("user_id", observed=True).size()
    if int((counts < FEWEST_FOR_Z).sum()):
        few = int((counts < FEWEST_FOR_Z).sum())
        found.append(f"{few} users with fewer than {FEWEST_FOR_Z} ratings are not in the standardised index")
    if method == "reml" and parts.v_image == 0:
        found.append("no shared taste was found: the estimate lies at 0")
    return tuple(found)


def _frames(use: SliderUse, retest: Retest | None) -> dict[str, pd.DataFrame]:
    import pandas as pd

    found = {"slider_users": use.users}
    if retest is not None:
        found |= {"retest_users": retest.users, "retest_images": retest.images}
        if retest.by_gap:
            found["retest_by_gap"] = pd.DataFrame([dataclasses.asdict(gap) for gap in retest.by_gap])
    return found
