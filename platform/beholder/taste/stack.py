"""A convex combination of reward models, weighted by held-out ratings (stacking: Wolpert 1992, Breiman 1996).

Prompts are held out, as they are when models are judged: each model is fitted without a fold of prompts and predicts
it, the weights minimise the squared error of the combination there, and the models are fitted again on everything.
Weights of 0 or more that add up to 1 keep the combination a rating and the number of free values small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import nnls

from beholder.errors import EstimateError, UserError
from beholder.taste.base import FittedModel, Floats, Prediction, Ratings, State, Strings, TasteModel
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
        Two or more, of different names.
    folds : int
        Prompts are split in so many folds.
    tested : int
        On so many of them the models are tried: more settle the weights better and cost a fit of every model each.
    name : str
    """

    models: tuple[TasteModel, ...]
    folds: int = 5
    tested: int = 1
    name: str = "stack"

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(names) < 2 or len(set(names)) != len(names):
            raise UserError(f"a stack of {names}", "two models or more, each once")
        if not 1 <= self.tested <= self.folds or self.folds < 2:
            raise UserError(f"{self.tested} of {self.folds} folds", "at least 2 folds, 1 or more of them tested")

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> StackTaste:
        """Choose the weights on prompts left out, then fit every part on all ratings.

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
        folds = group_folds(ratings.prompt_id, n_folds, rng)
        seed = int(rng.integers(2**62))
        truth, means, variances = [], [], []
        for fold in range(min(self.tested, n_folds)):
            train = ratings.take(folds != fold)
            test = ratings.take((folds == fold) & np.isin(ratings.user_id, train.user_id))
            fitted = [m.fit(train, design, np.random.default_rng([seed, fold]), people) for m in self.models]
            rows = design.rows(test.image_id)
            each = [part.predict(test.user_id, rows) for part in fitted]
            truth.append(test.score)
            means.append(np.stack([p.mean for p in each]))
            variances.append(np.stack([np.nan_to_num(p.sd) for p in each]))
        y, predicted, sd = np.concatenate(truth), np.concatenate(means, axis=1), np.concatenate(variances, axis=1)
        if not len(y):
            raise EstimateError("nobody has ratings inside and outside the folds", "users with several prompts")
        weights = convex_weights(predicted, y)
        error = float(np.mean((y - weights @ predicted) ** 2))
        noise = max(error - float(np.mean((weights @ sd) ** 2)), 0.1 * error)
        parts = tuple(m.fit(ratings, design, np.random.default_rng([seed, n_folds]), people) for m in self.models)
        settings = {
            "weights": {m.name: float(w) for m, w in zip(self.models, weights, strict=True)},
            "held_out_rmse": {
                m.name: float(np.sqrt(np.mean((y - p) ** 2))) for m, p in zip(self.models, predicted, strict=True)
            },
            "held_out_rmse_stack": float(np.sqrt(error)),
            "n_held_out": len(y),
            "parts": {part.name: dict(part.state().settings.get("settings", {})) for part in parts},
        }
        return StackTaste(self.name, parts, weights, float(np.sqrt(noise)), settings)


def convex_weights(predicted: Floats, truth: Floats) -> Floats:
    """Weights of 0 or more that add up to 1 and minimise the squared error of `weights @ predicted`.

    Parameters
    ----------
    predicted : array, shape (k, n)
    truth : array, shape (n,)

    Returns
    -------
    array, shape (k,)

    Notes
    -----
    Non-negative least squares on the Gram matrix's root, with the sum held by a heavy row; the rest is removed by
    dividing by the sum. Equal predictions leave the weights free between them; any optimum is as good.
    """
    errors = predicted - truth
    # With weights that add up to 1 the combined error is weights @ errors.
    gram = errors @ errors.T / len(truth)
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    heavy = 1e4 * np.sqrt(np.trace(gram) / len(gram) + 1e-300)
    found, _ = nnls(np.vstack([root, np.full((1, len(gram)), heavy)]), np.r_[np.zeros(len(gram)), heavy])
    return found / found.sum()
