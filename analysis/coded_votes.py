"""Votes straight from a Parquet file as small integers: what a ranking needs of millions of rows, without a data frame.

A file that holds text as a dictionary has coded it already. Where it gave the dictionary up (more ids than fit a page:
some 100,000 participants), the ids are coded here, one group of rows at a time, so that memory stays that of the codes
and the cost that of one pass.

The reader certifies and never judges. Where a column is missing, has an empty cell, is of another type or holds an
answer that is not allowed, it returns None, and the checks of `analysis.tables` say what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.clusters import Ints
from analysis.tables import CHOICES, DEFINITIONS, KINDS, SOURCES

ROWS_AT_ONCE = 1_000_000
"""Rows read before they are turned into codes: bounds memory, changes no number."""

BYTES_OF_CODES = 4
"""Bytes a value above which a column is no longer a dictionary: its codes take fewer, its text takes more."""

WORD = 8
"""Bytes of text that are compared as one number."""


@dataclass(frozen=True)
class Coded:
    """A text column: `labels` (a list, or an Arrow array of text) at `codes`; some labels may not occur."""

    codes: Ints
    labels: Any

    def texts(self) -> list[str]:
        """The labels as Python's strings."""
        return self.labels if isinstance(self.labels, list) else list(self.labels.to_pylist())


@dataclass(frozen=True)
class _Codes:
    """A chunk that the file had coded."""

    codes: Ints
    labels: list[str]


@dataclass(frozen=True)
class _Words:
    """A chunk of texts that all have `width` bytes, eight or fewer, as whole numbers.

    Hashing a number is three times as fast as hashing text.
    """

    words: Any
    width: int

    def text(self) -> Any:
        """The texts as an Arrow array."""
        import pyarrow as pa

        letters = self.words.view(np.uint8).reshape(-1, WORD)[:, : self.width].tobytes()
        ends = np.arange(len(self.words) + 1, dtype=np.int64) * self.width
        return pa.LargeStringArray.from_buffers(len(self.words), pa.py_buffer(ends), pa.py_buffer(letters))


@dataclass(frozen=True)
class CodedVotes:
    """A `votes` table that has passed every check of `analysis.tables.check_votes`.

    Attributes
    ----------
    columns : dict of str to Coded
        participant_id, prompt_id, left_condition, right_condition, choice.
    main : bool array (n,) or None
        Which votes are main ones; None when all are.
    path : Path
        Where they were read.
    """

    columns: dict[str, Coded]
    main: np.ndarray | None
    path: Path

    def __len__(self) -> int:
        return len(self.columns["choice"].codes)

    def clusters(self, name: str, used: np.ndarray | None) -> tuple[Ints, int]:
        """Codes 0 … G-1 of the used rows and how many clusters occur in them."""
        codes, n = self.columns[name].codes, len(self.columns[name].labels)
        codes = codes if used is None else codes[used]
        occurs = np.bincount(codes, minlength=n) > 0
        if occurs.all():
            return codes.astype(np.int32, copy=False), n
        return (np.cumsum(occurs, dtype=np.int32) - 1)[codes].astype(np.int32, copy=False), int(occurs.sum())


