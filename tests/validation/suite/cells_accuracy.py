"""Pairwise accuracy of models: intervals and paired differences, on one occasion and on a later one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis import taste_stability
from analysis.accuracy import accuracy
from analysis.clusters import t_quantile
from suite.core import ALPHA, SIZE, UNRECORDED, Cell, Naive, Row
from suite.draw_ratings import (
    NOISE,
    PRIVATE,
    SHARED,
    accuracy_of,
    personal_accuracy,
    personal_score,
    population_accuracy,
    predictions_table,
    ratings_table,
    some_images,
)

COVERAGE_ACCURACY = 0.92
"""What intervals of accuracies and of their differences must cover."""


@dataclass(frozen=True)
class Accuracies(Cell):
    """Two models on the same ratings, both personal and equally good, or one of them the population's.

    `image_error` is a model's error about an image, the same for all users; `spread` how unequally well it knows them.
    """

    users: int
    images: int
    each: int
    image_error: float
    spread: float
    equal: bool = True

    section: str = field(default="Pairwise accuracy and its difference between models", init=False)
    modules: tuple[str, ...] = field(default=("accuracy",), init=False)

    @property
    def design(self) -> str:
        sizes = f"{self.users} users, {self.images} images, {self.each} rated by each"
        return f"{sizes}; error about images {self.image_error:g}, SD of skill {self.spread:g}"

    @property
    def truth(self) -> str:
        gap = 0.0 if self.equal else self.accuracies[0] - self.accuracies[1]
        return f"accuracy {self.accuracies[0]:.3f}, difference {gap:.3f}"

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of the two models."""
        personal = personal_accuracy(self.image_error, self.spread)
        return personal, personal if self.equal else population_accuracy(self.image_error)

    @property
    def rows(self) -> tuple[Row, ...]:
        pairs = Naive("binomial over pairs", "pairs_cover", True, "covers")
        users = Naive("t over users", "users_cover", False, "covers")
        of_gap = Naive("t over users", "gap_users" if self.equal else "gap_users_cover", self.image_error >= 1)
        if not self.equal:
            of_gap = Naive(of_gap.name, of_gap.value, of_gap.must_fail, "covers")
        high = SIZE if self.equal else 1.0
        return (
            Row("`accuracy`, paired difference", "rejected", 0, high, "gap_covered", COVERAGE_ACCURACY, (of_gap,)),
            Row("`accuracy` of one model", None, 0, 1, "covered", COVERAGE_ACCURACY, (pairs, users)),
        )

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shared, private = rng.standard_normal(self.images), rng.standard_normal((self.users, self.images))
        y = SHARED * shared + PRIVATE * private + NOISE * rng.standard_normal(private.shape)
        first = personal_score(shared, private, self.image_error, self.spread, rng)
        if self.equal:
            second = personal_score(shared, private, self.image_error, self.spread, rng)
        else:
            second = np.tile(shared + self.image_error * rng.standard_normal(self.images), (self.users, 1))
        rated = some_images(self.users, self.images, self.each, rng)
        predictions = predictions_table({"a": first, "b": second}, rated)
        found = accuracy(predictions, ratings_table(y, rated), provenance=UNRECORDED)
        one = next(m for m in found.models if m.model == "a")
        gap = found.differences[0]
        true, other = self.accuracies
        by_user = found.users.pivot_table(index="user_id", columns="model", values="accuracy", observed=True)
        reach = t_quantile(0.975, self.users - 1) / math.sqrt(self.users)
        se_pairs = math.sqrt(one.accuracy * (1 - one.accuracy) / one.n_pairs)
        gaps = (by_user["a"] - by_user["b"]).to_numpy()
        return {
            "rejected": gap.p < ALPHA,
            "gap_covered": gap.ci_low <= true - other <= gap.ci_high,
            "covered": one.ci_low <= true <= one.ci_high,
            "pairs_cover": abs(one.accuracy - true) <= 1.959964 * se_pairs,
            "users_cover": abs(one.accuracy - true) <= reach * by_user["a"].std(ddof=1),
            "gap_users": abs(gaps.mean()) > reach * gaps.std(ddof=1),
            "gap_users_cover": abs(gaps.mean() - true + other) <= reach * gaps.std(ddof=1),
        }


V_SHARED, V_PRIVATE, V_NOISE = 0.30, 0.30, 0.25
"""Variance parts of a rating on either occasion."""

KNOWN = 0.5
"""Share of private taste the personal model has learnt; its own error has .3 of the variance of private taste."""

