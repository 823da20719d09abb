"""The one definition of the tidy tables, and the checks on the way in.

One row is one observation; extra columns pass through. A check returns the table it was given, with ids as text and
scores as integers, or raises one `TableError` that counts and shows the offending rows. Nothing is dropped here.

================ ============================================================ =======================================
table            required columns                                             one row for each
================ ============================================================ =======================================
`ratings`        user_id, image_id, score (integer ticks)                     user, image, occasion
`votes`          participant_id, prompt_id, left_condition, right_condition,  participant, trial_id (when given)
                 choice (left, right, tie)
`predictions`    model, user_id, image_id, score                              model, user, image, split
`steered`        user_id, prompt_id, run, embedding (list of floats)          user, prompt, run, condition
`users`          user_id                                                      user
`images`         image_id, path                                               image
================ ============================================================ =======================================
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

TableName = Literal["ratings", "votes", "predictions", "steered", "users", "images"]

CHOICES = ("left", "right", "tie")
KINDS = ("main", "repeat", "catch", "practice")


@dataclass(frozen=True)
class Scale:
    """The answers a slider allows.

    Attributes
    ----------
    low, high : int
        Ends, both allowed.
    levels : tuple of int, optional
        The only allowed values, for a study without ticks (`(1, 2, 3, 4, 5)`).
    """

    low: int = 0
    high: int = 1000
    levels: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read `MIN:MAX`."""
        low, _, high = text.partition(":")
        try:
            scale = cls(int(low), int(high))
        except ValueError:
            raise TableError(f"scale {text!r}", "MIN:MAX with whole numbers", "write for instance 1:7") from None
        if scale.low >= scale.high:
            raise TableError(f"scale {text!r}", "MIN below MAX")
        return scale

    @property
    def text(self) -> str:
        """What an error message says is allowed."""
        if self.levels is not None:
            return "one of " + ", ".join(map(str, self.levels))
        return f"whole numbers from {self.low} to {self.high}"


@dataclass(frozen=True)
class Definition:
    """What a table must hold: ids (text), required columns, and what no two rows may share."""

    ids: tuple[str, ...]
    required: tuple[str, ...]
    key: tuple[str, ...]
    optional_ids: tuple[str, ...] = ()
    optional_key: tuple[str, ...] = ()
    duplicate_remedy: str = "keep one row a key"


DEFINITIONS: dict[str, Definition] = {
    "ratings": Definition(
        ("user_id", "image_id"),
        ("user_id", "image_id", "score"),
        ("user_id", "image_id"),
        ("prompt_id",),
        ("occasion",),
        "number repeated ratings in an `occasion` column, or keep one of them",
    ),
    "votes": Definition(
        ("participant_id", "prompt_id", "left_condition", "right_condition"),
        ("participant_id", "prompt_id", "left_condition", "right_condition", "choice"),
        (),
        ("left_image_id", "right_image_id"),
        ("participant_id", "trial_id"),
        "keep one row a trial",
    ),
    "predictions": Definition(
        ("model", "user_id", "image_id"),
        ("model", "user_id", "image_id", "score"),
        ("model", "user_id", "image_id"),
        optional_key=("split",),
    ),
    "steered": Definition(
        ("user_id", "prompt_id"),
        ("user_id", "prompt_id", "run", "embedding"),
        ("user_id", "prompt_id", "run"),
        ("image_id",),
        ("condition",),
        "keep one image for each user, prompt and run",
    ),
    "users": Definition(("user_id",), ("user_id",), ("user_id",)),
    "images": Definition(("image_id",), ("image_id", "path"), ("image_id",), ("prompt_id",)),
}

SOURCES = ("left_source_user", "right_source_user")
"""Ids in `votes` that may be empty: of images made for nobody."""


def _rows_text(frame: pd.DataFrame, bad: Any, columns: Sequence[str]) -> str:
    """Count and show bad rows: `3 of 120 rows: row 5 (score=1200), …`; rows count from 1 below the header."""
    positions = np.flatnonzero(np.asarray(bad))
    shown = []
    for position in positions[:3]:
        row = frame.iloc[position]
        shown.append(f"row {position + 1} ({', '.join(f'{c}={row[c]}' for c in columns)})")
    more = ", …" if len(positions) > 3 else ""
    return f"{len(positions)} of {len(frame)} rows: {', '.join(shown)}{more}"


def _refuse(table: str, frame: pd.DataFrame, bad: Any, problem: str, columns: Sequence[str], *advice: str) -> None:
    """Raise when any row is bad."""
    if np.any(bad):
        raise TableError(f"{table}: {problem} in {_rows_text(frame, bad, columns)}", *advice)


