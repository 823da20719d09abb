"""What people answer when they rate an image again: agreement with themselves, by user, by image and by time between.

Two measures that need no model: the share of pairs of images that a user's own first ratings order as his later ones do
(what the user himself would reach as a predictor), a mean over users, and the correlation of first and later ratings
inside users.

For comparison with a ceiling: a perfect predictor with retest correlation rho reaches 1/2 + asin(sqrt(rho))/pi, the
user's own earlier ratings 1/2 + asin(rho)/pi, hence rho = sin(pi (agreement - 1/2)). Memory makes short gaps look
better than taste is; ask for nine or more other images between, and for some repeats after a week or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints, integer_codes
from analysis.components import r_from_accuracy
from analysis.correlation import correlation_by_user
from analysis.pairs import accuracy_by_user
from analysis.results import Population
from analysis.user_means import Crossing, Interval, chosen_variance, crossing, mean_over_users, t_interval

if TYPE_CHECKING:
    import pandas as pd

FEWEST_IMAGES = 5
"""Repeated images below which a user has no correlation of his own."""

WEEK_SECONDS = 7 * 24 * 3600.0

GAPS = ((0.0, 1 / 7, "same day"), (1 / 7, 1.0, "up to 1 week"), (1.0, 2.0, "1 to 2 weeks"), (2.0, 4.0, "2 to 4 weeks"),
        (4.0, 8.0, "4 to 8 weeks"), (8.0, np.inf, "8 weeks or more"))  # fmt: skip
"""Weeks between two ratings: from, to below, name."""


@dataclass(frozen=True)
class Pairs:
    """First and next rating of the same image by the same user.

    Attributes
    ----------
    user_id, image_id : object array (n,)
    first, later : int array (n,)
        Ratings in ticks.
    weeks : float array (n,)
        Weeks between; NaN where no times are known.
    """

    user_id: np.ndarray
    image_id: np.ndarray
    first: Ints
    later: Ints
    weeks: Floats

    def where(self, mask: np.ndarray) -> Pairs:
        """The pairs of a selection."""
        return Pairs(self.user_id[mask], self.image_id[mask], self.first[mask], self.later[mask], self.weeks[mask])


@dataclass(frozen=True)
class RetestGap:
    """Retest over one span of time; fields as in `Retest`; `weeks_low` to below `weeks_high` bound the span."""

    gap: str
    weeks_low: float
    weeks_high: float
    agreement: float
    correlation: float
    ci_low: float
    ci_high: float
    noise_sd: float
    n_pairs: int
    n_users: int


@dataclass(frozen=True)
class Retest:
    """See `retest_of`.

    Attributes
    ----------
    agreement, agreement_low, agreement_high : float
        Share of pairs of images that the first ratings order as the later ones, mean over users; score ties one half.
    correlation, correlation_low, correlation_high : float
        Pearson of both ratings less their user's means, pooled over users.
    implied_correlation : float
        sin(pi (agreement - 1/2)).
    noise_sd : float
        sqrt(half the mean squared difference), in ticks.
    shift : float
        Mean of later less first rating.
    n_pairs, n_users, n_images : int
        Repeated ratings, who gave them, on what.
    by_gap : tuple of RetestGap
        By weeks between the ratings; empty without times.
    users, images : DataFrame
        user_id, n_pairs, agreement, correlation, shrunken_correlation, noise_sd; image_id, n_pairs, noise_sd.
    """

    agreement: float
    agreement_low: float
    agreement_high: float
    correlation: float
    correlation_low: float
    correlation_high: float
    implied_correlation: float
    noise_sd: float
    shift: float
    n_pairs: int
    n_users: int
    n_images: int
    by_gap: tuple[RetestGap, ...]
    users: pd.DataFrame
    images: pd.DataFrame

    def to_json(self) -> dict[str, object]:
        """Numbers without the tables."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("users", "images", "by_gap")}
        return {**numbers, "by_gap": [vars(gap) for gap in self.by_gap]}


