"""Encoders of checkpoints as stages over keyed items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beholder.errors import TableError, WeightsError
from beholder.models.canary import Probe, image_encoder_probe, text_encoder_probe
from beholder.models.encoders.precomputed import PrecomputedFeatures
from beholder.models.encoders.sentences import SentenceEncoder, SentenceSettings
from beholder.models.encoders.towers import ImageEncoder, TextEncoder, TowerSettings
from beholder.models.interfaces import Encoder, Needs
from beholder.models.resizing import ResizableStage
from beholder.models.stages import read_image
from beholder.models.weights import sha256_of
from beholder.records import pack
from beholder.store import Store

Item = Mapping[str, Any]


@dataclass
class EncodeImages(ResizableStage):
    """`{image, _path}` -> a vector and image statistics, packed float32.

    `image` names the content, `_path` says where it lies.
    """

    settings: TowerSettings
    needs: Needs
    offline: bool = False
    name: str = "embed"
    version: int = 1
    _identity: dict[str, Any] | None = field(default=None, repr=False)
    _encoder: ImageEncoder | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    @property
    def batch_size(self) -> int:
        """Pictures in every call of the network."""
        return self.settings.batch_size

    def _loaded(self) -> ImageEncoder | None:
        return self._encoder

    def identity(self) -> Mapping[str, Any]:
        """Checkpoint, settings, device and versions; the files of a folder are hashed once."""
        if self._identity is None:
            self._identity = {"encoder": "image", **self.settings.identity()}
        return self._identity

    def setup(self, store: Store) -> None:
        """Fetch and load the encoder; a folder with another content than the plan's is refused."""
        self._encoder = ImageEncoder(self.settings, identity=self.identity(), offline=self.offline)
        self._store = store

    def canary(self) -> Probe:
        """How to ask the loaded encoder its golden inputs; after `setup`."""
        if self._encoder is None:
            raise RuntimeError("setup was not called")
        return image_encoder_probe(self.settings.checkpoint.name, self._encoder)

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One vector a picture, and its statistics."""
        from beholder.models.encoders.statistics import image_statistics

        if self._encoder is None or self._store is None:
            raise RuntimeError("setup was not called")
        images = [read_image(self._store, item["_path"]) for item in items]
        vectors = self._encoder.encode(images)
        return [
            {"image": item["image"], "vector": pack(vector), "statistics": pack(image_statistics(image))}
            for item, vector, image in zip(items, vectors, images, strict=True)
        ]


@dataclass
class ReadVectors:
    """`{image, _path}` -> the image's vector of a file, and the picture's statistics, packed float32.

    Parameters
    ----------
    path : str
        See `encoders.precomputed`; all workers must see it.
    batch_size : int
    id_column : str
    """

    path: str
    batch_size: int
    id_column: str = "image_id"
    name: str = "embed"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=1))
    _digest: str | None = field(default=None, repr=False)
    _features: PrecomputedFeatures | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """The file's SHA-256; TableError if there is none."""
        if self._digest is None:
            if not Path(self.path).is_file():
                raise TableError(f"no features file {self.path}", remedy="check the path")
            self._digest = sha256_of(Path(self.path))
        return {"encoder": "precomputed", "file": self._digest, "id_column": self.id_column}

    def setup(self, store: Store) -> None:
        """Read the file; WeightsError if it is another one than the plan's."""
        self._features, self._store = PrecomputedFeatures(Path(self.path), self.id_column), store
        if self._features.digest != self.identity()["file"]:
            raise WeightsError(f"{self.path} has changed", str(self.identity()["file"]), "give all workers one file")

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One vector a picture; TableError for a picture that is not in the file."""
        from beholder.models.encoders.statistics import image_statistics

        if self._features is None or self._store is None:
            raise RuntimeError("setup was not called")
        vectors = self._features.encode([item["image"] for item in items])
        images = [read_image(self._store, item["_path"]) for item in items]
        return [
            {"image": item["image"], "vector": pack(vector), "statistics": pack(image_statistics(image))}
            for item, vector, image in zip(items, vectors, images, strict=True)
        ]


@dataclass
class EncodeTexts(ResizableStage):
    """`{text}` -> a vector, packed float32, of a text tower or a sentence encoder."""

    settings: TowerSettings | SentenceSettings
    needs: Needs
    offline: bool = False
    name: str = "embed_text"
    version: int = 1
    _identity: dict[str, Any] | None = field(default=None, repr=False)
    _encoder: Encoder | None = field(default=None, repr=False)

    @property
    def batch_size(self) -> int:
        """Texts in every call of the network."""
        return self.settings.batch_size

    def _loaded(self) -> Encoder | None:
        return self._encoder

    def identity(self) -> Mapping[str, Any]:
        """Checkpoint, settings, device and versions; the files of a folder are hashed once."""
        if self._identity is None:
            self._identity = {"encoder": "text", **self.settings.identity()}
        return self._identity

    def setup(self, store: Store) -> None:
        """Fetch and load the encoder; a folder with another content than the plan's is refused."""
        if isinstance(self.settings, TowerSettings):
            self._encoder = TextEncoder(self.settings, identity=self.identity(), offline=self.offline)
        else:
            self._encoder = SentenceEncoder(self.settings, identity=self.identity(), offline=self.offline)

    def canary(self) -> Probe:
        """How to ask the loaded encoder its golden inputs; after `setup`."""
        if self._encoder is None:
            raise RuntimeError("setup was not called")
        return text_encoder_probe(self.settings.checkpoint.name, self._encoder)

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One vector a text."""
        if self._encoder is None:
            raise RuntimeError("setup was not called")
        vectors = self._encoder.encode([item["text"] for item in items])
        return [{"text": item["text"], "vector": pack(v)} for item, v in zip(items, vectors, strict=True)]
