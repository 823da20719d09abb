"""Reward models that are linear in the design: one coefficient vector a person, Gaussian beliefs about it.

The constant, the user mean, the population head, the population with user bias, the per-user ridge and the
empirical-Bayes slopes are the same model with different prior covariances, so they share prediction, newcomers and
the file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from beholder.errors import UserError
from beholder.taste.base import Floats, Indices, Prediction, Ratings, State, Strings
from beholder.taste.eb_groups import Groups
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.rowwise import row_quadratics


@dataclass(frozen=True)
class Belief:
    """A Gaussian belief about coefficients: `mean`, shape (q,), and `covariance`, shape (q, q)."""

    mean: Floats
    covariance: Floats


def posterior(prior: Belief, rows: Floats, scores: Floats, noise_variance: Floats | float) -> Belief:
    """Update a belief about coefficients w by ratings `scores = rows @ w + noise`.

    Kernel form, which needs no inverse of the prior covariance: a covariance of zero leaves the prior as it is, a very
    large one gives least squares. With no ratings the prior comes back.

    Parameters
    ----------
    prior : Belief
    rows : array, shape (n, q)
    scores : array, shape (n,)
    noise_variance : float or array of shape (n,)
        Above 0.

    Notes
    -----
    Assumes Gaussian noise, independent between ratings. Wrong for people who use two or three slider positions.
    """
    if len(scores) == 0:
        return prior
    crossed = prior.covariance @ rows.T
    marginal = rows @ crossed
    marginal[np.diag_indices_from(marginal)] += noise_variance
    gain = np.linalg.solve(marginal, crossed.T).T
    covariance = prior.covariance - gain @ crossed.T
    return Belief(prior.mean + gain @ (scores - rows @ prior.mean), (covariance + covariance.T) / 2)


def _dot(rows: Floats, coefficients: Floats) -> Floats:
    """`rows @ coefficients`, shape (n,); a row's bits do not depend on the other rows."""
    return np.asarray(np.einsum("nq,nq->n", rows, np.broadcast_to(coefficients, rows.shape)))


def _by_user(who: Indices) -> Iterator[tuple[int, Indices | slice]]:
    """Each user's number and where its rows are: one user's rows at a time are in memory twice, never all."""
    if len(who) == 0:
        return
    order = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(who[order]) > 0])
    for start, end in zip(starts, [*starts[1:], len(who)], strict=True):
        mine = order[start:end]
        together = mine[-1] - mine[0] == len(mine) - 1
        yield int(who[mine[0]]), slice(mine[0], mine[-1] + 1) if together else mine


