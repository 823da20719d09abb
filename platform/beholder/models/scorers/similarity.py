"""How well a picture shows its prompt: CLIP, SigLIP and SigLIP 2 similarity, and PickScore.

Sources: Radford et al. 2021, arXiv 2103.00020 (CLIP); Zhai et al. 2023, arXiv 2303.15343 (SigLIP); Kirstain et al.
2023, arXiv 2305.01569 (PickScore: a CLIP ViT-H/14 trained on which of two pictures people picked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.checkpoints import Checkpoint
from beholder.models.encoders.towers import ImageEncoder, TextEncoder, Tower, TowerSettings
from beholder.models.scorers.base import ScorerSettings, check_inputs, finite
from beholder.models.scorers.formulas import contrastive_logit, cosine, sigmoid

FORMS = ("cosine", "logit", "probability")


class Similarity:
    """Similarity of picture and prompt.

    Parameters
    ----------
    settings : ScorerSettings
        Option `form`: "cosine" (default), "logit" (scaled as in training), "probability" (SigLIP only).
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.

    Raises
    ------
    UserError
        A checkpoint without a text side, or a form that it does not have.
    """

    needs_prompt = True
    form = "cosine"

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        settings.require(options=self._options())
        self._form = settings.option("form", self.form, FORMS)
        folder, _ = settings.folders(offline, identity)
        towers = TowerSettings(Checkpoint(str(folder)), settings.computing, settings.batch_size, normalise=False)
        tower = Tower(towers, identity={})
        self._images = ImageEncoder(tower.settings, tower=tower)
        self._texts = TextEncoder(tower.settings, tower=tower)
        self._scale = tower.network.logit_scale.item()
        self._bias = tower.network.logit_bias.item() if hasattr(tower.network, "logit_bias") else 0.0
        if self._form == "probability" and tower.kind == "clip":
            raise UserError("form 'probability' with a CLIP checkpoint", "cosine, logit: CLIP knows no probability")

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        return ("form",)

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        for side in (self._images, self._texts):
            side.resize(batch_size)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,)."""
        check_inputs(images, prompts, self.needs_prompt)
        if not images:
            return np.empty(0)
        found = cosine(self._images.encode(images), self._texts.encode(prompts))
        if self._form != "cosine":
            found = contrastive_logit(found, self._scale, self._bias)
        return finite(sigmoid(found) if self._form == "probability" else found, len(images))


class PickScore(Similarity):
    """PickScore: exp(logit_scale) times the cosine. The published checkpoint has no processor files.

    Put `preprocessor_config.json` and the tokenizer of laion/CLIP-ViT-H-14-laion2B-s32B-b79K beside its weights. The
    scale is about 100, so differences of 1 are large.
    """

    form = "logit"

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        return ()
