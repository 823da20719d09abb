"""The one interface of all reward models, and the arrays they share.

A model is fitted on ratings and a design matrix of images; what comes out predicts any person's rating of any image,
takes in newcomers from a handful of ratings, and is saved as plain arrays and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from beholder.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

    from beholder.taste.features import Design
    from beholder.taste.people import People

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings as arrays of one length, one entry an observation (repeats of a pair are separate entries).

    Attributes
    ----------
    user_id, image_id, prompt_id : array of str, shape (n,)
        Who rated which image of which prompt.
    score : array of float64, shape (n,)
        Slider ticks, 0...1000.
    """

    user_id: Strings
    image_id: Strings
    prompt_id: Strings
    score: Floats

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("user_id", "image_id", "prompt_id", "score")}
        if len(set(lengths.values())) != 1:
            raise TableError(f"ratings with columns of different lengths: {lengths}")
        bad = int(np.sum(~(np.isfinite(self.score) & (self.score >= 0) & (self.score <= 1000))))
        if bad:
            raise TableError(f"{bad} scores outside the scale or missing", "0...1000 ticks", "map the scale, drop gaps")

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Ratings from a tidy table; without `prompt_id` each image is its own prompt.

        Raises
        ------
        TableError
            If a required column is missing.
        """
        missing = [c for c in ("user_id", "image_id", "score") if c not in frame.columns]
        if missing:
            raise TableError(f"ratings without column {', '.join(missing)}", f"columns there: {list(frame.columns)}")
        prompt = "prompt_id" if "prompt_id" in frame.columns else "image_id"
        user, image, group = (frame[c].to_numpy().astype(str) for c in ("user_id", "image_id", prompt))
        return cls(user, image, group, frame["score"].to_numpy(np.float64))

    def take(self, index: NDArray[Any]) -> Ratings:
        """The entries `index` (positions or a mask)."""
        return Ratings(self.user_id[index], self.image_id[index], self.prompt_id[index], self.score[index])

    def users(self) -> Strings:
        """The distinct users, sorted."""
        return np.unique(self.user_id)

    def images(self) -> Strings:
        """The distinct images, sorted."""
        return np.unique(self.image_id)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Expected ratings, in ticks, and how well they are known.

    Attributes
    ----------
    mean : array, shape (n,)
        Expected rating; not clipped to the slider, so that ranking is never lost at its ends.
    sd : array, shape (n,)
        Posterior SD of the expected rating (what more ratings would reduce). NaN where a model has none.
    noise_sd : float, or array of shape (n,)
        SD of one rating round a person's own expectation; an array where people differ in it.
    """

    mean: Floats
    sd: Floats
    noise_sd: float | Floats

    @property
    def predictive_sd(self) -> Floats:
        """SD of a new rating round `mean`, shape (n,)."""
        return np.hypot(self.sd, self.noise_sd)


@dataclass(frozen=True, eq=False)
class State:
    """A fitted model as plain arrays and JSON values: all that is saved, and all that predictions depend on."""

    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]


class FittedModel(Protocol):
    """A reward model that has learned from ratings. Immutable: `adapt` returns another one."""

    @property
    def name(self) -> str:
        """Model id as in result tables, such as `eb_slopes`."""
        ...

    @property
    def user_ids(self) -> Strings:
        """Whom it knows, sorted."""
        ...

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: what `user_ids[i]` thinks of the image `matrix[i]`; unknown users raise."""
        ...

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean`, for callers that need no SD; shape (n,)."""
        ...

    def predict_population(self, matrix: Floats) -> Prediction:
        """What an unknown person of this population is expected to think, for each row of `matrix`."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its predictions depend on: blocks of the design, then `user`, then what else is told of people."""
        ...

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> FittedModel:
        """The model with the users of `context` known from these ratings alone (their earlier ones are replaced).

        Who is in `people` but rated nothing in `context` is known by what is told of them alone.
        """
        ...

    def state(self) -> State:
        """What `save_model` writes."""
        ...


class TasteModel(Protocol):
    """A recipe: settings only. `fit` learns from training ratings."""

    @property
    def name(self) -> str:
        """Model id as in result tables."""
        ...

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> FittedModel:
        """Learn from `ratings`; `design` has a row for each of their images (others are not looked at).

        `people` says more of the users; models that have no use for it do not look at it.
        """
        ...
