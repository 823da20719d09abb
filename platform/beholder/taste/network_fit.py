"""Fitting ensembles of networks: members trained one by one, put together, calibrated on what they had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from beholder.taste.base import Floats, Indices, Ratings
from beholder.taste.cross_fit import CrossFit
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
SPREAD_OF = 2000
"""Ratings on which members are compared, about."""


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


def cross_fit_networks(
    name: str,
    network: Network,
    training: Training,
    ratings: Ratings,
    design: Design,
    folds: Indices,
    tested: int,
    rng: np.random.Generator,
    people: People | None,
    trainer: Trainer = in_turn,
) -> CrossFit:
    """Train an ensemble whose members leave out one of `folds` each, and say what they predict of it.

    Only as many folds are predicted as there are members. The ensemble is expected to be better than a member by its
    ambiguity (Krogh and Vedelsby 1995): the variance between members, less what is left of it in their mean. The fold
    that a member predicts has also stopped its training, a choice between a few epochs.
    """
    data = training_set(ratings, design, rng, people if network.reads_people else None, training.folds)
    data, seed, n_folds = replace(data, folds=folds), int(rng.integers(2**62)), int(folds.max()) + 1
    members = trainer(data, network, training, [Draw((seed, k), k % n_folds) for k in range(training.seeds)])
    fitted = assemble(name, network, training, data, design.block_names, members)
    predicted = np.full(len(ratings), np.nan)
    for fold, member in enumerate(members[: min(tested, n_folds)]):
        known = np.isin(data.who[member.held_out], data.who[folds != fold])
        rows = member.held_out[known]
        who = data.who[rows]
        set_of = data.told.dataset[who]
        within = data.scaling.scale[set_of] * member.predicted[known].astype(np.float64)
        predicted[rows] = data.scaling.centre[set_of] + data.levels[who] + within
    rows = np.flatnonzero(np.isfinite(predicted))
    if not len(rows):
        return CrossFit(fitted, predicted, 0.0)
    some = rows[:: max(1, len(rows) // SPREAD_OF)]
    seen = data.images[data.which[some]].astype(np.float64)
    doubt = fitted._predict(fitted.known, data.who[some], seen).sd ** 2
    between = doubt - fitted.known.level_variances[data.who[some]]
    ambiguity = float(np.mean(between)) * (1 - 1 / len(members))
    return CrossFit(fitted, predicted, float(np.sqrt(np.mean(doubt))), ambiguity)


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
    counts = np.bincount(data.who, minlength=len(data.user_ids)).astype(np.float64)
    between = data.scaling.level_variance[data.told.dataset]
    square = float(np.mean(residual**2))
    noise = max(square - float(np.mean(spread**2)), 0.1 * square)
    # What was predicted had levels from fewer ratings: a part of the residuals that is no noise.
    fewer = counts * (1 - 1 / (int(data.folds.max()) + 1))
    noise = max(noise - float(np.mean(_level_variances(between, noise, fewer)[data.who[rows]])), 0.1 * square)
    level_variances = _level_variances(between, noise, counts)
    known = replace(fitted.known, level_variances=level_variances)
    return replace(fitted, known=known, noise_sd=float(np.sqrt(noise)))


def _level_variances(between: Floats, noise: float, counts: Floats) -> Floats:
    """Variance of shrunken means of `counts` ratings."""
    return between * noise / (counts * between + noise)
