"""Fitted ensembles of networks: predictions, newcomers, and what is saved.

The expected rating is the mean of the members; its SD is their spread, the doubt about a person's level and, for
newcomers, the doubt about their embedding. The noise is what is left of the squared errors on ratings that members
were not trained on. Predictions are made in batches of one padded size on one thread: an image has one reward,
whatever is scored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import Floats, Indices, Prediction, Ratings, State, Strings
from beholder.taste.embed_newcomers import Prior, embed
from beholder.taste.features import Design
from beholder.taste.nets import Dropout, one_thread
from beholder.taste.networks import Network, Persons, Training
from beholder.taste.people import People
from beholder.taste.train_network import Member, train_one
from beholder.taste.training_set import (
    Scaling,
    Singles,
    Told,
    TrainingSet,
    Vocabulary,
    training_set,
)

if TYPE_CHECKING:
    import torch

    from beholder.taste.networks import Encoded

CHUNK = 256
"""Rows a batch of predictions; fewer are padded."""
PEOPLE_CHUNK = 32
REFERENCES = 16
"""Training images on which the doubt about a newcomer's embedding is averaged."""


@dataclass(frozen=True, eq=False)
class Known:
    """The people an ensemble knows. U people, M members.

    Attributes
    ----------
    user_ids : array of str, shape (U,)
        Sorted.
    embeddings : float32 array, shape (M, U, e)
        In each member.
    told : Told
    levels, level_variances : arrays, shape (U,)
        How far each person rates above the centre, ticks, and how well that is known.
    own_variances : array, shape (U,)
        Variance of predictions by what is not known of the embedding, squared ticks.
    """

    user_ids: Strings
    embeddings: Singles
    told: Told
    levels: Floats
    level_variances: Floats
    own_variances: Floats

    def joined(self, other: Known) -> Known:
        """These people and others; who is in both is the other's."""
        keep = ~np.isin(self.user_ids, other.user_ids)
        ids = np.concatenate([self.user_ids[keep], other.user_ids])
        order = np.argsort(ids)

        def both(mine: Any, theirs: Any, axis: int = 0) -> Any:
            return np.take(np.concatenate([np.compress(keep, mine, axis), theirs], axis), order, axis)

        told = Told(*(both(a, b) for a, b in zip(vars(self.told).values(), vars(other.told).values(), strict=True)))
        return Known(
            ids[order],
            both(self.embeddings, other.embeddings, 1),
            told,
            both(self.levels, other.levels),
            both(self.level_variances, other.level_variances),
            both(self.own_variances, other.own_variances),
        )


