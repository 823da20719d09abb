"""Training of one network: whole images a batch, squared error and within-user ranking, early stopping.

Each image of a batch is encoded once for all who rated it, each person once for all images: what is done for every
rating is only the last step, in which the two meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Indices
from beholder.taste.group import ALONE, Group, part_of
from beholder.taste.nets import Dropout, one_thread
from beholder.taste.networks import Network, Persons, Shape, Training
from beholder.taste.training_set import Singles, TrainingSet

if TYPE_CHECKING:
    import torch


WARM_UP = 50
SMALLEST_BATCH = 32
BATCHES_AN_EPOCH = 8
"""At least, where that leaves `SMALLEST_BATCH` ratings a batch."""
PAIR_SLOPE = 1.5
"""Log-odds that the better rated of two images is preferred, per standard deviation between the predictions.

For noise of SD s round them it is about 1.7 / (sqrt(2) s); s is .8 where the features explain a third of the variance.
"""


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network.

    Attributes
    ----------
    parameters : mapping of float32 arrays
        With the users' embeddings, `users`, shape (U, e).
    held_out : int array, shape (v,)
        Ratings it was not trained on but stopped by.
    predicted : float32 array, shape (v,)
        Its predictions of them in the units of `TrainingSet.target`, with users' levels from the other ratings.
    losses : tuple of float
        Mean squared error on them after each epoch.
    """

    parameters: dict[str, Singles]
    held_out: Indices
    predicted: Singles
    losses: tuple[float, ...]


def train_one(
    data: TrainingSet, network: Network, training: Training, seed: Sequence[int], fold: int, group: Group = ALONE
) -> Member:
    """Train one network of an ensemble; members can be trained anywhere, in any order.

    Parameters
    ----------
    data : TrainingSet
    network : Network
    training : Training
    seed : sequence of int
        Everything random is drawn from it: the same bits on a CPU, whatever else runs.
    fold : int
        Fold of `data.folds` that is held out.
    group : Group
        Processes that train it together, each called with the same arguments: every one takes the ratings of some
        users of a batch. Without dropout the network is that of one process up to rounding; with it, what is dropped is
        drawn from a stream of each process.
    """
    mine = data.levelled_without(fold)
    with one_thread():
        member = _Run(mine, network, training, seed, fold, group).run()
    scale = data.scaling.scale[data.told.dataset]
    lower = ((data.levels - mine.levels) / scale)[data.who[member.held_out]]
    return replace(member, predicted=(member.predicted - lower).astype(np.float32))


