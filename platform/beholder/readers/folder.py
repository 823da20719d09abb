"""The unpacked folder of a release, walked once: its tables by any of their names, its pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from beholder.errors import StoreError
from beholder.readers.base import Reader
from beholder.readers.columns import plain
from beholder.readers.pictures import SUFFIXES, PictureFiles

PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


@dataclass(frozen=True)
class ReleaseReader:
    """What the readers of unpacked releases of ratings share.

    Attributes
    ----------
    need_pictures : bool
        Whether ratings of images that are not there are set aside; without, all stay and the images have no path.
    """

    need_pictures: bool = True

    def variants(self) -> Mapping[str, Reader]:
        """None: a release is read whole."""
        return {}


@dataclass(frozen=True)
class ReleaseFolder:
    """What lies in a folder.

    Attributes
    ----------
    root : path
    title : str
        Name of the data set, for messages.

    Raises
    ------
    StoreError
        If it is no folder.
    """

    root: Path
    title: str

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise StoreError(f"{self.root} is no folder", remedy=f"give the folder of {self.title} in --data")

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All files, relative to the root, those nearest to it first."""
        found = []
        for place, folders, files in os.walk(self.root):
            folders[:] = [f for f in folders if not f.startswith((".", "__MACOSX"))]
            base = Path(place).relative_to(self.root).as_posix()
            found += [f if base == "." else f"{base}/{f}" for f in files if not f.startswith("._")]
        return tuple(sorted(found, key=lambda f: (f.count("/"), f)))

    @cached_property
    def pictures(self) -> PictureFiles:
        """The image files."""
        return PictureFiles(self.root, (f for f in self.files if Path(f).suffix.lower() in SUFFIXES))

    @cached_property
    def _others(self) -> dict[str, list[str]]:
        """Files that are no pictures, by plain name."""
        found: dict[str, list[str]] = {}
        for f in self.files:
            if Path(f).suffix.lower() not in SUFFIXES:
                found.setdefault(plain(f.rpartition("/")[2]), []).append(f)
        return found

    def find(self, *names: str) -> Path | None:
        """The file nearest to the root with the first of `names` that is there; case and spaces do not matter."""
        for name in names:
            if plain(name) in self._others:
                return self.root / self._others[plain(name)][0]
        return None

    def need(self, *names: str) -> Path:
        """`find`, or a `StoreError` that says what was looked for and which archives lie there unpacked."""
        path = self.find(*names)
        if path is None:
            packed = [f for f in self.files if f.lower().endswith(PACKED)]
            remedy = f"unpack {', '.join(packed[:3])}" if packed else f"give the folder of {self.title} in --data"
            raise StoreError(f"no {' or '.join(names)} in {self.root} or below it", remedy=remedy)
        return path

    def matching(self, suffix: str) -> list[Path]:
        """All files with this suffix, in order of their paths."""
        return [self.root / f for f in sorted(self.files) if f.lower().endswith(suffix)]
