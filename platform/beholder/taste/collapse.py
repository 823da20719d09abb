"""Has a model drifted to the average person? How far its predictions tell people apart, beside the ratings themselves.

A model trained on many people, or on several data sets at once, can end by telling everybody the same and still order
images well. So the part of its predictions that belongs to a person and an image together (what is left once levels of
people and of images are taken off) is held against the same part of the ratings, on the same rated pairs:

* `spread`, the share of the ratings' variance, private taste and noise, that the predictions span;
* `slope`, by how much ratings move with one tick of it: 1 for honest predictions, larger where they were shrunk too
  far, 0 where they are noise;
* `level`, the same share for people's levels;
* `kept`, its variance over that of another model's, such as the same one trained on the data set alone.

Both sides lose the same degrees of freedom, so the shares need no correction for them as long as interactions of
predictions and of ratings are spread over the pairs alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.results import Population
from analysis.user_means import Crossing, chosen_variance, crossing, t_interval
from beholder.errors import TableError, UserError
from beholder.taste.base import Floats

if TYPE_CHECKING:
    import pandas as pd

Finding = Literal["apart", "average", "shrunken", "drifted"]
LEAST_SPREAD = 0.01
"""A model whose spread is surely below this tells nobody apart in practice."""
MOST_SLOPE = 2.0
"""Predictions that surely move less than half as much as what they explain were shrunk too far."""
LEAST_KEPT = 0.5
"""Of the variance that another model tells people apart by, what must be left."""
SWEEPS = 500
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Ratio:
    """A ratio with its two-way interval; NaN where it is not defined."""

    estimate: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Spread:
    """How far one model tells people apart in one split.

    Attributes
    ----------
    model, split : str
    spread, slope, level, kept : Ratio
        See the module; `kept` is NaN without another model.
    against : str or None
        That other model.
    finding : str
        "apart": it tells people apart. "drifted": it keeps surely less than `LEAST_KEPT` of what the other model does.
        "average": its spread is surely below `LEAST_SPREAD`. "shrunken": its slope is surely above `MOST_SLOPE`.
    n_users, n_images, n_pairs : int
    """

    model: str
    split: str
    spread: Ratio
    slope: Ratio
    level: Ratio
    kept: Ratio
    against: str | None
    finding: Finding
    n_users: int
    n_images: int
    n_pairs: int

    @property
    def collapsed(self) -> bool:
        """Whether the model tells people apart less than it should."""
        return self.finding != "apart"


NOTHING = Ratio(math.nan, math.nan, math.nan)


def collapse(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    personal: Sequence[str],
    *,
    against: Mapping[str, str] | None = None,
    confidence: float = 0.95,
) -> tuple[Spread, ...]:
    """How far each of some models tells people apart.

    Parameters
    ----------
    predictions : DataFrame
        `model, user_id, image_id, score, split`; only those with a rating count.
    ratings : DataFrame
        `user_id, image_id, score` and perhaps `occasion`, of which the first counts.
    personal : sequence of str
        Models that are meant to tell people apart; any of them may have collapsed.
    against : mapping of str to str, optional
        For a model the one it is compared with, on the pairs that both predict: for a jointly trained model the same
        one trained on the data set alone.
    confidence : float

    Raises
    ------
    UserError, TableError
        Models that are not there; nothing rated.

    Notes
    -----
    Intervals are two-way over users and images, by the influence of every pair on the ratio, of ratios of variances on
    the log scale. Assumes that images reached people without regard to taste. Wrong with fewer than about six users or
    images, and where hardly any image has two raters: then nothing is left once images' levels are taken off.
    """
    compared = dict(against or {})
    known = set(predictions["model"])
    absent = sorted({*personal, *compared, *compared.values()} - known)
    if absent:
        raise UserError(f"no predictions of {', '.join(absent)}", f"models there: {', '.join(sorted(known))}")
    first = ratings
    if "occasion" in ratings.columns:
        first = ratings.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"])
    both = predictions.merge(first[["user_id", "image_id", "score"]], on=["user_id", "image_id"], suffixes=("", "_of"))
    if both.empty:
        raise TableError("none of the predictions has a rating", "the same user_id and image_id in both tables")
    found = []
    for split in sorted(both["split"].unique()):
        rows = both[both["split"] == split].sort_values(["user_id", "image_id"], kind="stable")
        by_model = {name: mine for name, mine in rows.groupby("model", sort=False)}
        for name in personal:
            if name in by_model:
                other = compared.get(name)
                found.append(
                    _spread(name, split, by_model[name], other, by_model.get(other) if other else None, confidence)
                )
    return tuple(found)


def spread_frame(found: Sequence[Spread]) -> pd.DataFrame:
    """One row a model and split; each ratio as `<name>`, `<name>_low`, `<name>_high`."""
    import pandas as pd

    ratios = ("spread", "slope", "level", "kept")
    columns = ["model", "split", "finding", *(f"{r}{end}" for r in ratios for end in ("", "_low", "_high"))]
    rows: list[dict[str, Any]] = []
    for one in found:
        row: dict[str, Any] = {"model": one.model, "split": one.split, "finding": one.finding}
        for name in ratios:
            ratio = asdict(getattr(one, name))
            row |= {name: ratio["estimate"], f"{name}_low": ratio["ci_low"], f"{name}_high": ratio["ci_high"]}
        rows.append(row | {"against": one.against or "", "n_users": one.n_users, "n_images": one.n_images})
    return pd.DataFrame(rows, columns=[*columns, "against", "n_users", "n_images"])


def _spread(
    name: str, split: str, mine: pd.DataFrame, other: str | None, theirs: pd.DataFrame | None, confidence: float
) -> Spread:
    cells = crossing(mine["user_id"], mine["image_id"])
    p, y = mine["score"].to_numpy(dtype=float), mine["score_of"].to_numpy(dtype=float)
    own, rated = without_levels(p, cells), without_levels(y, cells)
    spread = _variance_ratio(own, rated, cells, confidence)
    slope = _slope(own, rated, cells, confidence)
    level = _level_ratio(p, y, cells, confidence)
    kept = NOTHING
    if theirs is not None:
        key = ["user_id", "image_id"]
        shared = mine[[*key, "score"]].merge(theirs[[*key, "score"]], on=key, suffixes=("", "_other"))
        common = crossing(shared["user_id"], shared["image_id"])
        a, b = (without_levels(shared[c].to_numpy(dtype=float), common) for c in ("score", "score_other"))
        kept = _variance_ratio(a, b, common, confidence)
    finding: Finding = "apart"
    if kept.ci_high < LEAST_KEPT:
        finding = "drifted"
    elif spread.estimate == 0 or spread.ci_high < LEAST_SPREAD:
        finding = "average"
    elif slope.ci_low > MOST_SLOPE:
        finding = "shrunken"
    return Spread(
        name, split, spread, slope, level, kept, other, finding, cells.n_users, cells.n_items, len(mine)
    )  # fmt: skip


def without_levels(values: Floats, cells: Crossing) -> Floats:
    """Values less the least-squares levels of users and images; shape (n,).

    Alternating means converge to the least-squares fit of an additive model on any pattern of pairs.
    """
    left = values - values.mean()
    scale = float(np.abs(left).max())
    if scale == 0:
        return np.zeros(len(values))
    n_user, n_item = np.bincount(cells.user), np.bincount(cells.item)
    for _ in range(SWEEPS):
        by_user = np.bincount(cells.user, left) / n_user
        left = left - by_user[cells.user]
        by_item = np.bincount(cells.item, left) / n_item
        left = left - by_item[cells.item]
        if max(float(np.abs(by_user).max()), float(np.abs(by_item).max())) < TOLERANCE * scale:
            break
    small = float(np.abs(left).max()) < 1e-6 * scale  # what rounding leaves of values that are all level
    return np.zeros(len(values)) if small else left


def _variance_ratio(own: Floats, other: Floats, cells: Crossing, confidence: float) -> Ratio:
    """Mean square of `own` over that of `other`."""
    below = float(np.sum(other**2))
    if below == 0:
        return NOTHING
    ratio = float(np.sum(own**2)) / below
    if ratio == 0:
        return Ratio(0.0, 0.0, 0.0)
    influence = (own**2 - ratio * other**2) / below
    low, high = _two_way(math.log(ratio), influence / ratio, cells, confidence)
    return Ratio(ratio, math.exp(low), math.exp(high))


def _slope(own: Floats, rated: Floats, cells: Crossing, confidence: float) -> Ratio:
    """Regression of ratings on predictions through 0."""
    below = float(np.sum(own**2))
    if below == 0:
        return NOTHING
    slope = float(np.sum(own * rated)) / below
    return Ratio(slope, *_two_way(slope, own * (rated - slope * own) / below, cells, confidence))


def _level_ratio(p: Floats, y: Floats, cells: Crossing, confidence: float) -> Ratio:
    """Variance of people's mean predictions over that of their mean ratings, with an interval over people."""
    n = np.bincount(cells.user)
    own, rated = (np.bincount(cells.user, v) / n for v in (p, y))
    own, rated = own - own.mean(), rated - rated.mean()
    people = np.arange(cells.n_users)
    alone = Crossing(people, people, people, cells.n_users, cells.n_users)
    if float(np.abs(own).max()) < 1e-6 * max(float(np.abs(rated).max()), 1e-300):
        own = np.zeros(cells.n_users)
    return _variance_ratio(own, rated, alone, confidence)


