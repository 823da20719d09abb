"""Raw tables of public releases: columns found by any of their names, ids as text, answers as ticks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import TableError
from beholder.readers.base import Note

if TYPE_CHECKING:
    import pandas as pd

Aliases = Mapping[str, tuple[str, ...]]
"""Our name of a column, and the names it goes by in releases, the likeliest first."""

MISSING = ["", "NA", "NaN", "nan", "null", "None", "N/A"]
TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl")
_ROW_INDEX = re.compile(r"^(unnamed:\s*\d+|__index_level_\d+__|)$", re.IGNORECASE)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def plain(name: object) -> str:
    """A name without case, spaces, dashes, underscores and byte order marks: `User ID` and `user_id` are the same."""
    return re.sub(r"[\s_\-\ufeff]+", "", str(name)).casefold()


def read_rows(path: Path, ids: Iterable[str], separator: str = ",") -> tuple[pd.DataFrame, list[Note]]:
    """A table as it is, with text for ids.

    Parameters
    ----------
    path : path
        `.csv`, `.tsv`, `.parquet`, `.json` (a list of objects, nested ones flattened with dots) or `.jsonl`.
    ids : iterable of str
        Names, in any spelling, of columns that hold ids: read as text ("007" keeps its zeros).
    separator : str
        Of a `.csv`.

    Returns
    -------
    DataFrame
        Columns without names and row numbers are dropped.
    list of Note
        An encoding that had to be guessed.

    Raises
    ------
    TableError
        If the file cannot be read.
    """
    notes: list[Note] = []
    wanted = {plain(name) for name in ids}
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        frame, notes = _read_csv(path, wanted, "\t" if suffix == ".tsv" else separator)
    elif suffix == ".parquet":
        frame = _read_parquet(path)
    elif suffix in (".json", ".jsonl"):
        frame = _read_json(path)
    else:
        raise TableError(f"{path} is {suffix or 'without suffix'}", ", ".join(TABLES), "save it as CSV")
    frame = frame.drop(columns=[c for c in frame.columns if _ROW_INDEX.match(str(c).strip())])
    if not len(frame):
        raise TableError(f"{path} has no rows", "at least one")
    for column in frame.columns:
        if plain(column) in wanted:
            frame[column] = id_text(frame[column], path)
    return frame, notes


def _read_csv(path: Path, ids: set[str], separator: str) -> tuple[pd.DataFrame, list[Note]]:
    import pandas as pd

    notes: list[Note] = []
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            header = pd.read_csv(path, sep=separator, nrows=0, encoding=encoding, skipinitialspace=True).columns
            missing = {str(c): [""] if plain(c) in ids else MISSING for c in header}
            texts = {str(c): "str" for c in header if plain(c) in ids}
            frame = pd.read_csv(
                path,
                sep=separator,
                encoding=encoding,
                skipinitialspace=True,
                dtype=texts,
                keep_default_na=False,
                na_values=missing,
                low_memory=False,
            )
        except UnicodeDecodeError:
            notes = [Note(f"{path.name} is not UTF-8 and was read as Latin-1", 1)]
            continue
        except (ValueError, pd.errors.ParserError) as error:
            raise TableError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})", "a CSV file") from error
        return frame, notes
    raise TableError(f"{path}: cannot be read", "a CSV file in UTF-8 or Latin-1")


def _read_parquet(path: Path) -> pd.DataFrame:
    """All columns but bytes, which are pictures and may be gigabytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        light = [f.name for f in schema if not (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type))]
        return pq.read_table(path, columns=light).to_pandas()
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})", "a Parquet file") from error


def _read_json(path: Path) -> pd.DataFrame:
    import pandas as pd

    rows = json_rows(path)
    bad = next((k for k, row in enumerate(rows) if not isinstance(row, dict)), None)
    if bad is not None:
        raise TableError(f"{path}: row {bad + 1} is {str(rows[bad])[:80]!r}", "an object with named fields in each row")
    frame = pd.DataFrame([flat(row) for row in rows])
    for column in frame.columns:
        values = frame[column]
        if pd.api.types.is_object_dtype(values.dtype) and len(set(map(type, values.dropna()))) > 1:  # such as 1 and "1"
            frame[column] = values.astype("str").where(values.notna())
    return frame


