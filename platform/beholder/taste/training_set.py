"""Ratings as networks are trained on them: arrays of single precision, every scale and level taken off first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.population import user_offsets
from beholder.taste.splits import group_folds

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Told:
    """What is told of m people, as networks read it.

    Attributes
    ----------
    categories : int array, shape (m, K)
        Position of each demographic's category in the vocabulary; 0 for unknown.
    dataset : int array, shape (m,)
        Position of each person's data set in the vocabulary; 0 for unknown.
    profiles : float32 array, shape (m, d)
        Centred embeddings of the profiles; 0 where there is none. d = 0 without profiles.
    """

    categories: Indices
    dataset: Indices
    profiles: Singles

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: NDArray[Any]) -> Told:
        """The people `index`."""
        return Told(self.categories[index], self.dataset[index], self.profiles[index])


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Everything that can be told of people, learned from those who are trained on.

    Attributes
    ----------
    demographics : mapping of tuples of str
        The categories of each demographic, each of at least `smallest` people; the first is "", unknown.
    datasets : tuple of str
        "" for unknown, then the data sets.
    profile_centre : array, shape (d,)
        Mean profile; empty without profiles.
    """

    demographics: Mapping[str, tuple[str, ...]]
    datasets: tuple[str, ...]
    profile_centre: Floats

    @classmethod
    def of(cls, people: People) -> Vocabulary:
        """The vocabulary of these people; groups too small to speak of are unknown."""
        told = people.masked().demographics
        categories = {name: ("", *(c for c in np.unique(column).tolist() if c)) for name, column in told.items()}
        datasets = ("", *(d for d in np.unique(people.dataset).tolist() if d))
        centre = np.empty(0) if people.profiles is None else _with_profile(people.profiles).mean(axis=0)
        return cls({name: c for name, c in categories.items() if len(c) > 1}, datasets, centre)

    def read(self, people: People) -> Told:
        """These people as positions; what the vocabulary does not hold is unknown."""
        columns = [
            _positions(known, people.demographics.get(name, np.full(len(people), "")))
            for name, known in self.demographics.items()
        ]
        categories = np.stack(columns, axis=1) if columns else np.zeros((len(people), 0), dtype=np.intp)
        profiles = np.zeros((len(people), len(self.profile_centre)), dtype=np.float32)
        if len(self.profile_centre) and people.profiles is not None:
            there = np.any(people.profiles != 0, axis=1)
            profiles[there] = people.profiles[there] - self.profile_centre
        return Told(categories, _positions(self.datasets, people.dataset), profiles)

    def nothing(self, n: int = 1) -> Told:
        """N people of whom nothing is known."""
        none = np.zeros(n, dtype=np.intp)
        profiles = np.zeros((n, len(self.profile_centre)), dtype=np.float32)
        return Told(np.zeros((n, len(self.demographics)), dtype=np.intp), none, profiles)


@dataclass(frozen=True, eq=False)
class Scaling:
    """From a network's units to ticks: `centre[d] + level + scale[d] * output` for a person of data set d.

    Attributes
    ----------
    centre, scale : arrays, shape (D,)
        In the order of `Vocabulary.datasets`; the first entry, for people of no known set, is the mean of the others.
    level_variance : array, shape (D,)
        Variance of people's levels round the centre.
    """

    centre: Floats
    scale: Floats
    level_variance: Floats


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What networks are trained on. n ratings of I images by U users.

    Attributes
    ----------
    images : float32 array, shape (I, p)
        Rows of the design.
    block_sizes : tuple of int
        Columns of each block of the design, adding up to p.
    user_ids : array of str, shape (U,)
    told : Told
        Of the users.
    vocabulary : Vocabulary
    scaling : Scaling
    levels : array, shape (U,)
        Users' shrunken levels, ticks.
    who, which : int arrays, shape (n,)
        User and image of each rating.
    target : float32 array, shape (n,)
        Scores in the networks' units.
    folds : int array, shape (n,)
        Ratings of one prompt share a fold; each network is stopped by one fold.
    """

    images: Singles
    block_sizes: tuple[int, ...]
    user_ids: Strings
    told: Told
    vocabulary: Vocabulary
    scaling: Scaling
    levels: Floats
    who: Indices
    which: Indices
    target: Singles
    folds: Indices

    def levelled_without(self, fold: int) -> TrainingSet:
        """The same ratings with users' levels from those outside a fold, so that it is told nothing of its own."""
        set_of = self.told.dataset
        scale, kept = self.scaling.scale[set_of], self.folds != fold
        above = self.target + (self.levels / scale)[self.who]  # the centre, in units
        counts = np.bincount(self.who[kept], minlength=len(scale))
        sums = np.bincount(self.who[kept], above[kept], minlength=len(scale))
        between = self.scaling.level_variance[set_of] / scale**2
        levels = between * sums / (between * counts + 1)
        return replace(self, levels=scale * levels, target=(above - levels[self.who]).astype(np.float32))


