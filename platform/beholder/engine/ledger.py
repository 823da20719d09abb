"""The ledger of one stage: what has been done, found by key without holding the rows in memory.

Rows stay in their shards. In memory lies, for each key, where its row begins and how it ended: 36 bytes. A row's line
starts with `key`, `status` and `attempt` in that order, so a shard is indexed from fixed columns without reading JSON;
lines that start otherwise are read the slow way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beholder.shards import ShardWriter
from beholder.store import Store

Row = dict[str, Any]
"""A line of the ledger: key, status, attempt, written_at, item, error, seconds, worker, versions, and the result."""
Keys = NDArray[np.bytes_]
"""The first 16 bytes of keys, dtype S16."""

BLOCK = 4 * 2**20
"""Bytes of a shard that are indexed at a time."""
RECENT = 16_384
"""New entries are taken into the sorted ones when there are so many."""
_ENTRY = np.dtype(
    [("key", "S16"), ("offset", "<u8"), ("length", "<u4"), ("shard", "<u4"), ("attempt", "<u2"), ("failed", "?")],
    align=False,
)
_START = b'{"key": "'
_MIDDLE = b'", "status": "'
_ATTEMPT = b'", "attempt": '
_HEX = np.full(256, 255, dtype=np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)


class KeyState(NamedTuple):
    """How the row that counts for a key ended."""

    failed: bool
    attempt: int


def short_key(key: str) -> bytes:
    """The 16 bytes a key is looked up by: 2^64 keys until two are likely to meet."""
    return bytes.fromhex(key[:32])


class Ledger:
    """What the shards of one stage held when it was opened, and everything put since.

    Of several rows with one key, the earliest ok one counts, or else the failed one with the most attempts.
    """

    def __init__(self, store: Store, stage: str) -> None:
        self._source = store.shards(stage)
        self._shards = self._source.files()
        self._files: dict[int, int] = {}
        self._entries = self._settle(_index(self._shards))
        self._recent: dict[bytes, tuple[int, int, int, int, bool]] = {}
        self._writer: ShardWriter | None = None
        self._end = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._recent.keys() - self._entries["key"].tolist())

    def status(self, keys: Keys) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.intp]]:
        """Whether there is an ok row, whether there is a failed one, and the attempts made; each shape (len(keys),)."""
        self._merge()
        at, found = self._find(keys)
        if not len(self._entries):
            return found, found, np.zeros(len(keys), dtype=np.intp)
        failed = self._entries["failed"][at]
        return found & ~failed, found & failed, np.where(found, self._entries["attempt"][at], 0).astype(np.intp)

    def state(self, key: str) -> KeyState | None:
        """How the row of one key ended; None where there is none."""
        entry = self._entry(short_key(key))
        return None if entry is None else KeyState(entry[4], entry[3])

    def row(self, key: bytes) -> Row:
        """The row that counts for a short key.

        Raises
        ------
        KeyError
            If there is none.
        """
        entry = self._entry(key)
        if entry is None:
            raise KeyError(key.hex())
        shard, offset, length = entry[:3]
        if shard not in self._files:
            self._files[shard] = os.open(self._shards[shard], os.O_RDONLY)
        row: Row = json.loads(os.pread(self._files[shard], length, offset))
        return row

    def rows(self, keys: Keys) -> Iterator[Row]:
        """The rows of short keys, in their order, one at a time."""
        for key in keys.tolist():
            yield self.row(key.ljust(16, b"\0"))  # numpy cuts zeros at the end

    def put(self, rows: Sequence[Row]) -> None:
        """Append rows: on disk with one write, then in the index.

        A writer that raised is not used again: what follows a torn line in its shard could not be read.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            writer, self._end = self._source.writer(), 0
            self._shards.append(writer.path)
        lengths = writer.put(rows)
        self._writer = writer
        shard, keys = len(self._shards) - 1, [short_key(row["key"]) for row in rows]
        at, found = self._find(np.array(keys, dtype="S16"))
        for row, length, key, place, known in zip(rows, lengths, keys, at, found, strict=True):
            entry = (shard, self._end, length, row["attempt"], row["status"] == "failed")
            self._end += length
            other = self._recent.get(key) or (self._stored(place) if known else None)
            if other is None or _rank(*entry[3:]) < _rank(*other[3:]):
                self._recent[key] = entry
        if len(self._recent) >= RECENT:
            self._merge()

    def close(self) -> None:
        """Close all files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _entry(self, key: bytes) -> tuple[int, int, int, int, bool] | None:
        """shard, offset, length, attempt, failed."""
        if key in self._recent:
            return self._recent[key]
        at, found = self._find(np.array([key], dtype="S16"))
        return self._stored(at[0]) if found[0] else None

    def _stored(self, place: np.intp) -> tuple[int, int, int, int, bool]:
        """The same of a merged entry."""
        entry = self._entries[place]
        shard, offset, length, attempt = (int(entry[name]) for name in ("shard", "offset", "length", "attempt"))
        return shard, offset, length, attempt, bool(entry["failed"])

    def _find(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Places among the merged entries, and whether the key is really there."""
        if not len(self._entries):
            return np.zeros(len(keys), dtype=np.intp), np.zeros(len(keys), dtype=bool)
        at = np.minimum(np.searchsorted(self._entries["key"], keys), len(self._entries) - 1)
        return at, self._entries["key"][at] == keys

    def _merge(self) -> None:
        """Take the recent entries into the sorted ones."""
        if not self._recent:
            return
        new = np.empty(len(self._recent), _ENTRY)
        new["key"] = list(self._recent)
        values = list(self._recent.values())
        for place, name in enumerate(("shard", "offset", "length", "attempt", "failed")):
            new[name] = [value[place] for value in values]
        self._recent = {}
        new = new[np.argsort(new["key"])]
        at, known = self._find(new["key"])
        self._entries[at[known]] = new[known]
        new = new[~known]
        self._entries = np.insert(self._entries, np.searchsorted(self._entries["key"], new["key"]), new)

    def _settle(self, entries: NDArray[np.void]) -> NDArray[np.void]:
        """One entry a key, sorted by key."""
        entries = entries[np.argsort(entries["key"], kind="stable")]
        same = entries["key"][1:] == entries["key"][:-1]
        if not same.any():
            return entries
        starts = np.flatnonzero(np.r_[True, ~same])
        keep = starts.copy()
        ends = np.r_[starts[1:], len(entries)]
        ranks = list(zip(entries["failed"].tolist(), entries["attempt"].tolist(), strict=True))
        for place in np.flatnonzero(ends - starts > 1):
            group = range(int(starts[place]), int(ends[place]))
            keep[place] = min(group, key=lambda i: (*_rank(ranks[i][1], ranks[i][0]), self._time(i, entries)))
        return entries[keep]

    def _time(self, place: int, entries: NDArray[np.void]) -> str:
        entry = entries[place]
        with self._shards[int(entry["shard"])].open("rb") as shard:
            shard.seek(int(entry["offset"]))
            return str(json.loads(shard.read(int(entry["length"])))["written_at"])


