"""Running batches in this process: what a worker does, and the backend for runs without Ray."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

from beholder.engine.admission import sift
from beholder.engine.environment import instruction_set
from beholder.engine.memory import does_not_fit, is_out_of_memory, release
from beholder.engine.stage import Keyed, Source, Stage, stage_key
from beholder.errors import EngineError, OutOfMemoryError, StoppedError
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
    refused: bool = False
    """Whether no worker was to be given the item: its failure says nothing of the worker."""


class InterruptedBatchError(EngineError):
    """A run cannot go on after a part of a batch, whose outcomes are to be written first.

    Parameters
    ----------
    error : EngineError
        Why not.
    outcomes : list of Outcome
        At least one.
    """

    def __init__(self, error: EngineError, outcomes: list[Outcome]) -> None:
        self.error, self.outcomes = error, outcomes
        super().__init__(error.found, error.allowed, error.remedy)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.error, self.outcomes)


def with_outcomes(error: EngineError, before: list[Outcome]) -> EngineError:
    """The error of a batch that stops a run, with the outcomes that came before it in that batch.

    Memory that runs out keeps its own way: whoever catches it tries the batch again in parts.
    """
    if isinstance(error, OutOfMemoryError):
        return error
    if isinstance(error, InterruptedBatchError):
        return InterruptedBatchError(error.error, before + error.outcomes)
    return InterruptedBatchError(error, before) if before else error


def worker_name() -> str:
    """Name of this process in the ledger: host and process id."""
    return f"{platform.node()}:{os.getpid()}"


def describe(error: BaseException) -> str:
    """An error as one line of the ledger: its type and message, cut at 300 characters."""
    try:
        message = str(error).encode("utf-8", "backslashreplace").decode()
    except Exception as second:  # a message that cannot be made must not end the run
        message = f"(its message raised {type(second).__name__})"
    text = " ".join(f"{type(error).__name__}: {message}".split())
    return text if len(text) <= ERROR_LENGTH else text[: ERROR_LENGTH - 1] + "…"


def set_up(stage: Stage, store: Store) -> None:
    """Load a stage.

    Raises
    ------
    OutOfMemoryError
        If it does not fit; other errors as the stage raised them.
    """
    text = None
    try:
        stage.setup(store)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        text = describe(error)
    if text is not None:
        raise does_not_fit(stage, "while loading", text)


def run_batch(stage: Stage, batch: Sequence[Keyed], proved: bool = False) -> list[Outcome]:
    """Process a batch; where it raises, halve it until the items that fail alone are found.

    Halving finds one bad item among n with about 2 log2(n) calls, and the good ones keep their results. Memory that
    runs out is another matter: see `_alone`.

    Parameters
    ----------
    stage : Stage
    batch : sequence of Keyed
    proved : bool
        Whether a batch of this size has been through here before.

    Raises
    ------
    OutOfMemoryError
        If the batch size is too large for this worker.
    EngineError
        As the stage raised it: the run cannot go on. `InterruptedBatchError` where a part of the batch was done.
    ValueError
        If the stage breaks its contract: a wrong number of results, or names that belong to the ledger. That is a
        bug of the stage and no property of an item.
    """
    started = time.perf_counter()
    try:
        results = stage.process([item for _, item in batch])
    except StoppedError as stopped:
        done = [(keyed, result) for keyed, result in zip(batch, stopped.results, strict=True) if result is not None]
        share = (time.perf_counter() - started) / max(1, len(done))
        outcomes = [_outcome(stage, key, dict(result), share) for (key, _), result in done]
        raise with_outcomes(stopped.error, outcomes) from None
    except Exception as error:
        out_of_memory = is_out_of_memory(error)
        if isinstance(error, EngineError) and not out_of_memory:  # a budget used up, a machine that lacks something
            raise
        what, trace = describe(error), trace_digest(error)
    else:
        return _checked(stage, batch, results, time.perf_counter() - started)
    # No longer in the handler, whose traceback holds on to what the batch had allocated.
    if out_of_memory:
        return _alone(stage, batch, proved, what, trace)
    if len(batch) == 1:
        return [_failure(batch[0].key, what, trace, time.perf_counter() - started)]
    half = len(batch) // 2
    outcomes = run_batch(stage, batch[:half], proved)
    try:
        return outcomes + run_batch(stage, batch[half:], proved)
    except EngineError as error:
        raise with_outcomes(error, outcomes) from error


def _alone(stage: Stage, batch: Sequence[Keyed], proved: bool, what: str, trace: str) -> list[Outcome]:
    """Find out whose fault it is that memory ran out: the batch size's, or that of items which are too large.

    A stage pads what it is given to its batch size, so an item alone asks for as much as the batch did. Items that
    fail alone are set aside if others pass, or have passed before; if all do, or none, it is the size. Nothing is
    computed at another size than the plan's.
    """
    outcomes: list[Outcome] = []
    greedy = []
    for keyed in batch:
        if len(batch) > 1:
            release()
            try:
                outcomes += run_batch(stage, [keyed], proved=False)
                continue
            except OutOfMemoryError:
                pass
            except EngineError as error:
                raise with_outcomes(error, outcomes) from error
        greedy.append(_failure(keyed.key, what, trace, 0.0))
    if not greedy or not (proved or 2 * len(greedy) <= len(batch)):
        raise does_not_fit(stage, "on a batch", what)
    return outcomes + greedy


def _checked(stage: Stage, batch: Sequence[Keyed], results: Sequence[dict[str, Any]], seconds: float) -> list[Outcome]:
    if len(results) != len(batch):
        raise ValueError(f"stage {stage.name!r} gave {len(results)} results for {len(batch)} items")
    return [_outcome(stage, key, result, seconds / len(batch)) for (key, _), result in zip(batch, results, strict=True)]


def _outcome(stage: Stage, key: str, result: dict[str, Any], seconds: float) -> Outcome:
    if clash := RESERVED & result.keys():
        raise ValueError(f"stage {stage.name!r} returns {sorted(clash)}: these names belong to the ledger")
    try:
        canonical_json(result).encode()  # NaN, an array, broken text: the ledger could not hold it exactly
    except (TypeError, UnicodeEncodeError) as error:
        return _failure(key, describe(error), trace_digest(error), seconds)
    return Outcome(key, result, None, seconds, worker_name(), instruction_set())


def _failure(key: str, what: str, trace: str, seconds: float) -> Outcome:
    return Outcome(key, None, what, seconds, worker_name(), instruction_set(), trace)


class Worker:
    """A stage that was set up, and what it has shown so far: what runs in a worker's process, or in this one."""

    def __init__(self, stage: Stage, store: Store) -> None:
        set_up(stage, store)
        self.stage, self._proved = stage, False

    def run(self, batch: Sequence[Keyed]) -> list[Outcome]:
        """Outcomes of one batch; see `run_batch`."""
        admitted, refused = sift(batch)
        outcomes = run_batch(self.stage, admitted, self._proved) if admitted else []
        self._proved = self._proved or any(outcome.result is not None for outcome in outcomes)
        return outcomes + [
            Outcome(key, None, reason, 0.0, worker_name(), instruction_set(), refused=True) for key, reason in refused
        ]

    def try_out(self, batch: Sequence[Keyed]) -> None:
        """Process one batch and drop what comes out; OutOfMemoryError if it does not fit, else the stage's errors."""
        try:
            self.stage.process([item for _, item in batch])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise does_not_fit(self.stage, "on a batch", describe(error)) from None


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
        self._ready: dict[str, Worker] = {}

    def outcomes(
        self, stage: Stage, batches: Iterable[Sequence[Keyed]], count: int
    ) -> Generator[list[Outcome], None, None]:
        """Process the batches in order; yields each one's outcomes. Errors of `setup` are the caller's."""
        worker = self._worker(stage)
        for batch in batches:
            yield worker.run(batch)

    def stream(self, parts: Sequence[tuple[Stage, Source]]) -> Generator[tuple[int, list[Outcome]], None, None]:
        """Process whatever the latest stage has to do, so that little waits between stages."""
        idle = 0
        while idle < 2:  # asking the first stage may give the later ones work: only a second silence is the end
            idle += 1
            for number, (stage, source) in reversed(list(enumerate(parts))):
                if batch := source.take():
                    yield number, self._worker(stage).run(batch)
                    idle = 0
                    break

    def try_out(self, stage: Stage, batch: Sequence[Keyed], *, fresh: bool = True) -> None:
        """Process one batch; a fresh stage is set up after those before were let go. One that fails is let go too."""
        if fresh:
            self.close()
            release()
        try:
            self._worker(stage).try_out(batch)
        except BaseException:
            self.close()
            raise

    def _worker(self, stage: Stage) -> Worker:
        identity = identity_of(stage)
        if identity not in self._ready:
            self._ready[identity] = Worker(stage, self.store)
        return self._ready[identity]

    def close(self) -> None:
        """Let go of the stages that were set up, and of their weights."""
        self._ready.clear()