def _two_way(estimate: float, influence: Floats, cells: Crossing, confidence: float) -> tuple[float, float]:
    def part(codes: Any, count: int) -> float:
        sums = np.bincount(codes, influence)
        return float(np.sum(sums**2)) * count / (count - 1) if count > 1 else math.nan

    counts = (cells.n_users, cells.n_items, int(cells.cell.max()) + 1)
    parts = tuple(part(c, n) for c, n in zip((cells.user, cells.item, cells.cell), counts, strict=True))
    variance, df = chosen_variance(Population(), (parts[0], parts[1], parts[2]), counts)
    se = math.sqrt(variance) if df >= 1 and variance > 0 else math.nan
    low, high, _ = t_interval(estimate, se, df, confidence)
    return low, high


def user_vectors(fitted: object) -> Floats | None:
    """What a fitted model keeps of each person: embeddings, all members of an ensemble side by side, or coefficients.

    Returns
    -------
    array, shape (users, d), or None
        None for a model that keeps no vector a person.
    """
    known = getattr(fitted, "known", None)
    embeddings = getattr(known, "embeddings", None)
    if isinstance(embeddings, np.ndarray) and embeddings.ndim == 3:
        return np.concatenate(list(embeddings.astype(np.float64)), axis=1)
    coefficients = getattr(fitted, "coefficients", None)
    if isinstance(coefficients, np.ndarray) and coefficients.ndim == 2 and coefficients.shape[1] > 1:
        return coefficients[:, 1:]  # the first one is the level
    return None


def vector_spread(vectors: Floats) -> float:
    """Share of people's mean squared vector in which they differ: 0 where all are one, 1 where they share nothing.

    It has no unit, so vectors of models that were trained apart can be compared. NaN with fewer than two people, or
    where all vectors are 0.
    """
    n = len(vectors)
    total = float(np.sum(vectors**2)) / max(n, 1)
    if n < 2 or total == 0:
        return math.nan
    return float(np.sum((vectors - vectors.mean(axis=0)) ** 2)) / (n - 1) / total
