"""Predictions of ratings by models that have not seen them, and the model that has seen all: what stacks weigh.

A recipe is fitted once more for each fold. One that leaves folds out anyway (an ensemble whose members are stopped by
a fold each) says so by a method `cross_fit`, and is fitted once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from beholder.taste.base import FittedModel, Floats, Indices, Ratings, TasteModel
from beholder.taste.features import Design
from beholder.taste.people import People


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A fitted model, and what models without their fold say of the n ratings it was fitted on.

    Attributes
    ----------
    model : FittedModel
        Fitted on all ratings.
    predicted : array, shape (n,)
        Expected ratings, ticks; NaN where no model without them knows the user.
    sd : float
        Root mean square of their posterior SDs.
    ambiguity : float
        By how much the mean squared error of `predicted` is expected to be above that of `model`, squared ticks. 0
        unless a single member of an ensemble predicts where all members will.
    """

    model: FittedModel
    predicted: Floats
    sd: float
    ambiguity: float = 0.0


@runtime_checkable
class CrossFits(Protocol):
    """A recipe that predicts folds it left out as it is fitted."""

    def cross_fit(
        self,
        ratings: Ratings,
        design: Design,
        folds: Indices,
        tested: int,
        rng: np.random.Generator,
        people: People | None = None,
    ) -> CrossFit:
        """As the function `cross_fit`."""
        ...


def cross_fit(
    model: TasteModel,
    ratings: Ratings,
    design: Design,
    folds: Indices,
    tested: int,
    rng: np.random.Generator,
    people: People | None = None,
) -> CrossFit:
    """Fit a model on all ratings, and predict those of some folds by models that have not seen their fold.

    Parameters
    ----------
    model : TasteModel
    ratings, design, people
        As for `TasteModel.fit`.
    folds : int array, shape (n,)
        Fold of each rating.
    tested : int
        Folds 0...tested-1 are predicted.
    rng : numpy.random.Generator
        A stream for each fit is drawn from it.
    """
    if isinstance(model, CrossFits):
        return model.cross_fit(ratings, design, folds, tested, rng, people)
    seed = int(rng.integers(2**62))
    predicted, squares = np.full(len(ratings), np.nan), np.full(len(ratings), np.nan)
    for fold in range(tested):
        train = ratings.take(folds != fold)
        test = np.flatnonzero((folds == fold) & np.isin(ratings.user_id, train.user_id))
        fitted = model.fit(train, design, np.random.default_rng([seed, fold]), people)
        found = fitted.predict(ratings.user_id[test], design.rows(ratings.image_id[test]))
        predicted[test], squares[test] = found.mean, np.nan_to_num(found.sd) ** 2
    whole = model.fit(ratings, design, np.random.default_rng([seed, tested]), people)
    there = squares[np.isfinite(squares)]
    return CrossFit(whole, predicted, float(np.sqrt(there.mean())) if len(there) else 0.0)
