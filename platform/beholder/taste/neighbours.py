"""Newcomers as a mixture of the people they resemble: nearest neighbours of rating-weighted profiles.

A person's profile is the mean feature vector of the images they rated, weighted by the ratings. A newcomer's expected
rating is the mean of what a base model expects of the K training users with the most similar profiles (cosine),
weighted by a softmax of the similarities. `centred` takes each person's (shrunken) mean rating off first, and the
images' mean feature vector off those; as published it does neither, and since all ratings are positive everybody's
profile is then close to the mean image of what was shown to them.

Source: PAMELA, arXiv 2604.07427, on unseen users (N = 15 ratings, K = 5 neighbours, temperature .1); what is averaged
over the neighbours is not published, here it is their predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import FittedModel, Floats, Prediction, Ratings, State, Strings, TasteModel
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.population import user_offsets

PUBLISHED_SHOWN, PUBLISHED_NEIGHBOURS, PUBLISHED_TEMPERATURE = 15, 5, 0.1


@dataclass(frozen=True)
class Neighbours:
    """Known users as the base model has them, newcomers as a mixture of known users.

    Attributes
    ----------
    base : TasteModel
    neighbours : int
        K.
    temperature : float
        Of the softmax over cosines.
    centred : bool
        Whether means are taken off; off as published.
    """

    base: TasteModel = field(default_factory=EBSlopes)
    neighbours: int = PUBLISHED_NEIGHBOURS
    temperature: float = PUBLISHED_TEMPERATURE
    centred: bool = True

    @property
    def name(self) -> str:
        """`neighbours`, or `neighbours_published`."""
        return "neighbours" if self.centred else "neighbours_published"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> NeighbourTaste:
        """Fit the base model and everybody's profile."""
        if self.neighbours < 1 or not self.temperature > 0:
            raise UserError(f"neighbours {self.neighbours}, temperature {self.temperature}", "at least 1; above 0")
        return self.around(self.base.fit(ratings, design, rng, people), ratings, design)

    def around(self, base: FittedModel, ratings: Ratings, design: Design) -> NeighbourTaste:
        """The same for a base model that was already fitted on these ratings."""
        users, who = np.unique(ratings.user_id, return_inverse=True)
        offsets = user_offsets(ratings.score, who, len(users))
        centre = design.rows(ratings.images()).mean(axis=0) if self.centred else np.zeros(design.matrix.shape[1])
        profiler = Profiler(centre, offsets.grand, offsets.between, offsets.within, self.centred)
        profiles = np.stack([profiler.profile(ratings.take(who == u), design) for u in range(len(users))])
        return NeighbourTaste(self.name, base, users, profiles, profiler, self.neighbours, self.temperature)


@dataclass(frozen=True, eq=False)
class Profiler:
    """What turns ratings into a profile.

    Attributes
    ----------
    centre : array, shape (p,)
        Mean design row of the training images; zeros if not centred.
    grand, between, within : float
        Mean of the users' levels and the variances of levels and of ratings round them, by which a mean of few
        ratings is shrunk.
    centred : bool
    """

    centre: Floats
    grand: float
    between: float
    within: float
    centred: bool

    def profile(self, ratings: Ratings, design: Design) -> Floats:
        """One person's profile, shape (p,); of no ratings zeros."""
        n = len(ratings)
        if n == 0:
            return np.zeros_like(self.centre)
        weights = ratings.score / 1000
        if self.centred:
            kept = n * self.between / (n * self.between + self.within) if self.within > 0 else 1.0
            weights = (ratings.score - self.grand - kept * (ratings.score.mean() - self.grand)) / 1000
        found: Floats = weights @ (design.rows(ratings.image_id) - self.centre) / n
        return found


