"""Fitting ensembles of networks: members trained one by one, put together, calibrated on what they had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from beholder.taste.base import Ratings
from beholder.taste.embed_newcomers import prior_of
from beholder.taste.features import Design
from beholder.taste.network_scores import Known
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.networks import Network, Training
from beholder.taste.people import People
from beholder.taste.train_network import Member, train_one
from beholder.taste.training_set import TrainingSet, training_set

REFERENCES = 16
"""Training images on which the doubt about a newcomer's embedding is averaged."""


class Draw(NamedTuple):
    """What sets a member of an ensemble apart: its seed, and the fold of prompts it is stopped by."""

    seed: tuple[int, ...]
    fold: int


class Trainer(Protocol):
    """Whoever trains the members of an ensemble."""

    def __call__(
        self, data: TrainingSet, network: Network, training: Training, draws: Sequence[Draw]
    ) -> Sequence[Member]:
        """What `train_one` gives for each draw, in their order."""
        ...


def in_turn(data: TrainingSet, network: Network, training: Training, draws: Sequence[Draw]) -> list[Member]:
    """The trainer of this process: one member after the other."""
    return [train_one(data, network, training, draw.seed, draw.fold) for draw in draws]


def fit_networks(
    name: str,
    network: Network,
    training: Training,
    ratings: Ratings,
    design: Design,
    rng: np.random.Generator,
    people: People | None,
    trainer: Trainer = in_turn,
) -> NetworkTaste:
    """Train an ensemble."""
    data = training_set(ratings, design, rng, people if network.reads_people else None, training.folds)
    seed = int(rng.integers(2**62))
    n_folds = int(data.folds.max()) + 1
    members = trainer(data, network, training, [Draw((seed, k), k % n_folds) for k in range(training.seeds)])
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
    scale = data.scaling.scale[data.told.dataset]
    params = [{k: v for k, v in m.parameters.items() if k != "users"} for m in members]
    every = max(1, len(data.images) // REFERENCES)
    reference = data.images[::every][:REFERENCES]
    priors = [
        prior_of(network, p, m.parameters["users"], data.told, reference, network.reads_people)
        for p, m in zip(params, members, strict=True)
    ]
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
        float(np.mean([p.variance for p in priors]) * np.mean(scale) ** 2), 0.0, inputs, settings,
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