NOTHING_LEFT = (
    (math.sqrt((1.5 * V_SHARED + (KNOWN**2 + 0.3) * V_PRIVATE) / (1.5 * V_SHARED)) - 1) * V_SHARED / (KNOWN * V_PRIVATE)
)
"""Correlation of private taste at which the personal model gains nothing later: its noise costs what it still knows."""


@dataclass(frozen=True)
class Stabilities(Cell):
    """The same images rated on two occasions; `kept` is the correlation of private taste between them."""

    users: int
    images: int
    kept: float

    section: str = field(default="Does taste last? Gain on a later occasion", init=False)
    modules: tuple[str, ...] = field(default=("stability",), init=False)

    @property
    def design(self) -> str:
        return f"{self.users} users, {self.images} images rated twice; private taste correlates {self.kept:.3f}"

    @property
    def gains(self) -> tuple[float, float]:
        """Accuracy of the personal less that of the population model, on either occasion."""
        rating = math.sqrt(V_SHARED + V_PRIVATE + V_NOISE)
        population = math.sqrt(1.5 * V_SHARED)
        personal = math.sqrt(1.5 * V_SHARED + (KNOWN**2 + 0.3) * V_PRIVATE)
        base = accuracy_of(V_SHARED / (population * rating))
        first, later = (
            accuracy_of((V_SHARED + KNOWN * same * V_PRIVATE) / (personal * rating)) - base for same in (1.0, self.kept)
        )
        return float(first), float(later)

    @property
    def truth(self) -> str:
        first, later = self.gains
        return f"gain {first:.3f}, later {later:.3f}; share kept {later / first:.2f}"

    @property
    def rows(self) -> tuple[Row, ...]:
        null = abs(self.gains[1]) < 1e-3
        users = Naive("interval over users only", "users_cover", self.kept == 0, "covers")
        return (
            Row("`taste_stability`, later gain; share kept", "rejected", 0, SIZE if null else 1, "covered",
                COVERAGE_ACCURACY, (users,)),
        )  # fmt: skip

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shape = (self.users, self.images)
        shared = math.sqrt(V_SHARED) * rng.standard_normal(self.images)
        private, fresh = (math.sqrt(V_PRIVATE) * rng.standard_normal(shape) for _ in range(2))
        later = self.kept * private + math.sqrt(1 - self.kept**2) * fresh
        population = np.tile(shared + math.sqrt(0.5 * V_SHARED) * rng.standard_normal(self.images), (self.users, 1))
        personal = population + KNOWN * private + math.sqrt(0.3 * V_PRIVATE) * rng.standard_normal(shape)
        every = np.ones(shape, dtype=bool)
        parts = [
            ratings_table(shared + taste + math.sqrt(V_NOISE) * rng.standard_normal(shape), every).assign(occasion=k)
            for k, taste in ((1, private), (2, later))
        ]
        ratings = pd.concat(parts, ignore_index=True)
        predictions = predictions_table({"population": population, "mlp": personal}, every)
        found = taste_stability(predictions, ratings, provenance=UNRECORDED)
        share = self.gains[1] / self.gains[0]
        if math.isnan(found.share_kept):
            return {"rejected": found.p < ALPHA, "covered": math.nan, "users_cover": math.nan}
        each = found.tables()["users"]
        parts = ((each["gain_later"] - found.share_kept * each["gain_first"]) / found.gain_first).to_numpy()
        reach = t_quantile(0.975, len(parts) - 1) * math.sqrt((parts**2).sum() / len(parts) / (len(parts) - 1))
        return {
            "rejected": found.p < ALPHA,
            "covered": found.ci_low <= share <= found.ci_high,
            "users_cover": abs(found.share_kept - share) <= reach,
        }


CELLS: tuple[Cell, ...] = (
    Accuracies("accuracy, 20 users", 20, 60, 30, 1.0, 0.15),
    Accuracies("accuracy, many images", 40, 300, 60, 1.0, 0.15),
    Accuracies("accuracy, few images", 40, 80, 60, 1.0, 0.15),
    Accuracies("accuracy, 100 users", 100, 100, 40, 1.0, 0.15),
    Accuracies("accuracy, users differ more", 40, 300, 60, 0.3, 0.3),
    Accuracies("accuracy, planted", 40, 300, 60, 1.0, 0.15, equal=False),
    Stabilities("stability, most kept", 30, 40, 0.7),
    Stabilities("stability, no gain left", 60, 40, NOTHING_LEFT),
    Stabilities("stability, only noise left", 60, 40, 0.0),
)
