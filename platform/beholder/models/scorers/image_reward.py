"""ImageReward: human preference by a BLIP with a reward head, through the package `image-reward` in its environment.

Source: Xu et al. 2023, arXiv 2304.05977.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beholder.errors import UserError, WeightsError
from beholder.models.scorers import ScorerSettings, scorer_spec
from beholder.models.scorers.base import check_inputs, finite, one_weight_file, redirected


class ImageReward:
    """Reward, standardised over the training set; about -2 to 2.

    Pictures are scored one by one, as the package does.

    Parameters
    ----------
    settings : ScorerSettings
        The checkpoint is a folder with the weights as one safetensors file (`beholder models convert` makes it from
        ImageReward.pt) and `med_config.json`; part `tokenizer` has the files of google-bert/bert-base-uncased.
        `batch_size` must be 1.
    identity : mapping, optional
        What the plan was keyed with; another content of a folder is refused.
    offline : bool
        Never ask the hub.
    """

    needs_prompt = True

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        settings.require(parts=scorer_spec(settings.scorer).parts)
        if settings.batch_size != 1:
            raise UserError(f"batch_size {settings.batch_size} of image_reward", "1")
        if settings.computing.dtype != "float32":
            raise UserError(f"dtype {settings.computing.dtype} of image_reward", "float32")
        folder, parts = settings.folders(offline, identity)
        device = settings.computing.prepare()
        import ImageReward.models.BLIP.blip_pretrain as blip  # type: ignore[import-not-found]
        from ImageReward.ImageReward import ImageReward as Network  # type: ignore[import-not-found]
        from safetensors.torch import load_file
        from transformers import BertTokenizer

        def tokenizer() -> Any:
            """As the package's own: an end and a beginning of texts, and the id of the latter."""
            found = BertTokenizer.from_pretrained(parts["tokenizer"], local_files_only=True)
            found.add_special_tokens({"bos_token": "[DEC]"})
            found.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
            found.enc_token_id = found.additional_special_tokens_ids[0]
            return found

        with redirected(blip, init_tokenizer=tokenizer):
            self._network = Network(device=device, med_config=str(folder / "med_config.json"))
        found = self._network.load_state_dict(load_file(one_weight_file(folder)), strict=False)
        if absent := [name for name in found.missing_keys if not name.endswith("position_ids")]:
            raise WeightsError(f"{folder} lacks weights of {', '.join(absent[:3])}", "the weights of ImageReward")
        self._network.eval().to(device)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,); the package cuts prompts after 35 tokens."""
        check_inputs(images, prompts, self.needs_prompt)
        import torch
        from PIL import Image

        with torch.inference_mode():
            found = [self._network.score(p, Image.fromarray(i)) for i, p in zip(images, prompts, strict=True)]
        return finite(found, len(images))
