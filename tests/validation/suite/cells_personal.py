"""Where two people disagree, and whether steered images carry a person's style: permutation tests of identities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtr

from analysis import steering_consistency
from analysis.clusters import two_sided_p
from analysis.consistency import FEWEST_FOR_INTERVAL, label_permutations
from analysis.disagreement import disagreement
from analysis.diverging import diverging_pairs
from suite.core import ALPHA, SIZE, SIZE_DYADIC, UNRECORDED, Cell, Naive, Row
from suite.draw_ratings import TICKS, as_ticks, predictions_table, ratings_table
from suite.draw_votes import ids

DRAWS = 999
COVERAGE_T2, COVERAGE_FEW = 0.92, 0.88
"""What T2's interval over resampled users must cover, and with fewer users than it warns of."""
MARGIN = round(0.2 * TICKS)


@dataclass(frozen=True)
class Disagreements(Cell):
    """Private taste is linear in `features` of the images; the model's own directions correlate `alignment` with it."""

    users: int
    images: int
    features: int
    alignment: float = 0.0
    least_power: float = 0.0

    section: str = field(default="Right where two people disagree", init=False)
    modules: tuple[str, ...] = field(default=("disagreement",), init=False)

    @property
    def design(self) -> str:
        return f"{self.users} users, {self.images} images, 60 % rated; private taste in {self.features} dimensions"

    @property
    def truth(self) -> str:
        if not self.alignment:
            return "the model's private part is random: accuracy 0.5"
        return f"private part aligned {self.alignment:g}: accuracy {_true_accuracy(self.features, self.alignment):.3f}"

    @property
    def rows(self) -> tuple[Row, ...]:
        size = SIZE_DYADIC if self.users <= 20 else SIZE
        low, high = (self.least_power, 1.0) if self.alignment else (0.0, size)
        naive = (Naive("binomial over pairs of pairs", "binomial", True),) if not self.alignment else ()
        return (
            Row("`disagreement`, permuted identities", "rejected", low, high, naive=naive),
            Row("`disagreement`, two-way interval", None, 0, 1, "covered", 1 - SIZE_DYADIC),
        )

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        y, score = _opinions(self.users, self.images, self.features, self.alignment, rng)
        rated = rng.random(y.shape) < 0.6
        predictions = predictions_table({"m": score}, np.ones(y.shape, dtype=bool))
        found = disagreement(
            predictions, ratings_table(y, rated), rng=rng, margin=MARGIN, draws=DRAWS, provenance=UNRECORDED
        ).models[0]
        truth = _true_accuracy(self.features, self.alignment) if self.alignment else 0.5
        z = (found.accuracy - 0.5) / math.sqrt(0.25 / found.n_elements)
        return {
            "rejected": found.p_permutation <= ALPHA,
            "covered": found.ci_low <= truth <= found.ci_high,
            "binomial": 2 * ndtr(-abs(z)) < ALPHA,
        }


