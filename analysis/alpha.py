"""Krippendorff's alpha: agreement of any number of raters with missing ratings, and its interval.

In a sparse crossed design alpha is about v_image / (v_image + v_user + v_user_image + v_error), the ICC of a single
rating: a low alpha beside a high beholder index is what taste looks like, not bad data.

Assumes that raters and images are drawn at random and that an answer is missing for no reason of its own. Wrong as a
measure of data quality where tastes differ, and for images with one rating only, which tell nothing and are left out.

Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability. The interval is that of a U-statistic with
crossed clusters (`analysis.component_spread`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints, cell_codes, integer_codes
from analysis.errors import EstimateError
from analysis.results import Population
from analysis.user_means import chosen_variance, t_interval

Metric = Literal["nominal", "ordinal", "interval", "ratio"]


def krippendorff_alpha(score: npt.ArrayLike, image: Any, metric: Metric = "interval") -> float:
    """Krippendorff's alpha; 1 is perfect agreement, 0 what chance gives.

    Parameters
    ----------
    score : array_like, shape (n,)
        One rating for each user and image; whoever is missing is simply not there.
    image : array or Series, shape (n,)
        What was rated. Images with one rating cannot agree and are left out.
    metric : str
        Squared difference of two values c, k: "nominal" (0 or 1), "ordinal" (number of ratings between them),
        "interval" (c - k), "ratio" ((c - k)/(c + k)).

    Notes
    -----
    alpha = 1 - D_o/D_e with D_o the mean squared difference inside images, an image with m ratings weighing m, and D_e
    the mean over all pairs of ratings.

    Raises
    ------
    EstimateError
        No image with two ratings, all ratings alike, or negative values with the ratio metric.
    """
    y = np.asarray(score, dtype=np.float64)
    codes, n_images = integer_codes(image)
    size = np.bincount(codes, minlength=n_images)
    kept = size[codes] > 1
    if not kept.any():
        raise EstimateError("no image has two ratings", "images rated by two users or more")
    y, codes, size = y[kept], codes[kept], size[codes[kept]]
    values, value = np.unique(y, return_inverse=True)
    if len(values) == 1:
        raise EstimateError(f"all {len(y)} ratings are {values[0]:g}", "ratings that vary", "alpha does not exist")
    if metric in ("interval", "ordinal"):
        counts = np.bincount(value)
        place = values if metric == "interval" else np.cumsum(counts) - counts / 2
        return _alpha_of_squares(place[value], codes)
    return _alpha_of_table(values, value, codes, size, metric)


def _alpha_of_squares(x: Floats, codes: Ints) -> float:
    """Squared differences of numbers: sums of squares suffice."""
    x = x - x.mean()
    totals, squares = np.bincount(codes, x), np.bincount(codes, x * x)
    counts = np.bincount(codes)
    some = counts > 1
    observed = (2 * (counts * squares - totals**2)[some] / (counts[some] - 1)).sum() / len(x)
    expected = 2 * (len(x) * (x * x).sum() - x.sum() ** 2) / (len(x) * (len(x) - 1))
    return float(1 - observed / expected)


def _alpha_of_table(
    values: Floats,
    value: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    size: npt.NDArray[np.int64],
    metric: Metric,
) -> float:
    """Any difference, through the table of coincidences of values inside images."""
    from scipy.sparse import csr_array

    if metric == "nominal":
        gaps = 1.0 - np.eye(len(values))
    elif metric == "ratio":
        if values[0] < 0:
            raise EstimateError(f"a rating of {values[0]:g} with the ratio metric", "0 or more", "use interval")
        total = values[:, None] + values[None]
        gaps = np.divide(values[:, None] - values, total, out=np.zeros_like(total), where=total > 0) ** 2
    else:
        raise EstimateError(f"metric {metric!r}", "nominal, ordinal, interval, ratio")
    shape = (int(codes.max()) + 1, len(values))
    counts = csr_array((np.ones(len(value)), (codes, value)), shape=shape)
    weighted = csr_array((1 / (size - 1.0), (codes, value)), shape=shape)
    together = (counts.T @ weighted).toarray()
    observed = (together * gaps).sum() / len(value)  # a value with itself has no difference
    overall = np.bincount(value).astype(np.float64)
    expected = overall @ gaps @ overall / (len(value) * (len(value) - 1))
    return float(1 - observed / expected)


def alpha_interval(
    score: npt.ArrayLike,
    user: Any,
    image: Any,
    metric: Literal["interval", "ordinal"] = "interval",
    confidence: float = 0.95,
    population: Population | None = None,
) -> tuple[float, float]:
    """T interval of alpha for new users and new images; the ordinal ranks are held fixed.

    Parameters
    ----------
    score, user, image : array or Series, shape (n,)
        One rating a user and image, as for `krippendorff_alpha`.

    Notes
    -----
    Influence of rating r on D_o, with a_r its mean squared difference to the others of its image and P the image's mean
    pair: (2 a_r - P - D_o)/n; on D_e likewise without images. Sums by user, image and cell as in
    `analysis.user_means.mean_over_users`.
    """
    y = np.asarray(score, dtype=np.float64)
    codes, n_images = integer_codes(image)
    kept = np.bincount(codes, minlength=n_images)[codes] > 1
    y = y[kept]
    if metric == "ordinal":
        value = np.unique(y, return_inverse=True)[1]
        counts = np.bincount(value)
        y = (np.cumsum(counts) - counts / 2)[value]
    (i, n_images), (u, n_users) = integer_codes(codes[kept]), integer_codes(integer_codes(user)[0][kept])
    y, n = y - y.mean(), len(y)
    size, total, squares = (np.bincount(i, part, n_images) for part in (None, y, y * y))
    mine = (size[i] * y * y - 2 * y * total[i] + squares[i]) / (size[i] - 1)
    image_mean = np.bincount(i, mine, n_images) / size
    everyone = (n * y * y - 2 * y * y.sum() + squares.sum()) / (n - 1)
    observed, expected = float(mine.mean()), float(everyone.mean())
    influence = observed / expected**2 * 2 * (everyone - expected) - (2 * mine - image_mean[i] - observed) / expected
    cell, n_cells = cell_codes(u, i, n_images)
    sums = [float((np.bincount(c, influence / n) ** 2).sum()) for c in (u, i, cell)]
    sums[0] *= n_users / (n_users - 1) if n_users > 1 else math.nan
    sums[1] *= n_images / (n_images - 1) if n_images > 1 else math.nan
    variance, df = chosen_variance(
        population or Population(), (sums[0], sums[1], sums[2]), (n_users, n_images, n_cells)
    )
    low, high, _ = t_interval(
        1 - observed / expected, math.sqrt(variance) if variance > 0 else math.nan, df, confidence
    )
    return low, high
