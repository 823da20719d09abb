"""A newcomer's embedding and level from a few ratings, the network as it is.

The embedding has a Gaussian prior, the spread of those trained; the network is linearised round the current
embedding, the linear problem is solved in closed form, and that is repeated a few times (Gauss-Newton), a step halved
where it makes the posterior worse. All people are done at once: each has an own embedding, so that one backward pass
gives the derivatives of every rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beholder.taste.base import Floats, Indices
from beholder.taste.nets import Dropout, one_thread
from beholder.taste.networks import Network, Persons
from beholder.taste.training_set import Singles, Told

STEPS, HALVINGS = 3, 3
ASKED = 40
"""People, about, whose predictions say how much people differ."""
SHRINKAGE = 0.1
"""Share of the prior covariance that is put to a multiple of the identity: fewer people than numbers is no rank."""


@dataclass(frozen=True, eq=False)
class Prior:
    """A Gaussian belief about an embedding: `mean`, shape (e,), and `covariance`, shape (e, e).

    `variance` is that of the predictions of an image by people's embeddings.
    """

    mean: Floats
    covariance: Floats
    variance: float


@dataclass(frozen=True, eq=False)
class Embedded:
    """n people in the units of one network.

    Attributes
    ----------
    embeddings : array, shape (n, e)
    levels, level_variances : arrays, shape (n,)
    own_variances : array, shape (n,)
        Mean variance of predictions of the reference images by what is not known of the embedding.
    """

    embeddings: Floats
    levels: Floats
    level_variances: Floats
    own_variances: Floats


def prior_of(
    network: Network,
    member: Mapping[str, Singles],
    embeddings: Singles,
    told: Told,
    reference: Singles,
    round_zero: bool,
) -> Prior:
    """The spread of trained embeddings round their mean, or round zero where zero stands for nobody.

    The variance of predictions is taken from the network itself: linearised round zero, where its layer norms are
    steep, it made 25 times too much of people's differences.

    Parameters
    ----------
    network, member
    embeddings : float32 array, shape (U, e)
    told : Told
        Of the U people.
    reference : float32 array, shape (R, p)
        Images that some of the people are asked about.
    round_zero : bool
    """
    values = embeddings.astype(np.float64)
    mean = np.zeros(values.shape[1]) if round_zero else values.mean(axis=0)
    covariance = (values - mean).T @ (values - mean) / len(values)
    e = len(mean)
    # Embeddings that were never used are all zero; the floor keeps the covariance one that can be inverted.
    spread = SHRINKAGE * np.trace(covariance) / e + 1e-9
    covariance = (1 - SHRINKAGE) * covariance + spread * np.eye(e)
    some = np.arange(0, len(values), max(1, len(values) // ASKED))
    who, rows = np.repeat(np.arange(len(some)), len(reference)), np.tile(reference, (len(some), 1))
    found = _slopes(network, member, values[some], told.take(some), who, rows, derive=False)[0]
    found = found.reshape(len(some), -1)
    variance = float(np.mean(np.var(found - found.mean(axis=1, keepdims=True), axis=0)))
    return Prior(mean, covariance, variance)


def embed(
    network: Network,
    member: Mapping[str, Singles],
    prior: Prior,
    told: Told,
    who: Indices,
    rows: Floats,
    target: Floats,
    noise: Floats,
    level: Floats,
    reference: Singles,
) -> Embedded:
    """Posterior modes of embeddings and levels.

    Parameters
    ----------
    network, member, prior
    told : Told
        Of n people.
    who : int array, shape (b,)
        Whose each rating is.
    rows : array, shape (b, p)
        Rows of the design.
    target : array, shape (b,)
        Ratings in the network's units.
    noise, level : arrays, shape (n,)
        Variances of noise and of levels.
    reference : array, shape (R, p)
        Images over which the remaining doubt is averaged.
    """
    e, n = len(prior.mean), len(told)
    mine = [np.flatnonzero(who == u) for u in range(n)]
    full = np.zeros((n, e + 1, e + 1))  # embedding, then level
    full[:, :e, :e], full[:, e, e] = prior.covariance, level
    precision = np.linalg.inv(prior.covariance)
    start = np.r_[prior.mean, 0.0]
    state = np.tile(start, (n, 1))
    covariance = full.copy()

    def loss_of(state: Floats, found: Floats) -> Floats:
        """Negative log posteriors less a constant, shape (n,), times two."""
        misfit = np.bincount(who, (target - found - state[who, e]) ** 2, minlength=n) / noise
        away = state[:, :e] - prior.mean
        levels = np.divide(state[:, e] ** 2, level, out=np.zeros(n), where=level > 0)
        return misfit + np.einsum("ne,ef,nf->n", away, precision, away) + levels

    found, slopes = _slopes(network, member, state[:, :e], told, who, rows)
    loss = loss_of(state, found)
    for _ in range(STEPS):
        goal = state.copy()
        for u in range(n):
            goal[u], covariance[u] = _linear_step(
                start, full[u], noise[u], slopes[mine[u]], target[mine[u]] - found[mine[u]], state[u]
            )
        for _ in range(HALVINGS):
            worse = loss_of(goal, _slopes(network, member, goal[:, :e], told, who, rows, derive=False)[0]) > loss
            if not np.any(worse):
                break
            goal[worse] = (goal[worse] + state[worse]) / 2
        else:
            goal[worse] = state[worse]
        state = goal
        found, slopes = _slopes(network, member, state[:, :e], told, who, rows)
        loss = loss_of(state, found)
    left, before = (
        _doubt(network, member, state[:, :e], c, told, reference) for c in (covariance[:, :e, :e], full[:, :e, :e])
    )
    own = prior.variance * left / (before + 1e-12)
    return Embedded(state[:, :e], state[:, e], covariance[:, e, e], own)


def _linear_step(
    start: Floats, prior: Floats, noise: float, slopes: Floats, misfit: Floats, state: Floats
) -> tuple[Floats, Floats]:
    """Posterior mean and covariance of (embedding, level) of one person, the network linear round `state`.

    Kernel form: with few ratings the small system is that of the ratings.
    """
    jacobian = np.hstack([slopes, np.ones((len(slopes), 1))])
    crossed = prior @ jacobian.T
    marginal = jacobian @ crossed + noise * np.eye(len(slopes))
    gain = np.linalg.solve(marginal, crossed.T).T
    return start + gain @ (misfit - state[-1] + jacobian @ (state - start)), prior - gain @ crossed.T


def _doubt(
    network: Network, member: Mapping[str, Singles], embeddings: Floats, covariances: Floats, told: Told, rows: Singles
) -> Floats:
    """Mean variance of the linearised network's predictions of `rows`, shape (n,)."""
    n, r = len(embeddings), len(rows)
    _, slopes = _slopes(network, member, embeddings, told, np.repeat(np.arange(n), r), np.tile(rows, (n, 1)))
    slopes = slopes.reshape(n, r, -1)
    # What all images share is the level's, not the ranking's, and is counted there.
    slopes = slopes - slopes.mean(axis=1, keepdims=True)
    return np.einsum("nre,nef,nrf->n", slopes, covariances, slopes) / r


def _slopes(
    network: Network,
    member: Mapping[str, Singles],
    embeddings: Floats,
    told: Told,
    who: Indices,
    rows: Floats | Singles,
    *,
    derive: bool = True,
) -> tuple[Floats, Floats]:
    """Predictions, shape (b,), and, to `derive`, their derivatives by the embedding, shape (b, e)."""
    import torch

    nothing = Dropout(0.0, None)
    params = {name: torch.from_numpy(a) for name, a in member.items()}
    with one_thread(), torch.set_grad_enabled(derive):
        own = torch.from_numpy(embeddings[who].astype(np.float32)).requires_grad_(derive)
        persons = Persons(own, *(torch.from_numpy(np.ascontiguousarray(a)) for a in vars(told.take(who)).values()))
        index = torch.arange(len(who))
        images = network.images(params, torch.from_numpy(rows.astype(np.float32)), nothing)
        found = network.score(params, images, network.people(params, persons, nothing), index, index, nothing)
        slopes = torch.autograd.grad(found.sum(), own)[0] if derive else own
    return found.detach().numpy().astype(np.float64), slopes.numpy().astype(np.float64)
