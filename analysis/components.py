"""Where ratings differ: shared taste, users' use of the slider, private taste and noise; and the ceilings that follow.

A rating is y = mu + a_image + b_user + x_user:image + e_occasion with variances v_image (shared taste), v_user (scale
use, not taste), v_user_image (private taste) and v_error (what the same user would answer differently next time).
Private taste and noise can be told apart only where users rated images twice.

Sources: Gao and Owen 2017 (moment estimates from pair differences, one pass); Hoenekopp 2006 (beholder index); Sheppard
1899 (arcsine law of Gaussian pairs); Pearson 1907 (rank correlation of a Gaussian pair); Spearman 1910, Brown 1910.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, owens_t

from analysis.clusters import Floats, Ints, integer_codes
from analysis.errors import EstimateError, TableError

_DENSE = 64  # possible user x image cells a rating up to which ratings are counted in a table of all cells

FEWEST_REPEAT_PAIRS = 20
"""Repeated pairs below which noise is not estimated: its relative standard error is sqrt(2/pairs) at best."""


@dataclass(frozen=True)
class Components:
    """Variance components of ratings, in squared units of the scale.

    Attributes
    ----------
    v_image, v_user : float
        Shared taste; users' levels. Unbiased, so they may come out below 0.
    v_within : float
        Private taste and noise together.
    v_user_image, v_error : float
        Its two parts; NaN unless `separable`.
    separable : bool
        Whether enough images were rated twice by the same user.
    n_ratings, n_users, n_images, n_repeat_pairs : int
    """

    v_image: float
    v_user: float
    v_within: float
    v_user_image: float
    v_error: float
    separable: bool
    n_ratings: int
    n_users: int
    n_images: int
    n_repeat_pairs: int

    @property
    def why_not_separable(self) -> str | None:
        """Reason in words, None when separable."""
        if self.separable:
            return None
        return f"{self.n_repeat_pairs} repeated ratings; noise needs {FEWEST_REPEAT_PAIRS} or more"

    @property
    def beholder_index(self) -> float:
        """b1 = v_user_image / (v_user_image + v_image), the private share of taste; NaN unless separable.

        Too high when users stretch the slider differently: repeat it on ratings standardised within users.
        """
        return _share(self.v_user_image, self.v_image)

    @property
    def reliability(self) -> float:
        """Rho = (v_image + v_user_image) / (v_image + v_user_image + v_error), retest correlation inside a user."""
        return _share(max(self.v_image, 0.0) + max(self.v_user_image, 0.0), self.v_error)

    @property
    def population_r(self) -> float:
        """Within-user correlation of the best model that gives everybody the same scores; needs no repeats."""
        return math.sqrt(_share(self.v_image, self.v_within))

    @property
    def personal_r(self) -> float:
        """Within-user correlation of the best personal model, sqrt(rho); NaN unless separable."""
        return math.sqrt(self.reliability)

    @property
    def within_user_sd(self) -> float:
        """Standard deviation of one user's ratings over images."""
        return math.sqrt(max(self.v_image, 0.0) + max(self.v_within, 0.0))

    def image_mean_r(self, raters: float) -> float:
        """Correlation of the best model with image means over `raters` users (Spearman-Brown); needs no repeats."""
        return math.sqrt(_share(self.v_image, self.v_within / raters))


def _share(part: float, rest: float) -> float:
    """Part / (part + rest) with negative estimates taken as 0; NaN when either is NaN or nothing is left."""
    if math.isnan(part) or math.isnan(rest):
        return math.nan
    part, rest = max(part, 0.0), max(rest, 0.0)
    return part / (part + rest) if part + rest > 0 else math.nan


