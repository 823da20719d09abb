"""Cross-validated predictions of reward models: known users and new images, and new users after a few ratings.

One prompt is in one fold, and the same folds of prompts serve both splits. Whatever is learned (projection, components,
penalties, variances, users' levels) is learned inside a fold on its training side: the models are handed the training
ratings, the context ratings of new users, and never an array that holds a test rating.

Each model predicts every user for every image of the fold (dense), since tests that permute people need it; the
predictions that have a rating are a part of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import FittedModel, Floats, Prediction, Ratings, Strings, TasteModel
from beholder.taste.designs import LearnedDesign, Pictures, learn_design
from beholder.taste.fold_levels import on_one_level
from beholder.taste.people import People
from beholder.taste.splits import (
    Kind,
    Split,
    near_duplicate_groups,
    refuse_label_features,
    seen_splits,
    unseen_splits,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Folds:
    """How ratings are split.

    Attributes
    ----------
    prompts : int
        Folds of prompts (with near-duplicate images together).
    users : int
        Folds of users, for the split `unseen`.
    context : int
        Ratings a new user brings, of other prompts than those tested.
    splits : tuple of `seen`, `unseen`
    duplicate_block : str
        Raw block in which near-duplicates are looked for.
    duplicate_cosine : float
        Cosine of centred vectors above which two images are near-duplicates.
    """

    prompts: int = 5
    users: int = 4
    context: int = 15
    splits: tuple[Kind, ...] = get_args(Kind)
    duplicate_block: str = "network"
    duplicate_cosine: float = 0.95


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
        One row a model and fold: numbers of ratings and users, what was estimated (`settings`, JSON), and `aligned`,
        the share of the prompts' embeddings that the projection predicts for prompts left out.
    notes : tuple of str
        What was left out and why.
    """

    predictions: pd.DataFrame
    dense: pd.DataFrame
    fits: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FoldPrediction:
    """One model on one fold.

    Attributes
    ----------
    model : str
    users : array of str, shape (U,)
        Everybody who could be tested: known users, or new ones of whom something was shown.
    images : array of str, shape (I,)
        Those held out.
    score, sd : arrays, shape (U, I)
    reference : array, shape (U,)
        Mean score over all images that anybody rated: the level of this fold.
    settings : str
        How the model was fitted, JSON.
    """

    model: str
    users: Strings
    images: Strings
    score: Floats
    sd: Floats
    reference: Floats
    settings: str


MEAN_PERSON = {"eb_slopes": "eb_population"}
"""Models whose own idea of the mean person is a rung too. It knows of shared taste what the personal model knows, so
the two differ in personal knowledge alone; another population head may just be better or worse at the rest."""
COLUMNS = ["model", "user_id", "image_id", "score", "sd", "split", "fold", "fold_score"]
_Result = tuple[Split, float, list[FoldPrediction]]


def evaluate(
    ratings: Ratings,
    pictures: Pictures,
    models: Sequence[TasteModel],
    folds: Folds,
    rng: np.random.Generator,
    people: People | None = None,
) -> Evaluated:
    """Predict every rating by models that have not seen it.

    Parameters
    ----------
    ratings : Ratings
    pictures : Pictures
        At least the rated images; more images of other prompts help to learn the design.
    models : sequence of TasteModel
        All models of a fold draw from equal streams, so that those that share a step share its result.
    folds : Folds
    rng : numpy.random.Generator
    people : People, optional
        What is told of the users, for models that read it.

    Raises
    ------
    LeakError
        If features carry ratings, or anything learned has seen what it is tested on.
    TableError, EstimateError
        Images without features; too few users, prompts or ratings for the folds.
    """
    names = [m.name for m in models]
    if not names or len(set(names)) != len(names):
        raise UserError(f"models {names}", "one or more, each once")
    groups = near_duplicate_groups(ratings, pictures.features, folds.duplicate_block, folds.duplicate_cosine)
    pictures = _grouped(pictures, ratings, groups)
    seed = int(rng.integers(2**62))
    learned: dict[bytes, LearnedDesign] = {}
    results: list[_Result] = []
    for k, split in enumerate(make_splits(ratings, groups, folds, seed)):
        key = "\n".join(split.held_out.tolist()).encode()
        if key not in learned:
            other = pictures.take(~np.isin(pictures.prompt_ids, split.held_out))
            learned[key] = learn_design(other, np.random.default_rng([seed, 1]))
        alignment = learned[key].alignment
        found = predict_fold(split, pictures, learned[key], models, [seed, 2, k], people)
        results.append((split, alignment.explained if alignment else float("nan"), found))
    return Evaluated(*_tables(results), _notes(ratings, groups, folds, [split for split, *_ in results]))


def rungs(models: Sequence[str]) -> tuple[str, ...]:
    """The ladder that `evaluate` gives for these models, from the bottom up."""
    return tuple(rung for name in models for rung in (MEAN_PERSON.get(name), name) if rung is not None)


def make_splits(ratings: Ratings, groups: Strings, folds: Folds, seed: int) -> list[Split]:
    """All folds of both splits, on the same folds of prompts."""
    found: list[Split] = []
    if "seen" in folds.splits:
        found += seen_splits(ratings, groups, folds.prompts, np.random.default_rng([seed, 0]))
    if "unseen" in folds.splits:
        stream = np.random.default_rng([seed, 0])
        found += unseen_splits(ratings, groups, folds.prompts, folds.users, folds.context, stream)
    return found


