"""The mapping file of `--reader csv`: which files and columns hold what.

    ratings:
      file: ratings.csv
      columns: {user_id: rater, image_id: item, score: beauty, occasion: rep}
      scale: {min: 1, max: 7}
    images:
      folder: images
      pattern: "{image_id}.jpg"
      file: images.csv
      columns: {prompt_id: scene, prompt: caption}
    users:
      file: users.csv
      columns: {user_id: rater, age: age}

Columns are written ours: theirs; what is not renamed keeps its name. `images.file` and `users` are optional.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from beholder.errors import UserError

RATING_COLUMNS = (
    "user_id", "image_id", "score", "prompt_id", "occasion", "rated_at", "session", "order", "start_position",
    "response_ms",
)  # fmt: skip
IMAGE_COLUMNS = ("image_id", "prompt_id", "prompt", "generator", "seed")
USER_COLUMNS = ("user_id", "age", "gender", "nationality", "education", "art_interest", "profile")


@dataclass(frozen=True)
class Source:
    """A CSV file and its renamed columns (ours to theirs)."""

    file: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class CsvMapping:
    """A checked mapping file.

    Attributes
    ----------
    ratings : Source
    low, high : float
        Ends of the scale of the scores.
    folder, pattern : str
        Where images lie and what their files are called; the pattern's fields are columns of `images.file`, or
        `image_id` alone.
    images, users : Source, optional
    """

    ratings: Source
    low: float
    high: float
    folder: str
    pattern: str
    images: Source | None
    users: Source | None


def load_mapping(path: Path) -> CsvMapping:
    """Read and check a mapping file.

    Raises
    ------
    UserError
        Naming file and key: missing, unknown, of another type, or with an impossible value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no mapping file {path}", remedy="give --mapping FILE") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return _Checker(path).mapping(content)


@dataclass(frozen=True)
class _Checker:
    """Checks the parts of one file; every message names it."""

    path: Path

    def mapping(self, content: Any) -> CsvMapping:
        top = self._section(content, "", required=("ratings", "images"), optional=("users",))
        ratings = self._section(top["ratings"], "ratings", ("file", "scale"), ("columns",))
        scale = self._section(ratings["scale"], "ratings.scale", ("min", "max"), ())
        low, high = (self._number(scale[key], f"ratings.scale.{key}") for key in ("min", "max"))
        if not low < high:
            raise UserError(f"{self.path}: ratings.scale runs from {low:g} to {high:g}", "min below max")
        images = self._section(top["images"], "images", ("folder", "pattern"), ("file", "columns"))
        if "columns" in images and "file" not in images:
            raise UserError(f"{self.path}: images.columns without images.file", "columns of a file", "name the file")
        pattern = self._text(images["pattern"], "images.pattern")
        if "{" not in pattern:
            raise UserError(f"{self.path}: images.pattern {pattern!r} names one file", "such as '{image_id}.jpg'")
        users = None
        if top.get("users") is not None:
            part = self._section(top["users"], "users", ("file",), ("columns",))
            users = self._source(part, "users", USER_COLUMNS)
        return CsvMapping(
            self._source(ratings, "ratings", RATING_COLUMNS),
            low,
            high,
            self._text(images["folder"], "images.folder"),
            pattern,
            self._source(images, "images", IMAGE_COLUMNS) if "file" in images else None,
            users,
        )

    def _source(self, part: Mapping[str, Any], where: str, known: tuple[str, ...]) -> Source:
        columns = self._section(part.get("columns") or {}, f"{where}.columns", (), known)
        named = {ours: self._text(theirs, f"{where}.columns.{ours}") for ours, theirs in columns.items()}
        return Source(self._text(part["file"], f"{where}.file"), named)

    def _section(self, part: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
        allowed = (*required, *optional)
        if not isinstance(part, dict):
            raise UserError(f"{self.path}: {where or 'the file'} holds {type(part).__name__}", ", ".join(allowed))
        for key in part:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, 1)
                name = f"{where}.{key}" if where else str(key)
                hint = f"did you mean {near[0]!r}?" if near else None
                raise UserError(f"{self.path}: unknown key {name!r}", ", ".join(allowed), hint)
        missing = [key for key in required if part.get(key) is None]
        if missing:
            raise UserError(f"{self.path}: {where or 'the file'} without {', '.join(missing)}", ", ".join(allowed))
        return part

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            raise UserError(f"{self.path}: {where} is {value!r}", "a name")
        return value

    def _number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.path}: {where} is {value!r}", "a number")
        return float(value)
