"""The largest batch size that a stage has memory for, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from beholder.engine.memory import longest_first, resized
from beholder.engine.stage import Item, Keyed, KeyMaker, Stage
from beholder.errors import EngineError, OutOfMemoryError

if TYPE_CHECKING:
    from beholder.engine.run import Backend


def probe(backend: Backend, stage: Stage, items: Sequence[Item], most: int) -> int:
    """The largest batch size from 1 to `most` that fits into a worker's memory; 0 if not even one item does.

    Sizes are doubled until one does not fit, then the gap is halved. Each size is tried on a worker of its own that
    loads the stage at that size, so nothing is left over from the size before; warm workers are let go first. What a
    stage writes into the store on the way is what it would write in a run at that size; the ledger stays as it is.

    Parameters
    ----------
    backend : Backend
    stage : Stage
        See `memory.resized` for how its batch size is changed.
    items : sequence of dict
        Typical ones; those with the longest text are tried, over and over if a batch needs more.
    most : int
        Where to stop.

    Raises
    ------
    EngineError
        If the stage's batch size cannot be changed, there are no items, or a batch fails for another reason.
    """
    if most < 1 or not items:
        raise EngineError(f"a probe up to {most} with {len(items)} items", "at least 1, and at least one item")
    ordered = longest_first(items)
    return largest(lambda size: _fits(backend, stage, ordered, size), most)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest size from 1 to `most` that fits, 0 for none, if all sizes below one that fits do too."""
    size = good = 0
    while good == size < most:
        size = min(max(1, 2 * size), most)
        good = size if fits(size) else good
    bad = size + (good == size)
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _fits(backend: Backend, stage: Stage, items: Sequence[Item], size: int) -> bool:
    changed = resized(stage, size)
    if changed is None:
        raise EngineError(
            f"stage {stage.name!r} ({type(stage).__name__}) does not say how its batch size is changed",
            "a dataclass with batch_size, or a method resized(batch_size)",
        )
    maker = KeyMaker(changed)
    batch = [Keyed(key, {**item, "_key": key}) for item in islice(cycle(items), size) if (key := maker.key(item))]
    try:
        backend.try_out(changed, batch)
    except OutOfMemoryError:
        return False
    return True