def _rank(attempt: int, failed: bool) -> tuple[bool, int]:
    """Lower counts for more: ok before failed, and of failed ones the one with more attempts."""
    return failed, -attempt if failed else 0


def _index(shards: Sequence[Path]) -> NDArray[np.void]:
    """Entries of all shards; put together once, since they are most of what a long plan takes."""
    parts = [part for number, shard in enumerate(shards) for part in _index_shard(shard, number)]
    return np.concatenate(parts) if parts else np.empty(0, _ENTRY)


def _index_shard(path: Path, shard: int) -> Iterator[NDArray[np.void]]:
    """Entries of one shard, in its order, block by block; a line cut off at the end by a kill is skipped."""
    begin, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            lines, newline, cut = (rest + block).rpartition(b"\n")
            if newline:
                yield _index_lines(lines + newline, shard, begin)
                begin += len(lines) + 1
            rest = cut


def _index_lines(data: bytes, shard: int, begin: int) -> NDArray[np.void]:
    """Entries of whole lines that begin at byte `begin` of their shard."""
    buffer = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    starts = np.r_[0, ends[:-1] + 1]
    entries = np.empty(len(ends), _ENTRY)
    entries["shard"], entries["offset"], entries["length"] = shard, starts + begin, ends + 1 - starts
    fast = _fill_fast(buffer, starts, entries)
    for place in np.flatnonzero(~fast):
        row: Mapping[str, Any] = json.loads(data[starts[place] : ends[place]])
        entries["key"][place] = short_key(row["key"])
        entries["attempt"][place], entries["failed"][place] = row["attempt"], row["status"] == "failed"
    return entries


def _fill_fast(buffer: NDArray[np.uint8], starts: NDArray[np.int64], entries: NDArray[np.void]) -> NDArray[np.bool_]:
    """Read key, status and a one-digit attempt from fixed columns; says for which lines that went well."""
    head = len(_START)
    status_at = head + 64 + len(_MIDDLE)
    widest = status_at + len(b"failed") + len(_ATTEMPT) + 2
    fast = starts + widest < len(buffer)
    good = np.flatnonzero(fast)
    if not len(good):
        return fast
    lines = buffer[starts[good][:, None] + np.arange(widest)]
    digits = _HEX[lines[:, head : head + 32]]
    fine = (digits < 16).all(axis=1) & _is(lines, 0, _START) & _is(lines, head + 64, _MIDDLE)
    failed = _is(lines, status_at, b"failed" + _ATTEMPT)
    fine &= failed | _is(lines, status_at, b"ok" + _ATTEMPT)
    place = np.where(failed, widest - 2, widest - 6)
    row = np.arange(len(lines))
    attempt, after = lines[row, place] - ord("0"), lines[row, place + 1]
    fine &= (attempt < 10) & (after == ord(","))
    entries["key"][good] = ((digits[:, 0::2] << 4) | digits[:, 1::2]).astype(np.uint8).view("S16")[:, 0]
    entries["attempt"][good], entries["failed"][good] = attempt, failed
    fast[good] = fine
    return fast


def _is(lines: NDArray[np.uint8], at: int, text: bytes) -> NDArray[np.bool_]:
    return np.asarray((lines[:, at : at + len(text)] == np.frombuffer(text, dtype=np.uint8)).all(axis=1))