def _text_ids(table: str, frame: pd.DataFrame, columns: Iterable[str], allow_empty: bool = False) -> None:
    """Make ids text in place, so that 7 and "7" are the same person in two tables."""
    import pandas as pd

    for column in columns:
        values = frame[column]
        if not allow_empty:
            _refuse(
                table, frame, values.isna(), f"empty {column}", [column], "an id in every row", "fill or remove them"
            )
        if isinstance(values.dtype, pd.CategoricalDtype):
            if not pd.api.types.is_string_dtype(values.cat.categories.dtype):
                frame[column] = values.cat.rename_categories([str(c) for c in values.cat.categories])
        elif pd.api.types.is_float_dtype(values.dtype) and not values.isna().all():
            raise TableError(
                f"{table}: {column} holds decimal numbers such as {values.dropna().iloc[0]!r}",
                "text or whole numbers",
                "write ids as text (an empty cell among numbers makes them decimal)",
            )
        elif not pd.api.types.is_string_dtype(values.dtype) or values.dtype == object:
            frame[column] = values.astype("str").where(values.notna())


@functools.cache
def _schema(table: str) -> Any:
    """The pandera schema of a table: columns, what they hold, and the key."""
    import pandera.pandas as pa

    columns: dict[str, Any] = {name: pa.Column(nullable=True) for name in DEFINITIONS[table].required}
    if table == "votes":
        columns["choice"] = pa.Column(checks=pa.Check.isin(CHOICES, error=", ".join(CHOICES)))
        columns["kind"] = pa.Column(checks=pa.Check.isin(KINDS, error=", ".join(KINDS)), required=False)
    if table in ("predictions",):
        columns["score"] = pa.Column(checks=pa.Check(np.isfinite, error="finite numbers"), nullable=False)
        columns["sd"] = pa.Column(checks=pa.Check.ge(0, error="numbers of 0 or more"), nullable=True, required=False)
    return pa.DataFrameSchema(columns, strict=False)


def _validate(table: str, frame: pd.DataFrame) -> None:
    """Run the schema and turn what it finds into one message: the first problem in full, the others counted."""
    import pandera.errors

    definition = DEFINITIONS[table]
    missing = [name for name in definition.required if name not in frame.columns]
    if missing:
        raise TableError(
            f"{table}: no column {', '.join(missing)} (columns: {', '.join(map(str, frame.columns))})",
            "required are " + ", ".join(definition.required),
            "rename with --columns ours=theirs or frame.rename",
        )
    if not len(frame):
        raise TableError(f"{table}: no rows", "at least one", "check the file and the selection")
    try:
        _schema(table).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        first = cases.iloc[0]
        same = cases[(cases["column"] == first["column"]) & (cases["check"] == first["check"])]
        bad = np.zeros(len(frame), dtype=bool)
        labels = same["index"].dropna()
        bad[labels.astype(int).to_numpy() if len(labels) else slice(None)] = True
        others = len(cases) - len(same)
        rest = f"; {others} more problems in other columns" if others else ""
        allowed = "a value in every row" if first["check"] == "not_nullable" else str(first["check"])
        raise TableError(
            f"{table}: {first['column']} not allowed in {_rows_text(frame, bad, [first['column']])}{rest}",
            allowed,
            "correct these rows",
        ) from None


