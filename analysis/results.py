"""What every result of this package carries: whom it speaks for, what was left out, and from what it was made."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis import __version__
from analysis.errors import UserError

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Drawn = Literal["new", "these"]
"""`new`: the clusters stand for others like them; `these`: the statement is about exactly these."""

FEWEST_FOR_NEW = 6
"""Clusters a side below which no statement about new ones is made (five degrees of freedom)."""


@dataclass(frozen=True)
class Population:
    """To whom a result generalises.

    Attributes
    ----------
    people, items : {"new", "these"}
        Whether people (participants, users) and items (prompts, images) stand for new ones or only for themselves.
    """

    people: Drawn = "new"
    items: Drawn = "new"

    @classmethod
    def parse(cls, text: str) -> Population:
        """Read `new-people,new-prompts` and its variants (`these-people`, `these-prompts`)."""
        parts = [part.strip() for part in text.split(",")]
        allowed = {"new-people", "these-people"}, {"new-prompts", "these-prompts"}
        if len(parts) != 2 or parts[0] not in allowed[0] or parts[1] not in allowed[1]:
            raise UserError(
                f"population {text!r}", "new-people|these-people,new-prompts|these-prompts", "name people, then prompts"
            )
        return cls("new" if parts[0] == "new-people" else "these", "new" if parts[1] == "new-prompts" else "these")


@dataclass(frozen=True)
class Estimand:
    """The quantity a result estimates, and for whom.

    Attributes
    ----------
    quantity : str
        What is estimated, in words ("probability that own is chosen over other, a tie counting one half").
    people, items : {"new", "these"}
        See `Population`.
    people_noun, items_noun : str
        What the two kinds of clusters are called in the text.
    """

    quantity: str
    people: Drawn = "new"
    items: Drawn = "new"
    people_noun: str = "people"
    items_noun: str = "prompts"

    @property
    def text(self) -> str:
        """One sentence: the quantity and the population it generalises to."""
        return f"{self.quantity}, for {self.people} {self.people_noun} and {self.items} {self.items_noun}"

    def to_json(self) -> dict[str, Any]:
        """Fields plus the sentence."""
        return {**dataclasses.asdict(self), "text": self.text}


@dataclass(frozen=True)
class Exclusions:
    """Rows in, rows used, and why the others were not.

    Attributes
    ----------
    n_in, n_used : int
        Rows of the table handed in and rows the estimate rests on.
    reasons : tuple of (str, int)
        Reason and number of rows; sums to `n_in - n_used`.
    unit : str
        What a row is.
    """

    n_in: int
    n_used: int
    reasons: tuple[tuple[str, int], ...] = ()
    unit: str = "rows"

    def __post_init__(self) -> None:
        left_out = sum(count for _, count in self.reasons)
        if left_out != self.n_in - self.n_used:
            raise ValueError(f"{self.n_in} in, {self.n_used} used, but reasons for {left_out}: {self.reasons}")

    @classmethod
    def none(cls, n: int, unit: str = "rows") -> Exclusions:
        """Everything was used."""
        return cls(n, n, (), unit)

    def after(self, earlier: Exclusions) -> Exclusions:
        """Chain: `earlier` was applied first and left what this one counts as in."""
        if earlier.n_used != self.n_in:
            raise ValueError(f"the earlier step left {earlier.n_used} {self.unit}, this one starts from {self.n_in}")
        return Exclusions(earlier.n_in, self.n_used, earlier.reasons + self.reasons, self.unit)

    @property
    def text(self) -> str:
        """`120 of 150 votes used; left out: 30 (repeat)`."""
        if not self.reasons:
            return f"all {self.n_in} {self.unit} used"
        listed = ", ".join(f"{count} ({reason})" for reason, count in self.reasons)
        return f"{self.n_used} of {self.n_in} {self.unit} used; left out: {listed}"

    def to_json(self) -> dict[str, Any]:
        """Counts and a list of reasons."""
        reasons = [{"reason": reason, "n": count} for reason, count in self.reasons]
        return {"n_in": self.n_in, "n_used": self.n_used, "unit": self.unit, "reasons": reasons}


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def frame_digest(frame: pd.DataFrame) -> str:
    """SHA-256 (hex) of a table's values, whatever the order of its rows and columns.

    Strings and categories of the same text give the same digest; lists are written out.
    """
    import pandas as pd

    columns = {}
    for name in sorted(map(str, frame.columns)):
        column = frame[name]
        if len(column) and isinstance(column.iloc[0], list | np.ndarray):
            column = column.map(lambda row: repr([float(x) for x in row]))
        columns[name] = column.reset_index(drop=True)
    rows = pd.util.hash_pandas_object(pd.DataFrame(columns), index=False).to_numpy()
    return hashlib.sha256("\x1f".join(columns).encode() + np.sort(rows).tobytes()).hexdigest()


@dataclass(frozen=True)
class Provenance:
    """From what a result was made, so that another person can make it again.

    Attributes
    ----------
    data : tuple of (str, str)
        Name of a table (or file) and its SHA-256.
    seed : int or None
        Seed of the random numbers; None where nothing is random or the caller kept the generator to himself.
    versions : tuple of (str, str)
        Packages the numbers depend on.
    settings : tuple of (str, Any)
        Options as given, plain JSON values.
    """

    data: tuple[tuple[str, str], ...] = ()
    seed: int | None = None
    versions: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        tables: Mapping[str, pd.DataFrame | Path],
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Provenance:
        """Digest tables (by value) and files (by bytes) and note the versions."""
        data = tuple(
            (name, file_digest(table) if isinstance(table, Path) else frame_digest(table))
            for name, table in tables.items()
        )
        return cls(data, seed, package_versions(), tuple((settings or {}).items()))

    def to_json(self) -> dict[str, Any]:
        """Plain mappings."""
        return {
            "data": dict(self.data),
            "seed": self.seed,
            "versions": dict(self.versions),
            "settings": plain(dict(self.settings)),
        }


def package_versions(names: Sequence[str] = ("numpy", "scipy", "pandas")) -> tuple[tuple[str, str], ...]:
    """Versions of this package, Python and the named distributions, without importing them."""
    own = (("analysis", __version__), ("python", platform.python_version()))
    return own + tuple((name, metadata.version(name)) for name in names)


def plain(value: Any) -> Any:
    """The value as plain JSON: arrays become lists, tuples of records become lists, NaN and infinities become null.

    Raises
    ------
    TypeError
        For types with no JSON form.
    """
    if isinstance(value, Result | Estimand | Exclusions | Provenance):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [f.name for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {name: plain(getattr(value, name)) for name in kept}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    raise TypeError(f"no JSON form for {type(value).__name__}")


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """Base of all results: frozen dataclasses with keyword-only fields that define `summary` and `to_frame`.

    A field made with `field(metadata={"json": False})` stays out of `to_json` (frames behind a picture).

    Attributes
    ----------
    estimand : Estimand
    exclusions : Exclusions
    warnings : tuple of str
        What the reader must know before he believes the number.
    provenance : Provenance
    """

    estimand: Estimand
    exclusions: Exclusions
    warnings: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    @abstractmethod
    def summary(self) -> str:
        """One paragraph that a methods section can quote."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The main table: one row an estimate."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables worth a CSV file, by file stem; `to_frame` unless there are more."""
        return {"result": self.to_frame()}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of every field, NaN as null."""
        kept = [f.name for f in dataclasses.fields(self) if f.metadata.get("json", True)]
        return {name: plain(getattr(self, name)) for name in kept}

    def plot(self) -> alt.Chart | alt.LayerChart | None:
        """A picture, where one says more than the numbers; otherwise None."""
        return None

    @property
    def exit_status(self) -> int:
        """What the command line ends with: 0, or 1 where the result itself says that something is wrong."""
        return 0


def p_text(p: float) -> str:
    """`p = .034`, `p < .001`; three digits, as methods sections write them."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def percent(share: float) -> str:
    """`53.9 %`."""
    return f"{100 * share:.1f} %"
