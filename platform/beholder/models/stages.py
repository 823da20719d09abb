"""The models as stages over keyed items: what each needs, what it returns, and everything its result depends on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from beholder.models import weights
from beholder.models.interfaces import Needs
from beholder.records import pack
from beholder.store import Store

if TYPE_CHECKING:
    import numpy as np

    from beholder.models.encoders.efficientnet import EfficientNetLite0
    from beholder.models.encoders.minilm import MiniLM
    from beholder.models.generators.scenes.reading import PromptReader
    from beholder.models.rewriters.base import Rewriter

Item = Mapping[str, Any]


@dataclass
class GenerateScenes:
    """`{prompt, seed}` -> an image file of the procedural scene renderer, and the scene it drew."""

    size: int
    batch_size: int
    models: str
    """Folder of the model cache."""
    name: str = "generate"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.7))
    _encoder: MiniLM | None = field(default=None, repr=False)
    _reader: PromptReader | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Size, renderer version and the digest of the text encoder that reads prompts."""
        from beholder.models.generators.scenes.render import RENDER_VERSION

        return {
            "generator": "scenes",
            "size": self.size,
            "renderer": RENDER_VERSION,
            "text_encoder": weights.digest("minilm", self.models),
        }

    def setup(self, store: Store) -> None:
        """Load the text encoder."""
        from beholder.models.encoders.minilm import MiniLM
        from beholder.models.generators.scenes.reading import PromptReader

        self._encoder = MiniLM(weights.folder("minilm", self.models))
        self._reader, self._store = PromptReader(self._encoder.encode), store

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Draw and store one PNG an item. Pictures do not depend on their neighbours, so nothing is padded."""
        return [self._draw(item) for item in items]

    def _draw(self, item: Item) -> dict[str, Any]:
        from PIL import Image

        from beholder.models.generators.scenes.render import paint

        if self._reader is None or self._store is None:
            raise RuntimeError("setup was not called")
        attributes = self._reader.read(item["prompt"])
        picture = paint(attributes, item["seed"], self.size)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
        path = self._store.put_image(item["_key"], buffer.getvalue())
        return {
            "prompt": item["prompt"],
            "seed": item["seed"],
            "generator": "scenes",
            "path": path,
            "width": self.size,
            "height": self.size,
            "sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
            "scene": attributes.jittered(item["seed"]).to_record(),
        }


@dataclass
class EmbedImages:
    """`{image, _path}` -> frozen network features (1280) and image statistics, packed float32.

    `image` names the content (the generator's key, or the file's SHA-256); `_path` is where it lies in the store.
    """

    size: int
    batch_size: int
    models: str
    name: str = "embed"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.6))
    _encoder: EfficientNetLite0 | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Encoder digest, input size and the fixed, padded batch size."""
        return {
            "encoder": "efficientnet_lite0",
            "weights": weights.digest("efficientnet_lite0", self.models),
            "size": self.size,
            "batch_size": self.batch_size,
        }

    def setup(self, store: Store) -> None:
        """Load the encoder."""
        from beholder.models.encoders.efficientnet import EfficientNetLite0

        folder = weights.folder("efficientnet_lite0", self.models)
        self._encoder = EfficientNetLite0(folder, size=self.size, batch_size=self.batch_size)
        self._store = store

    @property
    def resizable(self) -> bool:
        """Whether another batch size takes no other load; see `beholder.models.resizing`."""
        return True

    def resize(self, batch_size: int) -> None:
        """Bring the stage, which was set up, to another batch size."""
        if self._encoder is None:
            raise RuntimeError("setup was not called")
        self.batch_size = self._encoder.batch_size = batch_size

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Features of one batch; the encoder pads it to `batch_size`."""
        from beholder.models.encoders.statistics import image_statistics

        if self._encoder is None or self._store is None:
            raise RuntimeError("setup was not called")
        images = [read_image(self._store, item["_path"]) for item in items]
        network = self._encoder.encode(images)
        return [
            {"image": item["image"], "network": pack(row), "statistics": pack(image_statistics(image))}
            for item, row, image in zip(items, network, images, strict=True)
        ]


@dataclass
class EmbedTexts:
    """`{text}` -> a sentence embedding of MiniLM (384), packed float32."""

    models: str
    batch_size: int = 16
    name: str = "embed_text"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.7))
    _encoder: MiniLM | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """The encoder's digest; sentences are encoded alone, so the batch size does not matter."""
        return {"encoder": "minilm", "weights": weights.digest("minilm", self.models)}

    def setup(self, store: Store) -> None:
        """Load the encoder."""
        from beholder.models.encoders.minilm import MiniLM

        self._encoder = MiniLM(weights.folder("minilm", self.models))

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One vector a text."""
        if self._encoder is None:
            raise RuntimeError("setup was not called")
        vectors = self._encoder.encode([item["text"] for item in items])
        return [{"text": item["text"], "vector": pack(v)} for item, v in zip(items, vectors, strict=True)]


@dataclass
class RewritePrompts:
    """`{prompt, base, n, seed}` -> n rewrites of a prompt that keep its base."""

    rewriter: str
    models: str
    batch_size: int = 1
    name: str = "rewrite"
    version: int = 1
    _rewriter: Rewriter | None = field(default=None, repr=False)

    @property
    def needs(self) -> Needs:
        """Measured with eight rewrites at a time; phrases take no network."""
        return Needs(memory_gb=1.4 if self.rewriter == "smollm2" else 0.3)

    def identity(self) -> Mapping[str, Any]:
        """The rewriter's id, its weights and its settings."""
        from beholder.models.rewriters import rewriter_identity

        return rewriter_identity(self.rewriter, self.models)

    def setup(self, store: Store) -> None:
        """Load the rewriter."""
        from beholder.models.rewriters import load_rewriter

        self._rewriter = load_rewriter(self.rewriter, self.models)

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """The rewrites of each item, which depend on its own seed only."""
        if self._rewriter is None:
            raise RuntimeError("setup was not called")
        return [
            {
                "prompt": item["prompt"],
                "prompts": list(
                    self._rewriter.rewrite(item["prompt"], base=item["base"], n=item["n"], seed=item["seed"])
                ),
            }
            for item in items
        ]


def read_image(store: Store, path: str) -> np.ndarray:
    """An image of the store as RGB, shape (height, width, 3), uint8."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(store.read(path))) as image:
        return np.asarray(image.convert("RGB"))
