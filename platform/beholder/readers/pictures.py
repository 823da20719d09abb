"""Image files of a release: found by whatever name the release uses, decoded once, described by plain facts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from beholder.store import Store

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_UNSURE = re.compile(r"(?:#u[0-9a-f]{4}|%[0-9a-f]{2}|\?|[^\x00-\x7f])+")


def dhash(image: Image) -> str:
    """Difference hash: whether each of 8 × 8 cells is darker than its right neighbour, as 16 hexadecimal digits.

    Survives re-encoding and resizing, not cropping or mirroring. Krawetz (2013), "Kind of like that".
    """
    from PIL.Image import Resampling

    grey = np.asarray(image.convert("L").resize((9, 8), Resampling.LANCZOS))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def image_facts(path: Path) -> dict[str, Any] | None:
    """`path` (absolute), `width`, `height`, `sha256`, `dhash` of an image file; None where it cannot be decoded."""
    facts = content_facts(path.read_bytes())
    return None if facts is None else {"path": str(path.absolute())} | facts


def content_facts(content: bytes) -> dict[str, Any] | None:
    """`width`, `height`, `sha256` and `dhash` of an encoded image; None where it cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            (width, height), perceived = image.size, dhash(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what decoders raise on broken files
        return None
    return {
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(content).hexdigest(),
        "dhash": perceived,
    }


def look_at(paths: Sequence[Path]) -> list[dict[str, Any] | None]:
    """`image_facts` of many files, in their order; decoders leave the interpreter's lock, so threads help."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(image_facts, paths, chunksize=16))


def within_reach(store: Store, images: pd.DataFrame) -> pd.DataFrame:
    """A table of images (`path`, `sha256`) whose files every worker of a store finds.

    Beside a folder that all machines see, pictures stay where they lie, under absolute paths. Into a bucket they are
    put, by content, and their paths are relative to it.
    """
    if store.is_folder or "path" not in images.columns:
        return images
    there = {*store.names("images")}
    places = {
        path: f"images/{digest[:2]}/{digest}{Path(path).suffix.lower()}" if os.path.isabs(path) else path
        for path, digest in zip(images["path"].astype(str), images["sha256"].astype(str), strict=True)
    }
    missing = {place: path for path, place in places.items() if place not in there and place != path}
    store.storage.write_many((place, Path(path).read_bytes()) for place, path in missing.items())
    return images.assign(path=[places[path] for path in images["path"].astype(str)])


class PictureFiles:
    """Image files below a folder, found by path, name or stem.

    Parameters
    ----------
    folder : path
    files : iterable of str
        Paths relative to it, in a fixed order.

    Attributes
    ----------
    repaired : set of str
        Names that were found only after differences of letter case, accents and encoding were ignored.
    """

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        self.folder = folder
        self.repaired: set[str] = set()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_number: dict[str, list[str]] = defaultdict(list)
        self._by_folded: dict[str, list[str]] = defaultdict(list)
        self._by_masked: dict[str, list[str]] = defaultdict(list)
        for relative in files:
            name = relative.rpartition("/")[2]
            self._by_name[name].append(relative)
            stem = name.rpartition(".")[0]
            self._by_stem[stem].append(relative)
            if stem.isdigit():
                self._by_number[stem.lstrip("0")].append(relative)
            self._by_folded[_folded(name)].append(relative)
            self._by_masked[_masked(name)].append(relative)

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def find(self, name: str) -> Path | None:
        """The file that a release calls `name`; None if there is none.

        A path or a bare name, with or without suffix; a number finds `0012.png` too.

        Raises
        ------
        TableError
            If several files with other content fit equally well.
        """
        wanted = name.strip().replace("\\", "/").removeprefix("./")
        bare = wanted.rpartition("/")[2]
        candidates = self._by_name.get(bare)
        if not candidates and Path(bare).suffix.lower() not in SUFFIXES:
            candidates = self._by_stem.get(bare) or (self._by_number.get(bare.lstrip("0")) if bare.isdigit() else None)
        if candidates:
            return self._best(wanted, candidates)
        candidates = self._by_folded.get(_folded(bare)) or self._by_masked.get(_masked(bare))
        if not candidates or len(candidates) > 1:  # taking one of several would be a guess
            return None
        self.repaired.add(name)
        return self.folder / candidates[0]

    def _best(self, wanted: str, candidates: Sequence[str]) -> Path:
        """The candidate that shares the longest end of the path; ties must be the same file."""
        shared = [_shared_end(wanted, c) for c in candidates]
        best = [c for c, n in zip(candidates, shared, strict=True) if n == max(shared)]
        if len(best) > 1 and len({hashlib.sha256((self.folder / c).read_bytes()).digest() for c in best}) > 1:
            raise TableError(
                f"image {wanted!r} may be any of {', '.join(sorted(best)[:3])} in {self.folder}",
                "one file a name",
                "remove the files that do not belong to the release",
            )
        return self.folder / min(best)


def _shared_end(a: str, b: str) -> int:
    """How many last components of two paths are the same, the file's name (or stem) aside."""
    n = 0
    for x, y in zip(reversed(a.split("/")[:-1]), reversed(b.split("/")[:-1]), strict=False):
        if x != y:
            break
        n += 1
    return n


def _folded(name: str) -> str:
    """A name without accents and in lower case, its encoding put right where that can be done."""
    with contextlib.suppress(UnicodeEncodeError, UnicodeDecodeError):
        name = name.encode("latin-1").decode("utf-8")  # UTF-8 that was once read as Latin-1
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()


def _masked(name: str) -> str:
    """A name in lower case with one star for each stretch of characters that encodings and archives may change."""
    return _UNSURE.sub("*", unicodedata.normalize("NFC", name).lower())
