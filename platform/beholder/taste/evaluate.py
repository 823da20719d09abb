"""Cross-validated predictions of reward models: known users and new images, and new users after a few ratings.

One prompt is in one fold, and the same folds of prompts serve both splits. Whatever is learned (projection, components,
penalties, variances, users' levels) is learned inside a fold on its training side: the models are handed the training
ratings, the context ratings of new users, and never an array that holds a test rating.

Each model predicts every user for every image of the fold (dense), since tests that permute people need it; the
predictions that have a rating are a part of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import numpy as np

from beholder.errors import EstimateError, TableError, UserError
from beholder.taste.base import FittedModel, Floats, Prediction, Ratings, Strings, TasteModel
from beholder.taste.collapse import user_vectors, vector_spread
from beholder.taste.designs import LearnedDesign, Pictures, learn_design
from beholder.taste.features import Design, Features
from beholder.taste.fold_tables import Evaluated, fold_notes, fold_tables
from beholder.taste.fusion import maskings
from beholder.taste.leaks import refuse_label_features, refuse_label_people
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.people import People
from beholder.taste.splits import (
    Kind,
    Split,
    joined_split,
    near_duplicate_groups,
    released_splits,
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
    aligned : float
        Share of the prompts' embeddings that the design's projection predicts for prompts left out; NaN without one.
    inputs : tuple of str
        What the predictions depend on.
    vector_spread : float
        How far what the model keeps of people differs between them (`beholder.taste.collapse.vector_spread`); NaN where
        it keeps no vectors.
    """

    model: str
    users: Strings
    images: Strings
    score: Floats
    sd: Floats
    reference: Floats
    settings: str
    aligned: float
    inputs: tuple[str, ...]
    vector_spread: float


