"""Run a stage over items: what the plan asks for and the ledger does not have yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from beholder import __version__
from beholder.engine.inprocess import Outcome
from beholder.engine.progress import Progress
from beholder.engine.stage import Item, Keyed, Stage, keyed
from beholder.errors import EngineError
from beholder.records import canonical_json, rows_digest
from beholder.store import LedgerWriter, Store

Row = dict[str, Any]
"""A line of the ledger: key, item, status, error, attempt, seconds, worker, written_at, versions, and the result."""

TOLERATED = 3
"""Failed items that stop no run, however small: a share means little for a dozen items."""


class Backend(Protocol):
    """Who does the work: this process, or workers on Ray."""

    store: Store
    """Where the workers write images: the engine's."""

    def outcomes(self, stage: Stage, batches: Sequence[Sequence[Keyed]]) -> Generator[list[Outcome], None, None]:
        """Process the batches; yields outcomes as they come, every item exactly once, in any order.

        Closing the generator before its end stops the work and throws away what was under way.
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
    rows : list of dict
        One ledger row an item, in the order of the items given; failed ones have status "failed".
    done, computed, failed : int
        Different items that were in the ledger before, that were computed now, and that are in quarantine now.
    seconds : float
        Wall time of this run.
    """

    rows: list[Row]
    done: int
    computed: int
    failed: int
    seconds: float

    def ok_rows(self) -> list[Row]:
        """The rows with a result, in the order of the items."""
        return [row for row in self.rows if row["status"] == "ok"]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the different ok rows, without times, attempts and workers: equal for equal results."""
        return rows_digest({row["key"]: row for row in self.ok_rows()}.values())


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
    """

    store: Store
    backend: Backend
    progress: Progress
    max_failed: float = 0.05
    retries: int = 1
    clock: Callable[[], datetime] = utc_now
    _ledgers: dict[str, dict[str, Row]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _writers: dict[str, LedgerWriter] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed <= 1:
            raise EngineError(f"max_failed is {self.max_failed}", "a share from 0 to 1")
        if self.backend.store.root != self.store.root:
            raise EngineError(f"workers write to {self.backend.store.root}, the ledger is in {self.store.root}")
        if self.retries < 0:
            raise EngineError(f"retries is {self.retries}", "0 or more")

    def run(self, stage: Stage, items: Sequence[Item], *, label: str | None = None) -> StageRun:
        """Do what is missing: items without an ok row that have not failed too often.

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
        ValueError
            If the stage breaks its contract.
        """
        started = time.perf_counter()
        plan, positions = _plan(stage, items)
        ledger = self._ledger(stage.name)
        missing = [entry for entry in plan if self._is_missing(ledger.get(entry.key))]
        asked = {key for key, _ in missing}
        failures = [ledger[key] for key, _ in plan if key not in asked and ledger[key]["status"] == "failed"]
        done, computed = len(plan) - len(missing) - len(failures), 0
        with (
            self.progress.stage(label or stage.name, len(plan), done, len(failures)) as advance,
            closing(self._compute(stage, missing, ledger)) as batches,
        ):
            self._stop_if_hopeless(stage, failures, len(plan))
            for rows in batches:
                failed = [row for row in rows if row["status"] == "failed"]
                failures += failed
                computed += len(rows) - len(failed)
                advance(len(rows) - len(failed), len(failed))
                self._stop_if_hopeless(stage, failures, len(plan))
        rows = [dict(ledger[plan[position].key]) for position in positions]
        return StageRun(rows, done, computed, len(failures), time.perf_counter() - started)

    def close(self) -> None:
        """Close the ledger's shards and the backend."""
        for name in list(self._writers):
            self._writers.pop(name).close()
        self.backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _compute(self, stage: Stage, missing: list[Keyed], ledger: dict[str, Row]) -> Generator[list[Row], None, None]:
        """Do the missing items; each batch of rows is in the ledger before it is yielded."""
        if not missing:
            return
        batches = [missing[i : i + stage.batch_size] for i in range(0, len(missing), stage.batch_size)]
        items = dict(missing)
        with closing(self.backend.outcomes(stage, batches)) as stream:
            for outcomes in stream:
                rows = [self._row(outcome, items[outcome.key], ledger.get(outcome.key)) for outcome in outcomes]
                self._write(stage.name, rows)
                ledger.update((row["key"], row) for row in rows)
                yield rows

    def _row(self, outcome: Outcome, item: Item, previous: Row | None) -> Row:
        return {
            "key": outcome.key,
            "item": _content(item),
            "status": "failed" if outcome.result is None else "ok",
            "error": outcome.error,
            "attempt": (previous["attempt"] if previous else 0) + 1,
            "seconds": round(outcome.seconds, 6),
            "worker": outcome.worker,
            "written_at": self.clock().isoformat(timespec="microseconds"),
            "versions": f"beholder {__version__}, {outcome.instructions}",
            **(outcome.result or {}),
        }

    def _write(self, name: str, rows: list[Row]) -> None:
        writer = self._writers.pop(name, None) or self.store.ledger_writer(name)
        writer.put(rows)
        # A writer that raised is not used again: what follows a torn line in its shard could not be read.
        self._writers[name] = writer

    def _ledger(self, name: str) -> dict[str, Row]:
        if name not in self._ledgers:
            self._ledgers[name] = _index(self.store.ledger_rows(name))
        return self._ledgers[name]

    def _is_missing(self, row: Row | None) -> bool:
        return row is None or (row["status"] == "failed" and row["attempt"] <= self.retries)

    def _stop_if_hopeless(self, stage: Stage, failures: list[Row], planned: int) -> None:
        allowed = max(TOLERATED, int(self.max_failed * planned)) if self.max_failed else 0
        if len(failures) <= allowed:
            return
        first = failures[0]
        raise EngineError(
            f"stage {stage.name!r}: {len(failures)} of {planned} items failed, the first one with {first['error']}",
            f"at most {allowed} failed items",
            f"look at the rows with status failed in {self.store.root / 'ledger' / stage.name} "
            f"(first key {first['key'][:12]}, attempt {first['attempt']}), mend the cause, run again with "
            "more retries if they were used up",
        )


def _plan(stage: Stage, items: Sequence[Item]) -> tuple[list[Keyed], list[int]]:
    """The different items with their keys, and for each item given its place among them."""
    plan = keyed(stage, items)
    if len(plan) == len(items):
        return plan, list(range(len(items)))
    # `keyed` keeps the first of equal items and their order, so counting the different ones gives their places.
    places: dict[str, int] = {}
    return plan, [places.setdefault(canonical_json(_content(item)), len(places)) for item in items]


def _content(item: Item) -> Item:
    """The part of an item that decides its result; names that start with "_" are only passed along."""
    return {name: value for name, value in item.items() if not name.startswith("_")}


def _index(rows: Iterable[Row]) -> dict[str, Row]:
    """The row that counts for each key: the earliest ok one, or else the failed one with the most attempts."""
    index: dict[str, Row] = {}
    for row in rows:
        other = index.get(row["key"])
        if other is None or _rank(row) < _rank(other):
            index[row["key"]] = row
    return index


def _rank(row: Row) -> tuple[bool, int, str]:
    failed = row["status"] == "failed"
    return failed, -row["attempt"] if failed else 0, row["written_at"]