def predict_fold(
    split: Split,
    pictures: Pictures,
    learned: LearnedDesign,
    models: Sequence[TasteModel],
    seed: Sequence[int],
    people: People | None = None,
) -> list[FoldPrediction]:
    """Fit the models on one fold's training side and predict every user of the fold for every test image.

    Parameters
    ----------
    split : Split
    pictures : Pictures
        The test images among them.
    learned : LearnedDesign
        Learned without the test images and their prompts; anything else raises a `LeakError`.
    models : sequence of TasteModel
    seed : sequence of int
        Each model gets a generator seeded like this.
    people : People, optional
    """
    images, test = split.held_out_images, split.test_ratings
    new = pictures.take(np.isin(pictures.features.image_ids, images))
    refuse_label_features(new.features if new.texts is None else new.features.with_block("text", new.texts), test)
    design = learned.with_new(new)
    users = np.union1d(test.user_id, (split.train_ratings if split.kind == "seen" else split.context_ratings).user_id)
    rows, every = design.rows(images), design.rows(split.ratings.images())
    found = []
    for model in models:
        fitted = model.fit(split.train_ratings, design, np.random.default_rng(list(seed)), people)
        if len(split.context):
            shown = split.context_ratings
            fitted = fitted.adapt(shown, design, None if people is None else people.of(shown.user_id))
        each = [_expect(fitted, user, rows) for user in users.tolist()]
        settings = json.dumps(fitted.state().settings.get("settings", {}), sort_keys=True)
        if fitted.name in MEAN_PERSON:
            found.append(_mean_person(fitted, users, images, rows, every, settings))
        found.append(
            FoldPrediction(
                fitted.name,
                users,
                images,
                np.stack([p.mean for p in each]),
                np.stack([p.predictive_sd for p in each]),
                np.array([_mean(fitted, user, every) for user in users.tolist()]),
                settings,
            )
        )
    return found


def _mean_person(
    fitted: FittedModel, users: Strings, images: Strings, rows: Floats, every: Floats, settings: str
) -> FoldPrediction:
    """What the model expects of anybody, for each of the users alike; without an SD."""
    score = np.tile(fitted.predict_population(rows).mean, (len(users), 1))
    reference = np.full(len(users), fitted.predict_population(every).mean.mean())
    name = MEAN_PERSON[fitted.name]
    return FoldPrediction(name, users, images, score, np.full(score.shape, np.nan), reference, settings)


def _expect(fitted: FittedModel, user: str, rows: Floats) -> Prediction:
    """What `user` thinks of `rows`; of whom nothing was shown, what anybody is expected to think."""
    if user in fitted.user_ids:
        return fitted.predict([user] * len(rows), rows)
    return fitted.predict_population(rows)


def _mean(fitted: FittedModel, user: str, rows: Floats) -> float:
    known = user in fitted.user_ids
    means = fitted.predict_mean([user] * len(rows), rows) if known else fitted.predict_population(rows).mean
    return float(means.mean())


def _grouped(pictures: Pictures, ratings: Ratings, groups: Strings) -> Pictures:
    """The same pictures with the group of near-duplicates in place of the prompt."""
    rated, first = np.unique(ratings.image_id, return_index=True)
    at = np.minimum(np.searchsorted(rated, pictures.features.image_ids), len(rated) - 1)
    is_rated = rated[at] == pictures.features.image_ids
    return replace(pictures, prompt_ids=np.where(is_rated, groups[first][at], pictures.prompt_ids))


def _tables(results: Sequence[_Result]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predictions of rated pairs, dense predictions, and fits, in the order of splits, models, users and images."""
    import pandas as pd

    folds = [(k, split, aligned, f) for k, (split, aligned, found) in enumerate(results) for f in found]
    dense = on_one_level(
        pd.concat([_dense_frame(k, split, f) for k, split, _, f in folds], ignore_index=True),
        pd.concat([_reference_frame(k, split, f) for k, split, _, f in folds], ignore_index=True),
    )
    rated = pd.concat([_pairs_frame(split) for split, *_ in results], ignore_index=True).drop_duplicates()
    tested = rated[["split", "user_id"]].drop_duplicates()
    fits = pd.DataFrame([_fit_row(k, split, aligned, f) for k, split, aligned, f in folds])
    order = ["split", "model", "user_id", "image_id"]
    dense = dense.merge(tested, on=["split", "user_id"])[COLUMNS].sort_values(order, ignore_index=True)
    return dense.merge(rated, on=["split", "user_id", "image_id"], validate="many_to_one"), dense, fits


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


def _fit_row(fold: int, split: Split, aligned: float, f: FoldPrediction) -> dict[str, object]:
    train = split.train_ratings
    return {
        "model": f.model,
        "split": split.kind,
        "fold": fold,
        "n_train": len(train),
        "n_train_users": len(train.users()),
        "n_context": len(split.context),
        "n_test": len(split.test),
        "aligned": aligned,
        "settings": f.settings,
    }


def _notes(ratings: Ratings, groups: Strings, folds: Folds, splits: Sequence[Split]) -> tuple[str, ...]:
    """What the splits did to the data, in words."""
    merged = len(np.unique(ratings.prompt_id)) - len(np.unique(groups))
    notes = [f"{merged} prompts joined to others with near-duplicate images"] if merged else []
    for kind in folds.splits:
        tested = np.unique(np.concatenate([s.test for s in splits if s.kind == kind]))
        gone = len(ratings.users()) - len(ratings.take(tested).users())
        why = "without ratings outside a fold" if kind == "seen" else f"with fewer than {folds.context} context ratings"
        if gone:
            notes.append(f"{kind}: {gone} users {why} are not tested")
        if len(tested) < len(ratings):
            notes.append(f"{kind}: {len(ratings) - len(tested)} of {len(ratings)} ratings are not tested")
    return tuple(notes)
