"""Resampling users and images of crossed ratings at once, for numbers that are sums over pairs of ratings.

Users and images are drawn with replacement, each on its own (Owen 2007, doi:10.1214/07-AOAS122); a rating then counts
as often as its user times its image was drawn. Pairs between two copies of one rating, or of one user taken for two
users, say nothing and are left out, so that with every user and image drawn once the numbers are those of the data.
All replicates together cost a few products of sparse user x image tables.

Percentile intervals from it are too wide: noise of single cells is resampled in both directions at once, so that
standard errors of components come out 1.2 to 2 times too large (`analysis.component_spread` has them right).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.clusters import Floats, integer_codes
from analysis.results import Population

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CHUNK = 100
"""Replicates worked on at once, to bound memory."""


@dataclass(frozen=True)
class Crossed:
    """Ratings summed by user and image.

    Attributes
    ----------
    n, total, squares : sparse array (users, images)
        Number of ratings in each cell, their sum and their sum of squares, of scores less their mean.
    """

    n: csr_array
    total: csr_array
    squares: csr_array

    @classmethod
    def of(cls, score: Any, user: Any, image: Any) -> Crossed:
        """Sum ratings (n,) by cell; ids of any type."""
        from scipy.sparse import csr_array

        y = np.asarray(score, dtype=np.float64)
        y = y - y.mean()
        (u, n_users), (i, n_images) = integer_codes(user), integer_codes(image)
        shape = (n_users, n_images)
        return cls(*(csr_array((part, (u, i)), shape=shape) for part in (np.ones_like(y), y, y * y)))


@dataclass(frozen=True)
class Draws:
    """How often each user (users, B) and each image (images, B) was drawn."""

    users: Floats
    images: Floats

    @classmethod
    def once(cls, crossed: Crossed) -> Draws:
        """Everything once: the data themselves."""
        n_users, n_images = crossed.n.shape
        return cls(np.ones((n_users, 1)), np.ones((n_images, 1)))

    @classmethod
    def random(cls, crossed: Crossed, size: int, rng: np.random.Generator, population: Population) -> Draws:
        """`size` replicates; what the population holds fixed is drawn once in each."""

        def drawn(count: int, new: bool) -> Floats:
            if not new:
                return np.ones((count, size))
            return rng.multinomial(count, np.full(count, 1 / count), size=size).T.astype(np.float64)

        n_users, n_images = crossed.n.shape
        return cls(drawn(n_users, population.people == "new"), drawn(n_images, population.items == "new"))

    def chunks(self) -> list[Draws]:
        """The same in pieces of `CHUNK` replicates."""
        edges = range(0, self.users.shape[1], CHUNK)
        return [Draws(self.users[:, k : k + CHUNK], self.images[:, k : k + CHUNK]) for k in edges]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


@dataclass(frozen=True)
class ComponentDraws:
    """Moment estimates of each replicate, shape (B,); see `analysis.components.Components`."""

    v_image: Floats
    v_user: Floats
    v_within: Floats
    v_error: Floats


def component_draws(crossed: Crossed, draws: Draws) -> ComponentDraws:
    """Variance components by moments for every replicate; NaN where a replicate has no pairs of a kind."""
    parts = [_components(crossed, piece) for piece in draws.chunks()]
    return ComponentDraws(*(np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])))


def _components(crossed: Crossed, draws: Draws) -> ComponentDraws:
    """Sums of squared differences over pairs in the same cell, user, image, and over all; halves of their means."""
    w, v = draws.users, draws.images
    n, t, q = crossed.n, crossed.total, crossed.squares
    within = n * q - t * t  # over pairs inside each cell
    cells = n * n
    n_u, t_u, q_u = n @ v, t @ v, q @ v
    n_i, t_i, q_i = n.T @ w, t.T @ w, q.T @ w
    n_a, t_a, q_a = ((w * x).sum(axis=0) for x in (n_u, t_u, q_u))
    s_user, p_user = n_u * q_u - t_u**2, n_u**2  # twice the number of pairs, a rating with itself included
    s_image, p_image = n_i * q_i - t_i**2, n_i**2
    own_user, own_user_n = within @ v**2, cells @ v**2
    own_image, own_image_n = within.T @ w**2, cells.T @ w**2
    same_user = (w * (s_user - own_user)).sum(axis=0)
    same_user_n = (w * (p_user - own_user_n)).sum(axis=0)
    same_image = (v * (s_image - own_image)).sum(axis=0)
    same_image_n = (v * (p_image - own_image_n)).sum(axis=0)
    neither = n_a * q_a - t_a**2 - (w**2 * (s_user - own_user)).sum(axis=0) - (v**2 * s_image).sum(axis=0)
    neither_n = n_a**2 - (w**2 * (p_user - own_user_n)).sum(axis=0) - (v**2 * p_image).sum(axis=0)
    same_cell = (w * (within @ v)).sum(axis=0)
    same_cell_n = (w * ((cells - n) @ v)).sum(axis=0)
    g_user, g_image = _ratio(same_user, same_user_n), _ratio(same_image, same_image_n)
    g_all, v_error = _ratio(neither, neither_n), _ratio(same_cell, same_cell_n)
    v_image, v_user = g_all - g_image, g_all - g_user
    return ComponentDraws(v_image, v_user, g_all - v_image - v_user, v_error)
