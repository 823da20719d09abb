"""One model measured at the level of single users, or at that of images averaged over users.

Both levels give the same record, `Scored`, and compare two models on identical rows, `Compared`; `analysis.accuracy`
puts them into results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.clusters import Floats, Ints
from analysis.components import shrunken_offsets
from analysis.correlation import Kind, correlation_by_user, fisher_mean, user_correlation
from analysis.matched import ModelRows
from analysis.pairs import accuracy_by_user, user_accuracy
from analysis.results import Population
from analysis.user_means import Crossing, Interval, clustered_value, crossing, mean_over_users

Items = Literal["image", "prompt"]

_PARTS = 1000  # image means are compared in thousandths of a tick, so that ties and margins stay exact
_SCORE_DIGITS = 9  # digits of the scores' own spread below which two mean scores are the same number


@dataclass(frozen=True)
class Rules:
    """What counts, and for whom; see `analysis.accuracy.accuracy`."""

    margin: int = 0
    confidence: float = 0.95
    min_pairs: int = 30
    min_images: int = 10
    items: Items = "image"
    population: Population = field(default_factory=Population)


@dataclass(frozen=True)
class Scored:
    """Accuracy and correlations of one model; fields as in `analysis.accuracy.ModelAccuracy`."""

    accuracy: Interval
    srocc: Interval
    plcc: Interval
    srocc_fisher: float
    plcc_fisher: float
    n_users: int
    n_images: int
    n_pairs: int
    n_undefined: int
    left_out: tuple[tuple[str, int], ...]
    deciles: tuple[float, ...]


@dataclass(frozen=True)
class Compared:
    """Accuracy of one model minus that of another on identical pairs."""

    difference: Interval
    share_better: float
    n_users: int
    n_images: int


@dataclass(frozen=True)
class UserLevel:
    """Accuracy of every user by one model.

    Attributes
    ----------
    group : ModelRows
    rules : Rules
    rows : Crossing
    accuracy : Floats, shape (users,)
        NaN for users left out.
    n_pairs : Ints, shape (users,)
    influence : Floats, shape (rows,)
    left_out : tuple of (str, int)
        Users left out, by reason.
    """

    group: ModelRows
    rules: Rules
    rows: Crossing
    accuracy: Floats
    n_pairs: Ints
    influence: Floats
    left_out: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, group: ModelRows, rules: Rules) -> UserLevel:
        """Measure one model."""
        rows = crossing(group.user, group.image if rules.items == "image" else group.prompt)
        curves = accuracy_by_user(rows.user, group.truth, group.score, [rules.margin])
        pairs = curves.n_pairs[:, 0]
        few_images = curves.n_items < rules.min_images
        few_pairs = ~few_images & (pairs < max(rules.min_pairs, 1))
        value = np.where(few_images | few_pairs, np.nan, curves.accuracy[:, 0])
        counted = (
            (f"fewer than {rules.min_images} images", int(few_images.sum())),
            (f"fewer than {rules.min_pairs} pairs beyond the margin", int(few_pairs.sum())),
        )
        left_out = tuple((why, n) for why, n in counted if n)
        return cls(group, rules, rows, value, pairs, curves.influence[:, 0], left_out)

    @property
    def user_codes(self) -> Ints:
        """Code in `Matched.user_ids` of each user of `accuracy`."""
        return self.group.user[np.unique(self.rows.user, return_index=True)[1]]

    def scored(self) -> Scored:
        """Means over users."""
        mean = self._mean(self.accuracy, self.influence, 0.5)
        srocc, srocc_fisher, undefined = self._correlation("spearman")
        plcc, plcc_fisher, _ = self._correlation("pearson")
        kept = np.isfinite(self.accuracy)
        deciles = tuple(np.quantile(self.accuracy[kept], np.arange(1, 10) / 10).tolist()) if kept.any() else ()
        n_images, n_pairs = self._n_images(kept), int(self.n_pairs[kept].sum())
        return Scored(
            mean, srocc, plcc, srocc_fisher, plcc_fisher, int(kept.sum()), n_images, n_pairs, undefined,
            self.left_out, deciles,
        )  # fmt: skip

    def minus(self, other: UserLevel) -> Compared:
        """Difference to a model measured on the same rows, over the users whom both measure."""
        gap = self.accuracy - other.accuracy
        mean = self._mean(gap, self.influence - other.influence, 0.0)
        kept = np.isfinite(gap)
        share = float(np.mean(np.sign(gap[kept]) / 2 + 0.5)) if kept.any() else float("nan")
        return Compared(mean, share, int(kept.sum()), self._n_images(kept))

    def _mean(self, value: Floats, influence: Floats, null: float) -> Interval:
        rules = self.rules
        return mean_over_users(
            value, influence, self.rows, confidence=rules.confidence, null=null, population=rules.population
        )

    def _correlation(self, kind: Kind) -> tuple[Interval, float, int]:
        """Mean, Fisher mean and number of users with enough images but no defined correlation."""
        found = correlation_by_user(self.rows.user, self.group.truth, self.group.score, kind)
        enough = np.bincount(self.rows.user) >= self.rules.min_images
        r = np.where(enough, found.r, np.nan)
        return self._mean(r, found.influence, 0.0), fisher_mean(r), int((enough & np.isnan(r)).sum())

    def _n_images(self, kept: np.ndarray) -> int:
        return len(np.unique(self.group.image[kept[self.rows.user]]))


@dataclass(frozen=True)
class ImageLevel:
    """Order of images by their mean over users, by one model.

    Attributes
    ----------
    rules : Rules
    target, score : Floats, shape (images,)
        Means of centred ratings (ticks) and of centred scores over the same users.
    accuracy : float
        NaN with too few images or pairs.
    n_pairs : int
    influence : Floats, shape (images,)
    prompt : Ints, shape (images,)
    n_raters : Ints, shape (images,)
    n_users : int
    left_out : tuple of (str, int)
    """

    rules: Rules
    target: Floats
    score: Floats
    accuracy: float
    n_pairs: int
    influence: Floats
    prompt: Ints
    n_raters: Ints
    n_users: int
    left_out: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, group: ModelRows, rules: Rules) -> ImageLevel:
        """Measure one model."""
        rows = crossing(group.user, group.image)
        target = _image_means(group.truth.astype(np.float64), rows)
        score = _image_means(group.score, rows)
        spread = float(np.std(group.score))
        score = np.round(score / spread, _SCORE_DIGITS) * spread if spread > 0 else np.zeros(rows.n_items)
        parts = np.rint(target * _PARTS).astype(np.int64)
        found = user_accuracy(parts, score, rules.margin * _PARTS)
        enough = rows.n_items >= rules.min_images and found.n_pairs >= max(rules.min_pairs, 1)
        prompt = np.zeros(rows.n_items, dtype=np.int64)
        prompt[rows.item] = group.prompt
        value = found.accuracy if enough else float("nan")
        raters = np.bincount(rows.item)
        return cls(rules, target, score, value, found.n_pairs, found.influence, prompt, raters, rows.n_users)

    def scored(self) -> Scored:
        """Order and correlation over images."""
        intervals = [self._interval(self.accuracy, self.influence, 0.5)]
        undefined = 0
        kinds: tuple[Kind, Kind] = ("spearman", "pearson")
        for kind in kinds:
            found = user_correlation(self.target, self.score, kind)
            undefined = int(np.isnan(found.r))
            intervals.append(self._interval(found.r, found.influence, 0.0))
        accuracy, srocc, plcc = intervals
        nan = float("nan")
        return Scored(
            accuracy, srocc, plcc, nan, nan, self.n_users, len(self.target), self.n_pairs, undefined, self.left_out, ()
        )

    def minus(self, other: ImageLevel) -> Compared:
        """Difference to a model measured on the same rows."""
        gap = self._interval(self.accuracy - other.accuracy, self.influence - other.influence, 0.0)
        return Compared(gap, float("nan"), self.n_users, len(self.target))

    def _interval(self, value: float, influence: Floats, null: float) -> Interval:
        images = np.arange(len(self.target), dtype=np.int64)
        return clustered_value(value, influence, (images, self.prompt), confidence=self.rules.confidence, null=null)


Measured = UserLevel | ImageLevel


def compared(a: Measured, b: Measured) -> Compared:
    """Accuracy of `a` minus that of `b`, both measured on the same rows at the same level."""
    if isinstance(a, UserLevel) and isinstance(b, UserLevel):
        return a.minus(b)
    if isinstance(a, ImageLevel) and isinstance(b, ImageLevel):
        return a.minus(b)
    raise TypeError("a user level and an image level have no difference")


def _image_means(values: Floats, rows: Crossing) -> Floats:
    """Mean over users of values less the users' shrunken levels; equal values give exactly that value."""
    centred = values - shrunken_offsets(values, rows.user, rows.item)[rows.user]
    first = np.zeros(rows.n_items)
    first[rows.item[::-1]] = centred[::-1]
    return first + np.bincount(rows.item, centred - first[rows.item]) / np.bincount(rows.item)
