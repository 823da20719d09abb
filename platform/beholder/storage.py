"""Where a store's bytes lie: a few operations on named blobs, for a folder and for an S3 bucket.

Names are relative and use "/". Whatever is written is there as a whole or not at all. Libraries that open files
themselves get a folder on this machine, to read from or to fill. Nothing here knows what the blobs hold;
`beholder.bucket` is imported for URLs only, so a folder costs no other library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from beholder.errors import StorageError, StoreError

SCHEME = "s3://"
PATIENCE = 300.0
"""Seconds for which a bucket that throttles or does not answer is waited for."""
TEMPORARY = ".tmp"
"""End of the names of files and folders on their way: nobody is told of them."""

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
    def stamps(self, folder: str, suffix: str = "") -> dict[str, str]:
        """All blobs below a folder that end so, sorted, each with a text that changes when it is written anew."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a blob, if it is there."""

    @abstractmethod
    def below(self, name: str) -> Storage:
        """The storage of what lies below a name."""

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Names of all blobs below a folder that end so, sorted."""
        return list(self.stamps(folder, suffix))

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """The blobs in their order; `FileNotFoundError` at one that is gone."""
        return map(self.read, names)

    def write_many(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Write or replace blobs, each whole; they come in any order."""
        for name, data in blobs:
            self.write(name, data)

    @contextmanager
    def folder_to_read(self) -> Generator[Path, None, None]:
        """All blobs as files in a folder on this machine, which may be gone after the block."""
        with tempfile.TemporaryDirectory(prefix="beholder-") as made:
            names = self.names("")
            for name, data in zip(names, self.read_many(names), strict=True):
                target = Path(made) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            yield Path(made)

    @contextmanager
    def folder_to_fill(self) -> Generator[Path, None, None]:
        """An empty folder on this machine; each file and folder in it takes the place of what has its name here.

        That happens after the block; an error in it changes nothing. A kill on the way may leave new and old blobs
        side by side: what says that they belong together (a record, a digest) is withdrawn before, or written after.
        """
        with tempfile.TemporaryDirectory(prefix="beholder-") as made:
            folder = Path(made)
            yield folder
            files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
            self.write_many((name, (folder / name).read_bytes()) for name in files)
            for entry in folder.iterdir():
                for stale in {*(self.names(entry.name) if entry.is_dir() else ())} - {*files}:
                    self.delete(stale)


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
        for place, folders, files in os.walk(self.root / folder):
            folders[:] = [name for name in folders if not name.endswith(TEMPORARY)]
            below = Path(place).relative_to(self.root)
            found += [(below / file).as_posix() for file in files if not file.endswith(TEMPORARY)]
        return sorted(name for name in found if name.endswith(suffix))

    def stamps(self, folder: str, suffix: str = "") -> dict[str, str]:
        """By time and size."""
        found = {}
        for name in self.names(folder, suffix):
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                status = (self.root / name).stat()
                found[name] = f"{status.st_mtime_ns}-{status.st_size}"
        return found

    def delete(self, name: str) -> None:
        """See `Storage`."""
        with writing(self.root / name):
            (self.root / name).unlink(missing_ok=True)

    def below(self, name: str) -> Folder:
        """See `Storage`."""
        return Folder(self.root / name)

    @contextmanager
    def folder_to_read(self) -> Generator[Path, None, None]:
        """The folder itself."""
        yield self.root

    @contextmanager
    def folder_to_fill(self) -> Generator[Path, None, None]:
        """On the same disk, so that each entry takes its place by a rename."""
        with writing(self.root, errors=frozenset(_REMEDIES)):
            self.root.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(suffix=TEMPORARY, dir=self.root))
            try:
                filled, replaced = made / "filled", made / "replaced"
                filled.mkdir()
                replaced.mkdir()
                yield filled
                for entry in sorted(filled.iterdir()):
                    target = self.root / entry.name
                    if target.is_dir():
                        os.replace(target, replaced / entry.name)
                    os.replace(entry, target)
            finally:
                shutil.rmtree(made, ignore_errors=True)


@contextmanager
def writing(target: Path, errors: frozenset[int] | None = None) -> Generator[None, None, None]:
    """Tell what the system refuses while `target` is written as a `StorageError` that says what to do.

    With `errors`, those numbers only: where other code runs meanwhile, which may look for files of its own.
    """
    try:
        yield
    except OSError as error:
        if errors is not None and error.errno not in errors:
            raise
        raise StorageError(
            f"cannot write {target}: {error.strerror or error}",
            remedy=_REMEDIES.get(error.errno or 0, "choose another --store"),
        ) from error


@contextmanager
def _temporary(target: Path, data: bytes) -> Generator[Path, None, None]:
    """A file beside `target` that holds `data`, and is gone in the end whatever happened."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{uuid.uuid4().hex}{TEMPORARY}")
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