MASKED = "~"
"""Between the name of a model and that of the token it does not see."""
TOKEN_REFERENCES = 32
"""Images, about, whose mean prediction without a token puts the folds on one level."""
MEAN_PERSON = {"eb_slopes": "eb_population"}
"""Models whose own idea of the mean person is a rung too. It knows of shared taste what the personal model knows, so
the two differ in personal knowledge alone; another population head may just be better or worse at the rest."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Ratings, pictures and the folds they are split into: all that predicting any one fold needs.

    Two of them made from the same things predict the same to the bit, wherever they are.

    Attributes
    ----------
    ratings : Ratings
        What is tested.
    pictures : Pictures
        With the group of near-duplicates in place of the prompt.
    groups : array of str
        Of every rating the splits refer to.
    folds : Folds
    splits : tuple of Split
    seed : int
    people : People or None
    notes : tuple of str
        What the splits left out.
    """

    ratings: Ratings
    pictures: Pictures
    groups: Strings
    folds: Folds
    splits: tuple[Split, ...]
    seed: int
    people: People | None
    notes: tuple[str, ...]
    _designs: dict[bytes, LearnedDesign] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        ratings: Ratings,
        pictures: Pictures,
        folds: Folds,
        seed: int,
        people: People | None = None,
        *,
        others: Ratings | None = None,
        release: pd.DataFrame | None = None,
    ) -> CrossValidation:
        """Split the ratings.

        Parameters
        ----------
        ratings : Ratings
        pictures : Pictures
            At least the rated images; more images of other prompts help to learn the design.
        folds : Folds
        seed : int
        people : People, optional
        others : Ratings, optional
            Of other data sets, to train on too: all but those of near-duplicates of what is held out. Their users,
            images and prompts have ids of their own.
        release : DataFrame, optional
            The same ratings as a table with the release's own `split`: it is kept, in place of folds.

        Raises
        ------
        TableError, EstimateError
            Images without features; too few users, prompts or ratings for the folds.
        UserError
            No such split in the release; ids that both sets use.
        """
        if len(ratings) == 0 or np.ptp(ratings.score) == 0:
            raise EstimateError(f"all {len(ratings)} ratings are equal", "ratings that differ", "check the scale")
        every = ratings if others is None else _joined(ratings, others)
        groups = near_duplicate_groups(every, pictures.features, folds.duplicate_block, folds.duplicate_cosine)
        own = groups[: len(ratings)]
        given: tuple[str, ...] = ()
        if release is None:
            splits = make_splits(ratings, own, folds, seed)
        else:
            splits, given = released_splits(release, ratings, own, folds.splits, folds.context, seed)
        notes = (*fold_notes(ratings, own, folds, splits, fixed=release is not None), *given)
        if others is not None:
            splits = [joined_split(split, every, groups) for split in splits]
        return cls(ratings, grouped(pictures, every, groups), groups, folds, tuple(splits), seed, people, notes)

    def design(self, number: int) -> LearnedDesign:
        """The design that fold `number` may know, learned once for all folds that hold out the same prompts."""
        held_out = self.splits[number].held_out
        key = "\n".join(held_out.tolist()).encode()
        if key not in self._designs:
            other = self.pictures.take(~np.isin(self.pictures.prompt_ids, held_out))
            self._designs[key] = learn_design(other, np.random.default_rng([self.seed, 1]))
        return self._designs[key]

    def predict(
        self, number: int, models: Sequence[TasteModel], *, personal: bool = True, tokens: bool = False
    ) -> list[FoldPrediction]:
        """Predictions of fold `number`; `personal` and `tokens` as in `predict_fold`."""
        return predict_fold(
            self.splits[number],
            self.pictures,
            self.design(number),
            models,
            [self.seed, 2, number],
            self.people,
            personal=personal,
            tokens=tokens,
        )

    def tables(self, found: Sequence[Sequence[FoldPrediction]]) -> Evaluated:
        """The predictions of all folds, in the order of `splits`, as tables."""
        return Evaluated(*fold_tables(self.splits, found), self.notes)

    def refuse_leaks(self) -> None:
        """Look at every fold's features before anything is fitted; `predict` looks again."""
        for split in self.splits:
            refuse_label_features(_raw(self.pictures, split), split.test_ratings)


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
    folded = CrossValidation.of(ratings, pictures, folds, int(rng.integers(2**62)), people)
    return folded.tables([folded.predict(k, models) for k in range(len(folded.splits))])


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
    *,
    personal: bool = True,
    tokens: bool = False,
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
    personal : bool
        Off: of those who are predicted only `people` is used, none of their own ratings (everybody's train the model).
    tokens : bool
        Also what a fusion predictor makes of the rated pairs without each of its tokens (`masked_name`).
    """
    test, new, users = split.test_ratings, _held_out(pictures, split), split.tested_users
    refuse_label_features(_raw(pictures, split), test)
    if people is not None:
        refuse_label_people(people, test)
    design = learned.with_new(new)
    rows, every = design.rows(split.held_out_images), design.rows(split.own_images)
    aligned = learned.alignment.explained if learned.alignment else float("nan")
    found = []
    for model in models:
        fitted = model.fit(split.train_ratings, design, np.random.default_rng(list(seed)), people)
        vectors = user_vectors(fitted)
        known = _acquainted(fitted, split, design, people, personal)
        each = [_expect(fitted, known, user, rows) for user in users.tolist()]
        settings = json.dumps(fitted.state().settings.get("settings", {}), sort_keys=True)
        prediction = FoldPrediction(
            fitted.name,
            users,
            split.held_out_images,
            np.stack([p.mean for p in each]),
            np.stack([p.predictive_sd for p in each]),
            np.array([_mean(fitted, known, user, every) for user in users.tolist()]),
            settings,
            aligned,
            tuple(fitted.inputs),
            float("nan") if vectors is None else vector_spread(vectors),
        )
        if fitted.name in MEAN_PERSON:
            found.append(_mean_person(fitted, prediction, rows, every))
        found.append(prediction)
        if tokens and isinstance(known, NetworkTaste) and known.network.kind == "fusion":
            found += _without_tokens(known, split, design, prediction)
    return found


def masked_name(model: str, token: str) -> str:
    """What a model is called in tables when it does not see a token; `nothing` is the model as it is."""
    return f"{model}{MASKED}{token}"


def _without_tokens(known: NetworkTaste, split: Split, design: Design, own: FoldPrediction) -> Iterator[FoldPrediction]:
    """Predictions of the rated pairs without each token in turn; pairs that nobody rated are NaN."""
    test = split.test_ratings
    users = own.users[np.isin(own.users, known.user_ids)]
    test = test.take(np.isin(test.user_id, users))
    row, column = np.searchsorted(users, test.user_id), np.searchsorted(own.images, test.image_id)
    every = design.rows(split.own_images)
    reference = every[:: max(1, len(every) // TOKEN_REFERENCES)]
    for masked in maskings(known, design, every):
        score = np.full((len(users), len(own.images)), np.nan)
        score[row, column] = masked.predict_mean(test.user_id, design.rows(test.image_id))
        level = masked.predict_mean(np.repeat(users, len(reference)), np.tile(reference, (len(users), 1)))
        yield replace(
            own,
            model=masked_name(own.model, masked.token),
            users=users,
            score=score,
            sd=np.full(score.shape, np.nan),
            reference=level.reshape(len(users), -1).mean(axis=1),
            inputs=tuple(name for name in own.inputs if name != masked.token),
            vector_spread=float("nan"),
        )


def _held_out(pictures: Pictures, split: Split) -> Pictures:
    return pictures.take(np.isin(pictures.features.image_ids, split.held_out_images))


def _raw(pictures: Pictures, split: Split) -> Features:
    """Everything that is known of the test images, with the embeddings of prompts as one more block."""
    new = _held_out(pictures, split)
    return new.features if new.texts is None else new.features.with_block("text", new.texts)


def _acquainted(
    fitted: FittedModel, split: Split, design: Design, people: People | None, personal: bool
) -> FittedModel | None:
    """The model as it knows those who are tested; None where it may know nobody."""
    if not personal:
        if people is None:
            return None
        nothing = split.ratings.take(np.empty(0, dtype=np.intp))
        return fitted.adapt(nothing, design, people.of(split.tested_users))
    if len(split.context) == 0:
        return fitted
    shown = split.context_ratings
    return fitted.adapt(shown, design, None if people is None else people.of(shown.user_id))


def _mean_person(fitted: FittedModel, own: FoldPrediction, rows: Floats, every: Floats) -> FoldPrediction:
    """What the model expects of anybody, for each of the users alike; without an SD."""
    score = np.tile(fitted.predict_population(rows).mean, (len(own.users), 1))
    reference = np.full(len(own.users), fitted.predict_population(every).mean.mean())
    return replace(
        own,
        model=MEAN_PERSON[fitted.name],
        score=score,
        sd=np.full(score.shape, np.nan),
        reference=reference,
        inputs=tuple(name for name in own.inputs if name != "user"),
        vector_spread=float("nan"),
    )


def _expect(fitted: FittedModel, known: FittedModel | None, user: str, rows: Floats) -> Prediction:
    """What `user` thinks of `rows`; of whom nothing was shown, what anybody is expected to think."""
    if known is not None and user in known.user_ids:
        return known.predict([user] * len(rows), rows)
    return fitted.predict_population(rows)


def _mean(fitted: FittedModel, known: FittedModel | None, user: str, rows: Floats) -> float:
    if known is not None and user in known.user_ids:
        return float(known.predict_mean([user] * len(rows), rows).mean())
    return float(fitted.predict_population(rows).mean.mean())


def _joined(ratings: Ratings, others: Ratings) -> Ratings:
    """One after the other; ids that both use are a mistake."""
    columns = {}
    for name in ("user_id", "image_id", "prompt_id"):
        mine, theirs = getattr(ratings, name), getattr(others, name)
        both = np.intersect1d(mine, theirs)
        if len(both):
            raise TableError(
                f"{len(both)} {name}s are in both sets of ratings, first {str(both[0])!r}",
                "ids that name one thing",
                "put the data set's name before its ids",
            )
        columns[name] = np.concatenate([mine, theirs])
    return Ratings(columns["user_id"], columns["image_id"], columns["prompt_id"], np.r_[ratings.score, others.score])


def grouped(pictures: Pictures, ratings: Ratings, groups: Strings) -> Pictures:
    """The same pictures with the group of near-duplicates in place of the prompt."""
    rated, first = np.unique(ratings.image_id, return_index=True)
    at = np.minimum(np.searchsorted(rated, pictures.features.image_ids), len(rated) - 1)
    is_rated = rated[at] == pictures.features.image_ids
    return replace(pictures, prompt_ids=np.where(is_rated, groups[first][at], pictures.prompt_ids))
