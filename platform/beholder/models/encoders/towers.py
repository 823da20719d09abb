"""Pictures and texts to vectors with SigLIP 2, SigLIP, CLIP and DINOv2 checkpoints, through transformers.

Pictures are prepared by the processors that use Pillow, named one by one: transformers' other backend gives other
pixels. Every call of a network sees exactly `batch_size` inputs, so a vector depends on its own input only.

Sources: Radford et al. 2021, arXiv 2103.00020 (CLIP); Zhai et al. 2023, arXiv 2303.15343 (SigLIP); Tschannen et al.
2025, arXiv 2502.14786 (SigLIP 2); Oquab et al. 2023, arXiv 2304.07193 (DINOv2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, check_digest
from beholder.models.computing import Computing
from beholder.models.resizing import at_size

if TYPE_CHECKING:
    import torch

Pooling = Literal["own", "cls_mean"]
_PROCESSORS = {
    "clip": "CLIPImageProcessorPil",
    "siglip": "SiglipImageProcessorPil",
    "siglip2": "Siglip2ImageProcessorPil",
    "dinov2": "BitImageProcessorPil",
    "dinov2_with_registers": "BitImageProcessorPil",
}
"""Image processor of each kind of checkpoint, by the `model_type` of its config."""
_WITH_TEXT = ("clip", "siglip", "siglip2")
_TEXT_LENGTH = {"clip": 77, "siglip": 64, "siglip2": 64}
"""Tokens that texts are filled up or cut to, as in training."""


@dataclass(frozen=True)
class TowerSettings:
    """Everything that decides a vector besides its input.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of model type clip, siglip, siglip2, dinov2 or dinov2_with_registers. The fixed-size SigLIP 2 checkpoints have
        the type siglip.
    computing : Computing
    batch_size : int
        Inputs in every call of the network.
    normalise : bool
        Give unit vectors.
    pooling : {"own", "cls_mean"}
        "own": the vector that the model was trained with. "cls_mean" (DINOv2): the class token followed by the mean of
        the patch tokens, twice as wide.

    Raises
    ------
    UserError
        An impossible value.
    """

    checkpoint: Checkpoint
    computing: Computing
    batch_size: int
    normalise: bool
    pooling: Pooling = "own"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size}", "1 or more")
        if self.pooling not in get_args(Pooling):
            raise UserError(f"pooling {self.pooling!r}", ", ".join(get_args(Pooling)))

    def identity(self) -> dict[str, Any]:
        """Checkpoint, settings, device and versions. Hashes the files of a folder, so keep the answer."""
        return {
            **self.checkpoint.identity(),
            **self.computing.identity("transformers", "tokenizers", "pillow"),
            "batch_size": self.batch_size,
            "normalise": self.normalise,
            "pooling": self.pooling,
        }


class Tower:
    """A loaded checkpoint: what its picture and its text side share.

    Parameters
    ----------
    settings : TowerSettings
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.

    Raises
    ------
    WeightsError
        A checkpoint that is missing, not allowed, without safetensors, or not the plan's.
    UserError
        A checkpoint of another kind.
    """

    def __init__(
        self, settings: TowerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        import transformers

        self.settings = settings
        self.folder = settings.checkpoint.fetch(offline=offline)
        if identity is not None and settings.checkpoint.is_folder:
            check_digest(self.folder, identity)
        self.base_identity = dict(identity) if identity is not None else settings.identity()
        self.kind = kind_of(self.folder)
        if settings.pooling == "cls_mean" and self.kind in _WITH_TEXT:
            raise UserError(f"pooling 'cls_mean' with a checkpoint of type {self.kind}", "'own'; cls_mean for DINOv2")
        transformers.utils.logging.disable_progress_bar()  # a worker's log is not a terminal
        self.device = settings.computing.prepare()
        network, problems = transformers.AutoModel.from_pretrained(
            self.folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=settings.computing.torch_dtype,
            output_loading_info=True,
        )
        if problems["missing_keys"]:
            raise WeightsError(f"{self.folder} lacks weights of {', '.join(sorted(problems['missing_keys'])[:3])}")
        self.network: Any = network.eval().to(self.device)

    def drop(self, name: str) -> None:
        """Let go of a part that is not used, and of its memory."""
        import torch

        if hasattr(self.network, name):
            setattr(self.network, name, torch.nn.Identity())

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self.settings = replace(self.settings, batch_size=batch_size)
        self.base_identity = at_size(self.base_identity, batch_size)

    def batches(self, inputs: Sequence[Any], encode: Any) -> np.ndarray:
        """Rows of `encode` over batches of the fixed size; the last one is filled up with its last input."""
        rows = []
        size = self.settings.batch_size
        for start in range(0, len(inputs), size):
            part = list(inputs[start : start + size])
            rows.append(encode([*part, *[part[-1]] * (size - len(part))])[: len(part)])
        return np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def finished(self, vectors: torch.Tensor) -> np.ndarray:
        """float32 rows, of unit length if the settings say so; ArithmeticError if one is not finite."""
        found = np.asarray(vectors.float().cpu().numpy())
        if not np.isfinite(found).all():
            raise ArithmeticError("the network gave a vector that is not finite")
        if self.settings.normalise:
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found, dtype=np.float32)


class ImageEncoder:
    """Pictures to vectors; parameters and errors as `Tower`."""

    def __init__(
        self,
        settings: TowerSettings,
        *,
        identity: Mapping[str, Any] | None = None,
        offline: bool = False,
        tower: Tower | None = None,
    ) -> None:
        self._tower = tower or Tower(settings, identity=identity, offline=offline)
        if tower is None:
            for name in ("text_model", "text_projection"):
                self._tower.drop(name)
        self.settings = self._tower.settings
        self._processor = load_processor(self._tower.folder, self._tower.kind)

    def identity(self) -> Mapping[str, Any]:
        """Settings and the processor's name."""
        return {"encoder": "image", **self._tower.base_identity, "processor": type(self._processor).__name__}

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self._tower.resize(batch_size)
        self.settings = self._tower.settings

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32, shape (n, width). Pictures are (height, width, 3) uint8; UserError for others."""
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise UserError(f"a picture of shape {image.shape} and type {image.dtype}", "(height, width, 3), uint8")
        return self._tower.batches(images, self._encode)

    def _encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        import torch
        from PIL import Image

        tower = self._tower
        inputs = self._processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        inputs = {name: value.to(tower.device) for name, value in inputs.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(tower.settings.computing.torch_dtype)
        with torch.inference_mode():
            if tower.kind in _WITH_TEXT:
                return tower.finished(tower.network.get_image_features(**inputs).pooler_output)
            out = tower.network(**inputs)
            if tower.settings.pooling == "own":
                return tower.finished(out.pooler_output)
            first = 1 + getattr(tower.network.config, "num_register_tokens", 0)
            patches = out.last_hidden_state[:, first:].mean(dim=1)
            return tower.finished(torch.cat([out.last_hidden_state[:, 0], patches], dim=1))


class TextEncoder:
    """Texts to vectors with the text side of CLIP, SigLIP or SigLIP 2; parameters and errors as `Tower`.

    Texts are filled up to the length of training. SigLIP's are written in small letters and read without an attention
    mask, padding included, since it was trained so.
    """

    def __init__(
        self,
        settings: TowerSettings,
        *,
        identity: Mapping[str, Any] | None = None,
        offline: bool = False,
        tower: Tower | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        self._tower = tower or Tower(settings, identity=identity, offline=offline)
        self.settings = self._tower.settings
        if self._tower.kind not in _WITH_TEXT:
            raise UserError(f"a checkpoint of type {self._tower.kind} reads no text", ", ".join(_WITH_TEXT))
        if tower is None:
            for name in ("vision_model", "visual_projection"):
                self._tower.drop(name)
        self._tokenizer = AutoTokenizer.from_pretrained(
            self._tower.folder, local_files_only=True, trust_remote_code=False
        )
        positions = self._tower.network.config.text_config.max_position_embeddings
        self.length = min(_TEXT_LENGTH[self._tower.kind], positions)

    def identity(self) -> Mapping[str, Any]:
        """Settings and the length of texts."""
        return {"encoder": "text", **self._tower.base_identity, "length": self.length}

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self._tower.resize(batch_size)
        self.settings = self._tower.settings

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32, shape (n, width); what is past the trained length is cut off."""
        if isinstance(texts, str):
            raise TypeError("encode takes a sequence of texts, not one str")
        return self._tower.batches(texts, self._encode)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        tower, siglip = self._tower, self._tower.kind != "clip"
        tokens = self._tokenizer(
            [text.lower() for text in texts] if siglip else list(texts),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        used = ("input_ids",) if siglip else ("input_ids", "attention_mask")
        with torch.inference_mode():
            out = tower.network.get_text_features(**{name: tokens[name].to(tower.device) for name in used})
        return tower.finished(out.pooler_output)


def kind_of(folder: Path) -> str:
    """The `model_type` of a checkpoint's config; UserError if it is none of those read here."""
    config = folder / "config.json"
    if not config.is_file():
        raise WeightsError(f"{folder} has no config.json", "a transformers checkpoint")
    kind = str(json.loads(config.read_text()).get("model_type"))
    if kind not in _PROCESSORS:
        raise UserError(f"{folder} holds a model of type {kind!r}", ", ".join(_PROCESSORS))
    return kind


def load_processor(folder: Path, kind: str) -> Any:
    """The Pillow image processor of a checkpoint, with the checkpoint's own settings."""
    import transformers

    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        raise WeightsError(f"{folder} has no preprocessor_config.json", "the settings that pictures are prepared with")
    return getattr(transformers, _PROCESSORS[kind]).from_pretrained(folder, local_files_only=True)
