"""Readers by name, as in `--reader NAME`."""

from __future__ import annotations

from pathlib import Path

from beholder.errors import UserError
from beholder.readers.avt import AvtReader
from beholder.readers.base import Reader
from beholder.readers.csv import CsvReader

READERS = ("avt", "csv")


def reader_of(name: str, mapping: Path | None = None) -> Reader:
    """The reader of this name.

    Parameters
    ----------
    name : str
    mapping : path, optional
        The mapping file of the reader `csv`, which the others do not take.

    Raises
    ------
    UserError
        For an unknown name, a missing mapping or one that is not used.
    """
    if name not in READERS:
        raise UserError(f"reader {name!r}", ", ".join(READERS))
    if name == "csv":
        if mapping is None:
            raise UserError(
                "reader 'csv' without a mapping", remedy="give --mapping FILE, which names files and columns"
            )
        return CsvReader(mapping)
    if mapping is not None:
        raise UserError(f"reader {name!r} with a mapping", "a mapping for the reader csv only", "leave --mapping out")
    return AvtReader()
