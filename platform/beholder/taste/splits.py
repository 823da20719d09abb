"""Splits that cannot be built leaking: who and what is in training, context and test.

`seen`: known users, new images; no image and no prompt (or group of near-duplicates) on both sides.
`unseen`: new users too; their context ratings are of images of the training side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.features import Features

Kind = Literal["seen", "unseen"]


class LeakError(UserError):
    """A split or a feature through which test ratings reach the training side."""


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
                    f"{len(both)} {what}s are in training and in test, first {both[0]!r}",
                    f"a {what} on one side only",
                    "split by prompt, and put prompts with near-duplicate images in one group",
                )
        self._check_held_out(self.groups[learnt])
        self._check_users()

    def _check_held_out(self, learnt: Strings) -> None:
        both, outside = np.intersect1d(learnt, self.held_out), np.setdiff1d(self.groups[self.test], self.held_out)
        if len(both):
            raise LeakError(
                f"{len(both)} groups held out are in training, first {both[0]!r}", "groups on one side only"
            )
        if len(outside):
            raise LeakError(f"{len(outside)} groups are tested and not held out, first {outside[0]!r}")

    def _check_users(self) -> None:
        r = self.ratings
        trained, tested = np.unique(r.user_id[self.train]), np.unique(r.user_id[self.test])
        if self.kind == "seen":
            if len(self.context):
                raise LeakError("split `seen` with context ratings", "none: known users' ratings belong to training")
            strangers = np.setdiff1d(tested, trained)
            if len(strangers):
                raise LeakError(f"test user {strangers[0]!r} has no training rating", "known users in `seen`")
            return
        new = np.union1d(tested, r.user_id[self.context])
        both = np.intersect1d(trained, new)
        if len(both):
            raise LeakError(f"{len(both)} new users are in training, first {both[0]!r}", "new users in test only")

    @property
    def held_out_images(self) -> Strings:
        """Every image of the groups held out, whoever rated it; sorted."""
        return np.unique(self.ratings.image_id[np.isin(self.groups, self.held_out)])

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


def group_folds(groups: Strings, n_folds: int, rng: np.random.Generator) -> Indices:
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


def refuse_label_features(features: Features, test: Ratings, limit: float = 0.98) -> None:
    """Refuse features that carry test labels: no image feature correlates that well with what people answered.

    Parameters
    ----------
    features : Features
        Raw features of the test images.
    test : Ratings
    limit : float
        Largest absolute correlation allowed between a column and the test images' mean ratings (raw, or with users'
        means taken off) or their raters' means, with and without the column's three most extreme images.

    Raises
    ------
    LeakError
        Naming block and column.

    Notes
    -----
    A guard against mistakes, not against malice: a label mixed with noise passes. Fewer than 15 test images are not
    looked at: among thousands of columns one would correlate that well by chance.
    """
    images, where = np.unique(test.image_id, return_inverse=True)
    if len(images) < 15:
        return
    _, who = np.unique(test.user_id, return_inverse=True)
    own_mean = np.bincount(who, test.score) / np.bincount(who)
    own = features.take(images)
    for target in (test.score, test.score - own_mean[who], own_mean[who]):
        mean = np.bincount(where, target) / np.bincount(where)
        for name, block in own.blocks.items():
            for column in np.flatnonzero(np.abs(_correlations(block, mean)) > limit).tolist():
                r = _without_extremes(block[:, column], mean)
                if r <= limit:
                    continue
                raise LeakError(
                    f"column {column} of block {name!r} correlates {r:.3f} with the test ratings",
                    f"at most {limit}",
                    "features are computed from images and prompts, never from ratings",
                )


def _without_extremes(column: Floats, target: Floats) -> float:
    """Absolute correlation without the three images that lie furthest out in the column.

    Network features are 0 for most images; one that is large for a single image correlates perfectly with a target that
    has one outlier, such as the image that one more person rated.
    """
    kept = np.argsort(np.abs(column - np.median(column)), kind="stable")[:-3]
    return float(np.abs(_correlations(column[kept, None], target[kept]))[0])


def _correlations(block: Floats, target: Floats) -> Floats:
    """Pearson correlation of each column with the target, 0 where either is constant."""
    x, y = block - block.mean(axis=0), target - target.mean()
    scale = np.linalg.norm(x, axis=0) * np.linalg.norm(y)
    safe = scale > 1e-9 * max(float(np.abs(block).max()) * float(np.abs(target).max()), 1e-300)
    return np.where(safe, (x.T @ y) / np.where(safe, scale, 1.0), 0.0)