def read_coded_votes(path: Path) -> CodedVotes | None:
    """The votes of a Parquet file in codes; None where the checks of `analysis.tables` must look at the table.

    Parameters
    ----------
    path : path
        Any other kind of file gives None.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix not in (".parquet", ".pq") or not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as plain:
            metadata, schema = plain.metadata, plain.schema_arrow
        names = _certified(metadata, schema)
        if names is None:
            return None
        coded = [name for name in names if _bytes_a_value(metadata, name) <= BYTES_OF_CODES]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=coded) as file:
            columns = _read(file, names)
    except (OSError, pa.ArrowException):
        return None
    if columns is None or not set(columns["choice"].texts()) <= set(CHOICES):
        return None
    kind, trial = columns.pop("kind", None), columns.pop("trial_id", None)
    if trial is not None and _repeated(columns["participant_id"], trial):
        return None
    if kind is None:
        return CodedVotes(columns, None, path)
    if not set(kind.texts()) <= set(KINDS):
        return None
    main = np.array([label == "main" for label in kind.texts()])[kind.codes]
    return CodedVotes(columns, None if main.all() else main, path)


def _certified(metadata: Any, schema: Any) -> list[str] | None:
    """Text columns to read, when every column that is checked is there, is text and has no empty cell."""
    import pyarrow as pa

    if not metadata.num_rows or len(set(schema.names)) < len(schema.names):
        return None
    needed = [*DEFINITIONS["votes"].required, *(name for name in ("kind", "trial_id") if name in schema.names)]
    only_checked = [name for name in (*DEFINITIONS["votes"].optional_ids, *SOURCES) if name in schema.names]
    for name in (*needed, *only_checked):
        kind = schema.field(name).type if name in schema.names else pa.null()
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return None
        if name not in SOURCES and _empty_cells(metadata, name) != 0:
            return None
    return needed


def _chunks(metadata: Any, name: str) -> list[Any]:
    """What the file says about a column in each of its groups of rows."""
    at = next(k for k in range(metadata.num_columns) if metadata.schema.column(k).path == name)
    return [metadata.row_group(group).column(at) for group in range(metadata.num_row_groups)]


def _empty_cells(metadata: Any, name: str) -> int | None:
    """Empty cells of a column; None where the file does not say."""
    counts = [chunk.statistics.null_count if chunk.statistics else None for chunk in _chunks(metadata, name)]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _bytes_a_value(metadata: Any, name: str) -> float:
    return float(sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, name)) / metadata.num_rows)


def _read(file: Any, names: list[str]) -> dict[str, Coded] | None:
    """All columns, some groups of rows at a time; None for an empty cell that the file did not own up to."""
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for groups in _batches([file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]):
        table = file.read_row_groups(groups, columns=names, use_threads=False)
        for name in names:
            column = table.column(name)
            if column.null_count:
                return None
            parts[name] += [_compact(chunk) for chunk in column.chunks if len(chunk)]
    return {name: _coded(found) for name, found in parts.items()}


def _batches(sizes: list[int]) -> list[list[int]]:
    """Consecutive groups of rows, together as many as are read at once."""
    batches: list[list[int]] = []
    room = 0
    for group, size in enumerate(sizes):
        if size > room or not batches:
            batches.append([])
            room = ROWS_AT_ONCE
        batches[-1].append(group)
        room -= size
    return batches


def _compact(text: Any) -> _Codes | _Words | Any:
    """What is kept of an Arrow array of text while more rows are read: codes, words of eight bytes, or the array."""
    import pyarrow as pa

    if pa.types.is_dictionary(text.type):
        codes = np.from_dlpack(text.indices)
        return _Codes(codes.astype(_small(len(text.dictionary))), text.dictionary.to_pylist())
    _, offsets, data = text.buffers()
    whole = np.int64 if pa.types.is_large_string(text.type) else np.int32
    ends = np.frombuffer(offsets, whole)[text.offset : text.offset + len(text) + 1]
    width = int(ends[1] - ends[0])
    if not 0 < width <= WORD or (np.diff(ends) != width).any():
        return text
    letters = np.zeros((len(text), WORD), dtype=np.uint8)
    letters[:, :width] = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].reshape(-1, width)
    return _Words(letters.view(np.uint64).reshape(-1), width)


def _coded(parts: list[Any]) -> Coded:
    """One column from what was kept of its chunks."""
    import pyarrow as pa

    if isinstance(parts[0], _Codes):
        return _joined(parts)
    if all(isinstance(part, _Words) and part.width == parts[0].width for part in parts):
        whole = [pa.Array.from_buffers(pa.uint64(), len(p.words), [None, pa.py_buffer(p.words)]) for p in parts]
        codes, distinct = _hashed(whole)
        return Coded(codes, _Words(np.from_dlpack(distinct), parts[0].width).text())
    return Coded(
        *_hashed([part.text() if isinstance(part, _Words) else part.cast(pa.large_string()) for part in parts])
    )


def _hashed(chunks: list[Any]) -> tuple[Ints, Any]:
    """Codes over all chunks in order of appearance, and the distinct values as an Arrow array."""
    import pyarrow as pa

    coded = pa.chunked_array(chunks).dictionary_encode().chunks
    return np.concatenate([np.from_dlpack(chunk.indices) for chunk in coded]), coded[-1].dictionary


def _joined(parts: list[_Codes]) -> Coded:
    """One column from codes that each have labels of their own."""
    place: dict[str, int] = {}
    for part in parts:
        for label in part.labels:
            place.setdefault(label, len(place))
    codes = np.empty(sum(len(part.codes) for part in parts), dtype=_small(len(place)))
    row = 0
    for part in parts:
        of_label = np.array([place[label] for label in part.labels], dtype=codes.dtype)
        np.take(of_label, part.codes, out=codes[row : row + len(part.codes)], mode="clip")
        row += len(part.codes)
    return Coded(codes, list(place))


def _small(n_labels: int) -> Any:
    """Smallest signed integers for that many codes: moving bytes is what large tables cost."""
    return np.int8 if n_labels < 2**7 else np.int16 if n_labels < 2**15 else np.int32


def _repeated(people: Coded, trial: Coded) -> bool:
    """Whether a participant has the same trial twice."""
    key = people.codes.astype(np.int64) * len(trial.labels) + trial.codes
    key.sort()
    return bool((key[1:] == key[:-1]).any())
