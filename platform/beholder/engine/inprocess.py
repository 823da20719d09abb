"""Running batches in this process: what a worker does, and the backend for runs without Ray."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

from beholder.engine.environment import instruction_set
from beholder.engine.stage import Keyed, Source, Stage, stage_key
from beholder.errors import EngineError
from beholder.records import canonical_json, key_of
from beholder.store import Store

ERROR_LENGTH = 300

RESERVED = frozenset(
    {"key", "item", "status", "error", "trace", "attempt", "seconds", "worker", "written_at", "versions"}
)
"""Columns the ledger gives every row; a stage's results may not use these names."""


class Outcome(NamedTuple):
    """What became of one item: a result, or the error that put it in quarantine."""

    key: str
    result: dict[str, Any] | None
    error: str | None
    seconds: float
    """Wall time of the batch, shared out evenly over its items."""
    worker: str
    instructions: str
    trace: str | None = None
    """Digest of the traceback: failures with one cause share it."""


def worker_name() -> str:
    """Name of this process in the ledger: host and process id."""
    return f"{platform.node()}:{os.getpid()}"


def describe(error: BaseException) -> str:
    """An error as one line of the ledger: its type and message, cut at 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= ERROR_LENGTH else text[: ERROR_LENGTH - 1] + "…"


def run_batch(stage: Stage, batch: Sequence[Keyed]) -> list[Outcome]:
    """Process a batch; where it raises, halve it until the items that fail alone are found.

    Halving finds one bad item among n with about 2 log2(n) calls, and the good ones keep their results.

    Raises
    ------
    EngineError
        As the stage raised it: the run cannot go on.
    ValueError
        If the stage breaks its contract: a wrong number of results, or names that belong to the ledger. That is a
        bug of the stage and no property of an item.
    """
    started = time.perf_counter()
    try:
        results = stage.process([item for _, item in batch])
    except EngineError:  # no property of an item: a budget that is used up, a machine that lacks something
        raise
    except Exception as error:
        if len(batch) > 1:
            half = len(batch) // 2
            return run_batch(stage, batch[:half]) + run_batch(stage, batch[half:])
        return [_failure(batch[0].key, error, time.perf_counter() - started)]
    if len(results) != len(batch):
        raise ValueError(f"stage {stage.name!r} gave {len(results)} results for {len(batch)} items")
    share = (time.perf_counter() - started) / len(batch)
    return [_checked(stage, key, result, share) for (key, _), result in zip(batch, results, strict=True)]


def _checked(stage: Stage, key: str, result: dict[str, Any], seconds: float) -> Outcome:
    if clash := RESERVED & result.keys():
        raise ValueError(f"stage {stage.name!r} returns {sorted(clash)}: these names belong to the ledger")
    try:
        canonical_json(result)  # NaN, or an array: the ledger could not hold it exactly
    except TypeError as error:
        return _failure(key, error, seconds)
    return Outcome(key, result, None, seconds, worker_name(), instruction_set())


def _failure(key: str, error: Exception, seconds: float) -> Outcome:
    return Outcome(key, None, describe(error), seconds, worker_name(), instruction_set(), trace_digest(error))


def trace_digest(error: BaseException) -> str:
    """First 12 characters of the digest of an error's type and the functions and lines it passed through.

    Values and addresses do not enter, so all failures with one cause share it; nor do folders of the machine.
    """
    frames = traceback.extract_tb(error.__traceback__)
    steps = [[os.path.basename(frame.filename), frame.name, frame.line] for frame in frames]
    return key_of([type(error).__name__, steps])[:12]


def identity_of(stage: Stage) -> str:
    """What two stages must share to be served by the same workers: class, version and identity."""
    kind = f"{type(stage).__module__}.{type(stage).__qualname__}"
    return key_of({"class": kind, "stage": stage_key(stage)})


class InProcess:
    """The backend without Ray: batch by batch in this process. A stage is set up once and kept until `close`.

    An item that kills the process kills the run; the next run starts again at that item. Use Ray for such stages.
    Numbers equal Ray's if this process was started with `beholder.engine.environment.worker_environment`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._ready: dict[str, Stage] = {}

    def outcomes(
        self, stage: Stage, batches: Iterable[Sequence[Keyed]], count: int
    ) -> Generator[list[Outcome], None, None]:
        """Process the batches in order; yields each one's outcomes. Errors of `setup` are the caller's."""
        ready = self._set_up(stage)
        for batch in batches:
            yield run_batch(ready, batch)

    def stream(self, parts: Sequence[tuple[Stage, Source]]) -> Generator[tuple[int, list[Outcome]], None, None]:
        """Process whatever the latest stage has to do, so that little waits between stages."""
        idle = 0
        while idle < 2:  # asking the first stage may give the later ones work: only a second silence is the end
            idle += 1
            for number, (stage, source) in reversed(list(enumerate(parts))):
                if batch := source.take():
                    yield number, run_batch(self._set_up(stage), batch)
                    idle = 0
                    break

    def _set_up(self, stage: Stage) -> Stage:
        identity = identity_of(stage)
        if identity not in self._ready:
            stage.setup(self.store)
            self._ready[identity] = stage
        return self._ready[identity]

    def close(self) -> None:
        """Let go of the stages that were set up, and of their weights."""
        self._ready.clear()
