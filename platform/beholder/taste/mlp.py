"""The plain network: an image's row of the design beside the user's embedding, two hidden layers, a score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from beholder.taste.base import Indices, Ratings
from beholder.taste.cross_fit import CrossFit
from beholder.taste.features import Design
from beholder.taste.nets import Dropout, add_linear, linear
from beholder.taste.network_fit import Trainer, cross_fit_networks, fit_networks, in_turn
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.networks import Persons, Shape, Training
from beholder.taste.people import People

if TYPE_CHECKING:
    import torch

    from beholder.taste.nets import Params
    from beholder.taste.networks import Encoded


@dataclass(frozen=True)
class MLPNetwork:
    """Two hidden layers of `width` GELU units on (design row, user embedding).

    The first layer is a sum of a part of the image and a part of the user, which are taken apart.
    """

    embedding: int = 32
    width: int = 256
    dropout: float = 0.2

    kind: ClassVar[str] = "mlp"
    reads_people: ClassVar[bool] = False

    def start(self, shape: Shape, generator: torch.Generator) -> Params:
        """Random parameters."""
        import torch

        params: Params = {}
        p = sum(shape.block_sizes)
        add_linear(params, "image", p, self.width, generator)
        params["user"] = torch.randn(self.width, self.embedding, generator=generator) / math.sqrt(self.embedding)
        add_linear(params, "hidden", self.width, self.width, generator, gain=math.sqrt(2))
        add_linear(params, "score", self.width, 1, generator, gain=0.5)
        return params

    def images(self, params: Params, rows: torch.Tensor, dropout: Dropout) -> Encoded:
        """The image's part of the first layer."""
        return {"image": linear(params, "image", rows)}

    def people(self, params: Params, persons: Persons, dropout: Dropout) -> Encoded:
        """The user's part of the first layer."""
        return {"user": persons.embedding @ params["user"].T}

    def score(
        self,
        params: Params,
        images: Encoded,
        people: Encoded,
        which: torch.Tensor,
        who: torch.Tensor,
        dropout: Dropout,
    ) -> torch.Tensor:
        """The rest of the network."""
        from torch.nn.functional import gelu

        hidden = dropout(gelu(images["image"][which] + people["user"][who]))
        hidden = dropout(gelu(linear(params, "hidden", hidden)))
        return linear(params, "score", hidden)[:, 0]


NETWORK = MLPNetwork()
TRAINING = Training(epochs=20, patience=4, start_sd=0.1)
SINGLE = replace(TRAINING, seeds=1)


@dataclass(frozen=True)
class MLP:
    """B7: an ensemble of plain networks with user embeddings.

    Attributes
    ----------
    network : MLPNetwork
    training : Training
        With one seed the model is called `mlp_single`.
    trainer : Trainer
        Who trains the members: no part of what the model is.
    """

    network: MLPNetwork = NETWORK
    training: Training = TRAINING
    trainer: Trainer = field(default=in_turn, repr=False, compare=False)

    @property
    def name(self) -> str:
        """`mlp`, or `mlp_single` for one seed."""
        return "mlp" if self.training.seeds > 1 else "mlp_single"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> NetworkTaste:
        """Train the ensemble; `rng` draws folds and seeds, `people` is not used.

        Raises
        ------
        EstimateError
            With too few users, repeats or prompts, or ratings that do not vary.
        """
        return fit_networks(self.name, self.network, self.training, ratings, design, rng, None, self.trainer)

    def cross_fit(
        self,
        ratings: Ratings,
        design: Design,
        folds: Indices,
        tested: int,
        rng: np.random.Generator,
        people: People | None = None,
    ) -> CrossFit:
        """`fit` with members stopped by `folds`, and what they say of them (see `beholder.taste.cross_fit`)."""
        return cross_fit_networks(
            self.name, self.network, self.training, ratings, design, folds, tested, rng, None, self.trainer
        )
