"""Guards against test ratings that come in disguise: as a feature of images, or as something told of people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import Floats, Ratings, Strings

if TYPE_CHECKING:
    from beholder.taste.features import Features
    from beholder.taste.people import People

FEWEST = 15
"""Images or people without which nothing is looked at: among many columns one would correlate that well by chance."""


class LeakError(UserError):
    """A split or a feature through which test ratings reach the training side."""


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
    if len(images) < FEWEST:
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


def refuse_label_people(people: People, test: Ratings, limit: float = 0.98) -> None:
    """Refuse what is told of people where it carries their test ratings: their mean, in a profile or as a category.

    Parameters
    ----------
    people : People
        Profiles are looked at column by column, demographics where they are numbers.
    test : Ratings
    limit : float
        Largest absolute correlation allowed with the users' mean test ratings, with and without the three most extreme
        people.

    Raises
    ------
    LeakError
        Naming the column.
    """
    users, who = np.unique(test.user_id, return_inverse=True)
    mean = np.bincount(who, test.score) / np.bincount(who)
    known = np.isin(users, people.user_ids)
    if int(known.sum()) < FEWEST:
        return
    told, mean = people.of(users[known]), mean[known]
    columns = {name: _numbers(column) for name, column in told.demographics.items()}
    if told.profiles is not None:
        columns |= {f"profiles[{k}]": told.profiles[:, k] for k in range(told.profiles.shape[1])}
    for name, column in columns.items():
        if column is None or float(np.abs(_correlations(column[:, None], mean))[0]) <= limit:
            continue
        if (r := _without_extremes(column, mean)) > limit:
            raise LeakError(
                f"{name} of people correlates {r:.3f} with their mean test ratings",
                f"at most {limit}",
                "what is told of people comes from themselves, never from their ratings",
            )


def _numbers(column: Strings) -> Floats | None:
    """The categories as numbers where all of them are, else None."""
    try:
        values = column.astype(np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


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
