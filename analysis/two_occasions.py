"""Predictions beside ratings of two occasions: common rows of all models, and who did not come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError, TableError
from analysis.matched import ModelRows, match
from analysis.results import Exclusions
from analysis.tables import Scale, check_predictions, check_ratings

if TYPE_CHECKING:
    import pandas as pd

TRAINED_ON = ("train", "warm")
"""Splits whose images a model has seen ratings of; they say nothing about a later occasion of new images."""

PERSONAL = ("stack", "eb_slopes", "fusion", "mlp", "user_ridge")
"""Personal models in the order in which one is taken when none is named."""

POPULATION = "population"


@dataclass(frozen=True)
class TwoOccasions:
    """Rows that all models predicted and that were rated on both occasions.

    Attributes
    ----------
    models : tuple of str
    user, image, prompt : Ints, shape (n,)
        Codes from 0; each image is its own prompt where the ratings name none.
    first, later : Ints, shape (n,)
        Ratings in ticks.
    scores : Floats, shape (n, models)
    user_ids : object array
        Of the codes in `user`.
    exclusions : Exclusions
        In rows of predictions.
    warnings : tuple of str
    has_prompts : bool
    """

    models: tuple[str, ...]
    user: Ints
    image: Ints
    prompt: Ints
    first: Ints
    later: Ints
    scores: Floats
    user_ids: np.ndarray
    exclusions: Exclusions
    warnings: tuple[str, ...]
    has_prompts: bool


def on_occasion(ratings: pd.DataFrame, occasion: int, scale: Scale | None = None) -> pd.DataFrame:
    """Checked ratings of one occasion.

    Raises
    ------
    TableError
        No column `occasion`, or no rating on it.
    """
    rated = check_ratings(ratings, scale)
    if "occasion" not in rated:
        raise TableError("ratings: no column occasion", "1, 2, … for each rating", "number repeated ratings")
    chosen = rated[rated["occasion"] == occasion]
    if not len(chosen):
        there = ", ".join(map(str, sorted(rated["occasion"].unique())))
        raise TableError(f"ratings: none on occasion {occasion}", there, "name two of these occasions")
    return chosen.drop(columns="occasion")


def judged_twice(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    occasions: tuple[int, int],
    split: str | None = None,
    scale: Scale | None = None,
) -> TwoOccasions:
    """Join predictions to the ratings of two occasions.

    Parameters
    ----------
    predictions, ratings : DataFrame
        See `analysis.tables`. Predictions of the splits "train" and "warm" are left out and counted.
    occasions : (int, int)
        First (for training) and later.
    split : str, optional
        Only predictions of this split.

    Raises
    ------
    TableError, EstimateError
        Malformed tables, equal occasions, nothing rated on both, no row that all models share.
    """
    if occasions[0] == occasions[1]:
        raise EstimateError(f"occasion {occasions[0]} twice", "two different occasions")
    first, later = (on_occasion(ratings, k, scale) for k in occasions)
    guesses, exclusions, warnings = _kept_splits(check_predictions(predictions), split)
    key = ["user_id", "image_id"]
    both = first[key].astype("str").merge(later[key].astype("str"), on=key)
    if not len(both):
        raise EstimateError(f"no image was rated by one user on occasions {occasions[0]} and {occasions[1]}")
    matched = [match(guesses, _within(table, both), scale) for table in (first, later)]
    groups = matched[0].groups
    shared = _shared_keys(groups)
    picked = [np.isin(_keys(group), shared) for group in groups]
    rows = groups[0]
    user, user_codes = np.unique(rows.user[picked[0]], return_inverse=True)
    n_common = len(shared) * len(groups)
    reasons = [("not rated on both occasions", n) for _, n in matched[0].exclusions.reasons]
    if matched[0].exclusions.n_used > n_common:
        reasons.append(("not predicted by every model", matched[0].exclusions.n_used - n_common))
    return TwoOccasions(
        models=tuple(group.model for group in groups),
        user=user_codes.astype(np.int64),
        image=rows.image[picked[0]],
        prompt=rows.prompt[picked[0]],
        first=rows.truth[picked[0]],
        later=matched[1].groups[0].truth[picked[0]],
        scores=np.stack([group.score[mask] for group, mask in zip(groups, picked, strict=True)], axis=1),
        user_ids=np.array(matched[0].user_ids, dtype=object)[user],
        exclusions=Exclusions(len(guesses), n_common, tuple(reasons), "predictions").after(exclusions),
        warnings=warnings,
        has_prompts=matched[0].has_prompts,
    )


def _kept_splits(guesses: pd.DataFrame, split: str | None) -> tuple[pd.DataFrame, Exclusions, tuple[str, ...]]:
    """Predictions outside training, without their split; what was left out; what the reader should know."""
    n = len(guesses)
    if "split" not in guesses:
        if split is not None:
            raise EstimateError(f"split {split!r}, but the predictions have no column split")
        unchecked = "the predictions name no split: that no model has seen these images was not checked"
        return guesses, Exclusions.none(n, "predictions"), (unchecked,)
    names = guesses["split"].astype("str")
    trained = names.isin(TRAINED_ON).to_numpy()
    wanted = ~trained if split is None else ~trained & (names == split).to_numpy()
    reasons = [("split train or warm", int(trained.sum()))]
    reasons.append(("another split", n - int(trained.sum()) - int(wanted.sum())))
    if not wanted.any():
        there = ", ".join(sorted(set(names)))
        raise EstimateError(f"no prediction in split {split or 'seen or unseen'} (there are: {there})", "new images")
    used = sorted(set(names[wanted]))
    told = (f"splits {', '.join(used)} are taken together",) if len(used) > 1 else ()
    kept = guesses[wanted].drop(columns="split")
    return kept, Exclusions(n, len(kept), tuple(r for r in reasons if r[1]), "predictions"), told


def _within(table: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table whose user and image were rated on both occasions."""
    ids = table.assign(user_id=table["user_id"].astype("str"), image_id=table["image_id"].astype("str"))
    return ids.merge(both, on=["user_id", "image_id"])


