"""Features computed elsewhere, read from a file: Parquet, CSV or NPZ.

Parquet: a column `image_id` and either a column `vector` (lists of numbers, or float32 packed as base64) or numeric
columns. CSV: `image_id` and numeric columns. NPZ: arrays `image_id` (n,) and `vector` (n, width), read without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import TableError
from beholder.models.weights import sha256_of
from beholder.records import unpack

READERS = (".parquet", ".csv", ".npz")


class PrecomputedFeatures:
    """Vectors by image id.

    Parameters
    ----------
    path : Path
    id_column : str
        The column, or array, that names the image.

    Raises
    ------
    TableError
        No such file, another ending, no ids, an id twice, vectors of different lengths, or a value that is not finite.
    """

    def __init__(self, path: Path, id_column: str = "image_id") -> None:
        self.path = Path(path)
        if self.path.suffix not in READERS:
            raise TableError(f"features file {self.path}", ", ".join(READERS))
        if not self.path.is_file():
            raise TableError(f"no features file {self.path}", remedy="check the path")
        ids, vectors = (_read_npz if self.path.suffix == ".npz" else _read_table)(self.path, id_column)
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise TableError(f"{self.path}: {id_column} {twice!r} twice", "each image once")
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise TableError(f"{self.path}: the vector of {ids[row]!r} is not finite", "numbers")
        self._row = {name: i for i, name in enumerate(ids)}
        self._vectors = vectors
        self.digest = sha256_of(self.path)

    @property
    def width(self) -> int:
        """Numbers in one vector."""
        return int(self._vectors.shape[1])

    def identity(self) -> Mapping[str, Any]:
        """The file's SHA-256."""
        return {"encoder": "precomputed", "file": self.digest}

    def encode(self, inputs: Sequence[str]) -> np.ndarray:
        """Vectors of image ids, float32, shape (n, width); TableError for ids that are not in the file."""
        missing = [name for name in inputs if name not in self._row]
        if missing:
            some = ", ".join(map(repr, missing[:3]))
            raise TableError(
                f"{self.path} lacks {len(missing)} of {len(inputs)} images, such as {some}",
                remedy="compute the missing features, or leave these images out",
            )
        return np.asarray(self._vectors[[self._row[name] for name in inputs]])


def _read_npz(path: Path, id_column: str) -> tuple[list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not {id_column, "vector"} <= set(file.files):
                raise TableError(f"{path} has arrays {sorted(file.files)}", f"{id_column} and vector")
            ids, vectors = file[id_column], file["vector"]
    except ValueError as error:
        raise TableError(f"{path}: {error}", "arrays of numbers and of strings, no objects") from error
    if vectors.ndim != 2 or ids.shape != (len(vectors),):
        raise TableError(f"{path}: {id_column} {ids.shape}, vector {vectors.shape}", "(n,) and (n, width)")
    return [str(i) for i in ids], vectors.astype(np.float32)


def _read_table(path: Path, id_column: str) -> tuple[list[str], np.ndarray]:
    import pandas as pd

    text = {id_column: str}
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=text)
    if id_column not in frame:
        raise TableError(f"{path} has columns {', '.join(map(str, frame.columns))}", f"one called {id_column}")
    ids = [str(i) for i in frame[id_column]]
    if "vector" in frame:
        return ids, _from_column(path, frame["vector"].tolist())
    numbers = frame.drop(columns=id_column).select_dtypes("number")
    if not numbers.shape[1]:
        raise TableError(f"{path} has no numeric columns", "vector, or one column a number")
    return ids, numbers.to_numpy(np.float32)


def _from_column(path: Path, cells: list[Any]) -> np.ndarray:
    if cells and isinstance(cells[0], str):
        try:
            return unpack(cells)
        except ValueError as error:
            raise TableError(f"{path}: vectors that cannot be unpacked: {error}") from error
    widths = {len(cell) for cell in cells}
    if len(widths) != 1:
        raise TableError(f"{path}: vectors of {len(widths)} different lengths", "one length")
    return np.array([np.asarray(cell, dtype=np.float32) for cell in cells])
