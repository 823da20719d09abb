"""Compute every number of a bundle again from its tables and plan, and compare.

Text, counts and whether a check passed must be the same; other numbers may differ by a relative 1e-9 (near zero by
1e-12), which is what other versions of the numerical libraries and other processors bring. Sections whose model is
searched for by steps that stop at a tolerance may differ by 1e-4. Files whose digest is not
the manifest's are differences too, whether or not a number follows them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.bundle import VERSIONS, Bundle
from analysis.errors import UserError
from analysis.report import Report, make_report
from analysis.report_numbers import flatten, is_number
from analysis.results import Estimand, Exclusions, Provenance, Result, file_digest, package_versions
from analysis.tables import Scale

if TYPE_CHECKING:
    import pandas as pd

RELATIVE, ABSOLUTE = 1e-9, 1e-12
SEARCHED = {"sections/logistic/": (1e-4, 1e-6)}
"""Sections by the start of their paths, and the tolerances of what an optimiser found (and a curvature there)."""
COMPARED = ("plan", "plan_hash", "design", "checks", "sections", "deviations")
"""Parts of `results.json` that are compared."""


@dataclass(frozen=True)
class Difference:
    """Where a bundle and its rerun differ: a file by its digest, or a value of `results.json` by its path."""

    where: str
    reported: Any
    rerun: Any


@dataclass(frozen=True, kw_only=True)
class Rerun(Result):
    """See `rerun_bundle`.

    Attributes
    ----------
    reproduced : bool
    compared : int
        Values compared; `compared_numbers` of them are numbers.
    differences : tuple of Difference
    other_versions : tuple of (str, str, str)
        Package, version that wrote the bundle, version here, where they differ. No difference by itself.
    """

    reproduced: bool
    compared: int
    compared_numbers: int
    compared_files: int
    differences: tuple[Difference, ...]
    other_versions: tuple[tuple[str, str, str], ...]

    @property
    def exit_status(self) -> int:
        """0 when everything was reproduced, otherwise 1."""
        return 0 if self.reproduced else 1

    def summary(self) -> str:
        """Whether it was reproduced, and the first differences."""
        head = "Reproduced" if self.reproduced else f"NOT reproduced ({len(self.differences)} differences)"
        lines = [
            f"{head}: {self.compared} values compared, {self.compared_numbers} of them numbers, and "
            f"{self.compared_files} files."
        ]
        lines += [f"  {d.where}: reported {_short(d.reported)}, rerun {_short(d.rerun)}" for d in self.differences[:10]]
        if len(self.differences) > 10:
            lines.append(f"  … and {len(self.differences) - 10} more (result.json lists them all)")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row a difference."""
        import pandas as pd

        rows = [(d.where, _short(d.reported), _short(d.rerun)) for d in self.differences]
        return pd.DataFrame(rows, columns=["where", "reported", "rerun"])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def rerun_bundle(path: Path) -> Rerun:
    """Rerun the bundle at `path` (folder or zip).

    Raises
    ------
    UserError
        Nothing there, an unfinished bundle, another format, or a file that the rerun needs is missing or unreadable.
    """
    bundle = Bundle.open(path)
    altered = tuple(Difference(name, promised, found) for name, promised, found in bundle.altered())
    reported = _results(bundle)
    fresh = _report_of(bundle)
    again: dict[str, Any] = {}
    failure: tuple[Difference, ...] = ()
    if isinstance(fresh, UserError):
        failure = (Difference("results.json", "computed", str(fresh)),)
    else:
        again = fresh.to_json()
    compared, numbers, differing = compare(
        {part: reported.get(part) for part in COMPARED}, {part: again.get(part) for part in COMPARED}
    )
    differences = altered + (failure or differing)
    here = dict(package_versions(VERSIONS))
    there = bundle.manifest.get("versions", {})
    others = tuple((name, str(there.get(name)), here[name]) for name in here if there.get(name) != here[name])
    n_files = len(bundle.manifest["files"])
    return Rerun(
        estimand=Estimand("whether the reported numbers follow from the bundle's tables and plan", "these", "these"),
        exclusions=Exclusions.none(compared, "values"),
        warnings=tuple(f"{name}: written with {old}, rerun with {new}" for name, old, new in others),
        provenance=Provenance(_digests(bundle, path), bundle.manifest.get("seed"), tuple(here.items())),
        reproduced=not differences,
        compared=compared,
        compared_numbers=numbers,
        compared_files=n_files,
        differences=differences,
        other_versions=others,
    )


def _digests(bundle: Bundle, path: Path) -> tuple[tuple[str, str], ...]:
    if path.is_file():
        return ((path.name, file_digest(path)),)
    return tuple((name, str(digest)) for name, digest in bundle.manifest["files"].items() if name.startswith("tables/"))


def _results(bundle: Bundle) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(bundle.need("results.json"))
        return results
    except ValueError as error:
        raise UserError(f"{bundle.path}: results.json cannot be read ({error})", "JSON", "get another copy") from None


def _report_of(bundle: Bundle) -> Report | UserError:
    """The report computed again; the error where the tables no longer allow it."""
    settings = json.loads(bundle.need("settings.json"))
    levels = settings["scale"]["levels"]
    scale = Scale(settings["scale"]["low"], settings["scale"]["high"], tuple(levels) if levels else None)
    plan, tables = bundle.plan(), bundle.tables()
    try:
        return make_report(
            plan, tables, scale=scale, registered=settings["registered"], deviations=settings["deviations"]
        )
    except UserError as error:
        return error


def compare(reported: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[int, int, tuple[Difference, ...]]:
    """Values compared, numbers among them, and where the two differ; a value on one side only is a difference."""
    first, second = dict(flatten(reported)), dict(flatten(again))
    differences, numbers = [], 0
    for where in dict.fromkeys((*first, *second)):
        if where not in first or where not in second:
            differences.append(Difference(where, first.get(where, "absent"), second.get(where, "absent")))
            continue
        numbers += is_number(first[where])
        if not same(first[where], second[where], *_tolerance(where)):
            differences.append(Difference(where, first[where], second[where]))
    return len(dict.fromkeys((*first, *second))), numbers, tuple(differences)


def _tolerance(where: str) -> tuple[float, float]:
    return next((found for start, found in SEARCHED.items() if where.startswith(start)), (RELATIVE, ABSOLUTE))


def same(reported: Any, again: Any, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> bool:
    """Whether two leaves are the same: exactly for text, counts and truth values, nearly for decimal numbers."""
    if isinstance(reported, float) or isinstance(again, float):
        if not (is_number(reported) and is_number(again)):
            return False
        return math.isclose(reported, again, rel_tol=relative, abs_tol=absolute)
    return type(reported) is type(again) and bool(reported == again)