@dataclass(frozen=True, eq=False)
class Told:
    """What demographics say of a person's taste: shared coefficients of everybody and of each group, taken together.

    Attributes
    ----------
    groups : Groups
    shared : Belief
        About (everybody's coefficients, each group's departure from them), (1 + G) q in all.
    own : array, shape (q, q)
        Covariance of a person's departure from the taste of its groups.
    """

    groups: Groups
    shared: Belief
    own: Floats

    def belief(self, membership: Floats) -> Belief:
        """About somebody who belongs to the groups to these degrees, shape (G,), and has rated nothing.

        Degrees between 0 and 1 say how likely each group is: how much groups differ is then part of the doubt.
        """
        person = self._at(membership)
        covariance = person.covariance + self.own
        departures = self.shared.mean.reshape(-1, len(self.own))[1:]
        for name in dict.fromkeys(self.groups.demographics):
            mine = np.array([demographic == name for demographic in self.groups.demographics])
            likely = membership * mine
            mean = likely @ departures
            covariance = covariance + (departures.T * likely) @ departures - np.outer(mean, mean)
        return Belief(person.mean, covariance)

    def average(self) -> Belief:
        """About the mean person of the training people."""
        return self._at(self.groups.shares)

    def _at(self, membership: Floats) -> Belief:
        spread = np.kron(np.r_[1.0, membership], np.eye(len(self.own)))
        return Belief(spread @ self.shared.mean, spread @ self.shared.covariance @ spread.T)

    def beliefs(self, people: People) -> list[Belief]:
        """About each of these people."""
        return [self.belief(row) for row in self.groups.membership(people)]

    def arrays(self) -> dict[str, Floats]:
        """For the state of a model."""
        return {
            "told_mean": self.shared.mean,
            "told_covariance": self.shared.covariance,
            "told_own": self.own,
            "told_shares": self.groups.shares,
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Told:
        """What `arrays` and `Groups.settings` came from."""
        demographics, categories = tuple(settings["demographics"]), tuple(settings["categories"])
        groups = Groups(demographics, categories, arrays["told_shares"], tuple(settings["banded"]))
        return cls(groups, Belief(arrays["told_mean"], arrays["told_covariance"]), arrays["told_own"])


def with_intercept(matrix: Floats) -> Floats:
    """The matrix with a first column of ones, shape (n, 1 + p)."""
    return np.hstack([np.ones((len(matrix), 1)), matrix])


@dataclass(frozen=True, eq=False)
class LinearTaste:
    """A fitted linear reward model (see `beholder.taste.base.FittedModel`). q = 1 + p: intercept, design columns.

    Attributes
    ----------
    name : str
        Model id.
    user_ids : array of str, shape (U,)
        Sorted.
    coefficients : array, shape (U, q)
        Posterior means, in ticks per unit of the design.
    covariances : array, shape (U, q, q)
        Posterior covariances.
    population : Belief
        About the mean person.
    newcomer : Belief
        About a person of whom nothing is known: the prior that `adapt` updates.
    noise_sd : float
        SD of a rating round the person's expectation, ticks.
    image_sd : float
        SD of what people agree on about an image and the design does not carry; part of `sd` of new images.
    spare_sd : float
        SD by which images of new prompts turn out further off than the model's own covariances say; part of `sd`.
    known_images, image_effects, image_variances : arrays, shape (I,)
        That part for the training images: taken off a newcomer's ratings of them.
    noise_sds : array, shape (U,)
        Each user's own `noise_sd`; empty where all share one.
    noise_df : float
        Degrees of freedom of the law that users' noise variances follow round `noise_sd` squared; infinite where all
        share one.
    told : Told, optional
        What demographics say of somebody before any rating; `newcomer` is for people of whom nothing is known.
    settings : mapping
        How it was fitted: JSON values.
    inputs : tuple of str
        What predictions depend on: blocks of the design, then `user`.
    """

    name: str
    user_ids: Strings
    coefficients: Floats
    covariances: Floats
    population: Belief
    newcomer: Belief
    noise_sd: float
    image_sd: float = 0.0
    spare_sd: float = 0.0
    known_images: Strings = field(default_factory=lambda: np.empty(0, dtype="<U1"))
    image_effects: Floats = field(default_factory=lambda: np.empty(0))
    image_variances: Floats = field(default_factory=lambda: np.empty(0))
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    noise_sds: Floats = field(default_factory=lambda: np.empty(0))
    noise_df: float = math.inf
    told: Told | None = None

    kind: ClassVar[str] = "linear"

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: the expected rating of image `matrix[i]`, shape (p,), by `user_ids[i]`.

        Raises
        ------
        UserError
            For a user the model does not know.
        """
        who = self._positions(np.asarray(user_ids, dtype=str))
        mean, variance = np.empty(len(who)), np.empty(len(who))
        for u, mine in _by_user(who):
            rows = with_intercept(matrix[mine])
            mean[mine] = _dot(rows, self.coefficients[u])
            variance[mine] = row_quadratics(rows, self.covariances[u])
        found = self._prediction(mean, variance)
        return replace(found, noise_sd=self.noise_sds[who]) if len(self.noise_sds) else found

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean` to the bit, without the cost of its SD."""
        who = self._positions(np.asarray(user_ids, dtype=str))
        mean = np.empty(len(who))
        for u, mine in _by_user(who):
            mean[mine] = _dot(with_intercept(matrix[mine]), self.coefficients[u])
        return mean

    def predict_population(self, matrix: Floats) -> Prediction:
        """The mean person's expected rating of each row of `matrix`."""
        rows = with_intercept(matrix)
        return self._prediction(_dot(rows, self.population.mean), row_quadratics(rows, self.population.covariance))

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> LinearTaste:
        """Know the users of `context` from these ratings alone; who was known under the same id is replaced.

        Who is in `people` and rated nothing here is known as the newcomer's prior says.
        What is known of the training images' own effect is taken off first; its uncertainty counts as noise, as if
        independent between images (their small posterior covariances are left out).
        """
        rows = with_intercept(design.rows(context.image_id))
        effects, spare = self._image_part(context.image_id)
        users = context.users() if people is None else np.union1d(context.users(), people.user_ids)
        priors = [self.newcomer] * len(users)
        if self.told is not None and people is not None:
            priors = self.told.beliefs(people.of(users))
        beliefs, noises = {}, {}
        for user, prior in zip(users.tolist(), priors, strict=True):
            mine = context.user_id == user
            data = rows[mine], context.score[mine] - effects[mine]
            beliefs[user] = posterior(prior, *data, self.noise_sd**2 + spare[mine])
            noises[user] = self.noise_sd
            if np.isfinite(self.noise_df) and np.any(mine):
                noises[user] = self._own_noise(*data, beliefs[user])
                beliefs[user] = posterior(prior, *data, noises[user] ** 2 + spare[mine])
        return self._with_users(beliefs, noises)

    def _own_noise(self, rows: Floats, scores: Floats, belief: Belief) -> float:
        """A user's noise SD from residuals of a first fit, drawn to what is usual by `noise_df`.

        A residual's expected square is the noise less what the fit took: noise (1 - leverage), to first order.
        """
        leverage = np.einsum("np,pq,nq->n", rows, belief.covariance, rows) / self.noise_sd**2
        left = float(np.sum(np.maximum(1.0 - leverage, 0.0)))
        squares = float(np.sum((scores - rows @ belief.mean) ** 2))
        return float(np.sqrt((self.noise_df * self.noise_sd**2 + squares) / (self.noise_df + left)))

    def state(self) -> State:
        """Arrays and JSON values that make the same model again."""
        arrays = {
            "coefficients": self.coefficients,
            "covariances": self.covariances,
            "population_mean": self.population.mean,
            "population_covariance": self.population.covariance,
            "newcomer_mean": self.newcomer.mean,
            "newcomer_covariance": self.newcomer.covariance,
            "sds": np.array([self.noise_sd, self.image_sd, self.spare_sd]),
            "image_effects": self.image_effects,
            "image_variances": self.image_variances,
        }
        if len(self.noise_sds):
            arrays |= {"noise_sds": self.noise_sds, "noise_df": np.array([self.noise_df])}
        if self.told is not None:
            arrays |= self.told.arrays()
        names = {"user_ids": self.user_ids.tolist(), "known_images": self.known_images.tolist()}
        about = {"kind": self.kind, "name": self.name, "inputs": list(self.inputs), "settings": dict(self.settings)}
        told = {} if self.told is None else {"groups": self.told.groups.settings()}
        return State(arrays, {**names, **about, **told})

    @classmethod
    def from_state(cls, state: State) -> LinearTaste:
        """The model that `state` came from."""
        a, s = state.arrays, state.settings
        return cls(
            s["name"],
            np.array(s["user_ids"], dtype=str),
            a["coefficients"],
            a["covariances"],
            Belief(a["population_mean"], a["population_covariance"]),
            Belief(a["newcomer_mean"], a["newcomer_covariance"]),
            float(a["sds"][0]),
            float(a["sds"][1]),
            float(a["sds"][2]),
            np.array(s["known_images"], dtype=str),
            a["image_effects"],
            a["image_variances"],
            s["settings"],
            tuple(s["inputs"]),
            a.get("noise_sds", np.empty(0)),
            float(a["noise_df"][0]) if "noise_df" in a else math.inf,
            Told.of(a, s["groups"]) if "groups" in s else None,
        )

    def _prediction(self, mean: Floats, variance: Floats) -> Prediction:
        # Rounding can leave a variance of -1e-12 where it is 0.
        variance = np.maximum(variance, 0.0) + self.image_sd**2 + self.spare_sd**2
        return Prediction(mean, np.sqrt(variance), self.noise_sd)

    def _positions(self, users: Strings) -> Indices:
        if len(self.user_ids) == 0:
            raise UserError(f"{self.name} knows no users", remedy="adapt it to their ratings first")
        place = {user: at for at, user in enumerate(self.user_ids.tolist())}
        listed = users.tolist()
        unknown = sorted(set(listed) - place.keys())
        if unknown:
            raise UserError(
                f"{self.name} does not know user {unknown[0]!r} ({len(unknown)} unknown)",
                f"{len(self.user_ids)} known users",
                "adapt the model to their ratings, or ask for the population",
            )
        return np.fromiter((place[user] for user in listed), np.intp, len(listed))

    def _image_part(self, image_ids: Strings) -> tuple[Floats, Floats]:
        """Known image effects (0 where unknown) and the variance that is left, each shape (n,)."""
        effects, spare = np.zeros(len(image_ids)), np.full(len(image_ids), self.image_sd**2)
        if len(self.known_images):
            at = np.minimum(np.searchsorted(self.known_images, image_ids), len(self.known_images) - 1)
            known = self.known_images[at] == image_ids
            effects[known], spare[known] = self.image_effects[at[known]], self.image_variances[at[known]]
        return effects, spare

    def _with_users(self, beliefs: Mapping[str, Belief], noises: Mapping[str, float]) -> LinearTaste:
        everyone = {u: Belief(self.coefficients[i], self.covariances[i]) for i, u in enumerate(self.user_ids.tolist())}
        everyone.update({str(user): belief for user, belief in beliefs.items()})
        names = sorted(everyone)
        sds = {**dict(zip(self.user_ids.tolist(), self.noise_sds.tolist(), strict=False)), **noises}
        return replace(
            self,
            noise_sds=np.array([sds[u] for u in names]) if np.isfinite(self.noise_df) else self.noise_sds,
            user_ids=np.array(names, dtype=str),
            coefficients=np.stack([everyone[u].mean for u in names]),
            covariances=np.stack([everyone[u].covariance for u in names]),
        )
