"""From a sentence vector to opinions on axes, media and subjects: ridge regression on the anchor phrases.

Every anchor phrase is a training row whose target is +1 or -1 on its own axis and 0 on all others (media and subjects:
1 on its own). Fitting all targets to all phrases at once is what removes the component common to all phrases and keeps
the axes apart: a direction that also answers to another axis's phrases is penalised for it. The kernel is Gaussian on
the unit sphere, exp(b (cos - 1)), so a clause unlike every phrase is read as nearly nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes.anchors import ANCHORS, MEDIA_ANCHORS, NEUTRAL, SUBJECT_ANCHORS
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS

Encode = Callable[[Sequence[str]], np.ndarray]

TEMPLATE = "the picture shows {}"
"""Phrases and clauses are encoded in this sentence: single words alone are read less well."""
SHARPNESS = 4.0
RIDGE = 2.0
TYPICAL = 0.5
"""Where a typical unseen anchor lands on its axis, after tanh."""


@dataclass(frozen=True, slots=True)
class Directions:
    """A fitted reader of clauses.

    Attributes
    ----------
    points : np.ndarray
        Vectors of the training phrases, shape (n, width).
    weights : np.ndarray
        Dual coefficients, shape (n, 24), in the order AXES, MEDIA, SUBJECTS.
    gain : np.ndarray
        Factor of each axis, shape (8,), that brings the median left-out anchor to atanh(TYPICAL).
    """

    points: np.ndarray
    weights: np.ndarray
    gain: np.ndarray

    def opinions(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What clauses ask for.

        Parameters
        ----------
        vectors : np.ndarray
            Unit vectors of clauses in `TEMPLATE`, shape (m, width).

        Returns
        -------
        axes : np.ndarray
            Pushes before tanh, shape (m, 8).
        media, subjects : np.ndarray
            About 1 where a clause names the medium or subject and 0 where not, shapes (m, 4) and (m, 12).
        """
        values = _kernel(np.asarray(vectors, dtype=float), self.points) @ self.weights
        axes, media, subjects = np.split(values, [len(AXES), len(AXES) + len(MEDIA)], axis=1)
        return axes * self.gain, media, subjects


def fit_points(points: np.ndarray) -> Directions:
    """Fit to the vectors of `phrases`, shape (n, width).

    The gain of an axis comes from leave-one-out predictions (closed form: y - alpha / diag((K + ridge I)^-1)), so it
    holds for phrases the fit has not seen.
    """
    targets = _targets()
    inverse = np.linalg.inv(_kernel(points, points) + RIDGE * np.eye(len(points)))
    weights = inverse @ targets
    left_out = targets - weights / np.diag(inverse)[:, None]
    asked = np.where(targets == 0, np.nan, targets * left_out)[:, : len(AXES)]
    gain = np.arctanh(TYPICAL) / np.nanmedian(asked, axis=0)
    return Directions(points, weights, gain)


def phrases() -> list[str]:
    """All anchor phrases in the order of the training rows."""
    return [phrase for phrase, _, _ in _rows()]


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(SHARPNESS * (a @ b.T - 1.0)))


def _rows() -> list[tuple[str, int | None, float]]:
    """Phrase, the column it speaks of if any, and its target there."""
    rows: list[tuple[str, int | None, float]] = []
    for column, axis in enumerate(AXES):
        high, low = ANCHORS[axis]
        rows += [(p, column, 1.0) for p in high] + [(p, column, -1.0) for p in low]
    for column, kind in enumerate(MEDIA + SUBJECTS, start=len(AXES)):
        rows += [(p, column, 1.0) for p in (MEDIA_ANCHORS | SUBJECT_ANCHORS)[kind]]
    return rows + [(p, None, 0.0) for p in NEUTRAL]


def _targets() -> np.ndarray:
    rows = _rows()
    targets = np.zeros((len(rows), len(AXES) + len(MEDIA) + len(SUBJECTS)))
    for n, (_, column, value) in enumerate(rows):
        if column is not None:
            targets[n, column] = value
    return targets
