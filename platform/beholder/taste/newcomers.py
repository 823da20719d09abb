"""Newcomers after a handful of ratings: predictions by method, number of ratings and number of neighbours.

Every setting sees the same newcomers, the same held-out prompts and nested ratings: fewer are the first ones of more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import FittedModel, Floats, Indices, Ratings, TasteModel
from beholder.taste.designs import LearnedDesign, Pictures
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design
from beholder.taste.leaks import refuse_label_features
from beholder.taste.linear import LinearTaste
from beholder.taste.neighbours import PUBLISHED_TEMPERATURE, Neighbours
from beholder.taste.onboarding import make_pool, onboarding_set
from beholder.taste.people import People
from beholder.taste.splits import Split

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_IMAGES = 200
"""Images whose mean prediction puts the folds on one level."""
POSTERIOR, POSTERIOR_CHOSEN = "posterior", "posterior_chosen"
SETTING = ["method", "shown", "neighbours"]


@dataclass(frozen=True)
class Sweep:
    """What is tried.

    Attributes
    ----------
    shown : tuple of int
        Numbers of ratings a newcomer brings (N), rising; 0 is what is expected of anybody.
    neighbours : tuple of int
        Numbers of neighbours (K), rising.
    temperature : float
        Of the softmax over neighbours' similarities.
    """

    shown: tuple[int, ...] = (0, 1, 2, 5, 10, 15, 20)
    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20)
    temperature: float = PUBLISHED_TEMPERATURE

    def __post_init__(self) -> None:
        for name, values, least in (("shown", self.shown, 0), ("neighbours", self.neighbours, 1)):
            if not values or values[0] < least or list(values) != sorted(set(values)):
                raise UserError(f"{name} {list(values)}", f"rising numbers from {least} up, each once")
        if self.shown[0] != 0:
            raise UserError(
                f"shown {list(self.shown)}", "a sweep that begins with 0: what no rating tells is the start"
            )


def predict_newcomers(
    split: Split,
    pictures: Pictures,
    learned: LearnedDesign,
    sweep: Sweep,
    seed: Sequence[int],
    base: TasteModel | None = None,
    people: People | None = None,
) -> pd.DataFrame:
    """Every setting of the sweep on one fold.

    Parameters
    ----------
    split : Split
        Of kind `unseen`, with contexts of at least `max(sweep.shown)` ratings a newcomer.
    pictures, learned
        As for `beholder.taste.evaluate.predict_fold`.
    sweep : Sweep
    seed : sequence of int
    base : TasteModel, optional
        The reward model, by default the empirical-Bayes slopes. Images are chosen for linear ones only.
    people : People, optional

    Returns
    -------
    DataFrame
        `method, shown, neighbours, user_id, image_id, fold_score, sd, reference`, one row a setting and tested pair;
        `neighbours` is 0 where there are none.
    """
    import pandas as pd

    if split.kind != "unseen":
        raise UserError(f"split {split.kind!r}", "unseen")
    test, context = split.test_ratings, split.context_ratings
    new = pictures.take(np.isin(pictures.features.image_ids, split.held_out_images))
    refuse_label_features(new.features, test)
    design = learned.with_new(new)
    fitted = (base or EBSlopes()).fit(split.train_ratings, design, np.random.default_rng(list(seed)), people)
    told = People(test.users()) if people is None else people.of(test.user_id)
    reference = design.rows(split.ratings.images()[:REFERENCE_IMAGES])
    order = chosen_order(fitted, split, design, max(sweep.shown)) if isinstance(fitted, LinearTaste) else None
    around = [
        Neighbours(temperature=sweep.temperature, centred=centred).around(fitted, split.train_ratings, design)
        for centred in (True, False)
    ]
    frames = []
    for n in sweep.shown:
        first = context.take(first_positions(context, np.arange(len(context)), n))
        known = [((POSTERIOR, n, 0), fitted.adapt(first, design, told))]
        if order is not None:
            chosen = split.ratings.take(first_positions(split.ratings, order, n))
            known.append(((POSTERIOR_CHOSEN, n, 0), fitted.adapt(chosen, design, told)))
        for model in around:
            for k in sweep.neighbours:
                known.append(((model.name, n, k), replace(model, neighbours=k).adapt(first, design, told)))
        frames += [_frame(setting, one, test, design, reference) for setting, one in known]
    # Who rated an image twice is predicted once.
    return pd.concat(frames, ignore_index=True).drop_duplicates([*SETTING, "user_id", "image_id"], ignore_index=True)


def _frame(
    setting: tuple[str, int, int], known: FittedModel, test: Ratings, design: Design, reference: Floats
) -> pd.DataFrame:
    """Predictions of one setting for the test ratings."""
    import pandas as pd

    found = known.predict(test.user_id, design.rows(test.image_id))
    level = {u: float(known.predict_mean([u] * len(reference), reference).mean()) for u in test.users().tolist()}
    method, shown, neighbours = setting
    return pd.DataFrame(
        {
            "method": method,
            "shown": shown,
            "neighbours": neighbours,
            "user_id": test.user_id,
            "image_id": test.image_id,
            "fold_score": found.mean,
            "sd": found.predictive_sd,
            "reference": [level[u] for u in test.user_id.tolist()],
        }
    )


def first_positions(ratings: Ratings, positions: Indices, n: int) -> Indices:
    """Of `positions` in `ratings` the first n of each user."""
    seen: dict[str, int] = {}
    kept = []
    for position, user in zip(positions.tolist(), ratings.user_id[positions].tolist(), strict=True):
        seen[user] = seen.get(user, 0) + 1
        if seen[user] <= n:
            kept.append(position)
    return np.array(kept, dtype=np.intp)


def chosen_order(fitted: LinearTaste, split: Split, design: Design, n: int) -> Indices:
    """Positions of each newcomer's n most informative ratings, in the order they would be asked for.

    Only images that the newcomer has rated outside the held-out groups can be asked for: a pool of some dozens, less
    than a real onboarding may choose from. The target is every image of the training side. The choice sees which images
    were rated, never how.
    """
    outside = ~np.isin(split.groups, split.held_out)
    target = design.rows(split.train_ratings.images())
    noise = fitted.noise_sd**2 + fitted.image_sd**2
    found: list[int] = []
    for user in np.unique(split.test_ratings.user_id).tolist():
        mine = np.flatnonzero(outside & (split.ratings.user_id == user))
        images, first = np.unique(split.ratings.image_id[mine], return_index=True)
        own = Design(images, design.rows(images), design.block_names, design.block_sizes)
        pool = make_pool(own, split.ratings.prompt_id[mine[first]], noise, leverage_quantile=1.0)
        order = onboarding_set(fitted.newcomer, pool, target, min(n, len(pool))).image_ids
        position = dict(zip(images.tolist(), mine[first].tolist(), strict=True))
        found += [position[image] for image in order]
    return np.array(found, dtype=np.intp)