@dataclass(frozen=True, eq=False)
class NeighbourTaste:
    """A fitted `Neighbours`.

    Attributes
    ----------
    name : str
    base : FittedModel
    trained : array of str, shape (U,)
        Training users, sorted: the possible neighbours.
    profiles : array, shape (U, p)
    profiler : Profiler
    neighbours : int
    temperature : float
    mixtures : mapping of array, shape (U,)
        Weights of the training users for each newcomer, adding up to 1; all zero for one of whom nothing is known.
    """

    name: str
    base: FittedModel
    trained: Strings
    profiles: Floats
    profiler: Profiler
    neighbours: int
    temperature: float
    mixtures: Mapping[str, Floats] = field(default_factory=dict)

    kind: ClassVar[str] = "neighbours"

    @property
    def user_ids(self) -> Strings:
        """Training users and newcomers, sorted."""
        return np.union1d(self.trained, np.array(sorted(self.mixtures), dtype=str))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Those of the base model."""
        return self.base.inputs

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Known users by the base model; newcomers by the mixture, whose `sd` holds how much neighbours differ."""
        users = np.asarray(user_ids, dtype=str)
        mean, sd, noise = np.empty(len(users)), np.empty(len(users)), np.empty(len(users))
        for user in np.unique(users).tolist():
            mine = users == user
            found = self._of(user, matrix[mine])
            mean[mine], sd[mine], noise[mine] = found.mean, found.sd, found.noise_sd
        return Prediction(mean, sd, noise)

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean`, shape (n,)."""
        return self.predict(user_ids, matrix).mean

    def predict_population(self, matrix: Floats) -> Prediction:
        """What the base model expects of anybody."""
        return self.base.predict_population(matrix)

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> NeighbourTaste:
        """Mixtures for the users of `context`; who is in `people` only is what anybody is."""
        mixtures = dict(self.mixtures)
        for user in () if people is None else people.user_ids.tolist():
            mixtures[user] = np.zeros(len(self.trained))
        for user in context.users().tolist():
            mixtures[user] = self.mixture(self.profiler.profile(context.take(context.user_id == user), design))
        return replace(self, mixtures=mixtures)

    def mixture(self, profile: Floats) -> Floats:
        """Weights of the training users for a profile, shape (U,); zeros for a profile of zero length."""
        lengths = np.linalg.norm(self.profiles, axis=1) * np.linalg.norm(profile)
        weights = np.zeros(len(self.trained))
        usable = np.flatnonzero(lengths > 0)
        if not len(usable):
            return weights
        cosine = self.profiles[usable] @ profile / lengths[usable]
        nearest = np.argsort(-cosine, kind="stable")[: self.neighbours]
        share = np.exp((cosine[nearest] - cosine[nearest[0]]) / self.temperature)
        weights[usable[nearest]] = share / share.sum()
        return weights

    def _of(self, user: str, rows: Floats) -> Prediction:
        weights = self.mixtures.get(user)
        if weights is None:
            return self.base.predict([user] * len(rows), rows)
        near = np.flatnonzero(weights)
        if not len(near):
            return self.base.predict_population(rows)
        each = [self.base.predict([str(self.trained[k])] * len(rows), rows) for k in near]
        means, sds = np.stack([p.mean for p in each]), np.stack([p.sd for p in each])
        mean = weights[near] @ means
        variance = weights[near] @ (sds**2 + (means - mean) ** 2)
        return Prediction(mean, np.sqrt(variance), each[0].noise_sd)

    def state(self) -> State:
        """Arrays and JSON values that make the same model again; the base model's are nested."""
        inner = self.base.state()
        newcomers = sorted(self.mixtures)
        arrays: dict[str, Any] = {f"base/{name}": array for name, array in inner.arrays.items()}
        arrays |= {"profiles": self.profiles, "centre": self.profiler.centre}
        arrays["mixtures"] = np.array([self.mixtures[u] for u in newcomers]).reshape(len(newcomers), len(self.trained))
        profiler = {name: getattr(self.profiler, name) for name in ("grand", "between", "within", "centred")}
        settings = {"neighbours": self.neighbours, "temperature": self.temperature}
        about = {"kind": self.kind, "name": self.name, "base": dict(inner.settings), "profiler": profiler}
        return State(arrays, {**about, "settings": settings, "trained": self.trained.tolist(), "newcomers": newcomers})

    @classmethod
    def from_state(cls, state: State) -> NeighbourTaste:
        """The model that `state` came from."""
        from beholder.taste.registry import model_from

        a, s = state.arrays, state.settings
        inner = {name.removeprefix("base/"): array for name, array in a.items() if name.startswith("base/")}
        p = s["profiler"]
        return cls(
            s["name"],
            model_from(State(inner, s["base"])),
            np.array(s["trained"], dtype=str),
            a["profiles"],
            Profiler(a["centre"], p["grand"], p["between"], p["within"], p["centred"]),
            s["settings"]["neighbours"],
            s["settings"]["temperature"],
            dict(zip(s["newcomers"], a["mixtures"], strict=True)),
        )