def json_rows(path: Path) -> list[Any]:
    """The rows of a JSON list, or of a file with one JSON value a line.

    Raises
    ------
    TableError
        Naming the place where it is no JSON or no text, or what it holds instead of a list.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = _by_line(text) if path.suffix.lower() == ".jsonl" else json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            content = _by_line(text)
        except json.JSONDecodeError:
            raise TableError(f"{path} is no JSON: {whole}", "a list of objects, or one object a line") from whole
    if not isinstance(content, list):
        shown = ", ".join(list(content)[:5]) if isinstance(content, dict) else str(content)[:80]
        raise TableError(f"{path} holds {type(content).__name__} ({shown})", "a list of objects")
    if _SURROGATE.search(text):
        for number, row in enumerate(content, 1):
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise TableError(f"{path}: row {number} holds half of a surrogate pair", "valid text") from error
    return content


def _by_line(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]  # a text may hold other separators


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as `outer.inner`, lists as JSON text."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return found


def id_text(values: pd.Series, path: Path) -> pd.Series:
    """Ids as text; whole numbers that an empty cell has made decimal lose their `.0`."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values.dtype):
        here = values.dropna()
        if (here != here.round()).any():
            raise TableError(f"{path}: {values.name} holds {float(here[here != here.round()].iloc[0])!r}", "ids")
        values = values.astype("Int64")
    return values.astype("str").where(values.notna()).str.strip()


def named(frame: pd.DataFrame, aliases: Aliases, required: Sequence[str], path: Path) -> pd.DataFrame:
    """The table with our column names where a release's are known; others keep theirs.

    A column of theirs that has a name of ours and is not it becomes `<name>_original`.

    Raises
    ------
    TableError
        If a required column goes by none of its aliases, or two columns with other content are the same one.
    """
    spelled: dict[str, list[str]] = {}
    for column in frame.columns:
        spelled.setdefault(plain(column), []).append(str(column))
    chosen: dict[str, str] = {}
    for ours, theirs in aliases.items():
        hits = next((spelled[plain(alias)] for alias in theirs if plain(alias) in spelled), [])
        if len(hits) > 1 and not all(frame[hits[0]].equals(frame[other]) for other in hits[1:]):
            raise TableError(f"{path} has two columns for {ours}: {', '.join(hits)}", "one", "remove one of them")
        if hits:
            chosen[hits[0]] = ours
            frame = frame.drop(columns=hits[1:])
    missing = [name for name in required if name not in chosen.values()]
    if missing:
        wanted = "; ".join(f"{name} as {', '.join(aliases[name])}" for name in missing)
        raise TableError(f"{path} has no column for {wanted}", "columns there: " + ", ".join(map(str, frame.columns)))
    clashes = {c: f"{c}_original" for c in frame.columns if c in chosen.values() and c not in chosen}
    return frame.rename(columns=clashes).rename(columns=chosen)


def refuse(path: Path, frame: pd.DataFrame, bad: Any, problem: str, allowed: str, remedy: str | None = None) -> None:
    """Raise a `TableError` that counts the bad rows and shows the first one, if there is any."""
    where = np.flatnonzero(np.asarray(bad))
    if len(where):
        row = frame.iloc[where[0]].dropna().to_dict()
        shown = ", ".join(f"{name}={str(value)[:60]}" for name, value in list(row.items())[:8])
        raise TableError(
            f"{path}: {problem} in {len(where)} of {len(frame)} rows, first row {where[0] + 1} ({shown})",
            allowed,
            remedy,
        )


def need_ids(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    """Refuse rows without an id."""
    for column in columns:
        refuse(path, frame, frame[column].isna() | (frame[column] == ""), f"no {column}", "an id in every row")


def ticks(frame: pd.DataFrame, low: float, high: float, path: Path) -> pd.DataFrame:
    """The table with `score` in ticks 0...1000 (missing where there is none) and the release's own in `raw_score`.

    Raises
    ------
    TableError
        Showing the first answer that is no number or lies off the scale.
    """
    import pandas as pd

    raw = pd.to_numeric(frame["score"], errors="coerce").astype("float64")
    refuse(path, frame, raw.isna() & frame["score"].notna(), "score that is no number", f"{low:g}...{high:g}")
    off = raw.notna() & ~((raw >= low) & (raw <= high))
    refuse(path, frame, off, "score off the scale", f"{low:g}...{high:g}", "is this another release of the data set?")
    return frame.assign(score=np.rint((raw - low) / (high - low) * 1000), raw_score=raw)


def linear_scale(low: float, high: float, step: float | None) -> dict[str, Any]:
    """How raw answers became ticks, as `Dataset.scale`; `step` where only some answers can be given."""
    scale: dict[str, Any] = {"raw": [low, high], "ticks": [0, 1000]}
    scale["formula"] = f"round((score - {low:g}) / {high - low:g} * 1000)"
    if step is not None:
        count = round((high - low) / step)
        scale["levels"] = [round(k / count * 1000) for k in range(count + 1)]
    return scale
