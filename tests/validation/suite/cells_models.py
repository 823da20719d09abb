"""The crossed logistic model, accuracy at the population level, and the simultaneous band of the margin curve."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.special import expit, ndtr

from analysis import crossed_logistic
from analysis.accuracy import accuracy
from analysis.tie_curve import tie_curve
from suite.cells_accuracy import COVERAGE_ACCURACY
from suite.core import ALPHA, COVERAGE, SIZE, UNRECORDED, Cell, Naive, Row
from suite.draw_ratings import (
    NOISE,
    OWN_NOISE,
    PRIVATE,
    SHARED,
    TICKS,
    accuracy_of,
    personal_score,
    predictions_table,
    ratings_table,
    some_images,
)
from suite.draw_votes import own_other_votes


@dataclass(frozen=True)
class CrossedModels(Cell):
    """Log odds of choosing the focal condition: effect + participant + prompt + interaction, one vote a cell."""

    people: int
    items: int
    sds: tuple[float, float, float]
    effect: float = 0.0

    section: str = field(default="Crossed logistic model", init=False)
    modules: tuple[str, ...] = field(default=("logistic",), init=False)

    @property
    def design(self) -> str:
        spread = ", ".join(f"{sd:g}" for sd in self.sds)
        return f"{self.people} people, {self.items} prompts, 1 a cell; SDs {spread}"

    @property
    def truth(self) -> str:
        return f"conditional log odds {self.effect:g}"

    @property
    def rows(self) -> tuple[Row, ...]:
        high = 1.0 if self.effect else SIZE
        gee = Naive("GEE by participant", "gee_covers" if self.effect else "gee", not self.effect)
        if self.effect:
            gee = Naive(gee.name, gee.value, False, "covers")
        return (
            Row("`crossed_logistic`, t of the fewer clusters", "rejected", 0, high, "covered", COVERAGE, (gee,)),
            Row("`crossed_logistic`, likelihood ratio", "ratio", 0, high),
        )

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        people, items = (x.ravel() for x in np.indices((self.people, self.items)))
        by_person, by_item, by_cell = self.sds
        eta = self.effect + by_person * rng.standard_normal(self.people)[people]
        eta = eta + by_item * rng.standard_normal(self.items)[items] + by_cell * rng.standard_normal(len(people))
        won = rng.random(len(people)) < expit(eta)
        votes = own_other_votes(people, items, won, rng)
        found = crossed_logistic(votes, "own", "other", provenance=UNRECORDED)
        estimate, se = gee_by_participant(won.astype(float), people)
        return {
            "rejected": found.p < ALPHA,
            "ratio": found.p_likelihood_ratio < ALPHA,
            "covered": found.ci_low <= self.effect <= found.ci_high,
            "gee": 2 * ndtr(-abs(estimate / se)) < ALPHA,
            "gee_covers": abs(estimate - self.effect) <= 1.959964 * se,
        }


def gee_by_participant(won: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Log odds and its standard error by generalised estimating equations with exchangeable answers of each person."""
    from statsmodels.genmod import cov_struct, families
    from statsmodels.genmod.generalized_estimating_equations import GEE

    model = GEE(won, np.ones((len(won), 1)), people, family=families.Binomial(), cov_struct=cov_struct.Exchangeable())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the last step of its iteration
        fit = model.fit()
    return float(fit.params[0]), float(fit.bse[0])


