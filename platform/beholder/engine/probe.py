"""The largest batch size that a stage has memory for, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from beholder.engine.memory import longest_first, resized
from beholder.engine.stage import Item, Keyed, KeyMaker, Result, Stage
from beholder.errors import EngineError, OutOfMemoryError

if TYPE_CHECKING:
    from beholder.engine.run import Backend
    from beholder.store import Store


def probe(backend: Backend, stage: Stage, items: Sequence[Item], most: int) -> int:
    """The largest batch size from 1 to `most` that fits into a worker's memory; 0 if not even one item does.

    Sizes are doubled until one does not fit, then the gap is halved. A stage that can be resized (see `AnySize`) is
    loaded once and tried at one size after the other as long as they fit. After one that did not, whatever it failed
    to give back would count against the next, so a fresh worker loads the stage anew; all others are let go first, and
    do so for every size of a stage that cannot be resized. What a stage writes into the store on the way is what it
    would write in a run at that size; the ledger stays as it is.

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
    return largest(_Tries(backend, stage, longest_first(items)).fits, most)


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


class AnySize:
    """A stage that is loaded once and processes batches of any length, each as if it had been loaded at that size.

    Parameters
    ----------
    stage : Stage
        One whose `resizable` is true: once set up, it has a method `resize(batch_size)`.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.name, self.version, self.batch_size = stage, stage.name, stage.version, stage.batch_size

    @property
    def needs(self) -> Any:
        """What the stage asks of its worker."""
        return getattr(self.stage, "needs", None)

    def runtime_env(self) -> Mapping[str, Any]:
        """As the stage."""
        return dict(self.stage.runtime_env()) if hasattr(self.stage, "runtime_env") else {}

    def identity(self) -> Mapping[str, Any]:
        """That of the size it was made at; between batches the stage is back there."""
        return self.stage.identity()

    def setup(self, store: Store) -> None:
        """Load the stage at the size it was made at."""
        self.stage.setup(store)

    def process(self, items: Sequence[Item]) -> list[Result]:
        """Process one batch at its own size."""
        stage: Any = self.stage
        stage.resize(len(items))
        try:
            results: list[Result] = stage.process(items)
        finally:
            stage.resize(self.batch_size)
        return results


class _Tries:
    """Tries sizes of a stage, and remembers the stage that a worker still has loaded."""

    def __init__(self, backend: Backend, stage: Stage, items: Sequence[Item]) -> None:
        self._backend, self._stage, self._items = backend, stage, items
        self._loaded: AnySize | None = None

    def fits(self, size: int) -> bool:
        """Whether a batch of this size fits into a worker's memory."""
        changed = resized(self._stage, size)
        if changed is None:
            raise EngineError(
                f"stage {self._stage.name!r} ({type(self._stage).__name__}) does not say how its batch size is changed",
                "a dataclass with batch_size, or a method resized(batch_size)",
            )
        maker = KeyMaker(changed)
        wanted = islice(cycle(self._items), size)
        batch = [Keyed(key, {**item, "_key": key}) for item in wanted if (key := maker.key(item))]
        loaded = self._loaded
        trial = loaded or (AnySize(changed) if getattr(changed, "resizable", False) else changed)
        self._loaded = None
        try:
            self._backend.try_out(trial, batch, fresh=loaded is None)
        except OutOfMemoryError:
            return False
        self._loaded = trial if isinstance(trial, AnySize) else None
        return True
