"""Where tables and images lie: a folder, append-only, atomic, named by content.

Layout of a store::

    store.json                    format version: written last when a store is made
    images/ab/abcd....png         by content key
    ledger/<stage>/<writer>.jsonl results of a stage, one line a row, one file a writer
    tables/<name>.parquet         tidy tables, replaced whole
    records/<name>.json           how each table or report was made
    runs/<run>/state.json         what a run is doing
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


class Store:
    """A folder that many processes may write to at once. Picklable: it holds the path only.

    Raises
    ------
    StoreError
        If the folder was written in another format, is a URL, or cannot be written to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if "://" in str(root):
            raise StoreError(f"store {str(root)!r} is a URL", "a folder", "give a path that all workers share")
        self.root = Path(root).absolute()
        marker = self.root / "store.json"
        if marker.exists():
            found = json.loads(marker.read_text()).get("format")
            if found != FORMAT:
                raise StoreError(f"{marker} has format {found!r}", f"format {FORMAT}", "use another folder")
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._replace(marker, json.dumps({"format": FORMAT}).encode())
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.root}: {error.strerror}", remedy="choose another --store"
            ) from error

    @classmethod
    def existing(cls, root: str | os.PathLike[str]) -> Store:
        """A store that is there already; nothing is made.

        Raises
        ------
        StoreError
            If the folder is no store.
        """
        if not (Path(root) / "store.json").exists():
            raise StoreError(f"{root} is no store", "a folder with store.json", "give the --store of a job that ran")
        return cls(root)

    # --- files -------------------------------------------------------------------------------------------------
    def put_image(self, key: str, data: bytes, suffix: str = ".png") -> str:
        """Write an image once, by temporary file and rename. Returns its path relative to the store."""
        relative = f"images/{key[:2]}/{key}{suffix}"
        self._replace(self.root / relative, data)
        return relative

    def path(self, relative: str) -> Path:
        """The full path of something named relative to the store."""
        return self.root / relative

    # --- ledger ------------------------------------------------------------------------------------------------
    def ledger_writer(self, stage: str) -> LedgerWriter:
        """A new shard of a stage's ledger, for one writer."""
        folder = self.root / "ledger" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return LedgerWriter(folder / f"{uuid.uuid4().hex}.jsonl")

    def ledger_rows(self, stage: str) -> Iterator[dict[str, Any]]:
        """All rows of a stage, shard by shard; a line cut off by a kill at the end of a shard is skipped."""
        for shard in sorted((self.root / "ledger" / stage).glob("*.jsonl")):
            for line in shard.read_bytes().split(b"\n")[:-1]:
                yield json.loads(line)

    # --- tables and records ------------------------------------------------------------------------------------
    def write_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Replace `tables/<name>.parquet` whole; a reader sees the old table or the new one."""
        target = self.root / "tables" / f"{name}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        frame.to_parquet(temporary, index=False)
        os.replace(temporary, target)
        return target

    def read_table(self, name: str) -> pd.DataFrame:
        """The table `name`.

        Raises
        ------
        StoreError
            If no job has written it yet.
        """
        import pandas as pd

        path = self.root / "tables" / f"{name}.parquet"
        if not path.exists():
            have = ", ".join(sorted(p.stem for p in path.parent.glob("*.parquet"))) or "none"
            raise StoreError(f"no table {name!r} in {self.root}", f"tables there: {have}", "run the job that writes it")
        return pd.read_parquet(path)

    def has_table(self, name: str) -> bool:
        """Whether `tables/<name>.parquet` is there."""
        return (self.root / "tables" / f"{name}.parquet").exists()

    def write_record(self, name: str, record: Mapping[str, Any]) -> Path:
        """Replace `records/<name>.json`."""
        path = self.root / "records" / f"{name}.json"
        self._replace(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
        return path

    def read_record(self, name: str) -> dict[str, Any] | None:
        """`records/<name>.json`, or None where it was never written."""
        path = self.root / "records" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write_file(self, relative: str, data: bytes) -> Path:
        """Replace any other file of the store (a report, a model), by temporary file and rename."""
        path = self.root / relative
        self._replace(path, data)
        return path

    def _replace(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        temporary.write_bytes(data)
        os.replace(temporary, target)


class LedgerWriter:
    """One writer's shard: each batch of rows is one `os.write`, so a kill cannot tear rows of different batches."""

    def __init__(self, path: Path) -> None:
        self.path, self._fd = path, -1

    def put(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append rows and return their lengths in bytes.

        The file is made at the first call, so idle writers leave nothing behind.
        """
        lines = [(json.dumps(row, allow_nan=False) + "\n").encode() for row in rows]
        data = b"".join(lines)
        if not data:
            return []
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        written = os.write(self._fd, data)
        if written != len(data):
            raise StoreError(f"{self.path}: wrote {written} of {len(data)} bytes", remedy="is the disk full?")
        return [len(line) for line in lines]

    def close(self) -> None:
        """Close the shard."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
