"""Where tables and images lie: a folder or a bucket, append-only, atomic, named by content.

Layout of a store::

    store.json                    format version: written last when a store is made
    images/ab/abcd....png         by content key
    ledger/<stage>/<shard>.jsonl  results of a stage, one line a row, see `beholder.shards`
    tables/<name>.parquet         tidy tables, replaced whole
    records/<name>.json           how each table or report was made
    runs/<run>/state.json         what a run is doing
    lock/<number>.json            who may write, see `beholder.storelock`
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.errors import StorageError, StoreError
from beholder.shards import Shards, ShardWriter, ledger_folder, shard_names, shards_of
from beholder.storage import PATIENCE, Folder, Storage, storage_of

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
MARKER = "store.json"


class Store:
    """A folder or a bucket that many processes may write to at once. Picklable: it holds the address only.

    Parameters
    ----------
    root : str or path
        A folder's path, or `s3://BUCKET/PREFIX`.
    patience : float
        Seconds for which a bucket that throttles or does not answer is asked again.

    Raises
    ------
    StoreError
        If it was written in another format, is another kind of URL, or cannot be written to.
    """

    def __init__(self, root: str | os.PathLike[str], *, patience: float = PATIENCE) -> None:
        self.storage = storage_of(root, patience)
        found = self._format()
        if found is None:
            self._make()
            found = self._format()
        if found != FORMAT:
            raise StoreError(
                f"{self.url}/{MARKER} has format {found!r}",
                f"format {FORMAT}",
                "use the version of beholder that made it, or another store",
            )

    def _make(self) -> None:
        """Write the marker, unless another process was faster; a place that lets it be written twice is no store."""
        marker = json.dumps({"format": FORMAT}).encode()
        if self.storage.create(MARKER, marker) and self.storage.create(MARKER, marker):
            self.storage.delete(MARKER)
            raise StorageError(
                f"{self.url} ignores If-None-Match: two runs could write the same object",
                "a server with conditional puts",
                "update the server, or use a folder",
            )

    def _format(self) -> Any:
        """The format it was written in; None where no store is yet."""
        try:
            content = json.loads(self.storage.read(MARKER))
            return content["format"]
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self.url}/{MARKER} says no format", f"format {FORMAT}", "use another store, or put the file right"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot read {self.url}: {error.strerror}", remedy="choose another --store") from error

    @classmethod
    def existing(cls, root: str | os.PathLike[str], *, patience: float = PATIENCE) -> Store:
        """A store that is there already; nothing is made.

        Raises
        ------
        StoreError
            If there is no store.
        """
        if not storage_of(root, patience).exists(MARKER):
            raise StoreError(f"{root} is no store", "a folder with store.json", "give the --store of a job that ran")
        return cls(root, patience=patience)

    @property
    def url(self) -> str:
        """The folder's full path, or the bucket's URL: what --store takes."""
        return self.storage.url

    @property
    def is_folder(self) -> bool:
        """Whether its files lie in a folder, which all workers see under the same path; else in a bucket."""
        return isinstance(self.storage, Folder)

    @property
    def root(self) -> Path:
        """The folder.

        Raises
        ------
        StoreError
            If the store is a bucket.
        """
        return self.path("")

    def path(self, relative: str) -> Path:
        """The full path of something named relative to the store, for libraries that open files themselves.

        Raises
        ------
        StoreError
            If the store is a bucket.
        """
        if not isinstance(self.storage, Folder):
            raise StoreError(
                f"{self.url}: {relative or 'this step'} needs files on this machine, which a bucket does not have",
                "a folder",
                "run this step on a folder (aws s3 sync copies a store)",
            )
        return self.storage.root / relative

    def is_there(self) -> bool:
        """Whether this process sees the store."""
        return self.storage.exists(MARKER)

    # --- files -------------------------------------------------------------------------------------------------
    def put_image(self, key: str, data: bytes, suffix: str = ".png") -> str:
        """Write an image whole. Returns its path relative to the store."""
        relative = f"images/{key[:2]}/{key}{suffix}"
        self.storage.write(relative, data)
        return relative

    def read(self, relative: str) -> bytes:
        """The bytes of any file of the store; `FileNotFoundError` where there is none.

        An absolute path is a file of this machine: pictures of a data set may stay where they lie.
        """
        if os.path.isabs(relative):
            return Path(relative).read_bytes()
        return self.storage.read(relative)

    def exists(self, relative: str) -> bool:
        """Whether there is such a file."""
        return self.storage.exists(relative)

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Files below a folder of the store that end so, relative to the store, sorted."""
        return self.storage.names(folder, suffix)

    def stamps(self, folder: str, suffix: str = "") -> dict[str, str]:
        """The same files, each with a text that changes when it is written anew."""
        return self.storage.stamps(folder, suffix)

    def write_file(self, relative: str, data: bytes) -> None:
        """Write or replace any other file of the store (a report, a model); a reader sees the old or the new one."""
        self.storage.write(relative, data)

    def place(self, folder: str) -> Storage:
        """A folder of the store, to read and fill as a whole."""
        return self.storage.below(folder)

    # --- ledger ------------------------------------------------------------------------------------------------
    def shards(self, stage: str) -> Shards:
        """The shards of a stage's ledger, for random access and for writing."""
        return shards_of(self.storage, stage)

    def ledger_writer(self, stage: str) -> ShardWriter:
        """A new shard of a stage's ledger, for one writer."""
        return self.shards(stage).writer()

    def ledger_rows(self, stage: str) -> Iterator[dict[str, Any]]:
        """All rows of a stage, shard by shard; a line cut off by a kill at the end of a shard is skipped."""
        for data in self.storage.read_many(shard_names(self.storage, stage)):
            for line in data.split(b"\n")[:-1]:
                yield json.loads(line)

    def ledger_place(self, stage: str) -> str:
        """Where a person finds the rows of a stage."""
        return f"{self.url}/{ledger_folder(stage)}"

    # --- tables and records ------------------------------------------------------------------------------------
    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Replace `tables/<name>.parquet` whole; a reader sees the old table or the new one."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.storage.write(f"tables/{name}.parquet", buffer.getvalue())

    def read_table(self, name: str) -> pd.DataFrame:
        """The table `name`.

        Raises
        ------
        StoreError
            If no job has written it yet.
        """
        import pandas as pd

        try:
            return pd.read_parquet(io.BytesIO(self.storage.read(f"tables/{name}.parquet")))
        except FileNotFoundError:
            have = ", ".join(self.tables()) or "none"
            raise StoreError(
                f"no table {name!r} in {self.url}", f"tables there: {have}", "run the job that writes it"
            ) from None

    def has_table(self, name: str) -> bool:
        """Whether `tables/<name>.parquet` is there."""
        return self.storage.exists(f"tables/{name}.parquet")

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        return [_stem(path, ".parquet") for path in self.storage.names("tables", ".parquet")]

    def delete_table(self, name: str) -> None:
        """Remove a table and its record, if they are there."""
        self.delete_record(f"table-{name}")
        self.storage.delete(f"tables/{name}.parquet")

    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Replace `records/<name>.json`."""
        self.storage.write(f"records/{name}.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

    def read_record(self, name: str) -> dict[str, Any] | None:
        """`records/<name>.json`, or None where it was never written."""
        try:
            content: dict[str, Any] = json.loads(self.storage.read(f"records/{name}.json"))
        except FileNotFoundError:
            return None
        return content

    def records(self, prefix: str = "") -> list[str]:
        """Names of all records that begin so, sorted."""
        names = [_stem(path, ".json") for path in self.storage.names("records", ".json")]
        return [name for name in names if name.startswith(prefix)]

    def read_records(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """All records whose names begin so, sorted by name."""
        names = self.records(prefix)
        try:
            found = list(self.storage.read_many([f"records/{name}.json" for name in names]))
        except FileNotFoundError:  # withdrawn since they were listed
            return self.read_records(prefix)
        return {name: json.loads(text) for name, text in zip(names, found, strict=True)}

    def delete_record(self, name: str) -> None:
        """Remove `records/<name>.json`, if it is there: what it says is about to change."""
        self.storage.delete(f"records/{name}.json")


def _stem(path: str, suffix: str) -> str:
    return path.rpartition("/")[2].removesuffix(suffix)