@dataclass(frozen=True)
class PopulationAccuracies(Cell):
    """One score for everybody against the mean rating of each image by these raters, who rate them all."""

    users: int
    images: int
    image_error: float

    section: str = field(default="Accuracy for the average taste", init=False)
    modules: tuple[str, ...] = field(default=("accuracy",), init=False)

    @property
    def design(self) -> str:
        return f"{self.users} users rate {self.images} images; error about images {self.image_error:g}"

    @property
    def accuracies(self) -> tuple[float, float]:
        """At the population level, and at the user level."""
        score = SHARED * math.sqrt(1 + self.image_error**2)
        mean, one = (math.sqrt(SHARED**2 + (PRIVATE**2 + NOISE**2) / n) for n in (self.users, 1))
        return float(accuracy_of(SHARED**2 / (score * mean))), float(accuracy_of(SHARED**2 / (score * one)))

    @property
    def truth(self) -> str:
        return f"accuracy {self.accuracies[0]:.3f} ({self.accuracies[1]:.3f} at the user level)"

    @property
    def rows(self) -> tuple[Row, ...]:
        naive = (Naive("binomial over pairs of images", "pairs_cover", True, "covers"),)
        return (Row("`accuracy`, population level", None, 0, 1, "covered", COVERAGE_ACCURACY, naive),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shared, own = rng.standard_normal(self.images), rng.standard_normal((2, self.users, self.images))
        y = SHARED * shared + PRIVATE * own[0] + NOISE * own[1]
        score = np.tile(shared + self.image_error * rng.standard_normal(self.images), (self.users, 1))
        every = np.ones(y.shape, dtype=bool)
        table = predictions_table({"m": score}, every)
        found = accuracy(table, ratings_table(y, every), level="population", provenance=UNRECORDED).models[0]
        true = self.accuracies[0]
        se_pairs = math.sqrt(found.accuracy * (1 - found.accuracy) / found.n_pairs)
        return {
            "covered": found.ci_low <= true <= found.ci_high,
            "pairs_cover": abs(found.accuracy - true) <= 1.959964 * se_pairs,
        }


@dataclass(frozen=True)
class Curves(Cell):
    """A personal model that knows everybody equally well: its curve is that of constant skill."""

    users: int
    images: int
    each: int
    image_error: float
    margins: tuple[int, ...] = (0, 50, 100, 150, 200)

    section: str = field(default="Accuracy by tie margin: the whole curve", init=False)
    modules: tuple[str, ...] = field(default=("tie_curve",), init=False)

    @property
    def design(self) -> str:
        sizes = f"{self.users} users, {self.images} images, {self.each} rated by each"
        return f"{sizes}; error about images {self.image_error:g}; margins {', '.join(map(str, self.margins))}"

    @property
    def curve(self) -> np.ndarray:
        """Accuracy beyond each margin."""
        known = 0.25
        score = SHARED**2 * (1 + self.image_error**2) + known**2 + OWN_NOISE**2
        rating = SHARED**2 + PRIVATE**2 + NOISE**2
        r = (SHARED**2 + PRIVATE * known) / math.sqrt(score * rating)
        return np.array([beyond(r, margin, math.sqrt(rating)) for margin in self.margins])

    @property
    def truth(self) -> str:
        return "accuracies " + ", ".join(f"{a:.3f}" for a in self.curve)

    @property
    def rows(self) -> tuple[Row, ...]:
        naive = (Naive("single intervals, all at once", "singles_cover", False, "covers"),)
        return (Row("`tie_curve`, sup-t band at every margin", None, 0, 1, "covered", COVERAGE_ACCURACY, naive),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shared, private = rng.standard_normal(self.images), rng.standard_normal((self.users, self.images))
        y = SHARED * shared + PRIVATE * private + NOISE * rng.standard_normal(private.shape)
        score = personal_score(shared, private, self.image_error, 0.0, rng)
        rated = some_images(self.users, self.images, self.each, rng)
        tables = predictions_table({"m": score}, rated), ratings_table(y, rated)
        found = tie_curve(*tables, self.margins, rng=rng, provenance=UNRECORDED).models[0]
        true = self.curve

        def hold(low: str, high: str) -> bool:
            return bool(((np.array(getattr(found, low)) <= true) & (true <= np.array(getattr(found, high)))).all())

        return {"covered": hold("band_low", "band_high"), "singles_cover": hold("ci_low", "ci_high")}


@lru_cache(maxsize=64)
def beyond(r: float, margin: int, sd: float) -> float:
    """Accuracy on pairs whose ratings, rounded to ticks, differ by more than `margin`; by a fine sum over differences.

    A difference of rounded ratings exceeds `margin` when it is `margin` + 1 or more, so about half a tick further.
    """
    least = (margin + 0.5) / (TICKS * sd * math.sqrt(2))
    z = least + (np.arange(200_000) + 0.5) * 5e-5
    weight = np.exp(-z * z / 2)
    return float((weight * ndtr(r * z / math.sqrt(1 - r * r))).sum() / weight.sum())


CELLS: tuple[Cell, ...] = (
    CrossedModels("crossed model, 20 x 20", 20, 20, (0.3, 0.3, 0.3)),
    CrossedModels("crossed model, planted", 20, 20, (0.5, 0.5, 0.0), effect=0.5),
    PopulationAccuracies("population level, 40 images", 12, 40, 1.0),
    PopulationAccuracies("population level, 120 images", 30, 120, 1.0),
    Curves("margin curve, 60 images", 25, 60, 60, 1.0),
    Curves("margin curve, 100 images", 40, 100, 50, 1.0),
)