def repeated_pairs(ratings: pd.DataFrame) -> Pairs:
    """Each rating with the same user's next rating of the image, by `occasion`; weeks from `rated_at` where given.

    `ratings` has passed `check_ratings`. Without an occasion column nothing is repeated. Times that cannot be read as
    ISO 8601 count as unknown.
    """
    import pandas as pd

    if "occasion" not in ratings:
        ratings = ratings.iloc[:0].assign(occasion=0)
    ordered = ratings.sort_values(["user_id", "image_id", "occasion"], kind="stable")
    user, image = (integer_codes(ordered[name].astype("str"))[0] for name in ("user_id", "image_id"))
    same = (user[1:] == user[:-1]) & (image[1:] == image[:-1])
    score = ordered["score"].to_numpy(dtype=np.int64)
    weeks = np.full(len(same), np.nan)
    if "rated_at" in ordered and len(ordered):
        times = pd.to_datetime(ordered["rated_at"].astype("str"), utc=True, errors="coerce", format="ISO8601")
        weeks = times.diff().dt.total_seconds().to_numpy()[1:] / WEEK_SECONDS
    names = ordered[["user_id", "image_id"]].astype("str").to_numpy(dtype=object)[1:][same]
    return Pairs(names[:, 0], names[:, 1], score[:-1][same], score[1:][same], weeks[same])


def retest_of(
    pairs: Pairs, *, confidence: float = 0.95, population: Population | None = None, by_gap: bool = True
) -> Retest | None:
    """Retest statistics; None without repeated ratings.

    Parameters
    ----------
    pairs : Pairs
    confidence : float
    population : Population, optional
        New users and new images unless given.
    by_gap : bool
        Whether to break down by time.
    """
    if not len(pairs.first):
        return None
    who, agreement, correlation = _means(pairs, confidence, population or Population())
    users = _users(pairs, who)
    return Retest(
        agreement=agreement.estimate,
        agreement_low=agreement.ci_low,
        agreement_high=agreement.ci_high,
        correlation=correlation.estimate,
        correlation_low=correlation.ci_low,
        correlation_high=correlation.ci_high,
        implied_correlation=float(r_from_accuracy(agreement.estimate)),
        noise_sd=_noise(pairs),
        shift=float((pairs.later - pairs.first).mean()),
        n_pairs=len(pairs.first),
        n_users=len(np.unique(pairs.user_id)),
        n_images=len(np.unique(pairs.image_id)),
        by_gap=_gaps(pairs, confidence, population or Population()) if by_gap else (),
        users=users,
        images=_images(pairs),
    )


@dataclass(frozen=True)
class _ByUser:
    agreement: Floats
    correlation: Floats
    codes: Ints


def _means(pairs: Pairs, confidence: float, population: Population) -> tuple[_ByUser, Interval, Interval]:
    rows = crossing(pairs.user_id, pairs.image_id)
    curves = accuracy_by_user(rows.user, pairs.later, pairs.first, [0])
    share = curves.accuracy[:, 0]
    agreement = mean_over_users(share, curves.influence[:, 0], rows, confidence=confidence, population=population)
    own = correlation_by_user(rows.user, pairs.later, pairs.first, "pearson").r
    own = np.where(np.bincount(rows.user) >= FEWEST_IMAGES, own, np.nan)
    return _ByUser(share, own, rows.user), agreement, _pooled(pairs, rows, confidence, population)


