"""What a run is doing, told in the store: it can be read, paused and cancelled while no cluster answers.

One folder a run, `runs/<run_id>/`: `state.json` is replaced by the run, at most once a second and at least every few
seconds; `control` is written by whoever wants it paused or cancelled. A run's id follows from job and plan, so what is
started again under the same plan is the same run, one attempt later.
"""

from __future__ import annotations

import json
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from beholder.engine.meter import NOTHING, Reading
from beholder.engine.progress import Advance, Progress
from beholder.engine.watchdog import Watchdog
from beholder.errors import EngineError, StorageError, StoreError, UserError
from beholder.store import Store

State = Literal["running", "paused", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "interrupted")

HEARTBEAT_SECONDS = 5.0
WRITE_SECONDS = 1.0
SILENCE = timedelta(seconds=60)
"""A run on another machine that was silent for so long counts as interrupted."""


class RunCancelledError(UserError):
    """Somebody asked this run to stop."""


@dataclass(frozen=True)
class StageState:
    """One stage of a run, or one step without items (`total` is None).

    Attributes
    ----------
    total, found, done, failed : int
        Items planned; those that were in the ledger at the start; with a result now; in quarantine now.
    seconds : float
        Since its start, or until its end.
    ended : bool
    warm_up, first : float, int
        Seconds until the first batch came back, and items in it: not counted in the rate.
    workers : int
        Those at work now.
    idle, cost : float, optional
        Share of the workers' time without a batch; cost of this attempt at the plan's prices. None while not known.
    stalled : str, optional
        Why a watchdog thinks that nothing comes any more, and what to do.
    """

    label: str
    total: int | None
    found: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    ended: bool = False
    warm_up: float = 0.0
    first: int = 0
    workers: int = 0
    idle: float | None = None
    cost: float | None = None
    stalled: str | None = None

    @property
    def rate(self) -> float:
        """Items a second computed in this attempt, once the first batch was there; NaN before.

        Where one batch is all there is, the time of its workers' start counts.
        """
        computed, seconds = self.done + self.failed - self.found, self.seconds
        if computed > self.first and seconds > self.warm_up:
            computed, seconds = computed - self.first, seconds - self.warm_up
        return computed / seconds if computed > 0 and seconds > 0 else float("nan")

    def advanced(self, done: int, failed: int, seconds: float, reading: Reading) -> StageState:
        """The state after a batch."""
        first = not self.first and done + failed > 0
        return replace(
            self,
            done=self.done + done,
            failed=self.failed + failed,
            seconds=round(seconds, 3),
            warm_up=round(seconds, 3) if first else self.warm_up,
            first=done + failed if first else self.first,
            workers=len(reading.workers),
            idle=None if math.isnan(reading.idle) else round(reading.idle, 4),
            cost=None if math.isnan(reading.cost) else round(reading.cost, 4),
            stalled=None if done + failed else self.stalled,
        )

    @property
    def seconds_left(self) -> float:
        """At the present rate; NaN where there is none."""
        return float("nan") if self.total is None else (self.total - self.done - self.failed) / self.rate


