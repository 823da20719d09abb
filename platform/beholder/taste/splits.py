"""Splits that cannot be built leaking: who and what is in training, context and test.

`seen`: known users, new images; no image and no prompt (or group of near-duplicates) on both sides.
`unseen`: new users too; their context ratings are of images of the training side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Indices, Ratings, Strings
from beholder.taste.features import Features
from beholder.taste.leaks import LeakError

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["seen", "unseen"]


@dataclass(frozen=True, eq=False)
class Split:
    """One fold, checked when it is made.

    Attributes
    ----------
    kind : `seen` or `unseen`
    ratings : Ratings
        All ratings the positions below refer to.
    groups : array of str, shape (n,)
        What must stay together: the prompt of each rating, or a union of prompts with near-duplicate images.
    train, context, test : array of int
        Positions in `ratings`. `context` is what is shown of new users; empty for `seen`.
    held_out : array of str
        The groups of the fold: those of `test`, and perhaps others that nobody is tested on here.
    n_own : int, optional
        The first so many ratings are of the data set that is tested, the others only train; default all.

    Raises
    ------
    LeakError
        If an image, prompt or group is on both sides, a new user is in training, or a context image is not of the
        training side.
    """

    kind: Kind
    ratings: Ratings
    groups: Strings
    train: Indices
    context: Indices
    test: Indices
    held_out: Strings
    n_own: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("seen", "unseen"):
            raise UserError(f"split {self.kind!r}", "seen, unseen")
        if len(self.train) == 0 or len(self.test) == 0:
            raise EstimateError(f"split with {len(self.train)} training and {len(self.test)} test ratings", "some each")
        r = self.ratings
        learnt = np.concatenate([self.train, self.context])
        for what, values in (("image", r.image_id), ("prompt", r.prompt_id), ("group", self.groups)):
            both = np.intersect1d(values[learnt], values[self.test])
            if len(both):
                raise LeakError(
                    f"{len(both)} {what}s are in training and in test, first {str(both[0])!r}",
                    f"a {what} on one side only",
                    "split by prompt, and put prompts with near-duplicate images in one group",
                )
        self._check_held_out(self.groups[learnt])
        self._check_users()

    def _check_held_out(self, learnt: Strings) -> None:
        both, outside = np.intersect1d(learnt, self.held_out), np.setdiff1d(self.groups[self.test], self.held_out)
        if len(both):
            raise LeakError(
                f"{len(both)} groups held out are in training, first {str(both[0])!r}", "groups on one side only"
            )
        if len(outside):
            raise LeakError(f"{len(outside)} groups are tested and not held out, first {str(outside[0])!r}")

    def _check_users(self) -> None:
        r = self.ratings
        trained, tested = np.unique(r.user_id[self.train]), np.unique(r.user_id[self.test])
        if self.kind == "seen":
            if len(self.context):
                raise LeakError("split `seen` with context ratings", "none: known users' ratings belong to training")
            strangers = np.setdiff1d(tested, trained)
            if len(strangers):
                raise LeakError(f"test user {str(strangers[0])!r} has no training rating", "known users in `seen`")
            return
        new = np.union1d(tested, r.user_id[self.context])
        both = np.intersect1d(trained, new)
        if len(both):
            raise LeakError(f"{len(both)} new users are in training, first {str(both[0])!r}", "new users in test only")

    @property
    def _n_own(self) -> int:
        return len(self.ratings) if self.n_own is None else self.n_own

    @property
    def held_out_images(self) -> Strings:
        """Every image of the groups held out, whoever rated it; sorted."""
        return np.unique(self.ratings.image_id[: self._n_own][np.isin(self.groups[: self._n_own], self.held_out)])

    @property
    def own_images(self) -> Strings:
        """Every image of the data set that is tested; sorted."""
        return np.unique(self.ratings.image_id[: self._n_own])

    @property
    def tested_users(self) -> Strings:
        """Everybody who could be tested: known users, or new ones of whom something was shown; sorted."""
        known = self.train if self.kind == "seen" else self.context
        return np.union1d(self.ratings.user_id[self.test], self.ratings.user_id[known[known < self._n_own]])

    @property
    def train_ratings(self) -> Ratings:
        """Ratings to fit on."""
        return self.ratings.take(self.train)

    @property
    def context_ratings(self) -> Ratings:
        """Ratings shown of new users; empty for `seen`."""
        return self.ratings.take(self.context)

    @property
    def test_ratings(self) -> Ratings:
        """Ratings to predict."""
        return self.ratings.take(self.test)


def group_folds(groups: Strings | Indices, n_folds: int, rng: np.random.Generator) -> Indices:
    """A fold 0...n_folds-1 for each entry; entries of one group share it, folds are near equal in entries.

    Groups are shuffled, then each goes to the fold that is smallest so far.

    Raises
    ------
    EstimateError
        With fewer groups than folds, or fewer than two folds.
    """
    names, where, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not 2 <= n_folds <= len(names):
        raise EstimateError(f"{n_folds} folds of {len(names)} groups", f"2...{len(names)} folds", "change n_folds")
    fold_of = np.empty(len(names), dtype=np.intp)
    filled = np.zeros(n_folds)
    order = rng.permutation(len(names))
    for g in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[g] = np.argmin(filled)
        filled[fold_of[g]] += sizes[g]
    return fold_of[where]


def near_duplicate_groups(ratings: Ratings, features: Features, block: str, threshold: float = 0.95) -> Strings:
    """A group for each rating: its prompt, merged with the prompts of near-duplicate images (L4).

    Two images are near-duplicates if the cosine of their centred vectors in `block` is above `threshold`.

    Returns
    -------
    array of str, shape (n,)
        The name of the first prompt of the group.
    """
    images, first = np.unique(ratings.image_id, return_index=True)
    prompts, prompt_of = np.unique(ratings.prompt_id[first], return_inverse=True)
    vectors = features.take(images).blocks[block]
    vectors = vectors - vectors.mean(axis=0)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    root = np.arange(len(prompts))
    for start in range(0, len(unit), 1024):
        near = np.argwhere(unit[start : start + 1024] @ unit.T > threshold)
        for a, b in zip(prompt_of[near[:, 0] + start].tolist(), prompt_of[near[:, 1]].tolist(), strict=True):
            low, high = sorted((root[a], root[b]))
            if low != high:
                root[root == high] = low
    merged = dict(zip(prompts.tolist(), prompts[root].tolist(), strict=True))
    return np.array([merged[p] for p in ratings.prompt_id.tolist()], dtype=str)


def seen_splits(ratings: Ratings, groups: Strings, n_folds: int, rng: np.random.Generator) -> list[Split]:
    """One `seen` split a fold of groups; together they test every image once, by every user known without it.

    Test ratings of users who have no rating outside the fold are left out of it.
    """
    folds = group_folds(groups, n_folds, rng)
    splits = []
    for k in range(n_folds):
        train = np.flatnonzero(folds != k)
        known = np.isin(ratings.user_id, ratings.user_id[train])
        test = np.flatnonzero((folds == k) & known)
        splits.append(
            Split("seen", ratings, groups, train, np.empty(0, dtype=np.intp), test, np.unique(groups[folds == k]))
        )
    return splits


def unseen_splits(
    ratings: Ratings,
    groups: Strings,
    n_folds: int,
    n_user_folds: int,
    n_context: int,
    rng: np.random.Generator,
    *,
    least_context: int | None = None,
) -> list[Split]:
    """One `unseen` split a fold of users x fold of groups; together they test every rating of eligible users once.

    Contexts are nested: with the same `rng` seed, a smaller `n_context` gives the first ratings of the larger one, on
    the same test images.

    Parameters
    ----------
    n_context : int
        Context ratings a new user, drawn at random from the training side's images; 0 allowed.
    least_context : int, optional
        Users who have fewer ratings than this on any training side are in no context and no test (they still train
        the splits of other people), so that all splits speak of the same users; default `n_context`. For a sweep give
        the largest N, so that all N do.

    Raises
    ------
    EstimateError
        If nobody is eligible.
    """
    least = n_context if least_context is None else least_context
    if least < n_context or n_context < 0:
        raise UserError(f"n_context {n_context}, least_context {least}", "0 <= n_context <= least_context")
    folds = group_folds(groups, n_folds, rng)
    users, who = np.unique(ratings.user_id, return_inverse=True)
    user_fold = group_folds(users, n_user_folds, rng)
    priority = rng.permutation(len(ratings))
    in_fold = np.zeros((len(users), n_folds), dtype=np.intp)
    np.add.at(in_fold, (who, folds), 1)
    eligible = in_fold.sum(axis=1) - in_fold.max(axis=1) >= least
    if not eligible.any():
        raise EstimateError(f"no user has {least} ratings on the training side", remedy="ask for fewer context ratings")
    splits = []
    for j in range(n_user_folds):
        new = user_fold[who] == j
        tested = new & eligible[who]
        for k in range(n_folds):
            test = np.flatnonzero(tested & (folds == k))
            if len(test):
                train = np.flatnonzero(~new & (folds != k))
                context = _first_per_user(np.flatnonzero(tested & (folds != k)), who, priority, n_context)
                held_out = np.unique(groups[folds == k])
                splits.append(Split("unseen", ratings, groups, train, context, test, held_out))
    return splits


def _first_per_user(positions: Indices, who: Indices, priority: Indices, most: int) -> Indices:
    """For each user the `most` positions of first priority, in order of user and priority."""
    ranked = positions[np.lexsort((priority[positions], who[positions]))]
    starts = np.flatnonzero(np.r_[True, np.diff(who[ranked]) > 0]) if len(ranked) else np.empty(0, dtype=np.intp)
    place = np.arange(len(ranked)) - np.repeat(starts, np.diff(np.r_[starts, len(ranked)]))
    return ranked[place < most]


def joined_split(split: Split, every: Ratings, groups: Strings) -> Split:
    """The same fold, trained on the ratings of other data sets too.

    Parameters
    ----------
    split : Split
        Of the first ratings of `every`.
    every : Ratings
        Those of `split`, then the others'.
    groups : array of str, shape (len(every),)
        Prompts and near-duplicates over all sets; what shares a group with a test image stays out of training.
    """
    n = len(split.ratings)
    more = n + np.flatnonzero(~np.isin(groups[n:], split.held_out))
    train = np.concatenate([split.train, more])
    return Split(split.kind, every, groups, train, split.context, split.test, split.held_out, n)


def released_splits(
    release: pd.DataFrame, ratings: Ratings, groups: Strings, kinds: Sequence[Kind], n_context: int, seed: int
) -> tuple[list[Split], tuple[str, ...]]:
    """The release's own splits, one fold each, without what would leak.

    Parameters
    ----------
    release : DataFrame
        The ratings as a table, in the same order, with the reader's column `split`.
    ratings : Ratings
    groups : array of str
        What must stay on one side, of every rating.
    kinds : sequence of `seen`, `unseen`
        A kind that the release does not have, or that leaves nothing to test, is left out with a note.
    n_context : int
        At most so many context ratings a new user, drawn at random.
    seed : int

    Returns
    -------
    list of Split
    tuple of str
        What was left out.

    Raises
    ------
    UserError
        If the release has none of them.
    """
    from beholder.readers.release import release_split

    table = release.assign(prompt_id=groups)
    _, who = np.unique(ratings.user_id, return_inverse=True)
    priority = np.random.default_rng([seed, 0]).permutation(len(ratings))
    splits, notes = [], []
    for kind in kinds:
        try:
            side = release_split(table, kind)
        except UserError as error:
            notes.append(f"{kind}: not evaluated ({error.found})")
            continue
        context = _first_per_user(side.context, who, priority, n_context)
        held_out = np.unique(groups[side.test])
        splits.append(Split(kind, ratings, groups, side.train, context, side.test, held_out))
        notes += [f"{kind}: {note.rows} {note.what}" for note in side.notes]
        if kind == "unseen":
            shown = np.bincount(who[context], minlength=int(who.max()) + 1)[np.unique(who[side.test])]
            notes.append(f"unseen: {int(np.sum(shown < n_context))} of {len(shown)} users bring fewer than {n_context}")
    if not splits:
        raise UserError("; ".join(notes), remedy="leave --split release out: folds hold prompts and people out")
    return splits, tuple(notes)
