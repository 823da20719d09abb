"""Predictions beside the ratings they are judged by, as arrays a model and split; what has no partner is counted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError, TableError
from analysis.results import Exclusions
from analysis.tables import Scale, check_predictions, check_ratings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ModelRows:
    """One model's predictions in one split, sorted by user and image.

    Attributes
    ----------
    model, split : str
    user, image, prompt : Ints, shape (n,)
        Codes into `Matched.user_ids` and so on; each image is its own prompt where the ratings name none.
    truth : Ints, shape (n,)
        First rating of the image by the user, in ticks.
    score : Floats, shape (n,)
    every_user, every_image, every_score : arrays, shape (m,)
        All predictions for users and images that occur in the ratings, rated or not.
    """

    model: str
    split: str
    user: Ints
    image: Ints
    prompt: Ints
    truth: Ints
    score: Floats
    every_user: Ints
    every_image: Ints
    every_score: Floats


@dataclass(frozen=True)
class Matched:
    """All models' rows.

    Attributes
    ----------
    groups : tuple of ModelRows
        By split, then model, in alphabetical order.
    user_ids, image_ids : tuple of str
    has_prompts : bool
        Whether the ratings name prompts.
    exclusions : Exclusions
        In rows of predictions.
    n_ratings_unused : int
        First ratings that no model predicted.
    n_later : int
        Ratings on later occasions; they inform the ceiling only.
    """

    groups: tuple[ModelRows, ...]
    user_ids: tuple[str, ...]
    image_ids: tuple[str, ...]
    has_prompts: bool
    exclusions: Exclusions
    n_ratings_unused: int
    n_later: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was not used, in words."""
        found = []
        if self.n_ratings_unused:
            found.append(f"{self.n_ratings_unused} ratings have no prediction")
        if self.n_later:
            found.append(f"{self.n_later} ratings of later occasions inform the ceiling only")
        return tuple(found)


def match(predictions: pd.DataFrame, ratings: pd.DataFrame, scale: Scale | None = None) -> Matched:
    """Join predictions to first ratings by user and image.

    Parameters
    ----------
    predictions, ratings : DataFrame
        As in `analysis.tables`; `split` and `occasion` are optional. Without `split` everything is split "all".
    scale : Scale, optional
        Scale of the ratings; 0 … 1000 unless given.

    Raises
    ------
    TableError
        Malformed tables, an empty split, an image under two prompts.
    EstimateError
        No prediction has a rating.
    """
    import pandas as pd

    guesses, rated = check_predictions(predictions), check_ratings(ratings, scale)
    first = rated
    if "occasion" in rated.columns:
        first = rated.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"])
    users, images = (pd.Index(sorted(first[c].astype(str).unique())) for c in ("user_id", "image_id"))
    keys = _keys(first, users, images)
    order = np.argsort(keys)
    keys, truth = keys[order], first["score"].to_numpy()[order]
    prompts = _prompt_codes(rated, images)

    user, image = (_codes(index, guesses[c]) for index, c in ((users, "user_id"), (images, "image_id")))
    known = (user >= 0) & (image >= 0)
    wanted = user * len(images) + image
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    has_rating = known & (keys[at] == wanted)
    if not has_rating.any():
        raise EstimateError(
            f"none of {len(guesses)} predictions has a rating", "the same user_id and image_id in both tables"
        )
    score = guesses["score"].to_numpy(dtype=float)
    model, split = guesses["model"].to_numpy(dtype=object), _splits(guesses)
    groups = []
    for split_name, model_name in sorted(set(zip(split[has_rating], model[has_rating], strict=True))):
        mine = (model == model_name) & (split == split_name)
        rows = np.flatnonzero(mine & has_rating)
        rows = rows[np.argsort(wanted[rows])]
        every = np.flatnonzero(mine & known)
        groups.append(
            ModelRows(
                model_name, split_name, user[rows], image[rows], prompts[image[rows]], truth[at[rows]], score[rows],
                user[every], image[every], score[every],
            )
        )  # fmt: skip
    n_used, used = int(has_rating.sum()), len(np.unique(wanted[has_rating]))
    reasons = (("no rating of the image by the user", len(guesses) - n_used),) if n_used < len(guesses) else ()
    return Matched(
        tuple(groups),
        tuple(users),
        tuple(images),
        "prompt_id" in rated.columns,
        Exclusions(len(guesses), n_used, reasons, "predictions"),
        len(first) - used,
        len(rated) - len(first),
    )


def _codes(index: pd.Index, column: pd.Series) -> Ints:
    """Position of each value in the index, -1 where it is absent; looked up once a distinct value."""
    import pandas as pd

    codes, distinct = pd.factorize(column)
    return index.get_indexer(pd.Index(distinct).astype(str)).astype(np.int64)[codes]


def _keys(first: pd.DataFrame, users: pd.Index, images: pd.Index) -> Ints:
    return _codes(users, first["user_id"]) * len(images) + _codes(images, first["image_id"])


def _prompt_codes(rated: pd.DataFrame, images: pd.Index) -> Ints:
    """Prompt of each image; the image itself where none is named."""
    import pandas as pd

    if "prompt_id" not in rated.columns:
        return np.arange(len(images), dtype=np.int64)
    if rated["prompt_id"].isna().any():
        raise TableError(f"ratings: {int(rated['prompt_id'].isna().sum())} rows without prompt_id", "one in each row")
    pairs = rated[["image_id", "prompt_id"]].astype(str).drop_duplicates()
    twice = pairs[pairs["image_id"].duplicated(keep=False)]
    if len(twice):
        image, prompt = twice.iloc[0]
        raise TableError(f"ratings: image {image} is filed under {prompt} and another prompt", "one prompt_id an image")
    named = pairs.set_index("image_id")["prompt_id"].reindex(images)
    return pd.factorize(named, sort=True)[0].astype(np.int64)


def _splits(guesses: pd.DataFrame) -> np.ndarray:
    if "split" not in guesses.columns:
        return np.full(len(guesses), "all", dtype=object)
    if guesses["split"].isna().any():
        missing = int(guesses["split"].isna().sum())
        raise TableError(f"predictions: {missing} rows without split", "a split in every row, or no such column")
    return guesses["split"].astype(str).to_numpy(dtype=object)


def on_common_rows(a: ModelRows, b: ModelRows) -> tuple[ModelRows, ModelRows]:
    """Both models on the rated (user, image) rows they share; the very same objects when all are shared.

    Raises
    ------
    EstimateError
        Nothing shared.
    """
    n_images = int(max(a.image.max(), b.image.max())) + 1
    key_a, key_b = a.user * n_images + a.image, b.user * n_images + b.image
    if np.array_equal(key_a, key_b):
        return a, b
    shared = np.intersect1d(key_a, key_b)
    if not len(shared):
        raise EstimateError(f"{a.model} and {b.model} share no rated image in split {a.split}", "common rows")
    return _kept(a, np.isin(key_a, shared)), _kept(b, np.isin(key_b, shared))


def _kept(rows: ModelRows, mask: np.ndarray) -> ModelRows:
    names = ("user", "image", "prompt", "truth", "score")
    return dataclasses.replace(rows, **{name: getattr(rows, name)[mask] for name in names})