def _check(table: TableName, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns, ids and keys; the checked copy has the index 0 … n-1."""
    definition = DEFINITIONS[table]
    checked = frame.reset_index(drop=True)  # a new frame: the caller's stays as it was
    _validate(table, checked)
    optional = [name for name in definition.optional_ids if name in checked.columns]
    _text_ids(table, checked, (*definition.ids, *optional))
    if table == "votes":
        _text_ids(table, checked, [name for name in SOURCES if name in checked.columns], allow_empty=True)
    extra = [name for name in definition.optional_key if name in checked.columns]
    key = [*definition.key, *extra]
    if table == "votes" and "trial_id" not in extra:
        key = []
    if key:
        repeated = checked.duplicated(key, keep=False).to_numpy()
        what = f"the same {' + '.join(key)}"
        _refuse(table, checked, repeated, what, key, "one row each", definition.duplicate_remedy)
    return checked


def check_ratings(frame: pd.DataFrame, scale: Scale | None = None) -> pd.DataFrame:
    """Check a `ratings` table and return it with text ids and integer scores.

    Parameters
    ----------
    frame : DataFrame
        Columns user_id, image_id, score and any others.
    scale : Scale, optional
        Allowed scores; 0 … 1000 unless given.

    Raises
    ------
    TableError
        Missing column, empty id, score off the scale or not a whole number, repeated (user, image, occasion).
    """
    import pandas as pd

    scale = scale or Scale()
    checked = _check("ratings", frame)
    score = pd.to_numeric(checked["score"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        allowed = (score == np.round(score)) & (score >= scale.low) & (score <= scale.high)
    if scale.levels is not None:
        allowed &= np.isin(score, scale.levels)
    remedy = "mend the rows, or state the scale (--scale MIN:MAX)"
    _refuse("ratings", checked, ~allowed, "score off the scale", ["score"], scale.text, remedy)
    checked["score"] = score.astype(np.int64)
    return checked


def check_votes(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a `votes` table; an unknown choice or kind raises, it never becomes a tie.

    Raises
    ------
    TableError
        Missing column, empty id, choice other than left, right, tie, unknown kind, repeated (participant, trial).
    """
    return _check("votes", frame)


def check_predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a `predictions` table: finite scores, one row for each model, user, image and (when given) split.

    Raises
    ------
    TableError
        Missing column, empty id, score that is not a finite number, negative sd, repeated key.
    """
    import pandas as pd

    if "score" in frame.columns and not pd.api.types.is_numeric_dtype(frame["score"]):
        numbers = pd.to_numeric(frame["score"], errors="coerce")
        bad = numbers.isna().to_numpy()
        _refuse("predictions", frame.reset_index(drop=True), bad, "score is no number", ["score"], "finite numbers")
        frame = frame.assign(score=numbers)
    return _check("predictions", frame)


def check_steered(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a `steered` table and return it with embeddings as float arrays of one length.

    Raises
    ------
    TableError
        Missing column, embedding empty, not finite or of another length than the first, repeated (user, prompt, run).
    """
    import pandas as pd

    checked = _check("steered", frame)
    vectors = [_vector(value) for value in checked["embedding"]]
    length = len(vectors[0])
    bad = [len(v) != length or length == 0 or not np.isfinite(v).all() for v in vectors]
    remedy = "export the embeddings of one encoder"
    _refuse("steered", checked, bad, "embedding unusable", ["user_id", "prompt_id"], f"{length} finite numbers", remedy)
    checked["embedding"] = pd.Series(vectors, dtype=object)
    return checked


def _vector(value: Any) -> np.ndarray:
    try:
        return np.asarray(json.loads(value) if isinstance(value, str) else value, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0)


def check_users(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a `users` table: one row a person. Raises `TableError` as the others."""
    return _check("users", frame)


def check_images(frame: pd.DataFrame) -> pd.DataFrame:
    """Check an `images` table: one row an image, with its path. Raises `TableError` as the others."""
    return _check("images", frame)


def check_table(table: TableName, frame: pd.DataFrame, scale: Scale | None = None) -> pd.DataFrame:
    """Check a table by name; `scale` matters for `ratings` only."""
    if table == "ratings":
        return check_ratings(frame, scale)
    special = {"predictions": check_predictions, "steered": check_steered}
    return special[table](frame) if table in special else _check(table, frame)


def check_split_disjoint(train: Iterable[Any], test: Iterable[Any], what: str = "user_id") -> None:
    """Refuse a split in which an id lies on both sides.

    Parameters
    ----------
    train, test : iterable
        Ids of the two sides: users for "new people", prompts or images for "new images".
    what : str
        Name of the id for the message.

    Raises
    ------
    TableError
        Counts the ids on both sides and shows three.
    """
    both = sorted({str(x) for x in train} & {str(x) for x in test})
    if both:
        shown = ", ".join(both[:3]) + (", …" if len(both) > 3 else "")
        raise TableError(
            f"split: {len(both)} {what} on both sides ({shown})", "disjoint sides", f"assign each {what} to one side"
        )


def read_table(path: Path | str, table: TableName | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file without checking it; ids stay text ("007" keeps its zeros).

    Parameters
    ----------
    path : path
        `.csv`, `.csv.gz`, `.tsv` or `.parquet`.
    table : str, optional
        Which table it is. Without it every column of a CSV is typed by its content.

    Raises
    ------
    TableError
        File missing, of another kind, or unreadable.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file", "a CSV or Parquet file", "check the path")
    suffixes = "".join(path.suffixes[-2:])
    try:
        if path.suffix in (".parquet", ".pq"):
            return _read_parquet(path)
        if path.suffix in (".csv", ".tsv") or suffixes.endswith((".csv.gz", ".tsv.gz")):
            separator = "\t" if ".tsv" in path.suffixes else ","
            return _read_csv(path, separator, table)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})", "a valid table") from error
    raise TableError(f"{path}: unknown kind of file", ".csv, .csv.gz, .tsv, .parquet", "convert it")


def _read_parquet(path: Path) -> pd.DataFrame:
    """Text comes back as categories: at a million votes the text costs more than the statistics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return pq.read_table(path, read_dictionary=texts).to_pandas()


def _read_csv(path: Path, separator: str, table: TableName | None) -> pd.DataFrame:
    """Ids and conditions are text as written ("007", "None", "NA"); elsewhere the usual words mean "missing"."""
    import pandas as pd

    known = set(SOURCES)
    if table is not None:
        definition = DEFINITIONS[table]
        known |= {*definition.ids, *definition.optional_ids, "trial_id", "choice", "kind"}
    header = pd.read_csv(path, sep=separator, nrows=0).columns
    texts = [name for name in header if name in known or str(name).endswith("_id")]
    missing = {name: [""] if name in texts else ["", "NA", "NaN", "nan", "null", "None", "N/A"] for name in header}
    return pd.read_csv(path, sep=separator, dtype=dict.fromkeys(texts, "str"), keep_default_na=False, na_values=missing)
