"""Ratings and predictions of simulated people whose pairwise accuracies are known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd

from suite.draw_votes import NODES, WEIGHTS, ids, named

TICKS = 120.0
"""Ticks of the scale for one standard deviation of the ratings; so few of them reach an end, and few pairs tie."""


def as_ticks(y: np.ndarray) -> np.ndarray:
    """Standardised ratings as whole ticks from 0 to 1000."""
    return np.clip(np.rint(500 + TICKS * y), 0, 1000).astype(np.int64)


def accuracy_of(r: np.ndarray | float) -> np.ndarray:
    """Share of pairs in the right order when differences of ratings and scores are normal with correlation `r`."""
    return np.asarray(0.5 + np.arcsin(r) / np.pi)


def cells(rated: np.ndarray) -> pd.DataFrame:
    """user_id and image_id of each true entry of a (users, images) table, row by row."""
    user, image = np.nonzero(rated)
    return pd.DataFrame({"user_id": ids(user, "u", rated.shape[0]), "image_id": ids(image, "i", rated.shape[1])})


def ratings_table(y: np.ndarray, rated: np.ndarray) -> pd.DataFrame:
    """A `ratings` table of the entries of `y` that were rated."""
    return cells(rated).assign(score=as_ticks(y)[rated])


def predictions_table(scores: dict[str, np.ndarray], where: np.ndarray) -> pd.DataFrame:
    """A `predictions` table of several models."""
    keys = cells(where)
    parts = [keys.assign(score=score[where]) for score in scores.values()]
    model = named(np.repeat(np.arange(len(scores)), len(keys)), list(scores))
    return pd.concat(parts, ignore_index=True).assign(model=model)


def some_images(users: int, images: int, each: int, rng: np.random.Generator) -> np.ndarray:
    """Which images each user rates: `each` of them at random, bool (users, images)."""
    return np.asarray(rng.random((users, images)).argsort(axis=1).argsort(axis=1) < each)


SHARED, PRIVATE, NOISE = 0.55, 0.55, 0.63
"""Weights of shared taste, private taste and noise in a rating."""

OWN_NOISE = 0.2


def personal_score(
    shared: np.ndarray, private: np.ndarray, image_error: float, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """A personal model: shared taste with an error common to all users, and .25 + N(0, spread) of private taste."""
    users, images = private.shape
    error = image_error * rng.standard_normal(images)
    known = 0.25 + spread * rng.standard_normal((users, 1))
    return np.asarray(SHARED * (shared + error) + known * private + OWN_NOISE * rng.standard_normal((users, images)))


def personal_accuracy(image_error: float, spread: float) -> float:
    """Mean over users of the accuracy of `personal_score`."""
    known = 0.25 + spread * NODES
    covariance = SHARED**2 + PRIVATE * known
    score = SHARED**2 * (1 + image_error**2) + known**2 + OWN_NOISE**2
    rating = SHARED**2 + PRIVATE**2 + NOISE**2
    return float(WEIGHTS @ accuracy_of(covariance / np.sqrt(score * rating)))


def population_accuracy(image_error: float) -> float:
    """Accuracy of shared taste with that error."""
    rating = SHARED**2 + PRIVATE**2 + NOISE**2
    return float(accuracy_of(SHARED / np.sqrt((1 + image_error**2) * rating)))