def _pooled(pairs: Pairs, rows: Crossing, confidence: float, population: Population) -> Interval:
    """Correlation of both ratings less their user's means, over all users, with two-way clusters.

    One number from sums over users: a mean over users of their own correlations is too low with few repeats each.
    """
    n = np.bincount(rows.user)
    x, y = (
        v - (np.bincount(rows.user, v) / n)[rows.user] for v in (pairs.first.astype(float), pairs.later.astype(float))
    )
    size_x, size_y = float((x * x).sum()), float((y * y).sum())
    nan = math.nan
    if size_x == 0 or size_y == 0 or len(x) - len(n) < FEWEST_IMAGES:
        return Interval(nan, nan, nan, nan, nan, nan)
    r = float((x * y).sum() / math.sqrt(size_x * size_y))
    influence = x * y / math.sqrt(size_x * size_y) - r / 2 * (x * x / size_x + y * y / size_y)
    sums = [float((np.bincount(codes, influence) ** 2).sum()) for codes in (rows.user, rows.item, rows.cell)]
    sums[:2] = [v * k / (k - 1) if k > 1 else nan for v, k in zip(sums, (rows.n_users, rows.n_items), strict=False)]
    counts = (rows.n_users, rows.n_items, int(rows.cell.max()) + 1)
    variance, df = chosen_variance(population, (sums[0], sums[1], sums[2]), counts)
    se = math.sqrt(variance) if variance > 0 and df >= 1 else nan
    return Interval(r, se, df, *t_interval(r, se, df, confidence))


def _noise(pairs: Pairs) -> float:
    gap = (pairs.later - pairs.first).astype(np.float64)
    return float(np.sqrt(np.mean(gap**2) / 2))


def _gaps(pairs: Pairs, confidence: float, population: Population) -> tuple[RetestGap, ...]:
    found = []
    for low, high, name in GAPS:
        mask = (pairs.weeks >= low) & (pairs.weeks < high)
        if not mask.any():
            continue
        part = pairs.where(mask)
        _, agreement, correlation = _means(part, confidence, population)
        n_users = len(np.unique(part.user_id))
        found.append(
            RetestGap(
                name, low, float(high), agreement.estimate, correlation.estimate, correlation.ci_low,
                correlation.ci_high, _noise(part), len(part.first), n_users,
            )
        )  # fmt: skip
    return tuple(found)


def _users(pairs: Pairs, who: _ByUser) -> pd.DataFrame:
    import pandas as pd

    n = np.bincount(who.codes)
    squared = np.bincount(who.codes, (pairs.later - pairs.first).astype(np.float64) ** 2)
    names = pairs.user_id[np.unique(who.codes, return_index=True)[1]]
    return pd.DataFrame(
        {
            "user_id": names,
            "n_pairs": n,
            "agreement": who.agreement,
            "correlation": who.correlation,
            "shrunken_correlation": shrunken_correlations(who.correlation, n),
            "noise_sd": np.sqrt(squared / n / 2),
        }
    )


def _images(pairs: Pairs) -> pd.DataFrame:
    import pandas as pd

    codes, names = pd.factorize(pairs.image_id, sort=True)
    n = np.bincount(codes)
    squared = np.bincount(codes, (pairs.later - pairs.first).astype(np.float64) ** 2)
    return pd.DataFrame({"image_id": names, "n_pairs": n, "noise_sd": np.sqrt(squared / n / 2)})


def shrunken_correlations(r: Floats, n: Ints) -> Floats:
    """Each user's correlation drawn towards the mean by how uncertain it is, on Fisher's z; shape (users,).

    z has variance 1/(n - 3); the variance between users is that of DerSimonian & Laird (1986), 0 when they do not
    differ by more than chance. Users without a correlation, or with fewer than four images, get the mean.
    """
    known = np.isfinite(r) & (n > 3)
    if not known.any():
        return np.full(len(r), np.nan)
    z = np.arctanh(np.clip(r[known], -0.999, 0.999))
    noise = 1 / (n[known] - 3.0)
    weight = 1 / noise
    mean = float((weight * z).sum() / weight.sum())
    excess = float((weight * (z - mean) ** 2).sum()) - (known.sum() - 1)
    size = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(excess / size, 0.0) if size > 0 else 0.0
    weight = 1 / (noise + between)
    mean = float((weight * z).sum() / weight.sum())
    shrunk = np.full(len(r), np.tanh(mean))
    shrunk[known] = np.tanh(mean + between / (between + noise) * (z - mean))
    return shrunk
