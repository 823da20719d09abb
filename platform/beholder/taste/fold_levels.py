"""Predictions of different folds on one level, so that images of different folds can be compared.

The model of a fold has not seen the fold's ratings. If they happen to be high, its idea of the user's mean is low, and
it says so about every image of the fold: compared across folds, a model that knows nothing but users' means orders
fewer than half of the pairs right (.43 with 48 of 60 ratings to learn from), and every other model loses something.
The cure without looking at a test rating: from each fold's predictions for a user, take their mean over the same
images, namely all that anybody rated, and put the mean over folds in its place. Order inside a fold stays as it was.

The bias: Parker, Guenter & Bedo (2007), doi:10.1186/1471-2105-8-326; Forman & Scholz (2010),
doi:10.1145/1882471.1882479. Their own cure, pairs inside a fold only, is unbiased too and leaves a fifth of the pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 6
"""Of a tick, kept after levelling: equal predictions of two folds stay equal."""


def on_one_level(predictions: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Predictions of all folds made comparable.

    Parameters
    ----------
    predictions : DataFrame
        `split, model, user_id, fold, fold_score` and others; `fold_score` as the fold's model gave it.
    references : DataFrame
        `split, model, user_id, fold, reference`: each fold's mean prediction over one and the same set of images.

    Returns
    -------
    DataFrame
        With `score`: `fold_score` less `reference`, plus the user's mean reference over folds. The level of `score`
        therefore knows a little of all of a user's ratings: judge levels and errors by `fold_score`.
    """
    key = ["split", "model", "user_id"]
    shift = references.assign(shift=references.groupby(key)["reference"].transform("mean") - references["reference"])
    joined = predictions.merge(shift.drop(columns="reference"), on=[*key, "fold"], how="left", validate="many_to_one")
    score = (joined["fold_score"] + joined["shift"]).round(DECIMALS) + 0.0  # no -0.0
    return joined.drop(columns="shift").assign(score=score)
