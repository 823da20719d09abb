"""Shards of a stage's ledger: files that only grow in a folder, objects that never change in a bucket.

In a folder a writer has one shard, `<writer>.jsonl`, and every batch of rows is one `os.write` at its end. A bucket
cannot append: there every batch is an object `<writer>.<n>-<n>.jsonl`, put if absent, and a writer puts its objects
together from time to time: `<writer>.<first>-<last>.jsonl` holds what the objects of these numbers held, which are
deleted afterwards. A reader that finds both takes the larger one, so a kill between the two steps costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from beholder.errors import StorageError
from beholder.storage import Folder, Storage, writing

MERGED = 512
"""Objects of one writer that are put together: a million rows in batches of 16 leave 123 objects, not 62,500."""
LOOKS = 5
"""How often a reader lists a bucket's shards before it gives up, when objects vanish while it reads them."""


class ShardWriter(Protocol):
    """Appends rows; what `put` has returned from survives the process."""

    path: Path
    """A file on this machine that holds all rows put, in order."""

    def put(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append rows and return their lengths in bytes.

        Nothing is made before the first row, so idle writers leave nothing behind. A writer that raised is not used
        again.

        Raises
        ------
        StorageError
            If the rows could not be written; none of them is in `path` then.
        """
        ...

    def close(self) -> None:
        """Close the shard."""
        ...


class Shards(Protocol):
    """A stage's shards, as they are found and added to."""

    def files(self) -> list[Path]:
        """All rows there are, in files on this machine that are readable as long as this object lives."""
        ...

    def writer(self) -> ShardWriter:
        """A new writer; its file, too, is readable as long as this object lives."""
        ...


def ledger_folder(stage: str) -> str:
    """Where a stage's shards lie in the store."""
    return f"ledger/{stage}"


def shards_of(storage: Storage, stage: str) -> Shards:
    """The shards of a stage. Nothing is read or made yet."""
    return FolderShards(storage, stage) if isinstance(storage, Folder) else ObjectShards(storage, stage)


def shard_names(storage: Storage, stage: str) -> list[str]:
    """Shards that together hold every row once, sorted."""
    return _without_covered(storage.names(ledger_folder(stage), ".jsonl"))


class FolderShards:
    """Shards in a folder, read where they lie."""

    def __init__(self, storage: Folder, stage: str) -> None:
        self._folder = storage.root / ledger_folder(stage)

    def files(self) -> list[Path]:
        """See `Shards`."""
        return sorted(self._folder.glob("*.jsonl"))

    def writer(self) -> AppendingWriter:
        """See `Shards`."""
        return AppendingWriter(self._folder / f"{uuid.uuid4().hex}.jsonl")


class AppendingWriter:
    """One file: each batch of rows is one `os.write`, so a kill cannot tear rows of different batches."""

    def __init__(self, path: Path) -> None:
        self.path, self._fd, self._end = path, -1, 0

    def put(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """See `ShardWriter`."""
        lines = _lines(rows)
        data = b"".join(lines)
        if not data:
            return []
        with writing(self.path):
            if self._fd < 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
            self._append(data)
        self._end += len(data)
        return [len(line) for line in lines]

    def _append(self, data: bytes) -> None:
        """Write all of it or none. A full disk takes a part first and refuses the rest."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise

    def close(self) -> None:
        """See `ShardWriter`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ObjectShards:
    """Shards in a bucket, fetched once into a temporary file: rows are then found without asking the bucket."""

    def __init__(self, storage: Storage, stage: str) -> None:
        self._storage, self._stage, self._place = storage, stage, _Place()

    def files(self) -> list[Path]:
        """See `Shards`. A shard that vanishes was put together with others: the list is asked for again."""
        path = self._place.file()
        for _ in range(LOOKS):
            try:
                names = shard_names(self._storage, self._stage)
                with writing(path), path.open("wb") as file:
                    for data in self._storage.read_many(names):
                        file.write(data)
                return [path]
            except FileNotFoundError:
                continue
        raise StorageError(
            f"{self._storage.url}/{ledger_folder(self._stage)}: shards vanished {LOOKS} times while they were read",
            remedy="is somebody deleting them?",
        )

    def writer(self) -> ObjectWriter:
        """See `Shards`."""
        return ObjectWriter(self._storage, self._stage, self._place)


class _Place:
    """A temporary folder that is gone when nobody refers to it any more."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="beholder-ledger-")

    def file(self) -> Path:
        """A new file's path."""
        return Path(self._folder.name) / f"{uuid.uuid4().hex}.jsonl"


class ObjectWriter:
    """One object a batch of rows, put together with the ones before it from time to time and at the end."""

    def __init__(self, storage: Storage, stage: str, place: _Place) -> None:
        self._storage, self._place, self.path = storage, place, place.file()
        self._start = f"{ledger_folder(stage)}/{uuid.uuid4().hex}"
        self._numbers: list[int] = []
        self._begin, self._end, self._next = 0, 0, 0

    def put(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """See `ShardWriter`."""
        lines = _lines(rows)
        data = b"".join(lines)
        if not data:
            return []
        self._create(self._next, self._next, data)
        with writing(self.path), self.path.open("ab") as file:
            file.write(data)
        self._numbers.append(self._next)
        self._next += 1
        self._end += len(data)
        if len(self._numbers) >= MERGED:
            self._merge()
        return [len(line) for line in lines]

    def close(self) -> None:
        """See `ShardWriter`. Where the bucket does not answer, the small objects stay: they hold every row."""
        with contextlib.suppress(StorageError):
            self._merge()

    def _merge(self) -> None:
        """Put the small objects together, then delete them."""
        if len(self._numbers) > 1:
            with self.path.open("rb") as file:
                file.seek(self._begin)
                self._create(self._numbers[0], self._numbers[-1], file.read(self._end - self._begin))
            for number in self._numbers:
                self._storage.delete(self._name(number, number))
        self._numbers, self._begin = [], self._end

    def _create(self, first: int, last: int, data: bytes) -> None:
        name = self._name(first, last)
        if not self._storage.create(name, data):
            raise StorageError(f"{self._storage.url}/{name} is there already", remedy="start the run again")

    def _name(self, first: int, last: int) -> str:
        return f"{self._start}.{first:08}-{last:08}.jsonl"


class _Span(NamedTuple):
    """What an object's name says: its writer, and the numbers of the batches it holds."""

    writer: str
    first: int
    last: int


def _without_covered(names: Sequence[str]) -> list[str]:
    """Names without those whose rows lie in a larger object of the same writer."""
    kept: list[str] = []
    largest: dict[str, int] = {}
    spans = {name: _span(name) for name in names}
    for name in sorted(names, key=lambda n: (spans[n].writer, spans[n].first, -spans[n].last)):
        writer, _, last = spans[name]
        if last > largest.get(writer, -1):
            kept.append(name)
            largest[writer] = last
    return sorted(kept)


def _span(name: str) -> _Span:
    writer, _, numbers = name.removesuffix(".jsonl").rpartition(".")
    first, _, last = numbers.partition("-")
    return _Span(writer, int(first), int(last)) if first.isdigit() and last.isdigit() else _Span(name, 0, 0)


def _lines(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return [(json.dumps(row, allow_nan=False) + "\n").encode() for row in rows]