@dataclass(frozen=True)
class RunState:
    """What `state.json` holds; times are UTC, ISO 8601."""

    run_id: str
    job: str
    plan_hash: str
    state: State
    attempt: int
    started_at: str
    heartbeat: str
    host: str
    pid: int
    stages: tuple[StageState, ...] = ()
    error: str | None = None

    @classmethod
    def from_json(cls, text: str) -> RunState:
        """Read back what `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        content["stages"] = tuple(StageState(**stage) for stage in content["stages"])
        return cls(**content)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=1)


def utc_now() -> datetime:
    """The clock of runs."""
    return datetime.now(UTC)


def run_state(store: Store, run_id: str, now: datetime) -> RunState:
    """What a run is doing, or did last. One whose process is gone, or silent for a minute elsewhere, is interrupted.

    Raises
    ------
    StoreError
        If the store has no such run.
    """
    try:
        text = store.read(f"runs/{run_id}/state.json").decode()
    except FileNotFoundError:
        known = ", ".join(state.run_id for state in run_states(store, now)) or "none"
        raise StoreError(f"no run {run_id!r} in {store.url}", f"runs there: {known}") from None
    found = RunState.from_json(text)
    if found.state in ENDED or not _gone(found, now):
        return found
    return replace(found, state="interrupted")


def run_states(store: Store, now: datetime) -> list[RunState]:
    """Every run of a store, the one that was started last first."""
    folders = [path.split("/")[1] for path in store.names("runs", "/state.json")]
    return sorted((run_state(store, name, now) for name in folders), key=lambda s: s.started_at, reverse=True)


def _gone(state: RunState, now: datetime) -> bool:
    if state.host == platform.node():
        try:
            os.kill(state.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    return now - datetime.fromisoformat(state.heartbeat) > SILENCE


def ask(store: Store, run_id: str, wish: Literal["pause", "resume", "cancel"], now: datetime) -> RunState:
    """Ask a run to pause, go on or stop; it obeys after the batches under way.

    Raises
    ------
    StoreError
        If there is no such run, or it has ended already.
    """
    found = run_state(store, run_id, now)
    if found.state in ENDED:
        raise StoreError(
            f"run {run_id} is {found.state} already", "a run at work", "start it again with the command that made it"
        )
    store.write_file(f"runs/{run_id}/control", wish.encode())
    return found


@dataclass
class RunLog:
    """Progress that is also written into the store, and that obeys what stands in `control`.

    Parameters
    ----------
    store, run_id, job, plan_hash
        Whose state it is.
    inner : Progress
        What the person at the terminal sees.
    clock, sleep : callables
        UTC time; how to wait while paused.

    Raises
    ------
    EngineError
        On entering, if the same run is at work already: two would compute everything twice.
    RunCancelledError
        From a stage, once somebody has asked for it.
    """

    store: Store
    run_id: str
    job: str
    plan_hash: str
    inner: Progress
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    _state: RunState | None = field(default=None, init=False)
    _written: datetime | None = field(default=None, init=False)
    _dogs: dict[int, Watchdog] = field(default_factory=dict, init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def __enter__(self) -> RunLog:
        now = self.clock()
        attempt = 1
        if self.store.exists(f"runs/{self.run_id}/state.json"):
            before = run_state(self.store, self.run_id, now)
            if before.state not in ENDED:
                raise EngineError(
                    f"run {self.run_id} is at work on this store (process {before.pid} on {before.host})",
                    "one process a run",
                    f"wait for it, or `beholder runs cancel {self.run_id} --store {self.store.url}`",
                )
            if before.plan_hash != self.plan_hash:
                raise StoreError(
                    f"run {self.run_id} of {self.store.url} has another plan (hash {before.plan_hash[:12]}, this one "
                    f"{self.plan_hash[:12]})",
                    "the plan it was started with",
                    "put the plan back, or use another store",
                )
            attempt = before.attempt + 1
        self.store.write_file(f"runs/{self.run_id}/control", b"")
        stamp = now.isoformat(timespec="seconds")
        self._state = RunState(
            self.run_id, self.job, self.plan_hash, "running", attempt, stamp, stamp, platform.node(), os.getpid()
        )
        self._write(force=True)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        if kind is None:
            ended: State = "done"
        elif issubclass(kind, RunCancelledError):
            ended = "cancelled"
        elif issubclass(kind, KeyboardInterrupt):
            ended = "interrupted"
        else:
            ended = "failed"
        text = " ".join(f"{kind.__name__}: {error}".split())[:300] if kind and ended == "failed" else None
        self._change(state=ended, error=text)
        try:
            self._write(force=True)
        except StorageError:  # what ended the run is told, not this
            if error is None:
                raise

    @contextmanager
    def stage(self, label: str, total: int, done: int, failed: int) -> Generator[Advance, None, None]:
        """A stage of `total` items; see `Progress`."""
        started = self.clock()
        current = StageState(label, total, done + failed, done, failed)
        dog = Watchdog(label, started.timestamp())
        with self._entry(current, dog) as place, self.inner.stage(label, total, done, failed) as tell:

            def advance(done: int, failed: int, reading: Reading = NOTHING) -> None:
                now = self.clock()
                if done + failed:
                    dog.result(now.timestamp(), reading)
                with self._lock:
                    state = self._now().stages[place]
                    self._replace(place, state.advanced(done, failed, (now - started).total_seconds(), reading))
                self._write()
                tell(done, failed, reading)
                if self._obey():
                    dog.pause(self.clock().timestamp())

            yield advance

    @contextmanager
    def step(self, label: str) -> Generator[None, None, None]:
        """Work without items; see `Progress`."""
        self._obey()
        with self._entry(StageState(label, None)), self.inner.step(label):
            yield

    def say(self, text: str) -> None:
        """Tell the person at the terminal."""
        self.inner.say(text)

    @contextmanager
    def _entry(self, first: StageState, dog: Watchdog | None = None) -> Generator[int, None, None]:
        """One more stage in the state, and its place there."""
        started = self.clock()
        with self._lock:
            place = len(self._now().stages)
            self._change(stages=(*self._now().stages, first))
            if dog is not None:
                self._dogs[place] = dog
        self._write(force=True)
        try:
            yield place
        finally:
            seconds = round((self.clock() - started).total_seconds(), 3)
            with self._lock:
                self._dogs.pop(place, None)
                self._replace(place, replace(self._now().stages[place], ended=True, seconds=seconds))
            self._write()

    def _replace(self, place: int, state: StageState) -> None:
        with self._lock:
            stages = list(self._now().stages)
            stages[place] = state
            self._change(stages=tuple(stages))

    def watch(self) -> None:
        """Look for stages that stalled: each stall is told once, and stands in the state until something comes."""
        with self._lock:
            now, told = self.clock().timestamp(), []
            for place, dog in self._dogs.items():
                state, stall = self._now().stages[place], dog.stall(now)
                if stall and self._now().state == "running":
                    told += [] if state.stalled else [stall]
                    self._replace(place, replace(state, stalled=stall))
        for text in told:
            self.inner.say(text)

    def _obey(self) -> bool:
        """Wait while paused, raise when cancelled; whether there was a wait."""
        waited = False
        while (wish := self.store.read(f"runs/{self.run_id}/control").decode()) == "pause":
            if self._now().state != "paused":
                self._change(state="paused")
                self._write(force=True)
            self.sleep(WRITE_SECONDS)
            waited = True
        if wish == "cancel":
            raise RunCancelledError(f"run {self.run_id} was cancelled", remedy="the same command goes on from here")
        if self._now().state == "paused":
            self._change(state="running")
            self._write(force=True)
        return waited

    def _now(self) -> RunState:
        if self._state is None:
            raise RuntimeError("the run log was not entered")
        return self._state

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._now(), **changes)

    def _write(self, force: bool = False) -> None:
        now = self.clock()
        with self._lock:
            recent = self._written is not None and (now - self._written).total_seconds() < WRITE_SECONDS
            if recent and not force:
                return
            self._written = now
            self._change(heartbeat=now.isoformat(timespec="seconds"))
            self.store.write_file(f"runs/{self.run_id}/state.json", self._now().to_json().encode())

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self.watch()
            with self._lock, suppress(StorageError):  # the run itself meets it too, and says so
                if not self._stop.is_set():
                    self._write(force=True)
