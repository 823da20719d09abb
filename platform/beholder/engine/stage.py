"""What a stage is: the one contract between the work and whoever runs it. No Ray here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from beholder.records import FlatEncoder, canonical_json
from beholder.store import Store

Item = dict[str, Any]
"""One thing to do: plain JSON values. Fields whose name starts with "_" (where a file lies) are not part of the key.

`process` also finds the item's own key in it, as "_key".
"""
Result = dict[str, Any]
"""What came out: plain JSON values. Big things (images) are written to the store by the worker, never returned."""


class Stage(Protocol):
    """Work over keyed items: `items -> stage -> results`.

    A stage is made with its settings only and must be cheap to pickle; `setup` loads weights, once per worker.
    """

    name: str
    """The ledger's folder, such as "generate"."""
    version: int
    """Raised by hand when the code gives other results; a golden-output test says when."""
    batch_size: int
    """Items per call; part of the key, since bytes differ between batch sizes. `process` pads tails."""

    def identity(self) -> Mapping[str, Any]:
        """Everything of the stage that can change a result: weights digest, settings, dtype, batch size."""
        ...

    def setup(self, store: Store) -> None:
        """Load weights. Called once in each worker before the first batch."""
        ...

    def process(self, items: Sequence[Item]) -> list[Result]:
        """Results of one batch, in the order of the items (at most `batch_size` of them).

        May raise for a bad item: the engine then splits the batch and quarantines the item that fails alone. An
        `EngineError` stops the run; a `StoppedError` brings along what was done of the batch, which is kept.
        """
        ...


class Keyed(NamedTuple):
    """An item with the content key of its result."""

    key: str
    item: Item


class Source(Protocol):
    """Where a stage's batches come from."""

    def take(self) -> Sequence[Keyed] | None:
        """The next batch, or None if there is none now."""
        ...


def stage_key(stage: Stage) -> dict[str, Any]:
    """The part of the key that all items of a stage share."""
    return {"stage": stage.name, "version": stage.version, **stage.identity()}


class KeyMaker:
    """Keys of a stage's items; what all of them share is put into canonical form once."""

    def __init__(self, stage: Stage) -> None:
        self._end = f',"stage":{canonical_json(stage_key(stage))}}}'
        self._encode = FlatEncoder().encode

    def key(self, item: Item) -> str:
        """SHA-256 of `{"item": ..., "stage": ...}` as canonical JSON; fields that start with "_" do not enter."""
        text = f'{{"item":{self._encode(item)}{self._end}'
        # Halves of surrogate pairs pass, so that an item that is no valid text has a key to be set aside under.
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def content_of(item: Item) -> Item:
    """The part of an item that decides its result; names that start with "_" are only passed along."""
    return {name: value for name, value in item.items() if not name.startswith("_")}
