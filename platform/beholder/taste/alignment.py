"""The text-aligned projection: what of an image's look the words of its prompt could have said.

Ridge regression from image features to the mean sentence embedding of the prompt's clauses, then the principal
directions of what was predicted. It needs images with prompts and no ratings, and was measured to be worth as much as
doubling the ratings. Directions that the features hardly see come out small by themselves, since ridge shrinks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beholder.errors import EstimateError, TableError
from beholder.taste.base import Floats, State, Strings
from beholder.taste.features import Features, Group, _centre_and_scale
from beholder.taste.rowwise import row_products
from beholder.taste.splits import group_folds

PENALTIES = np.logspace(-4, 2, 13)
"""Ridge penalties tried, in units of the features' total variance (which is 1 a block)."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A learned, frozen map from raw features to text-aligned components.

    Attributes
    ----------
    sources : tuple of str
        Raw blocks it reads.
    centre : array, shape (d,)
    projection : array, shape (d, components)
    penalty : float
        The penalty that predicted held-out prompts best.
    explained : float
        Share of the text embeddings' variance that is predicted for prompts left out.
    """

    sources: tuple[str, ...]
    centre: Floats
    projection: Floats
    penalty: float
    explained: float

    def transform(self, features: Features) -> Floats:
        """Components of images outside the fit, shape (n, components)."""
        raw = np.hstack([features.blocks[name] for name in self.sources])
        return row_products(raw - self.centre, self.projection)

    def state(self) -> State:
        """Arrays and JSON values that make the same map again."""
        settings = {"sources": list(self.sources), "penalty": self.penalty, "explained": self.explained}
        return State({"centre": self.centre, "projection": self.projection}, settings)

    @classmethod
    def from_state(cls, state: State) -> Alignment:
        """The map that `state` came from."""
        s = state.settings
        return cls(
            tuple(s["sources"]), state.arrays["centre"], state.arrays["projection"], s["penalty"], s["explained"]
        )


@dataclass(frozen=True, eq=False)
class AlignmentFit:
    """An alignment and the values of the images it was fitted on.

    Attributes
    ----------
    alignment : Alignment
    crossfitted : array, shape (n, components)
        Row i is predicted from images of other prompts only: use it for image i in place of `transform`, which has
        seen that image's own prompt.
    """

    alignment: Alignment
    crossfitted: Floats


def fit_alignment(
    features: Features,
    text: Floats,
    groups: Strings,
    rng: np.random.Generator,
    *,
    sources: Sequence[str] = ("network", "statistics"),
    components: int = 32,
    n_folds: int = 5,
) -> AlignmentFit:
    """Learn the text-aligned projection.

    Parameters
    ----------
    features : Features
        n images that have prompts, rated or not.
    text : array, shape (n, t)
        Mean embedding of the clauses of each image's prompt.
    groups : array of str, shape (n,)
        Images of one group (a prompt, or prompts with near-duplicate images) are held out together.
    rng : numpy.random.Generator
        Draws the folds.
    sources, components, n_folds
        Raw blocks used; most components kept; folds for the penalty and the cross-fitted values.

    Raises
    ------
    TableError
        If lengths differ.
    EstimateError
        With fewer groups than folds.
    """
    if not len(text) == len(groups) == len(features.image_ids):
        raise TableError(f"{len(features.image_ids)} images, {len(text)} texts, {len(groups)} groups", "one length")
    if not np.any(text.std(axis=0) > 0):
        raise EstimateError("all prompts have one embedding", "prompts that differ")
    folds = group_folds(groups, n_folds, rng)
    centre, scale = _centre_and_scale(Group("text", tuple(sources), components), features)
    x = (np.hstack([features.blocks[name] for name in sources]) - centre) * scale
    held_out = np.empty((len(PENALTIES), *text.shape))
    for fold in range(n_folds):
        test = folds == fold
        held_out[:, test] = _ridge_path(x[~test], text[~test], x[test])
    errors = np.mean((held_out - text) ** 2, axis=(1, 2))
    best = int(np.argmin(errors))
    weights = _ridge_weights(x, text, PENALTIES[best])
    directions = _leading_directions(x @ weights, components)
    alignment = Alignment(
        tuple(sources),
        centre,
        scale[:, None] * (weights @ directions),
        float(PENALTIES[best]),
        float(1 - errors[best] / np.mean((text - text.mean(axis=0)) ** 2)),
    )
    return AlignmentFit(alignment, (held_out[best] - text.mean(axis=0)) @ directions)


def _ridge_path(x: Floats, y: Floats, new: Floats) -> Floats:
    """Ridge predictions at `new` for every penalty, shape (penalties, len(new), t)."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    centred = x - mean_x
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T)
    left = ((new - mean_x) @ centred.T) @ vectors
    right = vectors.T @ (y - mean_y)
    return np.stack([mean_y + (left / (np.maximum(eigenvalues, 0) + p * len(x))) @ right for p in PENALTIES])


def _ridge_weights(x: Floats, y: Floats, penalty: float) -> Floats:
    """Ridge coefficients of the centred y on x (centred already), shape (d, t)."""
    gram = x @ x.T
    gram[np.diag_indices_from(gram)] += penalty * len(x)
    return x.T @ np.linalg.solve(gram, y - y.mean(axis=0))


def _leading_directions(fitted: Floats, components: int) -> Floats:
    """Principal directions of the fitted texts, shape (t, k), with fixed signs."""
    eigenvalues, vectors = np.linalg.eigh(fitted.T @ fitted)
    order = np.argsort(-eigenvalues)[: min(components, len(fitted) - 1)]
    order = order[eigenvalues[order] > 1e-9 * eigenvalues.max()]
    kept = vectors[:, order]
    return kept * np.sign(kept[np.argmax(np.abs(kept), axis=0), np.arange(len(order))])
