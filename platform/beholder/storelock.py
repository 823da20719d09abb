"""One run a store: a lock that says who holds it, and that outlives nobody.

Locks are numbered blobs, `lock/<number>.json`, put if absent; the highest number counts. Who takes a lock over makes
the next number, which only one can, and deletes the lower ones; whoever lets go marks its own as released. So numbers
only grow, and it works the same in a folder and in a bucket.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from beholder.errors import EngineError, StorageError
from beholder.store import Store

FOLDER = "lock"
SILENCE = timedelta(minutes=6)
"""A run elsewhere that told nothing for so long is gone. Longer than a run waits for a bucket that does not answer."""
LOOKS = 20
"""Attempts when others take the lock at the same moment."""


@dataclass(frozen=True)
class Holder:
    """Who holds a store.

    Attributes
    ----------
    run_id, job, plan_hash : str
        What it runs.
    user, host : str
    machine : str
        Where process ids mean the same: host, boot and process namespace.
    pid : int
    process : str
        When the process began, in the machine's own count, since ids are used again; empty where that is unknown.
    started_at : str
        UTC, ISO 8601.
    token : str
        Different for every holder.
    released : bool
    """

    run_id: str
    job: str
    plan_hash: str
    user: str
    host: str
    machine: str
    pid: int
    process: str
    started_at: str
    token: str
    released: bool = False

    def to_json(self) -> bytes:
        """One JSON object."""
        return json.dumps(asdict(self), indent=1).encode()


def utc_now() -> datetime:
    """The clock of locks."""
    return datetime.now(UTC)


class StoreLock:
    """Holds a store for one run while it is entered.

    Parameters
    ----------
    store : Store
    run_id, job, plan_hash : str
    force : bool
        Take it over from a holder that looks alive.
    clock : callable
        UTC time.

    Raises
    ------
    EngineError
        On entering, if another run is at work on the store.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        job: str,
        plan_hash: str,
        *,
        force: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store, self._force, self._clock = store, force, clock
        self._claim = run_id, job, plan_hash
        self._held: tuple[str, Holder] | None = None

    def __enter__(self) -> Holder:
        holder = self._me()
        for _ in range(LOOKS):
            if name := self._take(holder):
                self._held = name, holder
                return holder
        raise EngineError(f"{self._store.url} changes hands all the time", remedy="try again")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            name, holder = self._held
            self._held = None
            try:
                if self._names()[-1:] == [name]:
                    self._store.write_file(name, replace(holder, released=True).to_json())
            except StorageError:  # the lock ends with this process; what ended the run is told, not this
                if error is None:
                    raise

    def _take(self, holder: Holder) -> str | None:
        """Make the next lock; None if somebody was faster."""
        names = self._names()
        if names:
            try:
                before = Holder(**json.loads(self._store.read(names[-1])))
            except FileNotFoundError:
                return None
            if not (before.released or self._force or self._is_gone(before)):
                raise self._refusal(before, holder)
        number = int(names[-1].rpartition("/")[2].removesuffix(".json")) + 1 if names else 1
        name = f"{FOLDER}/{number:08}.json"
        if not self._store.storage.create(name, holder.to_json()):
            return None
        if self._names()[-1] != name:  # the list was old: others went on meanwhile
            self._store.storage.delete(name)
            return None
        for lower in names:
            self._store.storage.delete(lower)
        return name

    def _names(self) -> list[str]:
        return self._store.names(FOLDER, ".json")

    def _me(self) -> Holder:
        pid = os.getpid()
        stamp = self._clock().isoformat(timespec="seconds")
        return Holder(
            *self._claim, _user(), platform.node(), _machine(), pid, process_began(pid) or "", stamp, uuid.uuid4().hex
        )

    def _is_gone(self, holder: Holder) -> bool:
        if holder.machine == _machine():
            began = process_began(holder.pid)
            return began is None or began != holder.process
        return self._clock() - self._last_heard_of(holder) > SILENCE

    def _last_heard_of(self, holder: Holder) -> datetime:
        """When it started, or the latest that its run told the store."""
        started = datetime.fromisoformat(holder.started_at)
        try:
            told = json.loads(self._store.read(f"runs/{holder.run_id}/state.json"))["heartbeat"]
        except FileNotFoundError:
            return started
        return max(started, datetime.fromisoformat(told))

    def _refusal(self, other: Holder, me: Holder) -> EngineError:
        plan = ""
        if other.job == me.job and other.plan_hash != me.plan_hash:
            plan = f" under another plan (hash {other.plan_hash[:12]}, this one has {me.plan_hash[:12]})"
        return EngineError(
            f"run {other.run_id} is at work on {self._store.url}{plan}: process {other.pid} of {other.user} on "
            f"{other.host}, since {other.started_at}",
            "one run a store",
            f"wait for it, `beholder runs cancel {other.run_id} --store {self._store.url}`, or --force if it is gone",
        )


def process_began(pid: int) -> str | None:
    """When a process of this machine began; None if there is none, and empty text where the system does not tell."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] == "Z" else fields[19]  # Z: killed, and its parent has not asked yet
        except (FileNotFoundError, ProcessLookupError):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _machine() -> str:
    """Where process ids can be compared: two containers may share a host's name, and one may have been started anew."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if "/ns/" in path else Path(path).read_text().strip())
        except OSError:
            parts.append("")
    return "/".join(parts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())