def training_set(
    ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None, n_folds: int
) -> TrainingSet:
    """Prepare ratings for networks.

    Parameters
    ----------
    ratings : Ratings
    design : Design
        With a row for each of their images.
    rng : numpy.random.Generator
        Draws the folds.
    people : People, optional
        What is told of the users.
    n_folds : int
        At most; fewer where there are fewer prompts.

    Raises
    ------
    EstimateError
        With a data set of fewer than two users or without repeats within users, ratings that do not vary, or fewer
        than two prompts.
    """
    users, who = np.unique(ratings.user_id, return_inverse=True)
    images, which = np.unique(ratings.image_id, return_inverse=True)
    prompts = len(np.unique(ratings.prompt_id))
    if prompts < 2:
        raise EstimateError(f"ratings of {prompts} prompt", "at least 2: one to learn from, one to stop by")
    known = (People(users) if people is None else people).of(users)
    vocabulary = Vocabulary.of(known)
    told = vocabulary.read(known)
    scaling, levels = _standardise(ratings.score, who, told.dataset, len(vocabulary.datasets))
    set_of = told.dataset[who]
    target = (ratings.score - scaling.centre[set_of] - levels[who]) / scaling.scale[set_of]
    return TrainingSet(
        design.rows(images).astype(np.float32),
        design.block_sizes,
        users,
        told,
        vocabulary,
        scaling,
        levels,
        who,
        which,
        target.astype(np.float32),
        group_folds(ratings.prompt_id, min(n_folds, prompts), rng),
    )


def _standardise(score: Floats, who: Indices, dataset: Indices, n_sets: int) -> tuple[Scaling, Floats]:
    """Centre, scale and level variance of each data set, and users' levels."""
    centre, scale, between = np.zeros(n_sets), np.ones(n_sets), np.zeros(n_sets)
    levels = np.zeros(len(dataset))
    present = np.unique(dataset)
    for d in present:
        members = np.flatnonzero(dataset == d)
        mine = np.isin(who, members)
        offsets = user_offsets(score[mine], np.searchsorted(members, who[mine]), len(members))
        if offsets.within <= 0:
            raise EstimateError("users' ratings do not vary", "ratings that differ", "leave the model out")
        centre[d], scale[d], between[d] = offsets.grand, np.sqrt(offsets.within), offsets.between
        levels[members] = offsets.of_user
    if 0 not in present:
        centre[0], scale[0], between[0] = (v[present].mean() for v in (centre, scale, between))
    return Scaling(centre, scale, between), levels


def _with_profile(profiles: Floats) -> Floats:
    there = np.any(profiles != 0, axis=1)
    return profiles[there] if np.any(there) else profiles


def _positions(known: Sequence[str], values: Strings) -> Indices:
    """Position of each value in `known`, sorted with "" first; 0 for others."""
    names = np.asarray(known, dtype=str)
    at = np.minimum(np.searchsorted(names, values), len(names) - 1)
    return np.where(names[at] == values, at, 0)
