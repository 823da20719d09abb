"""Standard errors of variance components for new users and new images, in one pass over the ratings.

The moment estimates are means of squared differences over four kinds of pairs of ratings (`analysis.components`). What
a user adds to such a mean is known in closed form: a pair of two users belongs half to each and moves with either, a
pair inside one user belongs to him alone. From these influences V = V_user + V_image - V_cell, never below V_user or
V_image (Cameron, Gelbach & Miller 2011, for a U-statistic: Hajek 1968). Anything computed from the components follows
by the delta method.

Resampling users and images instead gives standard errors 1.2 to 2 times too large, because noise of single cells enters
three times (`analysis.resampling`). Wrong with fewer than about ten users or images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints, group_sums, integer_codes, t_quantile
from analysis.components import repeated_ratings
from analysis.results import Population
from analysis.user_means import chosen_variance

NAMES = ("v_image", "v_user", "v_within", "v_error")
"""Order of the components in all arrays here."""

BLOCK = 1 << 16
"""Ratings whose influences are in memory at once: bounds memory, changes no number but for rounding."""

_KINDS = ("cell", "user", "image", "neither")
# how often a pair of each kind (columns as _KINDS) belongs to one user, one image, one cell
_ENDS = {"user": (1, 1, 2, 2), "image": (1, 2, 1, 2), "cell": (1, 2, 2, 2)}
# components (rows) from the four pair means: v_image = neither - image, v_user = neither - user, …
_COMBINE = np.array([[0, 0, -1, 1], [0, -1, 0, 1], [0, 1, 1, -1], [1, 0, 0, 0]], dtype=np.float64)


@dataclass(frozen=True)
class Spread:
    """Covariance matrices (4, 4) of the components in the order of `NAMES`, and what they rest on.

    Attributes
    ----------
    estimates : Floats, shape (4,)
        The moment estimates; v_error is NaN without repeats, and so are its rows and columns below.
    user, image, cell : Floats, shape (4, 4)
    n_users, n_images, n_cells : int
    """

    estimates: Floats
    user: Floats
    image: Floats
    cell: Floats
    n_users: int
    n_images: int
    n_cells: int

    def se(self, gradient: npt.ArrayLike, population: Population | None = None) -> tuple[float, float]:
        """Standard error and degrees of freedom of a number with this gradient (4,) in the components.

        Zeros in the gradient leave a component out, known or not. NaN where nothing varies.
        """
        g = np.asarray(gradient, dtype=np.float64)
        used = g != 0
        parts = [float(g[used] @ m[np.ix_(used, used)] @ g[used]) for m in (self.user, self.image, self.cell)]
        counts = (self.n_users, self.n_images, self.n_cells)
        variance, df = chosen_variance(population or Population(), (parts[0], parts[1], parts[2]), counts)
        return (math.sqrt(variance) if variance > 0 else math.nan), df

    def interval(
        self,
        number: Callable[[Floats], float],
        at: Floats,
        confidence: float,
        population: Population | None = None,
        scale: Literal["plain", "log", "logit"] = "plain",
    ) -> tuple[float, float]:
        """T interval of a smooth number of the components.

        Parameters
        ----------
        number : callable
            From (v_image, v_user, v_within, v_error) to the number.
        at : Floats, shape (4,)
            Where to centre it: the estimates that are reported, by whatever method.
        confidence : float
        scale : str
            "log" for variances (their estimates are skew), "logit" for shares; near or beyond the ends of either scale,
            and where the number is not known to a half of itself, the plain interval.
        """
        value = number(at)
        se, df = self.se(_gradient(number, at), population)
        if math.isnan(value) or math.isnan(se) or df < 1:
            return math.nan, math.nan
        reach = t_quantile(0.5 + confidence / 2, df) * se
        if scale == "log" and se < value / 2:
            return value * math.exp(-reach / value), value * math.exp(reach / value)
        if scale == "logit" and 0.02 < value < 0.98:
            centre, half = math.log(value / (1 - value)), reach / (value * (1 - value))
            return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))
        if scale == "logit":
            return max(value - reach, 0.0), min(value + reach, 1.0)
        return value - reach, value + reach


def _gradient(number: Callable[[Floats], float], at: Floats) -> Floats:
    """Central differences; a component that is NaN gets 0."""
    step = 1e-5 * float(np.nansum(np.abs(at)))
    found = np.zeros(len(at))
    for k in np.flatnonzero(np.isfinite(at)):
        move = np.zeros(len(at))
        move[k] = step
        found[k] = (number(at + move) - number(at - move)) / (2 * step)
    return found


def component_spread(score: npt.ArrayLike, user: Any, image: Any) -> Spread:
    """Covariance of the moment estimates; parameters as `analysis.components.moment_components`.

    The ratings must be crossed (users with two images, images with two users).
    """
    y = np.asarray(score, dtype=np.float64)
    y = y - y.mean()
    (u, n_users), (i, n_images) = integer_codes(user), integer_codes(image)
    repeats = repeated_ratings(u, i, n_users, n_images)
    users, images = _Groups.of(y, u, n_users), _Groups.of(y, i, n_images)
    cells = _Groups.of(y[repeats.rows], repeats.cell, repeats.n_repeated)
    everything = _Groups(np.zeros(0, np.int64), np.array([len(y)]), np.array([y.sum()]), np.array([y @ y]))
    means, pairs = _pair_means(everything, users, images, cells)
    by_user, by_image = np.zeros((4, n_users)), np.zeros((4, n_images))
    repeated, alone = np.empty((4, len(repeats.rows))), np.zeros((4, 4))
    for start in range(0, len(y), BLOCK):
        rows = slice(start, start + BLOCK)
        first, last = np.searchsorted(repeats.rows, [start, start + BLOCK])
        here = repeats.rows[first:last] - start
        influence = _influences(y, rows, users, images, cells, (here, slice(first, last)), means, pairs)
        _add_by_code(by_user, u[rows], influence)
        _add_by_code(by_image, i[rows], influence)
        repeated[:, first:last] = influence[:, here]
        influence[:, here] = 0.0
        alone += influence @ influence.T
    by_cell = np.zeros((4, repeats.n_repeated))
    _add_by_code(by_cell, repeats.cell, repeated)
    products = {
        "user": by_user @ by_user.T * (n_users / max(n_users - 1, 1)),
        "image": by_image @ by_image.T * (n_images / max(n_images - 1, 1)),
        "cell": alone + by_cell @ by_cell.T,
    }
    found = {name: _moved(product, np.array(_ENDS[name], dtype=np.float64)) for name, product in products.items()}
    n_cells = repeats.n_cells
    return Spread(_combined(means[None])[0], found["user"], found["image"], found["cell"], n_users, n_images, n_cells)


@dataclass(frozen=True)
class _Groups:
    """Ratings of each group: codes of the rows, and number, total and sum of squares of the groups."""

    codes: Ints
    size: Ints
    total: Floats
    squares: Floats

    @classmethod
    def of(cls, y: Floats, codes: Ints, n_groups: int) -> _Groups:
        size = np.bincount(codes, minlength=n_groups)
        return cls(codes, size, group_sums(y, codes, n_groups), group_sums(y * y, codes, n_groups))

    def pairs(self) -> tuple[float, float]:
        """Over all ordered pairs inside groups: half the sum of squared differences, and the number of pairs."""
        return float((self.size * self.squares - self.total**2).sum()), float((self.size * (self.size - 1)).sum())

    def partners(self, y: Floats, rows: slice) -> tuple[Floats, Floats]:
        """For each rating half the sum of its squared differences to the others of its group, and their number."""
        codes = self.codes[rows]
        size = self.size[codes]
        return np.asarray((size * y * y - 2 * y * self.total[codes] + self.squares[codes]) / 2), np.asarray(size - 1.0)


def _pair_means(everything: _Groups, users: _Groups, images: _Groups, cells: _Groups) -> tuple[Floats, Floats]:
    """Means over the four kinds of pairs and numbers of ordered pairs (4,), as `_KINDS`; NaN without any."""
    (s_all, s_user, s_image, s_cell), (n_all, n_user, n_image, n_cell) = zip(
        *(groups.pairs() for groups in (everything, users, images, cells)), strict=True
    )
    sums = np.array([s_cell, s_user - s_cell, s_image - s_cell, s_all - s_user - s_image + s_cell])
    pairs = np.array([n_cell, n_user - n_cell, n_image - n_cell, n_all - n_user - n_image + n_cell])
    pairs[pairs == 0] = np.nan
    return sums / pairs, pairs


def _influences(
    y: Floats,
    rows: slice,
    users: _Groups,
    images: _Groups,
    cells: _Groups,
    repeated: tuple[Ints, slice],
    means: Floats,
    pairs: Floats,
) -> Floats:
    """What each rating of a block adds to the means over the kinds of pairs (4, rows); NaN for a kind without pairs."""
    own, n, (here, there) = y[rows], len(y), repeated
    s_all = (n * own * own - 2 * own * users.total.sum() + users.squares.sum()) / 2
    (s_user, n_user), (s_image, n_image) = users.partners(own, rows), images.partners(own, rows)
    s_cell, n_cell = np.zeros((2, len(own)))
    s_cell[here], n_cell[here] = cells.partners(own[here], there)
    influence = np.empty((4, len(own)))
    kinds = (
        (s_cell, n_cell),
        (s_user - s_cell, n_user - n_cell),
        (s_image - s_cell, n_image - n_cell),
        (s_all - s_user - s_image + s_cell, n - 1.0 - n_user - n_image + n_cell),
    )
    for k, (total, count) in enumerate(kinds):
        influence[k] = (total - means[k] * count) / pairs[k]
    return influence


def _add_by_code(sums: Floats, codes: Ints, values: Floats) -> None:
    """Add values (4, n) to the sums (4, G) of their groups."""
    for total, part in zip(sums, values, strict=True):
        if len(total) <= len(codes):
            total += np.bincount(codes, part, len(total))
        else:
            np.add.at(total, codes, part)


def _moved(products: Floats, ends: Floats) -> Floats:
    """Sum over groups of what each adds to the components, times itself (4, 4), from the same by kind of pair."""
    combine = _COMBINE * ends
    found = np.asarray(combine @ np.nan_to_num(products) @ combine.T)
    if np.isnan(products[0, 0]):
        found[3, :] = found[:, 3] = np.nan
    return found


def _combined(pair_means: Floats) -> Floats:
    """Components (m, 4) from numbers by kind of pair (m, 4); NaN of the unused kind does not spread."""
    found = np.nan_to_num(pair_means) @ _COMBINE.T
    found[:, 3] = pair_means[:, 0]
    return found
