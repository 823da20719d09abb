"""Pictures of diffusers pipelines as a stage over keyed items."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beholder.models.canary import Probe, generator_probe
from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings
from beholder.models.interfaces import Needs
from beholder.models.resizing import ResizableStage
from beholder.store import Store

Item = Mapping[str, Any]


@dataclass
class GenerateDiffusers(ResizableStage):
    """`{prompt, seed}` -> an image file of a diffusers pipeline, and its row.

    Parameters
    ----------
    settings : PipelineSettings
    needs : Needs
        What a worker must have at this batch size.
    offline : bool
        Never ask the hub.
    """

    settings: PipelineSettings
    needs: Needs
    offline: bool = False
    name: str = "generate"
    version: int = 1
    _identity: dict[str, Any] | None = field(default=None, repr=False)
    _generator: DiffusersGenerator | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    @property
    def batch_size(self) -> int:
        """Pictures in every call of the pipeline."""
        return self.settings.batch_size

    @property
    def resizable(self) -> bool:
        """Whether another batch size takes no other load: not for a network that is compiled for one."""
        return self.settings.compile == "no"

    def _loaded(self) -> DiffusersGenerator | None:
        return self._generator

    def identity(self) -> Mapping[str, Any]:
        """Checkpoint, settings, device and versions; the files of a folder are hashed once."""
        if self._identity is None:
            self._identity = self.settings.identity()
        return self._identity

    def setup(self, store: Store) -> None:
        """Fetch and load the pipeline; a folder with another content than the plan's is refused."""
        self._generator = DiffusersGenerator(self.settings, identity=self.identity(), offline=self.offline)
        self._store = store

    def canary(self) -> Probe:
        """How to ask the loaded pipeline its golden inputs; after `setup`."""
        if self._generator is None:
            raise RuntimeError("setup was not called")
        return generator_probe(self.settings.checkpoint.name, self._generator)

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Draw and store one PNG an item; the pipeline fills a tail up."""
        if self._generator is None or self._store is None:
            raise RuntimeError("setup was not called")
        pictures = self._generator.generate([item["prompt"] for item in items], [item["seed"] for item in items])
        return [
            {
                "prompt": item["prompt"],
                "seed": item["seed"],
                "generator": self.settings.checkpoint.name,
                **put_picture(self._store, item["_key"], picture.pixels),
                **picture.notes,
            }
            for item, picture in zip(items, pictures, strict=True)
        ]


def put_picture(store: Store, key: str, pixels: np.ndarray) -> dict[str, Any]:
    """Store a picture as PNG; its `path`, `width`, `height`, and the `sha256` of its pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # the slower levels keep a GPU waiting
    return {
        "path": store.put_image(key, buffer.getvalue()),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }
