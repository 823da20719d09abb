"""Empirical-Bayes slopes, and factors for images that were rated in training.

What slopes and image effects leave of a rating, r_ui, is factorised: r_ui = p_u' q_i + e_ui with p_u ~ N(0, I) and
q_i ~ N(0, diag(tau)), one tau a factor. Means and covariances of p and q take turns (variational Bayes, Lim and Teh
2007), and each tau follows its factor: a factor that the ratings do not support shrinks to nothing. New images have no
factors; for them the slopes alone speak. Which image a row is, is told by the row itself: it is the same, to the bit,
as in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from beholder.errors import UserError
from beholder.taste.base import Floats, Indices, Prediction, Ratings, State, Strings
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design
from beholder.taste.linear import LinearTaste
from beholder.taste.people import People


@dataclass(frozen=True, eq=False)
class FactorTaste:
    """A fitted factorisation on top of slopes (see `beholder.taste.base.FittedModel`). K factors, I training images.

    Attributes
    ----------
    slopes : LinearTaste
    rows : array, shape (I, p)
        Rows of the design of the training images, in the order of `slopes.known_images`.
    users, user_covariances : arrays, shapes (U, K) and (U, K, K)
        p, in the order of `user_ids`.
    images, image_covariances : arrays, shapes (I, K) and (I, K, K)
        q.
    noise_sd : float
        SD of a rating of a training image round its expectation, ticks.
    """

    slopes: LinearTaste
    rows: Floats
    users: Floats
    user_covariances: Floats
    images: Floats
    image_covariances: Floats
    noise_sd: float
    name: str = "factors"
    settings: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "factors"

    @property
    def user_ids(self) -> Strings:
        """Whom it knows, sorted."""
        return self.slopes.user_ids

    @property
    def inputs(self) -> tuple[str, ...]:
        """Those of the slopes, and which image it is."""
        return (*self.slopes.inputs, "image")

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: the expected rating of image `matrix[i]` by `user_ids[i]`; unknown users raise `UserError`."""
        names = np.asarray(user_ids, dtype=str)
        found = self.slopes.predict(names, matrix)
        who, (warm, which) = np.searchsorted(self.user_ids, names), self._known(matrix)
        mean, variance = found.mean.copy(), found.sd**2
        noise = np.array(np.broadcast_to(found.noise_sd, mean.shape))
        p, q, s, t = self.users[who[warm]], self.images[which], self.user_covariances, self.image_covariances
        s, t = s[who[warm]], t[which]
        mean[warm] += self.slopes.image_effects[which] + np.einsum("nk,nk->n", p, q)
        variance[warm] += self.slopes.image_variances[which] - self.slopes.image_sd**2 - self.slopes.spare_sd**2
        for outer in (p[:, :, None] * p[:, None, :], s):
            variance[warm] += np.einsum("nkl,nkl->n", outer, t)
        variance[warm] += np.einsum("nkl,nk,nl->n", s, q, q)
        noise[warm] = self.noise_sd
        return Prediction(mean, np.sqrt(np.maximum(variance, 0.0)), noise)

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean` to the bit."""
        names = np.asarray(user_ids, dtype=str)
        mean = self.slopes.predict_mean(names, matrix)
        who, (warm, which) = np.searchsorted(self.user_ids, names), self._known(matrix)
        mean[warm] += self.slopes.image_effects[which] + np.einsum(
            "nk,nk->n", self.users[who[warm]], self.images[which]
        )
        return mean

    def predict_population(self, matrix: Floats) -> Prediction:
        """The mean person: without factors, whose mean over people is 0, but with what is known of an image."""
        found = self.slopes.predict_population(matrix)
        warm, which = self._known(matrix)
        mean, variance = found.mean.copy(), found.sd**2
        mean[warm] += self.slopes.image_effects[which]
        variance[warm] += self.slopes.image_variances[which] - self.slopes.image_sd**2 - self.slopes.spare_sd**2
        return Prediction(mean, np.sqrt(np.maximum(variance, 0.0)), found.noise_sd)

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> FactorTaste:
        """Know the users of `context` from these ratings alone: slopes first, factors from what they leave."""
        slopes = self.slopes.adapt(context, design, people)
        old = {user: at for at, user in enumerate(self.user_ids.tolist())}
        fresh = set(context.user_id.tolist()) | (set() if people is None else set(people.user_ids.tolist()))
        matrix = design.rows(context.image_id)
        warm, which = self._known(matrix)
        residual = context.score[warm] - slopes.predict_mean(context.user_id[warm], matrix[warm])
        residual -= self.slopes.image_effects[which]
        means, covariances = [], []
        for user in slopes.user_ids.tolist():
            if user not in fresh:
                means.append(self.users[old[user]])
                covariances.append(self.user_covariances[old[user]])
                continue
            mine = context.user_id[warm] == user
            q, t = self.images[which[mine]], self.image_covariances[which[mine]]
            covariance = np.linalg.inv(np.eye(q.shape[1]) + (q.T @ q + t.sum(axis=0)) / self.noise_sd**2)
            means.append(covariance @ (q.T @ residual[mine]) / self.noise_sd**2)
            covariances.append(covariance)
        return replace(self, slopes=slopes, users=np.stack(means), user_covariances=np.stack(covariances))

    def state(self) -> State:
        """Arrays and JSON values that make the same model again."""
        inner = self.slopes.state()
        arrays = {f"slopes_{name}": values for name, values in inner.arrays.items()}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        arrays["factor_noise"] = np.array([self.noise_sd])
        about = {"kind": self.kind, "name": self.name, "settings": dict(self.settings)}
        return State(arrays, {"slopes": dict(inner.settings), **about})

    @classmethod
    def from_state(cls, state: State) -> FactorTaste:
        """The model that `state` came from."""
        a, s = state.arrays, state.settings
        inner = {name.removeprefix("slopes_"): values for name, values in a.items() if name.startswith("slopes_")}
        slopes = LinearTaste.from_state(State(inner, s["slopes"]))
        rest = {name: a[name] for name in _ARRAYS}
        return cls(slopes, noise_sd=float(a["factor_noise"][0]), name=s["name"], settings=s["settings"], **rest)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): at for at, row in enumerate(self.rows)}

    def _known(self, matrix: Floats) -> tuple[Indices, Indices]:
        """Positions of the rows that are training images, and which those are."""
        found = np.array([self._places.get(row.tobytes(), -1) for row in np.asarray(matrix)], dtype=np.intp)
        warm = np.flatnonzero(found >= 0)
        return warm, found[warm]


_ARRAYS = ("rows", "users", "user_covariances", "images", "image_covariances")


@dataclass(frozen=True)
class Factors:
    """Slopes, and a factorisation of what they leave.

    Attributes
    ----------
    factors : int
        K, at most: unsupported ones shrink away.
    rounds : int
        Turns of users and images.
    slopes : EBSlopes
        The recipe of the slopes.
    """

    factors: int = 6
    rounds: int = 60
    slopes: EBSlopes = field(default_factory=EBSlopes)

    name: ClassVar[str] = "factors"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> FactorTaste:
        """Fit slopes, then factors; `rng` is drawn from by both.

        Raises
        ------
        UserError
            For fewer than one factor.
        EstimateError
            As the slopes raise it.
        """
        if self.factors < 1:
            raise UserError(f"factors={self.factors}", "1 or more")
        slopes = self.slopes.fit(ratings, design, rng, people)
        who = np.searchsorted(slopes.user_ids, ratings.user_id)
        which = np.searchsorted(slopes.known_images, ratings.image_id)
        rows = design.rows(slopes.known_images)
        residual = ratings.score - slopes.predict_mean(ratings.user_id, rows[which]) - slopes.image_effects[which]
        start = 0.1 * rng.standard_normal((len(rows), self.factors)) * residual.std()
        found = factorise(residual, who, which, len(slopes.user_ids), start, self.rounds)
        sizes = np.sort(np.mean(found.images**2, axis=0) * np.mean(found.users**2, axis=0))[::-1]
        settings = {"factors": self.factors, "factor_variances": sizes.tolist()}
        return FactorTaste(
            slopes,
            rows,
            found.users,
            found.user_covariances,
            found.images,
            found.image_covariances,
            found.noise_sd,
            settings=settings,
        )


@dataclass(frozen=True, eq=False)
class Factorisation:
    """Posterior means and covariances of p and q, and the noise SD."""

    users: Floats
    user_covariances: Floats
    images: Floats
    image_covariances: Floats
    noise_sd: float


def factorise(values: Floats, who: Indices, which: Indices, n_users: int, images: Floats, rounds: int) -> Factorisation:
    """Factorise the entries that are there, from `images`, shape (I, K), in so many rounds.

    Parameters
    ----------
    values : array, shape (n,)
    who, which : int arrays, shape (n,)
        Row and column of each value.
    """
    k, order = images.shape[1], np.arange(len(values))
    of_user = csr_array((np.ones(len(values)), (who, order)), shape=(n_users, len(values)))
    of_image = csr_array((np.ones(len(values)), (which, order)), shape=(len(images), len(values)))
    tau, noise = np.mean(images**2, axis=0), float(np.mean(values**2))
    t = np.tile(np.diag(tau), (len(images), 1, 1))
    for _ in range(rounds):
        users, s = _side(of_user, values, images[which], t[which], np.ones(k), noise)
        images, t = _side(of_image, values, users[who], s[who], 1.0 / tau, noise)
        tau = np.maximum(np.mean(images**2 + np.einsum("ikk->ik", t), axis=0), 1e-9 * noise)
        # Users' prior is N(0, 1): what they spread more or less is the images' to carry.
        spread = np.mean(users**2 + np.einsum("ukk->uk", s), axis=0)
        images, t, tau = images * np.sqrt(spread), t * np.sqrt(np.outer(spread, spread)), tau * spread
        users, s = users / np.sqrt(spread), s / np.sqrt(np.outer(spread, spread))
        p, q = users[who], images[which]
        error = values - np.einsum("nk,nk->n", p, q)
        uncertain = np.einsum("nk,nl,nkl->n", p, p, t[which], optimize=True)
        uncertain += np.einsum("nk,nl,nkl->n", q, q, s[who], optimize=True)
        uncertain += np.einsum("nkl,nkl->n", s[who], t[which])
        noise = float(np.mean(error**2 + uncertain))
    return Factorisation(users, s, images, t, float(np.sqrt(noise)))


def _side(
    groups: csr_array, values: Floats, other: Floats, covariances: Floats, precision: Floats, noise: float
) -> tuple[Floats, Floats]:
    """Posterior of one side's factors given the other's, rating by rating: means and covariances."""
    n, k = other.shape
    second = (other[:, :, None] * other[:, None, :] + covariances).reshape(n, k * k)
    information = np.asarray(groups @ second).reshape(-1, k, k) / noise + np.diag(precision)
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    moment = np.asarray(groups @ (other * values[:, None])) / noise
    return np.einsum("ikl,il->ik", covariance, moment), covariance
