"""Stages that draw pictures and look at them, and go wrong for real reasons. Importable by Ray's workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beholder.engine.chain import Link
from beholder.engine.ledger import Row
from beholder.engine.stage import Item, Result
from beholder.models.diffusers_stage import put_picture
from beholder.models.encoders.statistics import image_statistics
from beholder.models.generators.diffusers_pipeline import _pixels
from beholder.models.stages import read_image
from beholder.store import Store

SIDE = 32
HALF_EMOJI = "a fox \ud83e"
MORE_THAN_THERE_IS = 3 * 2**50


class UnprintableError(Exception):
    """What a model's library may raise: asking for its message raises again."""

    def __str__(self) -> str:
        raise LookupError("no message in this language")


@dataclass
class Paint:
    """`{n, prompt}` -> a grey picture of brightness n, unless `do` says what shall go wrong."""

    batch_size: int = 2
    name: str = "paint"
    version: int = 1
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        self._store = store

    def process(self, items: Sequence[Item]) -> list[Result]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Result:
        assert self._store is not None
        do, latents = item.get("do"), np.full((SIDE, SIDE, 3), item["n"] / 255)
        if do == "exit":
            os._exit(1)
        if do == "leave":
            sys.exit(1)
        if do == "unprintable":
            raise UnprintableError
        if do == "message is no text":
            raise ValueError(f"cannot draw {HALF_EMOJI}")
        if do == "memory":
            np.empty(MORE_THAN_THERE_IS, dtype=np.uint8)
        if do == "nan latents":
            latents[3, 4, 1] = np.nan
        drawn = put_picture(self._store, item["_key"], _pixels(latents))
        if do == "truncated":
            whole = self._store.read(drawn["path"])
            (self._store.root / drawn["path"]).write_bytes(whole[: 2 * len(whole) // 3])
        if do == "text is no text":
            drawn["caption"] = HALF_EMOJI
        return {"n": item["n"], "prompt": item["prompt"], "noise": np.nan if do == "nan" else 0.0, **drawn}


@dataclass
class Look(Paint):
    """`{image, n, prompt, _path}` -> brightness of the picture, as it is read back."""

    batch_size: int = 4
    name: str = "look"

    def _one(self, item: Item) -> Result:
        assert self._store is not None
        image = read_image(self._store, item["_path"])
        return {
            "n": item["n"],
            "prompt": item["prompt"],
            "brightness": int(image[0, 0, 0]),
            "statistics": image_statistics(image).tolist(),
        }


def follow(row: Row) -> Item:
    """What `Look` is asked about a picture."""
    return {"image": row["key"], "n": row["n"], "prompt": row["prompt"], "_path": row["path"]}


def links() -> list[Link]:
    """Paint, then look."""
    return [Link(Paint(), "Paint", follow), Link(Look(), "Look")]
