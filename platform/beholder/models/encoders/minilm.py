"""Sentences -> unit vectors: all-MiniLM-L6-v2 from a local folder, on one CPU thread.

Source: Wang et al. 2020, arXiv 2002.10957 (MiniLM); weights of the sentence-transformers project, Apache-2.0.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from beholder.errors import WeightsError

WIDTH = 384
"""Numbers in one vector."""
CACHE_SIZE = 8192
"""Sentences an instance remembers: about 13 MB."""
_NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


class MiniLM:
    """A frozen sentence encoder.

    Every sentence goes through the network alone, so its vector does not depend on its neighbours, their order or
    their number. Mean pooling over the attention mask, then unit length. torch is set to one thread for the process.

    Parameters
    ----------
    folder : Path
        A plain transformers checkpoint: config, tokenizer and `model.safetensors`. Nothing is fetched.

    Raises
    ------
    WeightsError
        A needed file is missing, or the network is not 384 wide.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise WeightsError(
                f"{folder} lacks {', '.join(missing)}",
                "a transformers folder of all-MiniLM-L6-v2 with safetensors weights",
                "fetch the embedded models, or name their folder in BEHOLDER_MODELS",
            )
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        if self._network.config.hidden_size != WIDTH:
            raise WeightsError(f"{folder} holds a network {self._network.config.hidden_size} wide", f"{WIDTH}")
        with (folder / "model.safetensors").open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode sentences one by one.

        Parameters
        ----------
        texts : sequence of str
            Any number of sentences, none included. Text past the network's 512 tokens is cut off.

        Returns
        -------
        np.ndarray
            Unit vectors, float32, shape (len(texts), 384).
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a sequence of sentences, not one str")
        if not len(texts):
            return np.empty((0, WIDTH), dtype=np.float32)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
            return known
        torch = self._torch
        with torch.inference_mode():
            tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
            hidden = self._network(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vector: np.ndarray = torch.nn.functional.normalize(pooled, dim=1)[0].numpy()
        vector.flags.writeable = False
        self._cache[text] = vector
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return vector