def moment_components(score: npt.ArrayLike, user: Any, image: Any) -> Components:
    """Variance components from mean squared differences of pairs, in one pass over the ratings.

    Parameters
    ----------
    score : array_like, shape (n,)
        Ratings of all occasions.
    user, image : array or Series, shape (n,)
        Ids of any type; repeated (user, image) rows are repeats of a rating.

    Notes
    -----
    With S(g) the sum over pairs inside groups of (y_i - y_j)^2 / 2 and n_g their number, S(g)/n_g of pairs in the same
    cell estimates v_error; of the same user but other images v_image + v_within; of the same image but other users
    v_user + v_within; of neither the sum of all. Differences of these give the components.

    Assumes additive independent effects and images assigned to users without regard to taste. Weights users by their
    squared number of ratings, so it is inefficient for very unequal users. No interval here: resample users and images.

    Raises
    ------
    EstimateError
        No two users share an image, or no user rated two images.
    TableError
        Ratings that are not finite.
    """
    y = np.asarray(score, dtype=np.float64)
    if not np.isfinite(y).all():
        raise TableError(f"{int((~np.isfinite(y)).sum())} ratings are NaN or infinite", "finite numbers")
    u, n_users = integer_codes(user)
    i, n_images = integer_codes(image)
    repeats = repeated_ratings(u, i, n_users, n_images)
    y = y - (y.mean() if len(y) else 0.0)  # S(g) does not change, its rounding error does
    everything: Ints = np.zeros(len(y), dtype=np.int64)
    groupings = ((everything, 1), (u, n_users), (i, n_images))
    (s_all, n_all), (s_user, n_user), (s_image, n_image) = (_pair_sums(y, *g) for g in groupings)
    s_cell, n_cell = _pair_sums(y[repeats.rows], repeats.cell, repeats.n_repeated)
    same_user, same_image = n_user - n_cell, n_image - n_cell
    neither = n_all - n_user - n_image + n_cell
    if min(same_user, same_image, neither) <= 0:
        raise EstimateError(
            f"{n_users} users, {n_images} images, {same_user} pairs within users, {same_image} within images",
            "users with two images and images with two users",
            "collect crossed ratings",
        )
    g_user, g_image = (s_user - s_cell) / same_user, (s_image - s_cell) / same_image
    g_all = (s_all - s_user - s_image + s_cell) / neither
    v_image, v_user = g_all - g_image, g_all - g_user
    v_within = g_all - v_image - v_user
    separable = n_cell >= FEWEST_REPEAT_PAIRS
    v_error = s_cell / n_cell if separable else math.nan
    return Components(
        v_image, v_user, v_within, v_within - v_error, v_error, separable, len(y), n_users, n_images, int(n_cell)
    )


@dataclass(frozen=True)
class Repeats:
    """Ratings of images that their user rated more than once.

    Attributes
    ----------
    rows : Ints, shape (r,)
        Where they are, rising.
    cell : Ints, shape (r,)
        Code of the user and image of each, 0 … n_repeated-1.
    n_repeated, n_cells : int
        Cells with several ratings, and cells with any.
    """

    rows: Ints
    cell: Ints
    n_repeated: int
    n_cells: int


def repeated_ratings(user: Ints, image: Ints, n_users: int, n_images: int) -> Repeats:
    """Find repeats from codes of users and images; only ratings that may be repeats are sorted."""
    key = image * n_users + user
    rows: Ints = np.arange(len(key))
    if n_users * n_images <= _DENSE * len(key):
        most = int(np.bincount(image).max())  # no cell has more ratings than this: bytes do for most studies
        size = np.zeros(n_users * n_images, np.min_scalar_type(most))
        np.add.at(size, key, size.dtype.type(1))
        rows = np.flatnonzero(size[key] > 1)
    _, cell, n = np.unique(key[rows], return_inverse=True, return_counts=True)
    several = n > 1
    rows, cell = rows[several[cell]], (np.cumsum(several) - 1)[cell[several[cell]]]
    n_repeated = int(several.sum())
    return Repeats(rows, cell, n_repeated, len(key) - len(rows) + n_repeated)


def _pair_sums(y: Floats, codes: Ints, n_groups: int) -> tuple[float, int]:
    """Half the sum of squared differences over pairs inside groups, and the number of pairs."""
    size = np.bincount(codes, minlength=n_groups)
    squares = np.bincount(codes, y * y, n_groups)
    totals = np.bincount(codes, y, n_groups)
    return float((size * squares - totals**2).sum() / 2), int((size * (size - 1) // 2).sum())


def accuracy_from_r(r: npt.ArrayLike) -> Floats:
    """Pairwise accuracy of Gaussian scores that correlate r with Gaussian ratings: 1/2 + asin(r)/pi.

    Clipped sliders with half the answers at anchors move it by less than .01.
    """
    return np.asarray(0.5 + np.arcsin(np.asarray(r, dtype=np.float64)) / np.pi)


def r_from_accuracy(accuracy: npt.ArrayLike) -> Floats:
    """Inverse of `accuracy_from_r`: sin(pi (A - 1/2))."""
    return np.asarray(np.sin(np.pi * (np.asarray(accuracy, dtype=np.float64) - 0.5)))


def accuracy_beyond(r: npt.ArrayLike, margin_sd: npt.ArrayLike) -> Floats:
    """Accuracy of a Gaussian pair on those pairs only whose ratings differ by more than a margin.

    It rises with the margin for every r > 0, so a rising curve alone shows nothing about a model.

    Parameters
    ----------
    r : array_like
        Correlation of scores and ratings, -1 … 1.
    margin_sd : array_like
        Margin in standard deviations of the ratings, 0 or more; broadcast with `r`.

    Notes
    -----
    E[Phi(k|z|) given |z| > d] with k = r/sqrt(1 - r^2), d = margin_sd/sqrt 2, z standard normal. The integral of
    phi(z) Phi(kz) from d is Owen's T function: the value is 1/2 + T(d, k)/Phi(-d) (Owen 1956). Beyond d = 7 fewer than
    one pair in 10^11 is left and d is taken as 7.
    """
    rho = np.clip(np.asarray(r, dtype=np.float64), -1, 1)
    d = np.minimum(np.asarray(margin_sd, dtype=np.float64) / np.sqrt(2), 7.0)
    with np.errstate(divide="ignore"):
        slope = rho / np.sqrt(1 - rho * rho)
    return np.asarray(0.5 + owens_t(d, slope) / ndtr(-d))


def srocc_from_r(r: npt.ArrayLike) -> Floats:
    """Spearman correlation of a Gaussian pair with Pearson correlation r: (6/pi) asin(r/2)."""
    return np.asarray(6 / np.pi * np.arcsin(np.asarray(r, dtype=np.float64) / 2))


def shrunken_offsets(values: npt.ArrayLike, user: Ints, image: Ints) -> Floats:
    """How far each user's level lies from the others', shrunk to 0 for users with few ratings; shape (users,).

    lambda_u (mean_u - mean) with lambda_u = v_user / (v_user + (v_image + v_within)/n_u), components by moments. All
    zero when every image has one value for all its users (a scorer that knows no users): there is nothing to centre.
    Not shrunk when every user has one value for all images (a model that knows nothing else): it is all level.

    Parameters
    ----------
    values : array_like, shape (n,)
        Ratings or scores.
    user, image : Ints, shape (n,)
        Codes from 0.
    """
    y = np.asarray(values, dtype=np.float64)
    n_users, n_images = int(user.max()) + 1, int(image.max()) + 1
    highest, lowest = np.full(n_images, -np.inf), np.full(n_images, np.inf)
    np.maximum.at(highest, image, y)
    np.minimum.at(lowest, image, y)
    if (highest[image] == lowest[image]).all():
        return np.zeros(n_users)
    count = np.bincount(user, minlength=n_users)
    level = np.bincount(user, y - y.mean(), n_users) / np.maximum(count, 1)
    one_value = np.zeros(n_users)
    one_value[user] = y
    if (one_value[user] == y).all():
        return np.asarray(level)
    parts = moment_components(y, user, image)
    noise = (max(parts.v_image, 0.0) + max(parts.v_within, 0.0)) / np.maximum(count, 1)
    between = max(parts.v_user, 0.0)
    return np.asarray(level * between / (between + noise)) if between > 0 else np.zeros(n_users)
