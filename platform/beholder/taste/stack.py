"""A convex combination of reward models, weighted by held-out ratings (stacking: Wolpert 1992, Breiman 1996).

Prompts are held out, as they are when models are judged: folds of prompts are predicted by models fitted without them,
and the weights minimise the squared error of the combination there. The parts themselves are fitted on everything.
Weights of 0 or more that add up to 1 keep the combination a rating and the number of free values small. Where prompts
are too few to tell whether the combination is better than its first part, the first part has all the weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import nnls
from scipy.stats import t

from beholder.errors import EstimateError, UserError
from beholder.taste.base import FittedModel, Floats, Indices, Prediction, Ratings, State, Strings, TasteModel
from beholder.taste.cross_fit import cross_fit
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.splits import group_folds


@dataclass(frozen=True, eq=False)
class StackTaste:
    """A fitted stack (see `beholder.taste.base.FittedModel`).

    Attributes
    ----------
    name : str
    parts : tuple of FittedModel
    weights : array, shape (parts,)
        0 or more, adding up to 1.
    noise_sd : float
    settings : mapping
        How it was fitted: JSON values.
    """

    name: str
    parts: tuple[FittedModel, ...]
    weights: Floats
    noise_sd: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "stack"

    @property
    def user_ids(self) -> Strings:
        """Whom all parts know, sorted."""
        return self.parts[0].user_ids

    @property
    def inputs(self) -> tuple[str, ...]:
        """What any part with a weight depends on."""
        used = [part.inputs for part, weight in zip(self.parts, self.weights, strict=True) if weight > 0]
        return tuple(dict.fromkeys(name for inputs in used for name in inputs))

    def predict(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Prediction:
        """Row i: what `user_ids[i]` thinks of the image `matrix[i]`; unknown users raise."""
        return self._combined([part.predict(user_ids, matrix) for part in self.parts])

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """`predict(...).mean`, without the cost of its SD."""
        return self._mean([part.predict_mean(user_ids, matrix) for part in self.parts])

    def predict_population(self, matrix: Floats) -> Prediction:
        """What an unknown person is expected to think of each row of `matrix`."""
        return self._combined([part.predict_population(matrix) for part in self.parts])

    def adapt(self, context: Ratings, design: Design, people: People | None = None) -> StackTaste:
        """Every part adapted; the weights stay as they are."""
        return replace(self, parts=tuple(part.adapt(context, design, people) for part in self.parts))

    def state(self) -> State:
        """The parts' states side by side."""
        states = [part.state() for part in self.parts]
        arrays = {f"part_{k}/{name}": a for k, state in enumerate(states) for name, a in state.arrays.items()}
        about = {"kind": self.kind, "name": self.name, "noise_sd": self.noise_sd, "settings": dict(self.settings)}
        return State({**arrays, "weights": self.weights}, {**about, "parts": [dict(s.settings) for s in states]})

    @classmethod
    def from_state(cls, state: State) -> StackTaste:
        """The stack that `state` came from."""
        from beholder.taste.registry import model_from

        s = state.settings
        parts = []
        for k, settings in enumerate(s["parts"]):
            prefix = f"part_{k}/"
            arrays = {n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)}
            parts.append(model_from(State(arrays, settings)))
        return cls(s["name"], tuple(parts), state.arrays["weights"], float(s["noise_sd"]), s["settings"])

    def _mean(self, means: Sequence[Floats]) -> Floats:
        # Term by term: a matrix product's bits depend on how many rows it has.
        total = np.zeros(len(means[0]))
        for weight, mean in zip(self.weights, means, strict=True):
            if weight > 0:  # a part without weight may have no number to give
                total += weight * mean
        return total

    def _combined(self, each: Sequence[Prediction]) -> Prediction:
        # The parts learned from the same ratings: their errors go together, so SDs add, not variances.
        return Prediction(self._mean([p.mean for p in each]), self._mean([p.sd for p in each]), self.noise_sd)


