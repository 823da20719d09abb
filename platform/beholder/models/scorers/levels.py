"""Q-Align and DeQA-Score: a multimodal language model says "excellent" to "bad"; the score is the expected level.

Both are mPLUG-Owl2 and run through pyiqa's class for it, in the environment `pyiqa`. Sources: Wu et al. 2023, arXiv
2312.17090 (Q-Align); You et al. 2025, arXiv 2501.11561 (DeQA-Score).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beholder.models.scorers.base import FromFolder, ScorerSettings, check_inputs, finite, redirected
from beholder.models.scorers.formulas import LEVELS, expected_level


class QAlign:
    """Expected level, 1 to 5, of a picture's aesthetics or quality.

    Parameters
    ----------
    settings : ScorerSettings
        The checkpoint has the layout of q-future/one-align, with safetensors. Option `task`: "aesthetic" (default) or
        "quality".
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.
    """

    needs_prompt = False
    tasks: tuple[str, ...] = ("aesthetic", "quality")
    question = "USER: How would you rate the {task} of this image?\n<|image|>\nASSISTANT: The {task} of the image is"

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        settings.require(options=("task",))
        task = settings.option("task", self.tasks[0], self.tasks)
        folder, _ = settings.folders(offline, identity)
        self._settings, self._device = settings, settings.computing.prepare()
        self._model, self._processor, ids, levels = load_owl(folder, settings, self.question.format(task=task))
        self._ids, self._levels = ids.to(self._device), levels
        self._model.to(self._device)

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self._settings = replace(self._settings, batch_size=batch_size)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,); prompts are not looked at."""
        check_inputs(images, prompts, self.needs_prompt)
        size, found = self._settings.batch_size, []
        for start in range(0, len(images), size):
            part = list(images[start : start + size])
            logits = self._logits([*part, *[part[-1]] * (size - len(part))])
            found.append(expected_level(logits)[: len(part)])
        return finite(np.concatenate(found) if found else np.empty(0), len(images))

    def _logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of the five level words after the question, shape (n, 5)."""
        import torch
        from PIL import Image

        squares = [square(Image.fromarray(image), self._processor.image_mean) for image in images]
        pixels = self._processor.preprocess(squares, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(self._device, self._settings.computing.torch_dtype)
        with torch.inference_mode():
            logits = self._model(self._ids.repeat(len(images), 1), images=pixels)["logits"]
        return np.asarray(logits[:, -1, self._levels].float().cpu().numpy())


class DeQA(QAlign):
    """Expected quality level, 1 to 5; the checkpoint has the layout of zhiyuanyou/DeQA-Score-Mix3, with safetensors."""

    tasks = ("quality",)
    question = "USER: How would you rate the {task} of this image?\n<|image|>\nASSISTANT: The {task} of the image is"


def load_owl(folder: Path, settings: ScorerSettings, question: str) -> tuple[Any, Any, Any, list[int]]:
    """The model, its picture processor, the question's tokens (1, length), and the tokens of the five level words.

    pyiqa's class fetches tokenizer and processor from a hub name that can move; it is given the folder's instead.
    """
    import pyiqa.archs.q_align.modeling_mplug_owl2 as owl  # type: ignore[import-not-found]
    from transformers import CLIPImageProcessorPil

    tokenizer = FromFolder(owl.LlamaTokenizer, folder)
    processor = FromFolder(CLIPImageProcessorPil, folder)
    with redirected(owl, LlamaTokenizer=tokenizer, CLIPImageProcessor=processor):
        model = owl.MPLUGOwl2LlamaForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=settings.computing.torch_dtype
        ).eval()
    ids = owl.tokenizer_image_token(question, model.tokenizer, owl.IMAGE_TOKEN_INDEX, return_tensors="pt")
    levels = [model.tokenizer(word)["input_ids"][-1] for word in LEVELS]
    if len(set(levels)) != len(LEVELS):
        raise ArithmeticError(f"the tokenizer in {folder} does not tell the words {', '.join(LEVELS)} apart")
    return model, model.image_processor, ids.unsqueeze(0), levels


def square(image: Any, mean: Sequence[float]) -> Any:
    """A picture centred on a square of the processor's mean colour."""
    from PIL import Image

    side = max(image.size)
    canvas = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas
