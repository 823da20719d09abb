"""What raters do with the slider: who sees which image, and the ticks they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import UserError
from beholder.simulate.world import PARTS, Raters, Settings

if TYPE_CHECKING:
    import pandas as pd

ANCHORS = np.arange(0, 1001, 250)
"""Ticks of the five labelled points of the slider."""


def assign(n_raters: int, n_images: int, per_image: int, rng: np.random.Generator) -> np.ndarray:
    """Who rates what: every image by exactly `per_image` raters, raters' loads differing by at most one.

    Raters are dealt from one shuffled pack after another. Where an image takes the end of one pack and the start of
    the next, those it already has are moved back in the new pack.

    Returns
    -------
    np.ndarray
        True where a rater sees an image, shape (n_raters, n_images).

    Raises
    ------
    UserError
        If an image asks for more raters than there are, or for none.
    """
    if not 1 <= per_image <= n_raters:
        raise UserError(f"{per_image} raters per image of {n_raters} raters", f"1 to {n_raters}", "change `per_image`")
    shown = np.zeros((n_raters, n_images), bool)
    pack = rng.permutation(n_raters)
    for image in rng.permutation(n_images):
        hand, pack = pack[:per_image], pack[per_image:]
        missing = per_image - len(hand)
        if missing:
            fresh = rng.permutation(n_raters)
            taken = np.isin(fresh, hand)
            first = fresh[~taken][:missing]
            hand, pack = np.concatenate([hand, first]), fresh[~np.isin(fresh, first)]
        shown[hand, image] = True
    return shown


def slider(
    utility: np.ndarray, offset: np.ndarray, scale: np.ndarray, rng: np.random.Generator, settings: Settings
) -> np.ndarray:
    """Ticks for true utilities, one occasion each; all arrays of one shape (n,).

    ticks = 500 + ticks_per_sd * (offset + scale * (utility + occasion noise)), rounded and cut to 0...1000; near an
    anchor, some answers land on it.
    """
    felt = utility + settings.occasion_noise * rng.standard_normal(utility.shape)
    exact = 500 + settings.ticks_per_sd * (offset + scale * felt)
    ticks = np.clip(np.rint(exact), 0, 1000).astype(int)
    nearest = ANCHORS[np.abs(ticks[:, None] - ANCHORS).argmin(1)]
    snaps = (np.abs(ticks - nearest) <= settings.heap_reach) & (rng.random(ticks.shape) < settings.heaping)
    return np.where(snaps, nearest, ticks)


def rate(
    raters: Raters,
    utility: np.ndarray,
    shown: np.ndarray,
    image_ids: Sequence[str],
    prompt_ids: Sequence[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The `ratings` table of a rating study.

    Session 1 holds every assigned image once, in an order of each rater's own; session 2 the repeats (occasion 2).

    Parameters
    ----------
    raters : Raters
        Who rates.
    utility : np.ndarray
        Their true utilities, shape (n_raters, n_images).
    shown : np.ndarray
        `assign`'s answer, same shape.
    image_ids, prompt_ids : sequence of str
        One an image.
    rng : np.random.Generator
        Source of order, noise, start positions and times.

    Returns
    -------
    pd.DataFrame
        Columns user_id, image_id, prompt_id, score, occasion, session, order, start_position, response_ms; sorted by
        rater and order. True utilities are not in it (see `taste_truth`).
    """
    import pandas as pd

    if (
        utility.shape != shown.shape
        or shown.shape != (len(raters), len(image_ids))
        or len(prompt_ids) != len(image_ids)
    ):
        raise ValueError(f"utility {utility.shape}, shown {shown.shape} and {len(image_ids)} images do not agree")
    settings = raters.world.settings
    who, what, occasion, order = [], [], [], []
    for rater in range(len(raters)):
        first = rng.permutation(np.flatnonzero(shown[rater]))
        again = rng.permutation(first)[: round(settings.repeat_share * len(first))]
        what += [first, again]
        who += [np.full(len(first) + len(again), rater)]
        occasion += [np.repeat([1, 2], [len(first), len(again)])]
        order += [np.arange(1, len(first) + len(again) + 1)]
    user, image, when = np.concatenate(who), np.concatenate(what), np.concatenate(occasion)
    score = slider(utility[user, image], raters.offset[user], raters.scale[user], rng, settings)
    times = settings.rating_ms * raters.pace[user] * np.exp(settings.time_spread * rng.standard_normal(len(user)))
    return pd.DataFrame(
        {
            "user_id": np.array(raters.ids)[user],
            "image_id": np.array(image_ids)[image],
            "prompt_id": np.array(prompt_ids)[image],
            "score": score,
            "occasion": when,
            "session": when,
            "order": np.concatenate(order),
            "start_position": rng.integers(0, 1001, len(user)),
            "response_ms": np.rint(times).astype(int),
        }
    )


def taste_truth(raters: Raters, parts: dict[str, np.ndarray], image_ids: Sequence[str]) -> pd.DataFrame:
    """The truth beside the ratings: a row per rater and image, utility and its parts as `Raters.parts` gives them."""
    import pandas as pd

    n_raters, n_images = parts["shared"].shape
    columns = {"user_id": np.repeat(raters.ids, n_images), "image_id": np.tile(np.array(image_ids), n_raters)}
    columns["utility"] = np.sum([parts[part] for part in PARTS], axis=0).ravel()
    return pd.DataFrame(columns | {part: parts[part].ravel() for part in PARTS})
