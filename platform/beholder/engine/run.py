"""Run a stage over items: what the plan asks for and the ledger does not have yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from beholder import __version__
from beholder.engine.admission import admit
from beholder.engine.inprocess import InterruptedBatchError, Outcome
from beholder.engine.ledger import Keys, Ledger, Row, short_key
from beholder.engine.memory import with_size
from beholder.engine.meter import UNPRICED, Meter, Prices, Reading
from beholder.engine.placement import demand_of
from beholder.engine.probe import probe
from beholder.engine.progress import Progress
from beholder.engine.stage import Item, Keyed, KeyMaker, Source, Stage, content_of
from beholder.errors import EngineError, OutOfMemoryError
from beholder.records import rows_digest
from beholder.store import Store

TOLERATED = 3
"""Failed items that stop no run, however small: a share means little for a dozen items."""


class Backend(Protocol):
    """Who does the work: this process, or workers on Ray."""

    store: Store
    """Where the workers write images: the engine's."""

    def outcomes(
        self, stage: Stage, batches: Iterable[Sequence[Keyed]], count: int
    ) -> Generator[list[Outcome], None, None]:
        """Process `count` batches, taken as they are needed; yields outcomes as they come, in any order.

        Every item comes out exactly once. While nothing comes there may be empty lists, so that whoever consumes them
        is asked now and then. Closing the generator before its end stops the work and throws away what was under way.
        An `InterruptedBatchError` brings the last outcomes of a stage that cannot go on.
        """
        ...

    def stream(self, parts: Sequence[tuple[Stage, Source]]) -> Generator[tuple[int, list[Outcome]], None, None]:
        """Process the batches of several stages side by side, as their sources give them; ends when none gives more.

        Yields the number of the part with each list of outcomes. A source is asked again after every yield.
        """
        ...

    def try_out(self, stage: Stage, batch: Sequence[Keyed], *, fresh: bool = True) -> None:
        """Process one batch on one worker, and drop what comes out.

        Parameters
        ----------
        stage : Stage
        batch : sequence of Keyed
        fresh : bool
            On a worker of its own, after all others were let go; else on the one that the last try of this stage left.

        Raises
        ------
        OutOfMemoryError
            If it does not fit; other errors as the stage raised them.
        """
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


