"""Predictions of all folds as tidy tables, and what the folds left out, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from beholder.taste.base import Ratings, Strings
from beholder.taste.fold_levels import on_one_level
from beholder.taste.splits import Split

if TYPE_CHECKING:
    import pandas as pd

    from beholder.taste.evaluate import FoldPrediction, Folds

COLUMNS = ["model", "user_id", "image_id", "score", "sd", "split", "fold", "fold_score"]
SCORE_PREFIX = "score:"
"""Of the rungs that are not models but a scorer's numbers, the same for everybody."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Predictions of images and people that the predicting model had not seen.

    Attributes
    ----------
    predictions : DataFrame
        `model, user_id, image_id, score, sd, split, fold, fold_score`: one row a model, split and rated pair.
        `fold_score` is what the model of that fold predicts, `score` the same on one level with the other folds
        (`beholder.taste.fold_levels`), `sd` that of a new rating round `fold_score`; all in ticks.
    dense : DataFrame
        The same columns for every tested user and every tested image of a split.
    fits : DataFrame
        One row a model and fold: numbers of ratings and users, what was estimated (`settings`, JSON), `aligned`, the
        share of the prompts' embeddings that the projection predicts for prompts left out, `inputs`, what the
        predictions depend on, and `vector_spread`, how far what the model keeps of people differs between them.
    notes : tuple of str
        What was left out and why.
    """

    predictions: pd.DataFrame
    dense: pd.DataFrame
    fits: pd.DataFrame
    notes: tuple[str, ...]


def fold_tables(
    splits: Sequence[Split], found: Sequence[Sequence[FoldPrediction]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predictions of rated pairs, dense predictions, and fits, in the order of splits, models, users and images."""
    import pandas as pd

    folds = [(k, split, f) for k, (split, fold) in enumerate(zip(splits, found, strict=True)) for f in fold]
    dense = on_one_level(
        pd.concat([_dense_frame(k, split, f) for k, split, f in folds], ignore_index=True),
        pd.concat([_reference_frame(k, split, f) for k, split, f in folds], ignore_index=True),
    )
    rated = pd.concat([_pairs_frame(split) for split in splits], ignore_index=True).drop_duplicates()
    tested = rated[["split", "user_id"]].drop_duplicates()
    fits = pd.DataFrame([_fit_row(k, split, f) for k, split, f in folds])
    order = ["split", "model", "user_id", "image_id"]
    dense = dense.merge(tested, on=["split", "user_id"])[COLUMNS].sort_values(order, ignore_index=True)
    return dense.merge(rated, on=["split", "user_id", "image_id"], validate="many_to_one"), dense, fits


def with_scores(found: Evaluated, scores: pd.DataFrame) -> Evaluated:
    """The same predictions with a rung `score:<scorer>` for every scorer: its number, whoever rates, without an SD.

    Parameters
    ----------
    found : Evaluated
    scores : DataFrame
        `image_id, scorer, score`: one finite number an image and scorer. Images that a scorer has no number for are
        left out of its rung, and counted in `notes`; a scorer that has none of the tested images has no rung.

    Raises
    ------
    TableError
        For a missing column, two numbers of one scorer for an image, or a number that is not finite.
    """
    import pandas as pd

    _check_scores(scores)
    key = ["split", "user_id", "image_id", "fold"]
    frames: list[list[pd.DataFrame]] = [[], []]
    notes = list(found.notes)
    for scorer in sorted(scores["scorer"].astype(str).unique()):
        mine = scores.loc[scores["scorer"].astype(str) == scorer, ["image_id", "score"]]
        known = found.dense["image_id"].isin(mine["image_id"])
        if not known.all():
            missing, of = found.dense.loc[~known, "image_id"].nunique(), found.dense["image_id"].nunique()
            notes.append(f"{scorer} has no score for {missing} of {of} tested images: they are left out of its rung")
        if not known.any():
            continue
        for frame, into in zip((found.predictions, found.dense), frames, strict=True):
            rows = frame[key].drop_duplicates().merge(mine.astype({"score": float}), on="image_id")
            rows = rows.assign(model=SCORE_PREFIX + scorer, sd=np.nan, fold_score=rows["score"])
            into.append(rows[COLUMNS])
    order = ["split", "model", "user_id", "image_id"]
    predictions, dense = (
        pd.concat([old, *new], ignore_index=True).sort_values(order, ignore_index=True)
        for old, new in zip((found.predictions, found.dense), frames, strict=True)
    )
    return Evaluated(predictions, dense, found.fits, tuple(notes))


