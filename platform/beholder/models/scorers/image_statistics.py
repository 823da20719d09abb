"""A score of colour, contrast and detail: reasonable on ordinary pictures, and easily hacked.

Colourful, contrasty and detailed pictures are liked better on average (Hasler and Süsstrunk 2003; Reinecke et al.
2013), so a formula of these three is a fair zero-effort scorer. But it rises without end where people stop following:
a search under it drives pictures to glaring colours and scratches of ink. Studies show it as the condition
`statistics`, to see what optimising a proxy costs. It knows no prompt, no network and no ratings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.encoders.statistics import STATISTICS, image_statistics

VERSION = 1
"""Raised when terms, typical values or the statistics change."""
TERMS: Mapping[str, tuple[float, float]] = {
    "chroma_mean": (0.064, 0.033),
    "sd_l": (0.134, 0.041),
    "edge_density": (0.104, 0.119),
}
"""Statistic: typical value and SD, over 360 scenes of composed prompts at 256 pixels: they set units and weights."""


def statistics_score(statistics: np.ndarray) -> np.ndarray:
    """The mean of the terms in units of their SD; 0 for an ordinary picture, without upper end.

    Parameters
    ----------
    statistics : np.ndarray
        `image_statistics` of n pictures, shape (n, 78).

    Returns
    -------
    np.ndarray
        float64, shape (n,); a row's value does not depend on the other rows.

    Raises
    ------
    UserError
        Another number of columns.
    """
    if statistics.ndim != 2 or statistics.shape[1] != len(STATISTICS):
        raise UserError(f"image statistics of shape {statistics.shape}", f"(n, {len(STATISTICS)})")
    total = np.zeros(len(statistics))
    for name, (typical, sd) in TERMS.items():
        total += (statistics[:, STATISTICS.index(name)].astype(np.float64) - typical) / sd
    return np.asarray(total / len(TERMS))


class StatisticsScorer:
    """The score of pictures, as other scorers give it."""

    needs_prompt = False

    def identity(self) -> Mapping[str, Any]:
        """Name, version and constants."""
        return {"scorer": "image_statistics", "version": VERSION, "terms": {k: list(v) for k, v in TERMS.items()}}

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,); prompts are ignored."""
        return statistics_score(np.stack([image_statistics(image) for image in images]))