class _Run:
    """The state of one training."""

    def __init__(
        self, data: TrainingSet, network: Network, training: Training, seed: Sequence[int], fold: int, group: Group
    ) -> None:
        import torch

        self.data, self.network, self.training, self.group = data, network, training, group
        self.rng = np.random.default_rng(list(seed))
        self.device = torch.device(training.device)
        start = torch.Generator().manual_seed(int(self.rng.integers(2**62)))
        self.generator = torch.Generator(self.device).manual_seed(int(self.rng.integers(2**62)) + group.rank)
        shape = Shape.of(data.block_sizes, data.vocabulary)
        params = network.start(shape, start)
        n_users = len(data.user_ids)
        start_sd = training.start_sd if training.user_dropout < 1 else 0.0
        params["users"] = start_sd * torch.randn(n_users, network.embedding, generator=start)
        self.params = {name: p.to(self.device).requires_grad_() for name, p in params.items()}
        self.images = torch.from_numpy(data.images).to(self.device)
        self.target = torch.from_numpy(data.target).to(self.device)
        self.told = [torch.from_numpy(a).to(self.device) for a in vars(data.told).values()]
        self.held_out = np.flatnonzero(data.folds == fold)
        self.drawer = _Drawer(data, np.flatnonzero(data.folds != fold), training, self.rng)
        self.dropout = Dropout(network.dropout, self.generator)

    def run(self) -> Member:
        import torch

        optimiser = self._optimiser()
        steps, total = 0, self.training.epochs * self.drawer.batches
        best, best_epoch, losses = None, 0, list[float]()
        for epoch in range(self.training.epochs):
            for rows, images in self.drawer.epoch():
                rate = self.training.rate * min(1.0, (steps + 1) / WARM_UP) * (1 - steps / total)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.zero_grad(set_to_none=True)
                self._part(rows, images).backward()
                self.group.add([p.grad for p in self.params.values() if p.grad is not None])
                optimiser.step()
                steps += 1
            predicted = self._validate()
            losses.append(float(torch.mean((predicted - self.target[self.held_out]) ** 2)))
            if losses[-1] <= min(losses):
                arrays = {name: p.detach().cpu().numpy().copy() for name, p in self.params.items()}
                best, best_epoch = (arrays, predicted.cpu().numpy()), epoch
            elif epoch - best_epoch >= self.training.patience:
                break
        if best is None:  # a loss that is not a number is never the least
            raise EstimateError(f"training diverged: validation losses {losses}", remedy="a lower learning rate")
        return Member(best[0], self.held_out, best[1], tuple(losses))

    def _optimiser(self) -> torch.optim.Optimizer:
        import torch

        matrices = [p for p in self.params.values() if p.ndim > 1]
        vectors = [p for p in self.params.values() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": self.training.decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.training.rate, fused=True)

    def _part(self, rows: Indices, images: Indices) -> torch.Tensor:
        """The part of a batch's loss that falls to this process; the parts add up to the whole."""
        if self.group.size == 1:
            return self._loss(rows, images)
        mine = rows[part_of(self.group, self.data.who[rows])]
        pairs, mine_of_them = (ranked_pairs(self.data.target[some], self.data.who[some]) for some in (rows, mine))
        shares = len(mine) / len(rows), mine_of_them / max(1, pairs)
        # Who has nothing to do computes something that counts nothing, so that all have the same gradients to add.
        some = mine if len(mine) else rows
        return self._loss(some, np.unique(self.data.which[some]), shares)

    def _loss(self, rows: Indices, images: Indices, shares: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
        """Loss of one batch, whose `rows` are sorted by user, with weights of its ratings and of its pairs."""
        import torch

        users, who = np.unique(self.data.who[rows], return_inverse=True)
        which = np.searchsorted(images, self.data.which[rows])
        people = self.network.people(self.params, self._persons(users), self.dropout)
        seen = self.network.images(self.params, self.images[images], self.dropout)
        index = [torch.from_numpy(i).to(self.device) for i in (which, who)]
        found = self.network.score(self.params, seen, people, index[0], index[1], self.dropout)
        target = self.target[rows]
        loss = shares[0] * torch.mean((found - target) ** 2)
        if self.training.ranking:
            loss = loss + self.training.ranking * shares[1] * ranking_loss(found, target, index[1])
        return loss

    def _persons(self, users: Indices) -> Persons:
        """The users of a batch, some of them without their embedding or what is told of them."""
        import torch

        categories, dataset, profiles = (column[users] for column in self.told)
        embedding = self.params["users"][torch.from_numpy(users).to(self.device)]
        kept = torch.rand(len(users), 3 + categories.shape[1], generator=self.generator, device=self.device)
        t = self.training
        embedding = embedding * (kept[:, :1] >= t.user_dropout)
        profiles = profiles * (kept[:, 1:2] >= t.told_dropout)
        dataset = dataset * (kept[:, 2] >= t.told_dropout)
        categories = categories * (kept[:, 3:] >= t.told_dropout)
        return Persons(embedding, categories, dataset, profiles)

    def _validate(self) -> torch.Tensor:
        """Predictions of the ratings held out."""
        import torch

        nothing = Dropout(0.0, None)
        with torch.no_grad():
            persons = Persons(self.params["users"], *self.told)
            people = self.network.people(self.params, persons, nothing)
            found = self.target.new_zeros(len(self.held_out))
            parts = np.array_split(np.arange(len(self.held_out)), max(self.group.size, len(self.held_out) // 2000))
            for places in parts[self.group.rank :: self.group.size]:
                rows = self.held_out[places]
                images, which = np.unique(self.data.which[rows], return_inverse=True)
                seen = self.network.images(self.params, self.images[images], nothing)
                index = [torch.from_numpy(i).to(self.device) for i in (which, self.data.who[rows])]
                found[places] = self.network.score(self.params, seen, people, index[0], index[1], nothing)
            self.group.add([found])
        return found


class _Drawer:
    """Batches of whole images with all their ratings."""

    def __init__(self, data: TrainingSet, rows: Indices, training: Training, rng: np.random.Generator) -> None:
        # An image that two data sets rated is two units, so that each set is drawn by its own weight.
        self.data, self.rng = data, rng
        set_of = data.told.dataset[data.who[rows]]
        unit, first, counts = _units(data.which[rows] * len(data.vocabulary.datasets) + set_of)
        self.order = rows[np.argsort(unit, kind="stable")]
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts
        self.weight = _weights(training, data.vocabulary.datasets)[set_of[first]]
        if not np.any(self.weight > 0):
            raise UserError("sampling weights that leave nothing to train on", "a weight above 0")
        batch = min(training.batch, max(SMALLEST_BATCH, len(rows) // BATCHES_AN_EPOCH))
        drawn = float(np.sum(self.weight))
        self.units = max(1, round(batch * drawn / max(1.0, float(np.sum(self.weight * counts)))))
        self.batches = max(1, math.ceil(drawn / self.units))

    def epoch(self) -> list[tuple[Indices, Indices]]:
        """Ratings of each batch, sorted by user, and their images, sorted."""
        whole = np.floor(self.weight).astype(int)
        times = whole + (self.rng.random(len(whole)) < self.weight - whole)
        units = self.rng.permutation(np.repeat(np.arange(len(times)), times))
        batches = []
        for drawn in np.array_split(units, self.batches):
            if len(drawn) == 0:
                continue
            rows = np.concatenate([self.order[self.starts[k] : self.ends[k]] for k in drawn])
            rows = rows[np.argsort(self.data.who[rows], kind="stable")]
            batches.append((rows, np.unique(self.data.which[rows])))
        return batches


def _weights(training: Training, datasets: Sequence[str]) -> NDArray[np.float64]:
    """How often images of each data set are drawn an epoch."""
    sampling = training.sampling or {}
    unknown = sorted(set(sampling) - set(datasets))
    if unknown:
        raise UserError(f"sampling weights for data sets {', '.join(unknown)}", ", ".join(datasets[1:]) or "no names")
    return np.array([sampling.get(name, 1.0) for name in datasets])


def ranking_loss(found: torch.Tensor, target: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
    """Mean logistic loss of pairs of one user's ratings, neighbours by one and by two in the batch; ties left out.

    Parameters
    ----------
    found, target : tensors, shape (b,)
        Predictions and ratings.
    who : int tensor, shape (b,)
        Sorted: pairs are of equal entries.
    """
    import torch

    total, pairs = found.new_zeros(()), found.new_zeros(())
    for apart in (1, 2):
        if len(found) <= apart:
            continue
        sign = torch.sign(target[apart:] - target[:-apart]) * (who[apart:] == who[:-apart])
        margin = (found[apart:] - found[:-apart]) * sign
        total = total + torch.sum(torch.nn.functional.softplus(-PAIR_SLOPE * margin) * sign.abs())
        pairs = pairs + sign.abs().sum()
    return total / pairs.clamp(min=1.0)


def ranked_pairs(target: Singles, who: Indices) -> int:
    """How many pairs `ranking_loss` counts."""
    each = [(target[k:] != target[:-k]) & (who[k:] == who[:-k]) for k in (1, 2) if len(who) > k]
    return int(sum(np.count_nonzero(pairs) for pairs in each))


def _units(codes: NDArray[Any]) -> tuple[Indices, Indices, Indices]:
    """Unit of each entry, first entry and number of entries of each unit."""
    _, first, unit, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    return unit, first, counts