def _opinions(
    users: int, images: int, features: int, alignment: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Ratings and dense scores (users, images): .30 shared, .35 private, .35 noise."""
    shared, f = math.sqrt(0.30) * rng.standard_normal(images), rng.standard_normal((features, images))
    taste, wrong = (rng.standard_normal((users, features)) / math.sqrt(features) for _ in range(2))
    guess = alignment * taste + math.sqrt(1 - alignment**2) * wrong
    y = shared + math.sqrt(0.35) * (taste @ f + rng.standard_normal((users, images)))
    return y, shared + math.sqrt(0.35) * guess @ f


@lru_cache(maxsize=8)
def _true_accuracy(features: int, alignment: float) -> float:
    """Mean accuracy in large studies of their own: it has no closed form."""
    rng = np.random.default_rng([features, round(1000 * alignment)])
    found = []
    for _ in range(100):
        y, score = _opinions(100, 80, features, alignment, rng)
        found.append(diverging_pairs(as_ticks(y), score, np.ones(y.shape, dtype=bool), MARGIN).accuracy)
    return float(np.mean(found))


World = Literal["nothing", "reproduced", "unequal spread", "style"]
WORLDS: dict[World, str] = {
    "nothing": "nothing personal",
    "reproduced": "runs reproduce a user's image on a prompt, no style across prompts",
    "unequal spread": "nothing personal, users' runs differ in spread",
    "style": "a style of each user, SD {sd:g}",
}


@dataclass(frozen=True)
class Steered(Cell):
    """Embeddings (32 numbers) = prompt + what the world adds + noise of the run; two runs on 18 prompts."""

    users: int
    world: World
    sd: float = 0.0
    least_power: float = 0.0

    section: str = field(default="Style of steered images", init=False)
    modules: tuple[str, ...] = field(default=("consistency",), init=False)

    @property
    def design(self) -> str:
        return f"{self.users} users, 18 prompts, 2 runs, 32 dimensions"

    @property
    def truth(self) -> str:
        return WORLDS[self.world].format(sd=self.sd)

    @property
    def rows(self) -> tuple[Row, ...]:
        planted = self.world == "style"
        low, high = (self.least_power, 1.0) if planted else (0.02, SIZE)
        fooled = self.world in ("reproduced", "unequal spread")
        naive = () if planted else (
            Naive("t test on cosine distances", "t_test", fooled),
            Naive("permuted cosine distances", "permuted", fooled),
        )  # fmt: skip
        covers = None if planted else "covered"
        least = None if planted else COVERAGE_FEW if self.users < FEWEST_FOR_INTERVAL else COVERAGE_T2
        return (Row("`steering_consistency`, T2", "rejected", low, high, covers, least, naive),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shape = (self.users, 18, 2, 32)
        noise = rng.standard_normal(shape)
        if self.world == "unequal spread":
            noise *= np.exp(0.6 * rng.standard_normal((self.users, 1, 1, 1)))
        z = rng.standard_normal((1, 18, 1, 32)) + noise
        z = z + (0.8 if self.world == "reproduced" else 0.0) * rng.standard_normal((self.users, 18, 1, 32))
        z = z + self.sd * rng.standard_normal((self.users, 1, 1, 32))
        user, prompt, run = np.indices(shape[:3]).reshape(3, -1)
        steered = pd.DataFrame({"user_id": ids(user, "u", self.users), "prompt_id": ids(prompt, "p", 18), "run": run})
        steered["embedding"] = pd.Series(list(z.reshape(-1, 32)), dtype=object)
        found = steering_consistency(steered, rng=rng, provenance=UNRECORDED)
        t_test, permuted = _distances_alike(z, rng)
        return {
            "rejected": found.p <= ALPHA,
            "covered": found.ci_low <= 0 <= found.ci_high,
            "t_test": t_test,
            "permuted": permuted,
        }


def _distances_alike(z: np.ndarray, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether runs of one user on a prompt are called closer than those of two, one-sided.

    By a pooled t test that takes cosine distances as independent, and by permuting user labels of the second run.
    """
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    distance = 1 - np.einsum("upd,vpd->puv", unit[:, :, 0], unit[:, :, 1])
    n_users = distance.shape[1]
    same = np.eye(n_users, dtype=bool)
    within, between = distance[:, same].ravel(), distance[:, ~same].ravel()
    df = len(within) + len(between) - 2
    pooled = (len(within) * within.var() + len(between) * between.var()) / df
    t = (within.mean() - between.mean()) / math.sqrt(pooled * (1 / len(within) + 1 / len(between)))
    mean = distance.mean(axis=0)
    labels = label_permutations(n_users, 2, rng)[0][:DRAWS, 1]
    at_least = int((mean[np.arange(n_users), labels].sum(axis=1) <= np.trace(mean) + 1e-12).sum())
    return t < 0 and two_sided_p(t, df) / 2 < ALPHA, (1 + at_least) / (1 + len(labels)) <= ALPHA


CELLS: tuple[Cell, ...] = (
    Disagreements("disagreement, 20 users", 20, 40, 4),
    Disagreements("disagreement, 30 users", 30, 60, 4),
    Disagreements("disagreement, 12 dimensions", 30, 60, 12),
    Disagreements("disagreement, planted", 30, 60, 4, alignment=0.3, least_power=0.8),
    Steered("steering, nothing, 6 users", 6, "nothing"),
    Steered("steering, nothing, 20 users", 20, "nothing"),
    Steered("steering, reproduced, 6 users", 6, "reproduced"),
    Steered("steering, reproduced, 20 users", 20, "reproduced"),
    Steered("steering, unequal spread, 6 users", 6, "unequal spread"),
    Steered("steering, unequal spread, 20 users", 20, "unequal spread"),
    Steered("steering, style, 6 users", 6, "style", sd=0.25, least_power=0.95),
)
