"""Where a store's bytes lie: seven operations on named blobs, for a folder and for an S3 bucket.

Names are relative and use "/". Whatever is written is there as a whole or not at all. Nothing here knows what the blobs
hold; `beholder.bucket` is imported for URLs only, so a folder costs no other library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from beholder.errors import StorageError, StoreError

SCHEME = "s3://"
PATIENCE = 300.0
"""Seconds for which a bucket that throttles or does not answer is waited for."""

_REMEDIES = {
    errno.ENOSPC: "free some space there; the same command goes on from here",
    errno.EDQUOT: "free some of the quota there; the same command goes on from here",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f); the same command goes on from here",
    errno.EROFS: "mount it for writing, or choose another --store",
    errno.EACCES: "give this user the right to write there, or choose another --store",
    errno.EPERM: "give this user the right to write there, or choose another --store",
}


class Storage(ABC):
    """Blobs by name.

    Attributes
    ----------
    url : str
        The folder's full path, or the bucket's URL without a slash at its end.
    """

    url: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole blob; `FileNotFoundError` where there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write or replace a blob; a reader sees the old one or the new one."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a blob unless the name is taken: of several writers exactly one is told True."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a blob."""

    @abstractmethod
    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Names of all blobs below a folder that end so, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a blob, if it is there."""

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """The blobs in their order; `FileNotFoundError` at one that is gone."""
        return map(self.read, names)


def storage_of(root: str | os.PathLike[str], patience: float = PATIENCE) -> Storage:
    """The storage at a folder's path or a bucket's URL; nothing is touched yet.

    Raises
    ------
    StoreError
        For a URL that is no bucket, or if the libraries for buckets are not installed.
    """
    if str(root).startswith(SCHEME):
        from beholder.bucket import Bucket

        return Bucket(str(root), patience=patience)
    if "://" in str(root):
        raise StoreError(f"store {str(root)!r}", "a folder, or s3://BUCKET/PREFIX", "give one that all workers share")
    return Folder(root)


class Folder(Storage):
    """A folder that many processes, and machines that mount it, may write to at once.

    Every writing operation raises a `StorageError` where the disk is full, or the folder cannot be written to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.url = str(self.root)

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """By temporary file and rename."""
        target = self.root / name
        with writing(target), _temporary(target, data) as temporary:
            os.replace(temporary, target)

    def create(self, name: str, data: bytes) -> bool:
        """By temporary file and hard link, so that nobody sees a part; where links are unknown, by exclusive open."""
        target = self.root / name
        with writing(target), _temporary(target, data) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                return _create_exclusively(target, data)
        return True

    def exists(self, name: str) -> bool:
        """See `Storage`."""
        return (self.root / name).exists()

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """See `Storage`."""
        found: list[str] = []
        for place, _, files in os.walk(self.root / folder):
            below = Path(place).relative_to(self.root)
            found += [(below / file).as_posix() for file in files if not file.endswith(".tmp")]
        return sorted(name for name in found if name.endswith(suffix))

    def delete(self, name: str) -> None:
        """See `Storage`."""
        with writing(self.root / name):
            (self.root / name).unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Generator[None, None, None]:
    """Tell what the system refuses while `target` is written as a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror or error}",
            remedy=_REMEDIES.get(error.errno or 0, "choose another --store"),
        ) from error


@contextmanager
def _temporary(target: Path, data: bytes) -> Generator[Path, None, None]:
    """A file beside `target` that holds `data`, and is gone in the end whatever happened."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _create_exclusively(target: Path, data: bytes) -> bool:
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True
