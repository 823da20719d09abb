"""A cell: one kind of simulated study, what is counted in each replicate, and the bounds it is held to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis.errors import EstimateError
from analysis.results import Provenance

ALPHA = 0.05
"""Nominal level of every test; intervals are 95 %."""

SIZE, COVERAGE = 0.07, 0.93
"""Largest share of true hypotheses a right test may reject in 1,000 replicates, and what its interval must cover."""

SIZE_DYADIC = 0.09
"""The same for dyadic clusters, and for permutations of 20 people or fewer."""

UNRECORDED = Provenance()
"""Handed to every call: hashing a table that is thrown away costs more than some of the tests."""

ANALYSIS = Path(__file__).parents[3] / "analysis"
REQUIRED = re.compile(r"^\s*from analysis(?:\.(\w+))? import (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Naive:
    """What people do instead: its share of replicates is shown beside the right test.

    `must_fail` holds it to rejecting more than `SIZE`, or covering less than `COVERAGE`.
    """

    name: str
    value: str
    must_fail: bool
    kind: Literal["rejects", "covers"] = "rejects"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    test : str
        The function and the statistic in it.
    rejects : str or None
        Name of the replicate's value that says whether the hypothesis was rejected.
    low, high : float
        Bounds of the share rejected.
    covers : str or None
        Name of the value that says whether the interval holds the truth.
    covers_least : float or None
        Lower bound of that share; None reports it without one.
    naive : tuple of Naive
    mean : str or None
        Name of a value whose mean may not exceed `high` by more than three Monte Carlo standard errors.
    """

    test: str
    rejects: str | None = None
    low: float = 0.0
    high: float = 1.0
    covers: str | None = None
    covers_least: float | None = None
    naive: tuple[Naive, ...] = ()
    mean: str | None = None


@dataclass(frozen=True)
class Cell:
    """Settings of one kind of study; subclasses add theirs, draw a study and judge it."""

    name: str

    section: str = field(default="", init=False)
    modules: tuple[str, ...] = field(default=(), init=False)

    @property
    def design(self) -> str:
        """Sizes and spreads, for the reader."""
        raise NotImplementedError

    @property
    def truth(self) -> str:
        """What was planted."""
        raise NotImplementedError

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is read from the shares."""
        raise NotImplementedError

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        """Draw one study, analyse it, and say what was rejected and covered (1, 0, or NaN where there was nothing)."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The cell as plain JSON: what decides about the studies drawn."""
        drawn = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return {"kind": type(self).__name__, **drawn}


@dataclass(frozen=True)
class Tally:
    """Number of finite values, their mean and standard deviation over replicates."""

    n: int
    mean: float
    sd: float

    @property
    def se(self) -> float:
        """Monte Carlo standard error of the mean."""
        return self.sd / math.sqrt(self.n) if self.n else math.nan


@dataclass(frozen=True)
class Counted:
    """A cell's result.

    Attributes
    ----------
    tallies : mapping of value name to Tally
    replicates : int
    refused : int
        Replicates in which the package refused an estimate; they are not in the tallies.
    seconds : float
    """

    tallies: Mapping[str, Tally]
    replicates: int
    refused: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain mappings."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Counted:
        """Read what `to_json` wrote."""
        tallies = {name: Tally(**tally) for name, tally in line["tallies"].items()}
        return cls(tallies, line["replicates"], line["refused"], line["seconds"])


def count(cell: Cell, replicates: int, seed: int, clock: Callable[[], float], tell: Callable[[int], None]) -> Counted:
    """Run a cell; `tell` hears the number of replicates done.

    The generator depends on the seed and the cell's settings alone, so that cells may run in any order or selection.
    """
    rng = np.random.default_rng([seed, int(digest_of(cell.settings())[:8], 16)])
    found: dict[str, list[float]] = {}
    refused, started = 0, clock()
    for done in range(1, replicates + 1):
        try:
            values = cell.replicate(rng)
        except EstimateError:
            refused += 1
            values = {}
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
        tell(done)
    tallies = {name: _tally(np.array(values)) for name, values in found.items()}
    return Counted(tallies, replicates, refused, clock() - started)


def _tally(values: np.ndarray) -> Tally:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Tally(0, math.nan, math.nan)
    return Tally(len(finite), float(finite.mean()), float(finite.std()))


def digest_of(value: Any) -> str:
    """SHA-256 of the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sources(modules: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of these modules of `analysis` and of all they import from it, in order of name."""
    seen: dict[str, str] = {}
    wanted = list(modules)
    while wanted:
        name = wanted.pop()
        path = ANALYSIS / f"{name}.py"
        if name in seen or not path.is_file():
            continue
        seen[name] = path.read_text(encoding="utf-8")
        for home, names in REQUIRED.findall(seen[name]):
            wanted += [home] if home else [part.strip() for part in names.split(",")]
    return tuple(ANALYSIS / f"{name}.py" for name in sorted(seen))


def key_of(cell: Cell, replicates: int, seed: int) -> str:
    """What a stored result is found by: settings, size, seed, and every source file the numbers pass through."""
    own = Path(sys.modules[type(cell).__module__].__file__ or "")
    files = [own, *sorted(Path(__file__).parent.glob("draw_*.py")), *sources(cell.modules)]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return digest_of([cell.settings(), replicates, seed, code])
