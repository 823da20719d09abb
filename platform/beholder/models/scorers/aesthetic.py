"""LAION's aesthetic predictor: a linear chain on CLIP ViT-L/14's picture vector, trained on ratings from 1 to 10.

Source: Schuhmann 2022, "improved-aesthetic-predictor" (sac+logos+ava1-l14-linearMSE), Apache-2.0. Its layers have no
activation between them, so the whole is one linear function of the unit vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import WeightsError
from beholder.models.checkpoints import Checkpoint
from beholder.models.encoders.towers import ImageEncoder, TowerSettings
from beholder.models.scorers import ScorerSettings, scorer_spec
from beholder.models.scorers.base import check_inputs, finite, one_weight_file

LAYERS = (0, 2, 4, 6, 7)
"""Places of the linear layers in the published head; dropout lies between them."""


class LaionAesthetic:
    """Mean aesthetic rating that people would give, about 1 to 10.

    Parameters
    ----------
    settings : ScorerSettings
        The checkpoint is openai/clip-vit-large-patch14; part `head` is a folder with the head as safetensors
        (`beholder models convert` makes it from the published file).
    identity : mapping, optional
        What the plan was keyed with; another content of a folder is refused.
    offline : bool
        Never ask the hub.
    """

    needs_prompt = False

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        settings.require(parts=scorer_spec(settings.scorer).parts)
        folder, parts = settings.folders(offline, identity)
        towers = TowerSettings(Checkpoint(str(folder)), settings.computing, settings.batch_size, normalise=True)
        self._images = ImageEncoder(towers, identity={})
        self._weight, self._bias = read_head(one_weight_file(parts["head"]))

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self._images.resize(batch_size)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,); prompts are not looked at."""
        check_inputs(images, prompts, self.needs_prompt)
        if not images:
            return np.empty(0)
        vectors = self._images.encode(images).astype(np.float64)
        if vectors.shape[1] != len(self._weight):
            raise WeightsError(f"a head for vectors of {len(self._weight)} numbers", f"{vectors.shape[1]}")
        # A row at a time: a matrix product may add up in another order for another number of rows.
        return finite([float(row @ self._weight) + self._bias for row in vectors], len(images))


def read_head(path: Path) -> tuple[np.ndarray, float]:
    """The head as one weight (width,) and one bias: its layers multiplied out in float64."""
    from safetensors.numpy import load_file

    state = {name.removeprefix("layers."): value.astype(np.float64) for name, value in load_file(path).items()}
    if missing := [f"{i}.weight" for i in LAYERS if f"{i}.weight" not in state]:
        raise WeightsError(f"{path} lacks {', '.join(missing)}", "the head of improved-aesthetic-predictor")
    weight, bias = state[f"{LAYERS[0]}.weight"], state[f"{LAYERS[0]}.bias"]
    for i in LAYERS[1:]:
        weight, bias = state[f"{i}.weight"] @ weight, state[f"{i}.weight"] @ bias + state[f"{i}.bias"]
    return weight[0], float(bias[0])