def score_rungs(scores: pd.DataFrame) -> tuple[str, ...]:
    """The rungs that `with_scores` may add."""
    return tuple(SCORE_PREFIX + scorer for scorer in sorted(scores["scorer"].astype(str).unique()))


def _check_scores(scores: pd.DataFrame) -> None:
    from beholder.errors import TableError

    missing = [c for c in ("image_id", "scorer", "score") if c not in scores.columns]
    if missing:
        raise TableError(f"scores without column {', '.join(missing)}", f"columns there: {list(scores.columns)}")
    twice = scores[scores.duplicated(["image_id", "scorer"])]
    if len(twice):
        image, scorer = twice.iloc[0][["image_id", "scorer"]]
        raise TableError(f"scores: {scorer} has two numbers for image {image}", "one an image and scorer", "drop one")
    finite = np.isfinite(scores["score"].to_numpy(dtype=float))
    if not finite.all():
        raise TableError(
            f"scores: {int((~finite).sum())} of {len(scores)} are NaN or infinite, first image "
            f"{scores.loc[~finite, 'image_id'].iloc[0]}",
            "finite numbers",
            "leave these rows out: they are counted as missing",
        )


def _dense_frame(fold: int, split: Split, f: FoldPrediction) -> pd.DataFrame:
    import pandas as pd

    users, images = np.repeat(f.users, len(f.images)), np.tile(f.images, len(f.users))
    columns = {"user_id": users, "image_id": images, "fold_score": f.score.ravel(), "sd": f.sd.ravel()}
    return pd.DataFrame(columns).assign(model=f.model, split=split.kind, fold=fold)


def _reference_frame(fold: int, split: Split, f: FoldPrediction) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame({"user_id": f.users, "reference": f.reference})
    return frame.assign(model=f.model, split=split.kind, fold=fold)


def _pairs_frame(split: Split) -> pd.DataFrame:
    import pandas as pd

    test = split.test_ratings
    return pd.DataFrame({"split": split.kind, "user_id": test.user_id, "image_id": test.image_id})


def _fit_row(fold: int, split: Split, f: FoldPrediction) -> dict[str, object]:
    train = split.train_ratings
    return {
        "model": f.model,
        "split": split.kind,
        "fold": fold,
        "n_train": len(train),
        "n_train_users": len(train.users()),
        "n_context": len(split.context),
        "n_test": len(split.test),
        "aligned": f.aligned,
        "settings": f.settings,
        "inputs": " ".join(f.inputs),
        "vector_spread": f.vector_spread,
    }


def fold_notes(
    ratings: Ratings, groups: Strings, folds: Folds, splits: Sequence[Split], *, fixed: bool
) -> tuple[str, ...]:
    """What the splits did to the data, in words. `fixed`: they are the release's own."""
    merged = len(np.unique(ratings.prompt_id)) - len(np.unique(groups))
    notes = [f"{merged} prompts joined to others with near-duplicate images"] if merged else []
    for kind in folds.splits:
        tested = np.unique(np.concatenate([s.test for s in splits if s.kind == kind] or [np.empty(0, dtype=np.intp)]))
        if fixed:
            notes.append(f"{kind}: {len(tested)} of {len(ratings)} ratings are tested, as the release says")
            continue
        gone = len(ratings.users()) - len(ratings.take(tested).users())
        why = "without ratings outside a fold" if kind == "seen" else f"with fewer than {folds.context} context ratings"
        if gone:
            notes.append(f"{kind}: {gone} users {why} are not tested")
        if len(tested) < len(ratings):
            notes.append(f"{kind}: {len(ratings) - len(tested)} of {len(ratings)} ratings are not tested")
    return tuple(notes)