@dataclass(frozen=True, eq=False)
class NetworkTaste:
    """A fitted ensemble (see `beholder.taste.base.FittedModel`).

    Attributes
    ----------
    name : str
    network : Network
    members : sequence of mappings of float32 arrays
        Each network's parameters, without the users' embeddings.
    block_sizes : tuple of int
        Columns of the blocks of the design.
    vocabulary : Vocabulary
    scaling : Scaling
    known : Known
    priors : sequence of Prior
        What each member expects of a newcomer's embedding.
    reference : float32 array, shape (R, p)
        Rows of some training images.
    own_variance : float
        Variance of predictions by an embedding of which nothing is known, squared ticks.
    noise_sd : float
    inputs : tuple of str
    settings : mapping
        How it was fitted: JSON values.
    """

    name: str
    network: Network
    members: Sequence[Mapping[str, Singles]]
    block_sizes: tuple[int, ...]
    vocabulary: Vocabulary
    scaling: Scaling
    known: Known
    priors: Sequence[Prior]
    reference: Singles
    own_variance: float
    noise_sd: float
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]

    kind: ClassVar[str] = "networks"

    @property
    def user_ids(self) -> Strings:
        """Whom it knows, sorted."""
        return self.known.user_ids

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: what `user_ids[i]` thinks of the image `matrix[i]`.

        Raises
        ------
        UserError
            For a user the model does not know.
        """
        who = self._positions(np.asarray(user_ids, dtype=str))
        return self._predict(self.known, who, matrix)

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean`."""
        return self.predict(user_ids, matrix).mean

    def predict_population(self, matrix: Floats) -> Prediction:
        """What an unknown person is expected to think of each row of `matrix`."""
        anybody = self._newcomers(np.array(["anybody"]), self.vocabulary.nothing(), None)
        return self._predict(anybody, np.zeros(len(matrix), dtype=np.intp), matrix)

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> NetworkTaste:
        """Know the users of `context` from these ratings alone, by new embeddings; the networks stay as they are.

        Who is in `people` but rated nothing here is known by what is told of them, with the embedding of nobody.
        """
        ids = np.union1d(context.user_id, np.empty(0, dtype="<U1") if people is None else people.user_ids)
        if not len(ids):
            return self
        told = self.vocabulary.read((People(ids) if people is None else people).of(ids))
        found = self._newcomers(ids, told, None)
        if len(context):
            found = self._newcomers(ids, told, (context, design.rows(context.image_id)))
        return replace(self, known=self.known.joined(found))

    def state(self) -> State:
        """Arrays and JSON values that make the same model again."""
        from beholder.taste.network_files import state_of

        return state_of(self)

    @classmethod
    def from_state(cls, state: State) -> NetworkTaste:
        """The model that `state` came from."""
        from beholder.taste.network_files import model_of

        return model_of(state)

    def outputs(self, known: Known, who: Indices, matrix: Floats) -> Singles:
        """Each member's output for person `who[i]` and image `matrix[i]`, in its own units, shape (M, n)."""
        import torch

        nothing = Dropout(0.0, None)
        out = np.empty((len(self.members), len(who)), dtype=np.float32)
        present, who = np.unique(who, return_inverse=True)
        with one_thread(), torch.no_grad():
            for m, member in enumerate(self.members):
                params = {name: torch.from_numpy(a) for name, a in member.items()}
                people = self._people(params, known, m, present)
                for start in range(0, len(who), CHUNK):
                    rows = _padded(matrix[start : start + CHUNK].astype(np.float32), CHUNK)
                    index = torch.from_numpy(_padded(who[start : start + CHUNK], CHUNK))
                    images = self.network.images(params, torch.from_numpy(rows), nothing)
                    found = self.network.score(params, images, people, torch.arange(CHUNK), index, nothing)
                    out[m, start : start + CHUNK] = found[: len(who) - start].numpy()
        return out

    def _people(self, params: dict[str, torch.Tensor], known: Known, m: int, present: Indices) -> Encoded:
        """The people `present` as member m sees them."""
        import torch

        parts = []
        for start in range(0, len(present), PEOPLE_CHUNK):
            these = _padded(present[start : start + PEOPLE_CHUNK], PEOPLE_CHUNK)
            told = [torch.from_numpy(np.ascontiguousarray(a)) for a in vars(known.told.take(these)).values()]
            persons = Persons(torch.from_numpy(known.embeddings[m, these]), *told)
            parts.append(self.network.people(params, persons, Dropout(0.0, None)))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, known: Known, who: Indices, matrix: Floats) -> Prediction:
        output = self.outputs(known, who, matrix).astype(np.float64)
        set_of = known.told.dataset[who]
        scale = self.scaling.scale[set_of]
        mean = self.scaling.centre[set_of] + known.levels[who] + scale * output.mean(axis=0)
        spread = output.var(axis=0, ddof=1) if len(output) > 1 else np.zeros(len(who))
        variance = scale**2 * spread + known.level_variances[who] + known.own_variances[who]
        return Prediction(mean, np.sqrt(variance), self.noise_sd)

    def _newcomers(self, ids: Strings, told: Told, shown: tuple[Ratings, Floats] | None) -> Known:
        """People known by `shown`, ratings and the rows of their images, or by what is told alone."""
        n, scale = len(ids), self.scaling.scale[told.dataset]
        between = self.scaling.level_variance[told.dataset]
        starts = np.stack([np.tile(prior.mean, (n, 1)) for prior in self.priors]).astype(np.float32)
        nobody = Known(ids, starts, told, np.zeros(n), between, np.full(n, self.own_variance))
        if shown is None:
            return nobody
        ratings, rows = shown
        who = np.searchsorted(ids, ratings.user_id)
        target = (ratings.score - self.scaling.centre[told.dataset[who]]) / scale[who]
        noise = (self.noise_sd / scale) ** 2
        found = [
            embed(self.network, member, prior, told, who, rows, target, noise, between / scale**2, self.reference)
            for member, prior in zip(self.members, self.priors, strict=True)
        ]
        return Known(
            ids,
            np.stack([f.embeddings for f in found]).astype(np.float32),
            told,
            scale * np.mean([f.levels for f in found], axis=0),
            scale**2 * np.mean([f.level_variances for f in found], axis=0),
            scale**2 * np.mean([f.own_variances for f in found], axis=0),
        )

    def _positions(self, users: Strings) -> Indices:
        ids = self.known.user_ids
        who = np.minimum(np.searchsorted(ids, users), len(ids) - 1)
        unknown = np.unique(users[ids[who] != users])
        if len(unknown):
            raise UserError(
                f"{self.name} does not know user {unknown[0]!r} ({len(unknown)} unknown)",
                f"{len(ids)} known users",
                "adapt the model to their ratings, or ask for the population",
            )
        return who


