"""Readers by name, as in `--reader NAME`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from beholder.errors import UserError
from beholder.readers.about import ABOUT
from beholder.readers.avt import AvtReader
from beholder.readers.base import Reader
from beholder.readers.comparisons import ComparisonReader
from beholder.readers.csv import CsvReader
from beholder.readers.eva import EvaReader
from beholder.readers.flickr_aes import FlickrAesReader
from beholder.readers.hpdv2 import HpdV2Reader
from beholder.readers.hpdv3 import HpdV3Reader
from beholder.readers.imagerewarddb import ImageRewardReader
from beholder.readers.lapis import LapisReader
from beholder.readers.pamela import PamelaReader
from beholder.readers.para import ParaReader
from beholder.readers.pickapic import PickAPicReader

READERS = tuple(ABOUT)
_RATINGS: Mapping[str, Callable[[bool], Reader]] = {
    "eva": EvaReader,
    "flickr_aes": FlickrAesReader,
    "lapis": LapisReader,
    "pamela": PamelaReader,
    "para": ParaReader,
}
RATING_READERS = ("avt", "csv", *_RATINGS)
"""Readers of ratings; the others read comparisons."""


def reader_of(name: str, mapping: Path | None = None) -> Reader:
    """The reader of ratings with this name.

    Parameters
    ----------
    name : str
    mapping : path, optional
        The mapping file of the reader `csv`, which the others do not take.

    Raises
    ------
    UserError
        For an unknown name, a reader of comparisons, a missing mapping or one that is not used.
    """
    _check(name, mapping)
    if name == "csv":
        if mapping is None:
            raise UserError(
                "reader 'csv' without a mapping", remedy="give --mapping FILE, which names files and columns"
            )
        return CsvReader(mapping)
    if name == "avt":
        return AvtReader()
    if name not in _RATINGS:
        raise UserError(f"reader {name!r} reads comparisons, not ratings", ", ".join(RATING_READERS))
    return _RATINGS[name](True)


def any_reader_of(
    name: str, mapping: Path | None, pictures: Path, need_pictures: bool = True
) -> Reader | ComparisonReader:
    """The reader with this name, of ratings or of comparisons.

    Parameters
    ----------
    name : str
    mapping : path, optional
        As in `reader_of`.
    pictures : path
        Where pictures are written that a release holds inside its tables.
    need_pictures : bool
        Whether ratings of images that are not there are set aside. Comparisons are always kept.

    Raises
    ------
    UserError
        As in `reader_of`, or for a reader that cannot do without pictures.
    """
    _check(name, mapping)
    comparisons: dict[str, ComparisonReader] = {
        "hpdv2": HpdV2Reader(),
        "hpdv3": HpdV3Reader(),
        "imagerewarddb": ImageRewardReader(),
        "pickapic": PickAPicReader(pictures),
    }
    if name in comparisons:
        return comparisons[name]
    if need_pictures:
        return reader_of(name, mapping)
    if name not in _RATINGS:
        raise UserError(f"reader {name!r} without pictures", ", ".join((*_RATINGS, *comparisons)))
    return _RATINGS[name](False)


def _check(name: str, mapping: Path | None) -> None:
    if name not in READERS:
        raise UserError(f"reader {name!r}", ", ".join(READERS))
    if mapping is not None and name != "csv":
        raise UserError(f"reader {name!r} with a mapping", "a mapping for the reader csv only", "leave --mapping out")