@dataclass(frozen=True)
class StageRun:
    """What a run of a stage left in the ledger.

    Attributes
    ----------
    keys : array of S16, shape (items,)
        The short key of every item given, in order.
    done, computed, failed : int
        Different items that were in the ledger before, that were computed now, and that are in quarantine now.
    seconds : float
        Wall time of this run.
    ledger : Ledger
        Where the rows lie.
    """

    keys: Keys
    done: int
    computed: int
    failed: int
    seconds: float
    ledger: Ledger = field(repr=False)

    def iter_rows(self) -> Iterator[Row]:
        """One ledger row an item, in the order of the items given; failed ones have status "failed"."""
        return self.ledger.rows(self.keys)

    @cached_property
    def rows(self) -> list[Row]:
        """`iter_rows` in memory: for plans that fit there."""
        return list(self.iter_rows())

    def ok_rows(self) -> list[Row]:
        """The rows with a result, in the order of the items."""
        return [row for row in self.rows if row["status"] == "ok"]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the different ok rows, without times, attempts and workers: equal for equal results."""
        return rows_digest(row for row in self.ledger.rows(np.unique(self.keys)) if row["status"] == "ok")


def utc_now() -> datetime:
    """The time that ledger rows carry."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Engine:
    """Runs stages over items, with the ledger of the store as the only state.

    Attributes
    ----------
    store : Store
        Holds the ledger. Each stage's ledger is read once; what other processes write later is not seen.
    backend : Backend
        In-process or Ray; results are the same.
    progress : Progress
        Where to report.
    max_failed : float
        Share of a plan's items that may fail before the run is stopped; three are always tolerated, unless it is 0.
    retries : int
        In how many later runs an item that failed is tried again.
    clock : callable
        Gives the time written into rows.
    prices : Prices
        What a worker costs an hour.
    """

    store: Store
    backend: Backend
    progress: Progress
    max_failed: float = 0.05
    retries: int = 1
    clock: Callable[[], datetime] = utc_now
    prices: Prices = UNPRICED
    _ledgers: dict[str, Ledger] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed <= 1:
            raise EngineError(f"max_failed is {self.max_failed}", "a share from 0 to 1")
        if self.backend.store.url != self.store.url:
            raise EngineError(f"workers write to {self.backend.store.url}, the ledger is in {self.store.url}")
        if self.retries < 0:
            raise EngineError(f"retries is {self.retries}", "0 or more")

    def run(self, stage: Stage, items: Sequence[Item], *, label: str | None = None) -> StageRun:
        """Do what is missing: items without an ok row that have not failed too often.

        Items are gone through twice, once for their keys (16 bytes each are kept) and once for the work, so a sequence
        that reads them from a table keeps memory small whatever its length.

        Parameters
        ----------
        stage : Stage
        items : sequence of dict
            Doubles are allowed and computed once; fields that start with "_" do not tell items apart.
        label : str, optional
            The name shown; the stage's own if not given.

        Raises
        ------
        EngineError
            If more items fail than `max_failed` allows, or no worker can be started.
        OutOfMemoryError
            If the stage does not fit into memory at its batch size; names the size that does.
        ValueError
            If the stage breaks its contract.
        """
        started = time.perf_counter()
        maker, ledger = KeyMaker(stage), self.ledger(stage.name)
        keys = np.fromiter((short_key(maker.key(item)) for item in items), dtype="S16", count=len(items))
        first = np.unique(keys, return_index=True)[1]
        ok, failed, attempts = ledger.status(keys[first])
        missing = np.zeros(len(keys), dtype=bool)
        missing[first] = ~ok & ~(failed & (attempts > self.retries))
        done, failures, computed = int(ok.sum()), int((failed & (attempts > self.retries)).sum()), 0
        guard = FailureGuard(self, stage, len(first))
        with (
            self.progress.stage(label or stage.name, len(first), done, failures) as advance,
            closing(self._compute(stage, maker, items, missing, ledger)) as batches,
        ):
            if guard.exceeded(failures):
                guard.stop(failures, next(ledger.rows(keys[first[failed & (attempts > self.retries)]])))
            for rows, reading in batches:
                bad = [row for row in rows if row["status"] == "failed"]
                failures, computed = failures + len(bad), computed + len(rows) - len(bad)
                advance(len(rows) - len(bad), len(bad), reading)
                if bad and guard.exceeded(failures):
                    guard.stop(failures, bad[0])
        return StageRun(keys, done, computed, failures, time.perf_counter() - started, ledger)

    def close(self) -> None:
        """Close the ledgers' files and the backend. Rows of runs stay readable."""
        for ledger in self._ledgers.values():
            ledger.close()
        self.backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _compute(
        self, stage: Stage, maker: KeyMaker, items: Sequence[Item], missing: NDArray[np.bool_], ledger: Ledger
    ) -> Generator[tuple[list[Row], Reading], None, None]:
        """Do the missing items; each batch of rows is in the ledger before it is yielded."""
        places = np.flatnonzero(missing)
        if not len(places):
            return
        under_way: dict[str, Item] = {}
        meter = self.meter(stage)

        def batches() -> Iterator[list[Keyed]]:
            for start in range(0, len(places), stage.batch_size):
                wanted = (items[place] for place in places[start : start + stage.batch_size].tolist())
                batch = [Keyed(key, admit({**item, "_key": key})) for item in wanted if (key := maker.key(item))]
                under_way.update(batch)
                yield batch

        count = -(-len(places) // stage.batch_size)
        try:
            with closing(self.backend.outcomes(stage, batches(), count)) as stream:
                for outcomes in stream:
                    yield self.record(ledger, outcomes, under_way), meter.record(outcomes, len(under_way))
        except InterruptedBatchError as stop:
            yield self.record(ledger, stop.outcomes, under_way), meter.record(stop.outcomes, len(under_way))
            raise stop.error from None
        except OutOfMemoryError as error:
            tried = list(under_way.values()) or [items[places[0]]]  # none is under way while the stage loads
            raise self.naming_size(error, stage, tried) from None

    def meter(self, stage: Stage) -> Meter:
        """A meter for one run of a stage, at the price of its workers."""
        return Meter(self.prices.gpu_hour if demand_of(stage).gpu else self.prices.cpu_hour)

    def naming_size(self, error: OutOfMemoryError, stage: Stage, items: Sequence[Item]) -> OutOfMemoryError:
        """The error of a stage that does not fit, with the batch size that would: tried out on the items given."""
        size = 0
        if stage.batch_size > 1:
            try:
                with self.progress.step(f"{stage.name}: find a batch size that fits"):
                    size = probe(self.backend, stage, items, stage.batch_size - 1)
            except (EngineError, ValueError):  # the size is a help; that the stage does not fit stands without it
                return error
        return with_size(error, size)

    def record(self, ledger: Ledger, outcomes: Sequence[Outcome], under_way: dict[str, Item]) -> list[Row]:
        """Write outcomes into the ledger as rows; takes their items out of `under_way`."""
        rows = []
        for outcome in outcomes:
            before = ledger.state(outcome.key)
            rows.append(self._row(outcome, under_way.pop(outcome.key), before.attempt + 1 if before else 1))
        if rows:
            ledger.put(rows)
        return rows

    def _row(self, outcome: Outcome, item: Item, attempt: int) -> Row:
        # The ledger's index reads key, status and attempt from fixed places: they come first, in this order.
        return {
            "key": outcome.key,
            "status": "failed" if outcome.result is None else "ok",
            "attempt": attempt,
            "written_at": self.clock().isoformat(timespec="microseconds"),
            "item": content_of(item),
            "error": outcome.error,
            "trace": outcome.trace,
            "seconds": round(outcome.seconds, 6),
            "worker": outcome.worker,
            "versions": f"beholder {__version__}, {outcome.instructions}",
            **(outcome.result or {}),
        }

    def ledger(self, name: str) -> Ledger:
        """The ledger of the stage of this name, read at the first call."""
        if name not in self._ledgers:
            self._ledgers[name] = Ledger(self.store, name)
        return self._ledgers[name]


@dataclass(frozen=True)
class FailureGuard:
    """Stops a run that is failing everywhere."""

    engine: Engine
    stage: Stage
    planned: int

    @property
    def allowed(self) -> int:
        """Failed items that do not stop the run."""
        limit = self.engine.max_failed
        return max(TOLERATED, int(limit * self.planned)) if limit else 0

    def exceeded(self, failures: int) -> bool:
        """Whether more have failed than are allowed."""
        return failures > self.allowed

    def stop(self, failures: int, row: Row) -> NoReturn:
        """Raise, with the error of one of the failed rows."""
        raise EngineError(
            f"stage {self.stage.name!r}: {failures} of {self.planned} items failed, one of them with {row['error']}",
            f"at most {self.allowed} failed items",
            f"look at the rows with status failed in {self.engine.store.ledger_place(self.stage.name)} "
            f"(this key {row['key'][:12]}, attempt {row['attempt']}), mend the cause, run again with more retries if "
            "they were used up",
        )
