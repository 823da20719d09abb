"""What raters answer when two images stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from beholder.errors import UserError
from beholder.simulate.world import Raters, Settings

if TYPE_CHECKING:
    import pandas as pd

CHOICES = ("left", "tie", "right")


def vote_probabilities(left: np.ndarray, right: np.ndarray, settings: Settings) -> np.ndarray:
    """Exact probabilities of left, tie and right, last axis 3.

    The rater feels d = left + left_bias - right + e with e ~ N(0, 2 occasion_noise^2): independent noise on each image.
    He says tie when |d| < tie_width, else names the better one.

    Parameters
    ----------
    left, right : np.ndarray
        True utilities, broadcastable to one shape.
    settings : Settings
        Gives occasion_noise, tie_width and left_bias.
    """
    difference = np.asarray(left) + settings.left_bias - np.asarray(right)
    sd = np.sqrt(2.0) * settings.occasion_noise
    wins = ndtr((difference - settings.tie_width) / sd)
    loses = ndtr((-difference - settings.tie_width) / sd)
    return np.stack([wins, 1.0 - wins - loses, loses], axis=-1)


def vote(left: np.ndarray, right: np.ndarray, rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """One answer ("left", "tie" or "right") for every pair of true utilities; parameters as in `vote_probabilities`."""
    edges = np.cumsum(vote_probabilities(left, right, settings), axis=-1)[..., :2]
    return np.array(CHOICES)[(rng.random(edges.shape[:-1])[..., None] > edges).sum(-1)]


def answer(
    trials: pd.DataFrame, raters: Raters, utility: np.ndarray, image_ids: Sequence[str], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let the raters answer the trials of a pairwise study.

    Parameters
    ----------
    trials : pd.DataFrame
        As `study.design.plan_trials` gives them.
    raters : Raters
        Who answers; `participant_id` is looked up in their ids.
    utility : np.ndarray
        True utilities, shape (n_raters, n_images).
    image_ids : sequence of str
        Names of the columns of `utility`.
    rng : np.random.Generator
        Source of answers and times.

    Returns
    -------
    votes, truth : pd.DataFrame
        The trials with `choice` and `response_ms`; and beside them trial_id, utility_left, utility_right and the exact
        p_left, p_tie, p_right.

    Raises
    ------
    UserError
        If a trial names a rater or an image that is not there.
    """
    import pandas as pd

    row = pd.Index(raters.ids).get_indexer(pd.Index(trials["participant_id"]))
    left, right = (pd.Index(image_ids).get_indexer(pd.Index(trials[f"{side}_image_id"])) for side in ("left", "right"))
    unknown = (row < 0) | (left < 0) | (right < 0)
    if unknown.any():
        raise UserError(
            f"{unknown.sum()} of {len(trials)} trials name a rater or an image without a utility, first "
            f"{trials['trial_id'].iloc[int(unknown.argmax())]}",
            "participants among the raters and images among the drawn ones",
        )
    settings = raters.world.settings
    u_left, u_right = utility[row, left], utility[row, right]
    times = settings.vote_ms * raters.pace[row] * np.exp(settings.time_spread * rng.standard_normal(len(row)))
    votes = trials.assign(choice=vote(u_left, u_right, rng, settings), response_ms=np.rint(times).astype(int))
    probabilities = vote_probabilities(u_left, u_right, settings)
    truth = pd.DataFrame({"trial_id": trials["trial_id"], "utility_left": u_left, "utility_right": u_right})
    return votes, truth.assign(**{f"p_{name}": probabilities[:, k] for k, name in enumerate(CHOICES)})
