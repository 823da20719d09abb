"""HPSv2.1: human preference by a CLIP ViT-H/14, through open_clip in the environment `open_clip`.

Source: Wu et al. 2023, arXiv 2306.09341. The package `hpsv2` is not used: its wheel lacks the tokenizer's vocabulary
and pins test tools. Pictures are prepared as its code does today: to [0, 1] first, then resized with antialiasing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import WeightsError
from beholder.models.scorers.base import ScorerSettings, check_inputs, finite, one_weight_file
from beholder.models.scorers.formulas import cosine

VIT_H_14: Mapping[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}
"""Shape of the published network."""


class HPSv2:
    """Cosine of picture and prompt; about .2 to .35.

    Parameters
    ----------
    settings : ScorerSettings
        The checkpoint is a folder with the weights as one safetensors file (`beholder models convert` makes it from
        HPS_v2.1_compressed.pt) and, for another shape than ViT-H/14, an `open_clip_config.json`.
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.
    """

    needs_prompt = True

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        settings.require()
        folder, _ = settings.folders(offline, identity)
        self._settings, self._device = settings, settings.computing.prepare()
        self._model, self._prepare, self._tokenizer = load_open_clip(folder)
        self._model.to(self._device, settings.computing.torch_dtype)

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self._settings = replace(self._settings, batch_size=batch_size)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,)."""
        check_inputs(images, prompts, self.needs_prompt)
        size, found = self._settings.batch_size, []
        for start in range(0, len(images), size):
            part, texts = list(images[start : start + size]), list(prompts[start : start + size])
            missing = size - len(part)
            scores = self._batch([*part, *[part[-1]] * missing], [*texts, *[texts[-1]] * missing])
            found.append(scores[: len(part)])
        return finite(np.concatenate(found) if found else np.empty(0), len(images))

    def _batch(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        import torch
        from PIL import Image

        pixels = torch.stack([self._prepare(Image.fromarray(image)) for image in images])
        with torch.inference_mode():
            seen = self._model.encode_image(pixels.to(self._device, self._settings.computing.torch_dtype))
            read = self._model.encode_text(self._tokenizer(list(prompts)).to(self._device))
        return cosine(seen.float().cpu().numpy(), read.float().cpu().numpy())


def load_open_clip(folder: Path) -> tuple[Any, Any, Any]:
    """The network, the preparation of a picture, and the tokenizer."""
    import open_clip  # type: ignore[import-not-found]
    from safetensors.torch import load_file
    from torchvision import transforms  # type: ignore[import-not-found]

    config = folder / "open_clip_config.json"
    shape = json.loads(config.read_text())["model_cfg"] if config.is_file() else VIT_H_14
    model = open_clip.CLIP(
        shape["embed_dim"], open_clip.CLIPVisionCfg(**shape["vision_cfg"]), open_clip.CLIPTextCfg(**shape["text_cfg"])
    ).eval()
    try:
        model.load_state_dict(load_file(one_weight_file(folder)))
    except RuntimeError as error:
        raise WeightsError(f"{folder} does not hold this network: {str(error).splitlines()[-1].strip()}") from error
    side = shape["vision_cfg"]["image_size"]
    prepare = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Resize(side, transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.CenterCrop(side),
            transforms.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        ]
    )
    return model, prepare, open_clip.SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])
