"""Tastes that are mixtures of a few: each user has weights, above 0 and adding up to 1, on shared tastes.

    y_ui = b_u + c(phi_i) + phi_i' V w_u + e_ui

with w_u on the simplex. `beholder.taste.lore` has c = 0, `beholder.taste.ideal_points` c(phi) = -|A phi|^2. What users'
weights look like (mean and covariance over the training users) is the prior that newcomers start from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import Floats, Indices, Prediction, Ratings, State, Strings
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.rowwise import row_products, row_quadratics

MAP_STEPS = 200
"""Accelerated projected gradient steps for users' weights: a few dimensions, so more change nothing."""


@dataclass(frozen=True, eq=False)
class SimplexTaste:
    """A fitted mixture of tastes (see `beholder.taste.base.FittedModel`). K tastes, p columns.

    Attributes
    ----------
    name : str
        Model id.
    user_ids : array of str, shape (U,)
        Sorted.
    levels : array, shape (U,)
        b, in ticks.
    weights : array, shape (U, K)
        w.
    covariances : array, shape (U, K + 1, K + 1)
        Of (b, w), as if weights could leave the simplex: too wide for users at its edge.
    tastes : array, shape (p, K)
        V, in ticks per unit of the design.
    metric : array, shape (m, p)
        A, in square roots of ticks per unit; m is 0 where c is.
    level, level_variance : float
        Mean and variance of b over people.
    mean_weights, weight_covariance : arrays, shapes (K,) and (K, K)
        Of w over people.
    noise_sd : float
        SD of a rating round the person's expectation, ticks.
    inputs : tuple of str
        Blocks of the design, then `user`.
    settings : mapping
        How it was fitted: JSON values.
    """

    name: str
    user_ids: Strings
    levels: Floats
    weights: Floats
    covariances: Floats
    tastes: Floats
    metric: Floats
    level: float
    level_variance: float
    mean_weights: Floats
    weight_covariance: Floats
    noise_sd: float
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "simplex"

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: the expected rating of image `matrix[i]` by `user_ids[i]`; unknown users raise `UserError`."""
        who = self._positions(np.asarray(user_ids, dtype=str))
        rows = self._features(matrix)
        variance = np.empty(len(rows))
        for u in np.unique(who):
            mine = who == u
            variance[mine] = row_quadratics(rows[mine], self.covariances[u])
        return Prediction(self._mean(rows, matrix, who), np.sqrt(np.maximum(variance, 0.0)), self.noise_sd)

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean` to the bit."""
        who = self._positions(np.asarray(user_ids, dtype=str))
        return self._mean(self._features(matrix), matrix, who)

    def predict_population(self, matrix: Floats) -> Prediction:
        """What somebody of this population is expected to think of each row of `matrix`."""
        rows = self._features(matrix)
        person = np.broadcast_to(np.r_[self.level, self.mean_weights], rows.shape)
        mean = np.einsum("nk,nk->n", rows, person) + self._common(matrix)
        return Prediction(mean, np.sqrt(np.maximum(row_quadratics(rows, self._prior()), 0.0)), self.noise_sd)

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> SimplexTaste:
        """Know the users of `context` from these ratings alone: the weights of highest posterior density."""
        matrix = design.rows(context.image_id)
        rows, scores = self._features(matrix), context.score - self._common(matrix)
        users = context.users() if people is None else np.union1d(context.users(), people.user_ids)
        found = {u: (b, w, c) for u, b, w, c in zip(self.user_ids.tolist(), self.levels, self.weights,
                                                    self.covariances, strict=True)}  # fmt: skip
        for user in users.tolist():
            mine = context.user_id == user
            found[user] = self._person(rows[mine], scores[mine])
        names = sorted(found)
        return replace(
            self,
            user_ids=np.array(names, dtype=str),
            levels=np.array([found[u][0] for u in names]),
            weights=np.stack([found[u][1] for u in names]),
            covariances=np.stack([found[u][2] for u in names]),
        )

    def state(self) -> State:
        """Arrays and JSON values that make the same model again."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays["numbers"] = np.array([self.level, self.level_variance, self.noise_sd])
        about = {"kind": self.kind, "name": self.name, "inputs": list(self.inputs), "settings": dict(self.settings)}
        return State(arrays, {"user_ids": self.user_ids.tolist(), **about})

    @classmethod
    def from_state(cls, state: State) -> SimplexTaste:
        """The model that `state` came from."""
        a, s = state.arrays, state.settings
        level, level_variance, noise = a["numbers"].tolist()
        return cls(
            name=s["name"],
            user_ids=np.array(s["user_ids"], dtype=str),
            level=level,
            level_variance=level_variance,
            noise_sd=noise,
            inputs=tuple(s["inputs"]),
            settings=s["settings"],
            **{name: a[name] for name in _ARRAYS},
        )

    def _features(self, matrix: Floats) -> Floats:
        """(1, phi' V) of each row, shape (n, K + 1)."""
        return np.hstack([np.ones((len(matrix), 1)), row_products(matrix, self.tastes)])

    def _common(self, matrix: Floats) -> Floats:
        """What c says of each row, shape (n,)."""
        if len(self.metric) == 0:
            return np.zeros(len(matrix))
        seen = row_products(matrix, self.metric.T)
        return -np.einsum("nm,nm->n", seen, seen)

    def _mean(self, rows: Floats, matrix: Floats, who: Indices) -> Floats:
        people = np.hstack([self.levels[:, None], self.weights])
        return np.asarray(np.einsum("nk,nk->n", rows, people[who]) + self._common(matrix))

    def _prior(self) -> Floats:
        out = np.zeros((len(self.mean_weights) + 1,) * 2)
        out[0, 0], out[1:, 1:] = self.level_variance, self.weight_covariance
        return out

    def _person(self, rows: Floats, scores: Floats) -> tuple[float, Floats, Floats]:
        """Level, weights and their covariance from ratings less what is common to all; the prior's with none."""
        if len(scores) == 0:
            return self.level, self.mean_weights, self._prior()
        k, noise = len(self.mean_weights), self.noise_sd**2
        tangent = np.linalg.svd(np.ones((1, k)))[2][1:].T  # directions in which weights still add up to 1
        inner = tangent.T @ self.weight_covariance @ tangent
        precision = np.linalg.inv(inner + 1e-9 * max(np.trace(inner), 1e-9) * np.eye(k - 1))
        # The level is integrated out: ratings then covary by its variance.
        share = self.level_variance / (noise + len(scores) * self.level_variance)
        weighed = (rows[:, 1:] - share * rows[:, 1:].sum(axis=0)) / noise
        y = scores - self.level
        prior = tangent @ precision @ tangent.T
        w = simplex_minimum((weighed.T @ rows[:, 1:] + prior)[None], (weighed.T @ y + prior @ self.mean_weights)[None])[
            0
        ]
        level = self.level + share * float(np.sum(y - rows[:, 1:] @ w))
        spread = np.zeros((k + 1, k))
        spread[0, 0], spread[1:, 1:] = 1.0, tangent
        information = spread.T @ (rows.T @ rows) @ spread / noise
        information[0, 0] += 1.0 / max(self.level_variance, 1e-9)
        information[1:, 1:] += precision
        return level, w, spread @ np.linalg.inv(information) @ spread.T

    def _positions(self, users: Strings) -> Indices:
        place = {user: at for at, user in enumerate(self.user_ids.tolist())}
        unknown = sorted(set(users.tolist()) - place.keys())
        if unknown:
            raise UserError(
                f"{self.name} does not know user {unknown[0]!r} ({len(unknown)} unknown)",
                f"{len(self.user_ids)} known users",
                "adapt the model to their ratings, or ask for the population",
            )
        return np.array([place[user] for user in users.tolist()], dtype=np.intp)


_ARRAYS = ("levels", "weights", "covariances", "tastes", "metric", "mean_weights", "weight_covariance")


def to_simplex(points: Floats) -> Floats:
    """Nearest points above 0 that add up to 1, by rows (Duchi et al. 2008, doi:10.1145/1390156.1390191)."""
    ordered = -np.sort(-points, axis=-1)
    above = (np.cumsum(ordered, axis=-1) - 1.0) / np.arange(1, points.shape[-1] + 1)
    last = np.sum(ordered > above, axis=-1, keepdims=True) - 1
    return np.maximum(points - np.take_along_axis(above, last, -1), 0.0)


def simplex_minimum(hessians: Floats, moments: Floats, start: Floats | None = None, steps: int = MAP_STEPS) -> Floats:
    """Each row: the w on the simplex with least w'Hw/2 - g'w.

    Parameters
    ----------
    hessians : array, shape (U, K, K)
        Positive semidefinite.
    moments : array, shape (U, K)
        g.
    start : array, shape (U, K), optional
    steps : int
        Of the accelerated projected gradient (Beck and Teboulle 2009, doi:10.1137/080716542).
    """
    step = 1.0 / np.maximum(np.linalg.eigvalsh(hessians)[:, -1:], 1e-12)
    w = np.full(moments.shape, 1.0 / moments.shape[1]) if start is None else start
    ahead, pace = w, 1.0
    for _ in range(steps):
        new = to_simplex(ahead - step * (np.einsum("ukl,ul->uk", hessians, ahead) - moments))
        faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = new + (pace - 1) / faster * (new - w)
        w, pace = new, faster
    return w