def _keys(group: ModelRows) -> Ints:
    return group.user * (1 << 32) + group.image


def _shared_keys(groups: Sequence[ModelRows]) -> Ints:
    shared = _keys(groups[0])
    for group in groups[1:]:
        shared = np.intersect1d(shared, _keys(group))
    if not len(shared):
        names = ", ".join(group.model for group in groups)
        raise EstimateError(f"the models {names} share no image rated twice", "common rows", "drop a model (--where)")
    return shared


def personal_and_population(data: TwoOccasions, personal: str | None, population: str | None) -> tuple[str, str]:
    """Which two models are compared: as named, else the ones the names and the scores single out.

    Raises
    ------
    EstimateError
        An unknown model, or several that could be meant.
    """
    for name in (personal, population):
        if name is not None and name not in data.models:
            raise EstimateError(f"no model {name!r} in the predictions", ", ".join(data.models), "name one of these")
    if personal is not None and personal == population:
        raise EstimateError(f"model {personal!r} against itself", "two different models")
    alike = [name for k, name in enumerate(data.models) if same_for_all(data, k) and name != personal]
    informed = [name for name in alike if np.ptp(data.scores[:, data.models.index(name)]) > 0]
    if population is None:
        population = POPULATION if POPULATION in data.models and personal != POPULATION else None
        population = population or (informed[0] if len(informed) == 1 else None)
    if population is None:
        raise EstimateError(
            "several models could be the population's", ", ".join(data.models), "use --population-model"
        )
    rest = [name for name in data.models if name != population and name not in alike]
    if personal is None:
        personal = rest[0] if len(rest) == 1 else next((name for name in PERSONAL if name in rest), None)
    if personal is None:
        raise EstimateError("no personal model is singled out", ", ".join(data.models), "use --personal-model")
    return personal, population


def same_for_all(data: TwoOccasions, model: int) -> bool:
    """Whether a model gives each image one score, whoever rates it."""
    score = data.scores[:, model]
    n_images = int(data.image.max()) + 1
    highest, lowest = np.full(n_images, -np.inf), np.full(n_images, np.inf)
    np.maximum.at(highest, data.image, score)
    np.minimum.at(lowest, data.image, score)
    return bool((highest[data.image] == lowest[data.image]).all())
