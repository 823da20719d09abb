"""How people use the slider: heaping at marks, use of the scale, pull of the start position, and five coarse answers.

Within-user orders do not depend on a user's level or stretch of the scale; variance components, margins in ticks and
means over users do. So these checks stand beside every analysis that uses the numbers themselves.

Assumes that start positions, where there are any, were drawn at random. Wrong where they were fixed: then their pull
cannot be told from taste. Users' spreads are shrunk as log variances with their known sampling noise (Smyth 2004,
doi:10.2202/1544-6115.1027, section 6.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import polygamma

from analysis.clusters import Floats, Ints, integer_codes, t_quantile, two_sided_p, two_way_meat
from analysis.errors import EstimateError
from analysis.tables import Scale

if TYPE_CHECKING:
    import pandas as pd

MARKS = 5
"""Labelled marks on the slider, equally spaced from end to end."""

NEAR = 0.01
"""A rating within this part of the range counts as on the mark (10 ticks of 1000)."""

MOST_AT_ENDS = 0.15
"""Share at the ends above which a linear model of the ratings is doubtful."""

FEWEST_FOR_Z = 30
"""Ratings a user needs before his own spread is used to standardise him."""


@dataclass(frozen=True)
class Anchoring:
    """Pull of the start position.

    Attributes
    ----------
    slope : float
        Ticks a rating moves for a start one tick higher, images and users held fixed; 0 is no pull.
    ci_low, ci_high, p : float
        Two-way clusters of users and images.
    n : int
    reason : str or None
        Why there is no slope.
    """

    slope: float
    ci_low: float
    ci_high: float
    p: float
    n: int
    reason: str | None = None


@dataclass(frozen=True)
class SliderUse:
    """See `slider_use`.

    Attributes
    ----------
    near_marks, near_marks_by_chance : float
        Share of ratings on a mark, and what evenly spread answers would give.
    at_low, at_high : float
        Share at the two ends.
    n_values : int
        Different answers used.
    scale_cv : float
        Coefficient of variation of users' stretch of the scale, sampling noise removed: with cv, taste that is all
        shared looks private by about cv^2/(1 + cv^2).
    anchoring : Anchoring or None
        None without a start_position column.
    users : DataFrame
        user_id, n, mean, sd, n_values, near_marks, at_low, at_high.
    """

    near_marks: float
    near_marks_by_chance: float
    at_low: float
    at_high: float
    n_values: int
    scale_cv: float
    anchoring: Anchoring | None
    users: pd.DataFrame

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the numbers doubtful."""
        found = []
        if self.at_low + self.at_high > MOST_AT_ENDS:
            found.append(
                f"{100 * (self.at_low + self.at_high):.0f} % of the ratings lie at the ends of the slider: compare the "
                "ordinal version"
            )
        if self.n_values <= 2 * MARKS:
            found.append(f"only {self.n_values} different answers: treat the ratings as ordinal")
        few = int((self.users["near_marks"] > 0.95).sum())
        if self.n_values > 2 * MARKS and few:
            found.append(f"{few} users answer at the marks only")
        pull = self.anchoring
        if pull is not None and pull.p < 0.05:
            found.append(f"ratings follow the start position by {pull.slope:.2f} ticks a tick (p = {pull.p:.3g})")
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Numbers without the table of users."""
        kept = {name: value for name, value in vars(self).items() if name not in ("users", "anchoring")}
        return {**kept, "anchoring": None if self.anchoring is None else vars(self.anchoring)}


def slider_use(ratings: pd.DataFrame, scale: Scale | None = None, confidence: float = 0.95) -> SliderUse:
    """Heaping, use of the scale and anchoring of checked ratings.

    Parameters
    ----------
    ratings : DataFrame
        As `analysis.tables.check_ratings` returns it.
    scale : Scale, optional
        0 … 1000 unless given.
    confidence : float
    """
    import pandas as pd

    scale = scale or Scale()
    y = ratings["score"].to_numpy(dtype=np.float64)
    user = integer_codes(ratings["user_id"])[0]
    width = scale.high - scale.low
    marks = scale.low + width * np.arange(MARKS) / (MARKS - 1)
    near = (np.abs(y[:, None] - marks) <= NEAR * width).any(axis=1)
    ticks = np.arange(scale.low, scale.high + 1)
    chance = float((np.abs(ticks[:, None] - marks) <= NEAR * width).any(axis=1).mean())
    low, high = y == scale.low, y == scale.high
    grouped = pd.DataFrame({"u": user, "y": y, "near": near, "low": low, "high": high}).groupby("u")
    names = ratings["user_id"].astype("str").to_numpy(dtype=object)[np.unique(user, return_index=True)[1]]
    users = pd.DataFrame({"user_id": names})
    users["n"] = grouped["y"].size().to_numpy()
    users["mean"], users["sd"] = grouped["y"].mean().to_numpy(), grouped["y"].std().to_numpy()
    users["n_values"] = grouped["y"].nunique().to_numpy()
    for column, name in (("near", "near_marks"), ("low", "at_low"), ("high", "at_high")):
        users[name] = grouped[column].mean().to_numpy()
    return SliderUse(
        near_marks=float(near.mean()),
        near_marks_by_chance=chance,
        at_low=float(low.mean()),
        at_high=float(high.mean()),
        n_values=len(np.unique(y)),
        scale_cv=scale_variation(users["sd"].to_numpy(), users["n"].to_numpy()),
        anchoring=anchoring(ratings, confidence) if "start_position" in ratings else None,
        users=users,
    )


def scale_variation(sd: Floats, n: Ints) -> float:
    """Coefficient of variation of users' spreads, if log-normal; the sampling noise of log s^2 removed.

    NaN with fewer than two users of ten ratings.
    """
    used = (n >= 10) & (sd > 0)
    if used.sum() < 2:
        return math.nan
    log_variance = np.log(sd[used] ** 2)
    spread = float(np.var(log_variance, ddof=1)) - float(np.mean(_log_variance_noise(n[used])))
    return math.sqrt(math.expm1(max(spread, 0.0) / 4))


def standardised(score: npt.ArrayLike, user: Any, shrink: bool = True) -> Floats:
    """Ratings less the user's mean, over the user's spread; shape (n,). NaN for users with one rating or no spread.

    Parameters
    ----------
    score : array_like, shape (n,)
    user : array or Series, shape (n,)
    shrink : bool
        Draw log s^2 towards its mean over users by lambda_u = 1 - psi'((n_u - 1)/2)/Var(log s^2), at least 0: a spread
        from few ratings is mostly noise (psi' is about 2/(n_u - 1)). Statistics must come from training ratings only
        where something is predicted.
    """
    y = np.asarray(score, dtype=np.float64)
    codes, n_users = integer_codes(user)
    n = np.bincount(codes, minlength=n_users)
    mean = np.bincount(codes, y, n_users) / n
    squares = np.bincount(codes, (y - mean[codes]) ** 2, n_users)
    variance = np.divide(squares, n - 1, out=np.full(n_users, np.nan), where=(n > 1) & (squares > 0))
    if shrink and np.isfinite(variance).sum() > 2:
        log_variance = np.log(variance)
        total = float(np.nanvar(log_variance, ddof=1))
        kept = np.clip(1 - _log_variance_noise(np.maximum(n, 2)) / total, 0, 1) if total > 0 else np.zeros(n_users)
        centre = float(np.nanmean(log_variance))
        variance = np.exp(centre + kept * (log_variance - centre))
    return np.asarray((y - mean[codes]) / np.sqrt(variance[codes]))


def _log_variance_noise(n: Ints) -> Floats:
    """Variance of log s^2 from n normal observations: trigamma((n - 1)/2)."""
    return np.asarray(polygamma(1, (n - 1) / 2))


def five_answers(score: npt.ArrayLike, scale: Scale | None = None) -> Ints:
    """The nearest mark, 0 … 4: what the slider would have given as a five-point question. Halves go up."""
    scale = scale or Scale()
    part = (np.asarray(score, dtype=np.float64) - scale.low) / (scale.high - scale.low)
    return np.floor(part * (MARKS - 1) + 0.5).astype(np.int64)


def anchoring(ratings: pd.DataFrame, confidence: float = 0.95) -> Anchoring:
    """Slope of ratings on the slider's start position, users and images held fixed.

    Needs start positions drawn at random. Rows without one are left out (see `n`).
    """
    known = ratings["start_position"].notna().to_numpy()
    used = ratings[known]
    nan = math.nan
    if len(used) < 3:
        return Anchoring(nan, nan, nan, nan, len(used), "no start positions")
    user, image = (integer_codes(used[name])[0] for name in ("user_id", "image_id"))
    start = _residual(used["start_position"].to_numpy(dtype=np.float64), user, image)
    y = _residual(used["score"].to_numpy(dtype=np.float64), user, image)
    size = float((start**2).sum())
    if size <= 1e-9 * len(used):
        return Anchoring(nan, nan, nan, nan, len(used), "the start position does not vary: draw it at random")
    slope = float((start * y).sum()) / size
    try:
        by_user, by_image, by_cell = two_way_meat((start * (y - slope * start))[:, None] / size, user, image)
    except EstimateError as error:
        return Anchoring(slope, nan, nan, nan, len(used), str(error))
    parts = [float(m[0, 0]) for m in (by_user, by_image, by_cell)]
    variance = max(parts[0] + parts[1] - parts[2], parts[0], parts[1])
    df = min(int(user.max()), int(image.max()))
    se = math.sqrt(variance) if variance > 0 else nan
    reach = t_quantile(0.5 + confidence / 2, df) * se
    return Anchoring(slope, slope - reach, slope + reach, two_sided_p(slope / se, df), len(used))


def _residual(values: Floats, user: Ints, image: Ints) -> Floats:
    """What is left after the best additive user and image effects, by projecting in turn until nothing moves."""
    left = values - values.mean()
    n_user, n_image = np.bincount(user), np.bincount(image)
    tolerance = 1e-10 * max(float(np.abs(left).max()), 1.0)
    for _ in range(10_000):
        step = (np.bincount(user, left) / n_user)[user]
        left = left - step
        other = (np.bincount(image, left) / n_image)[image]
        left = left - other
        if max(float(np.abs(step).max()), float(np.abs(other).max())) < tolerance:
            break
    return left
