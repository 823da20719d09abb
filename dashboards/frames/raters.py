"""Who agrees with whom, how the slider is used, and which images split people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from analysis import agreement as agreements
from analysis.errors import UserError

ANCHORS = (0, 250, 500, 750, 1000)
"""Ticks of the labelled points of the slider."""


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of raters over the images both rated.

    Attributes
    ----------
    order : tuple of str
        Raters, those who agree side by side.
    pairs : DataFrame
        user, other, agreement (NaN for fewer than `fewest` shared images), shared; both orders of every pair.
    fewest : int
    """

    order: tuple[str, ...]
    pairs: pd.DataFrame
    fewest: int

    @property
    def known(self) -> pd.DataFrame:
        """Each pair once, where enough images are shared."""
        pairs = self.pairs
        return pairs[(pairs["user"] < pairs["other"]) & pairs["agreement"].notna()]


def agreement(ratings: pd.DataFrame, fewest: int) -> Agreement:
    """Spearman correlation of every two raters; a rater's repeats of an image are averaged first.

    Raises
    ------
    UserError
        If no two raters share `fewest` images.
    """
    scores = ratings.pivot_table(index="image_id", columns="user_id", values="score", aggfunc="mean")
    matrix = scores.corr(method="spearman", min_periods=fewest).to_numpy().copy()
    rated = scores.notna().to_numpy().astype(int)
    shared = rated.T @ rated
    np.fill_diagonal(matrix, np.nan)
    if np.isnan(matrix).all():
        raise UserError(f"no two raters share {fewest} images", "raters with images in common", "lower the number")
    users = scores.columns.to_numpy(dtype=str)
    rows, columns = np.indices(matrix.shape)
    off = rows != columns
    pairs = pd.DataFrame(
        {
            "user": users[rows[off]],
            "other": users[columns[off]],
            "agreement": matrix[off],
            "shared": shared[off],
        }
    )
    return Agreement(tuple(str(users[k]) for k in _neighbours(matrix)), pairs, fewest)


def _neighbours(matrix: np.ndarray) -> np.ndarray:
    """Order of the rows that puts raters who agree side by side; unknown pairs count as the middle one."""
    if len(matrix) < 3:
        return np.arange(len(matrix))
    distance = 1.0 - np.where(np.isnan(matrix), np.nanmedian(matrix), matrix)
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance, checks=False)
    leaves: np.ndarray = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    return leaves


def variance(ratings: pd.DataFrame) -> tuple[agreements.Agreement, pd.DataFrame]:
    """Where ratings differ: components by moments, and a frame of part, share (sums to 1; negative ones count as 0).

    Raises
    ------
    UserError
        If the ratings are malformed, or too few to tell images from people.
    """
    found = agreements.rating_agreement(ratings, method="moments")
    parts = {"shared taste": found.v_image, "level of the slider": found.v_user}
    if found.separable:
        parts |= {"private taste": found.v_user_image, "noise": found.v_error}
    else:
        parts |= {"private taste and noise": found.v_within}
    shares = np.clip(list(parts.values()), 0.0, None)
    return found, pd.DataFrame({"part": list(parts), "share": shares / shares.sum()})


def planted_index(truth: pd.DataFrame) -> float:
    """The private share of taste of simulated people on these images: mean over people of variances in utility."""
    parts = truth.assign(private=truth["utility"] - truth["shared"]).groupby("user_id")[["shared", "private"]].var()
    return float((parts["private"] / (parts["private"] + parts["shared"])).mean())


def histogram(ratings: pd.DataFrame, width: int = 25) -> pd.DataFrame:
    """Ratings by bin of `width` ticks: from, to, ratings, share. The last bin includes 1000."""
    edges = np.arange(0, 1001, width)
    counts, _ = np.histogram(ratings["score"], edges)
    frame = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "ratings": counts})
    return frame.assign(share=frame["ratings"] / max(len(ratings), 1))


def by_rater(ratings: pd.DataFrame, width: int = 50) -> pd.DataFrame:
    """Each rater's answers by bin: user, from, to, ratings, share of the rater's answers, median (for the order)."""
    edges = np.arange(0, 1001, width)
    frames = []
    for user, scores in ratings.groupby("user_id", sort=True)["score"]:
        counts, _ = np.histogram(scores, edges)
        frames.append(
            pd.DataFrame({"user": user, "from": edges[:-1], "to": edges[1:], "ratings": counts}).assign(
                share=counts / len(scores), median=scores.median()
            )
        )
    return pd.concat(frames, ignore_index=True)


def slider_use(ratings: pd.DataFrame) -> pd.DataFrame:
    """How each rater moves the slider.

    Returns
    -------
    DataFrame
        user, ratings, median, spread (interquartile range), on_anchor (share exactly on a label), at_ends (share at 0
        or 1000), seconds (median; NaN without times), retest (correlation of repeats with first answers; NaN below 5
        repeats); by median.
    """
    scores = ratings.groupby("user_id")["score"]
    flags = ratings.assign(anchor=ratings["score"].isin(ANCHORS), end=ratings["score"].isin((0, 1000)))
    shares = flags.groupby("user_id")[["anchor", "end"]].mean()
    frame = pd.DataFrame(
        {
            "ratings": scores.size(),
            "median": scores.median(),
            "spread": scores.quantile(0.75) - scores.quantile(0.25),
            "on_anchor": shares["anchor"],
            "at_ends": shares["end"],
        }
    )
    times = ratings.groupby("user_id")["response_ms"].median() / 1000 if "response_ms" in ratings else np.nan
    again = repeats(ratings)
    kept = again.groupby("user_id").filter(lambda rows: len(rows) >= 5)
    retest = kept.groupby("user_id")[["first", "again"]].apply(lambda rows: rows["first"].corr(rows["again"]))
    frame = frame.assign(seconds=times, retest=retest if len(kept) else np.nan)
    return frame.sort_values("median").rename_axis("user").reset_index()


def repeats(ratings: pd.DataFrame) -> pd.DataFrame:
    """Images that the same person rated again: user_id, image_id, first, again (occasions 1 and 2)."""
    columns = ["user_id", "image_id", "first", "again"]
    if "occasion" not in ratings:
        return pd.DataFrame(columns=columns)
    one, two = (ratings[ratings["occasion"] == k].set_index(["user_id", "image_id"])["score"] for k in (1, 2))
    both = pd.DataFrame({"first": one, "again": two}).dropna()
    return both.reset_index()[columns]


def splitting(ratings: pd.DataFrame, fewest: int = 5) -> pd.DataFrame:
    """Images by how far people are apart about them, widest first.

    Scores are standardised inside each rater, so that neither level nor stretch of the slider counts.

    Returns
    -------
    DataFrame
        image_id, prompt_id (where the ratings name it), raters, mean, spread (SD over raters, in SDs of a rater).
    """
    first = ratings[ratings["occasion"] == 1] if "occasion" in ratings else ratings
    groups = first.groupby("user_id")["score"]
    spread = groups.transform("std")
    usable = first[spread > 0].assign(z=(first["score"] - groups.transform("mean")) / spread)
    kept = ["image_id", "prompt_id"] if "prompt_id" in usable else ["image_id"]
    images = usable.groupby(kept)["z"].agg(raters="size", mean="mean", spread="std").reset_index()
    return images[images["raters"] >= fewest].sort_values("spread", ascending=False, ignore_index=True)