def fit_networks(
    name: str,
    network: Network,
    training: Training,
    ratings: Ratings,
    design: Design,
    rng: np.random.Generator,
    people: People | None,
) -> NetworkTaste:
    """Train an ensemble, one member after the other."""
    data = training_set(ratings, design, rng, people if network.reads_people else None, training.folds)
    seed = int(rng.integers(2**62))
    n_folds = int(data.folds.max()) + 1
    members = [train_one(data, network, training, (seed, k), k % n_folds) for k in range(training.seeds)]
    return assemble(name, network, training, data, design.block_names, members)


def assemble(
    name: str,
    network: Network,
    training: Training,
    data: TrainingSet,
    block_names: Sequence[str],
    members: Sequence[Member],
) -> NetworkTaste:
    """The ensemble of members that `train_one` trained on `data`, wherever that was."""
    from beholder.taste.embed_newcomers import prior_of, prior_variance

    scale = data.scaling.scale[data.told.dataset]
    priors = [prior_of(m.parameters["users"], network.reads_people) for m in members]
    params = [{k: v for k, v in m.parameters.items() if k != "users"} for m in members]
    every = max(1, len(data.images) // REFERENCES)
    reference = data.images[::every][:REFERENCES]
    nobody = data.vocabulary.nothing()
    own = [prior_variance(network, p, prior, nobody, reference) for p, prior in zip(params, priors, strict=True)]
    levels, level_variances = data.levels.copy(), np.zeros(len(data.user_ids))
    known = Known(
        data.user_ids,
        np.stack([m.parameters["users"] for m in members]),
        data.told,
        levels,
        level_variances,
        np.zeros(len(data.user_ids)),
    )
    inputs = (*block_names, "user")
    if network.reads_people:
        inputs += (*data.vocabulary.demographics, *(("profile",) if len(data.vocabulary.profile_centre) else ()))
        inputs += ("dataset",) if len(data.vocabulary.datasets) > 2 else ()
    settings = {
        "training": training.settings(),
        "best_epochs": [int(np.argmin(m.losses)) + 1 for m in members],
        "validation_losses": [float(min(m.losses)) for m in members],
    }
    fitted = NetworkTaste(
        name, network, params, data.block_sizes, data.vocabulary, data.scaling, known, priors, reference,
        float(np.mean(own) * np.mean(scale) ** 2), 0.0, inputs, settings,
    )  # fmt: skip
    return _calibrated(fitted, data, members)


def _calibrated(fitted: NetworkTaste, data: TrainingSet, members: Sequence[Member]) -> NetworkTaste:
    """Levels and noise from ratings that the member predicting them was not trained on."""
    rows = np.concatenate([m.held_out for m in members])
    scale = data.scaling.scale[data.told.dataset[data.who[rows]]]
    residual = scale * (data.target[rows] - np.concatenate([m.predicted for m in members])).astype(np.float64)
    spread = fitted._predict(fitted.known, data.who[rows], data.images[data.which[rows]]).sd
    noise = np.maximum(np.mean(residual**2) - np.mean(spread**2), 0.1 * np.mean(residual**2))
    counts = np.bincount(data.who, minlength=len(data.user_ids))
    between = data.scaling.level_variance[data.told.dataset]
    # Variance of a shrunken mean of `counts` ratings.
    level_variances = between * noise / (counts * between + noise)
    known = replace(fitted.known, level_variances=level_variances)
    return replace(fitted, known=known, noise_sd=float(np.sqrt(noise)))


def _padded(rows: Any, size: int) -> Any:
    """`rows` with zeros below, `size` in all."""
    if len(rows) == size:
        return np.ascontiguousarray(rows)
    out = np.zeros((size, *rows.shape[1:]), dtype=rows.dtype)
    out[: len(rows)] = rows
    return out
