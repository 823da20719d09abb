"""Fitted ensembles of networks: predictions, newcomers, and what is saved.

The expected rating is the mean of the members; its SD is their spread, the doubt about a person's level and, for
newcomers, the doubt about their embedding. The noise is what is left of the squared errors on ratings that members
were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from beholder.errors import TableError, UserError
from beholder.taste.base import Floats, Indices, Prediction, Ratings, State, Strings
from beholder.taste.embed_newcomers import Prior, embed
from beholder.taste.features import Design
from beholder.taste.network_scores import Known, outputs
from beholder.taste.networks import Network
from beholder.taste.people import People
from beholder.taste.training_set import Scaling, Singles, Told, Vocabulary


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

    def outputs(self, known: Known, who: Indices, matrix: Floats) -> Floats:
        """Each member's output for person `who[i]` of `known` and image `matrix[i]`, in its own units, shape (M, n)."""
        each = zip(self.members, known.embeddings, strict=True)
        found = [outputs(self.network, member, own, known.told, who, matrix) for member, own in each]
        return np.stack(found).astype(np.float64)

    def _predict(self, known: Known, who: Indices, matrix: Floats) -> Prediction:
        if matrix.shape[1] != sum(self.block_sizes):
            raise TableError(f"images with {matrix.shape[1]} columns", f"{sum(self.block_sizes)} as at fitting")
        output = self.outputs(known, who, matrix)
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