@dataclass(frozen=True)
class Stack:
    """B8: several models by validation weights.

    Attributes
    ----------
    models : tuple of TasteModel
        Two or more, of different names; the first is the one to fall back on.
    folds : int
        Prompts are split in so many folds.
    tested : int
        On so many of them the models are tried: more settle the weights better, and cost a fit each of every model
        that does not leave folds out by itself.
    name : str
    confidence : float
        Of the interval, over prompts, of what the combination's squared error is less than the first part's: where it
        holds 0, the first part has all the weight. 0 takes any gain. A network's epoch is chosen on the folds that
        weigh it, so with a dozen prompts it looks better than it is.
    """

    models: tuple[TasteModel, ...]
    folds: int = 8
    tested: int = 5
    name: str = "stack"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(names) < 2 or len(set(names)) != len(names):
            raise UserError(f"a stack of {names}", "two models or more, each once")
        if not 1 <= self.tested <= self.folds or self.folds < 2:
            raise UserError(f"{self.tested} of {self.folds} folds", "at least 2 folds, 1 or more of them tested")
        if not 0 <= self.confidence < 1:
            raise UserError(f"confidence = {self.confidence}", "0 or more, below 1")

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> StackTaste:
        """Fit every part on all ratings, and choose the weights on prompts left out.

        Parameters
        ----------
        ratings, design, people
            Handed to the parts; no part sees a rating of the prompts it predicts for the weights.
        rng : numpy.random.Generator
            Draws the folds and, by equal streams, whatever the parts draw.

        Raises
        ------
        EstimateError
            If nobody has ratings on both sides of the folds.
        """
        n_folds = min(self.folds, len(np.unique(ratings.prompt_id)))
        folds, tested = group_folds(ratings.prompt_id, n_folds, rng), min(self.tested, n_folds)
        seed = int(rng.integers(2**62))
        each = [cross_fit(m, ratings, design, folds, tested, np.random.default_rng(seed), people) for m in self.models]
        predicted = np.stack([one.predicted for one in each])
        rows = np.flatnonzero(np.all(np.isfinite(predicted), axis=0))
        if not len(rows):
            raise EstimateError("nobody has ratings inside and outside the folds", "users with several prompts")
        errors, ambiguity = predicted[:, rows] - ratings.score[rows], np.array([one.ambiguity for one in each])
        gram = held_out_errors(errors, ambiguity)
        weights = convex_weights(gram)
        _, prompts = np.unique(ratings.prompt_id[rows], return_inverse=True)
        gain, half = gain_over_first(errors, gram, weights, prompts, self.confidence)
        if not gain > half:  # nor where one prompt leaves the interval unknown
            weights = np.eye(len(weights))[0]
        error = float(weights @ gram @ weights)
        noise = max(error - float(weights @ [one.sd for one in each]) ** 2, 0.1 * error)
        rmse = np.sqrt(np.diag(gram)).tolist()
        settings = {
            "weights": {m.name: float(w) for m, w in zip(self.models, weights, strict=True)},
            "held_out_rmse": {m.name: r for m, r in zip(self.models, rmse, strict=True)},
            "held_out_rmse_stack": float(np.sqrt(error)),
            "gain": {"estimate": gain, "half_width": half if np.isfinite(half) else None, "taken": bool(gain > half)},
            "n_held_out": len(rows),
            "parts": {one.model.name: dict(one.model.state().settings.get("settings", {})) for one in each},
        }
        return StackTaste(self.name, tuple(one.model for one in each), weights, float(np.sqrt(noise)), settings)


def held_out_errors(errors: Floats, ambiguity: Floats) -> Floats:
    """Mean products of the errors of k models, shape (k, k), as those of whole ensembles.

    A member's error is the ensemble's plus a departure from the other members, which has nothing to do with the errors
    of other models: only its own square is too large, by the ambiguity.

    Parameters
    ----------
    errors : array, shape (k, n)
        Of ratings that models were not fitted on.
    ambiguity : array, shape (k,)
        See `beholder.taste.cross_fit.CrossFit`.
    """
    gram = errors @ errors.T / errors.shape[1]
    square = np.diag(gram)
    return gram - np.diag(np.minimum(ambiguity, 0.9 * square))


def gain_over_first(
    errors: Floats, gram: Floats, weights: Floats, prompts: Indices, confidence: float
) -> tuple[float, float]:
    """By how much a combination's mean squared error is below its first part's, and the half width of the interval.

    Parameters
    ----------
    errors : array, shape (k, n)
        Of ratings that models were not fitted on.
    gram : array, shape (k, k)
        `held_out_errors` of them.
    weights : array, shape (k,)
    prompts : int array, shape (n,)
        Prompt of each rating, 0...G-1: errors of one prompt go together.
    confidence : float
        0 gives a half width of 0.

    Returns
    -------
    tuple of float
        Squared ticks. The half width is NaN with fewer than two prompts.

    Notes
    -----
    Linearised variance of a mean with clusters of unequal size, t with G-1 degrees of freedom. Weights are taken as
    given, and the correction for ambiguity as known.
    """
    each = errors[0] ** 2 - (weights @ errors) ** 2
    sums = np.bincount(prompts, each - each.mean())
    n_prompts = len(sums)
    gain = float(gram[0, 0] - weights @ gram @ weights)
    if n_prompts < 2:
        return gain, float("nan")
    se = np.sqrt(n_prompts / (n_prompts - 1) * np.sum(sums**2)) / len(each)
    return gain, float(t.ppf(0.5 + confidence / 2, n_prompts - 1) * se)


def convex_weights(gram: Floats) -> Floats:
    """Weights of 0 or more that add up to 1 and minimise `weights @ gram @ weights`, a combination's squared error.

    Parameters
    ----------
    gram : array, shape (k, k)
        Mean products of the models' errors.

    Returns
    -------
    array, shape (k,)

    Notes
    -----
    Non-negative least squares on the matrix's root, with the sum held by a heavy row; the rest is removed by dividing
    by the sum. Equal predictions leave the weights free between them; any optimum is as good.
    """
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    heavy = 1e4 * np.sqrt(np.trace(gram) / len(gram) + 1e-300)
    found, _ = nnls(np.vstack([root, np.full((1, len(gram)), heavy)]), np.r_[np.zeros(len(gram)), heavy])
    return found / found.sum()
