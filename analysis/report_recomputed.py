"""Finished tables of an evaluation, computed again from the predictions and ratings that lie beside them.

An evaluation of reward models may hand in its ladder, differences, tie curves and diverging pairs as finished tables.
Where a report also has the predictions and ratings, `recomputed` derives the same numbers from these and compares cell
by cell, so that a table that was edited, or comes from other predictions, is found out, and a rerun of the bundle
starts from the predictions. Numbers that hang on random draws of the evaluation (bands, permutation p) are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import EstimateError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report_sections import Material

RELATIVE, ABSOLUTE = 1e-9, 1e-12
FEWEST_DRAWS = 1
"""Permutations and draws of a band, whose results are not compared."""

COMPARED = {
    "ladder": ("accuracy", "ci_low", "ci_high", "srocc", "plcc", "n_users"),
    "differences": ("estimate", "ci_low", "ci_high", "p"),
    "tie_curve": ("accuracy", "constant_skill"),
    "disagreement": ("both", "one", "none", "accuracy"),
}
"""Columns of each table that follow from predictions and ratings alone."""


@dataclass(frozen=True)
class Recomputed:
    """How a finished table compares with the predictions.

    Attributes
    ----------
    compared : int
        Numbers that were computed again.
    differing : tuple of str
        Where they are not those of the table: row, column, handed in, computed.
    without_predictions : int
        Rows of models for which there are no predictions.
    """

    compared: int
    differing: tuple[str, ...]
    without_predictions: int


Key = tuple[Any, ...]
Rows = Mapping[Key, Mapping[str, Any]]


def recomputed(name: str, given: pd.DataFrame, material: Material) -> Recomputed | None:
    """Compute the table `name` again; None where the report has no predictions or no ratings.

    Numbers agree within a relative 1e-9; a number on one side only is a difference.
    """
    if not {"predictions", "ratings"} <= set(material.tables):
        return None
    try:
        fresh = _FRESH[name](given, material)
    except EstimateError as error:
        return Recomputed(0, (f"{name}: {error.found}",), len(given))
    compared, absent, differing = 0, 0, []
    for row in given.to_dict("records"):
        key = _key(name, row)
        found = fresh.get(key)
        if found is None:
            absent += 1
            continue
        for column in COMPARED[name]:
            if column not in row:
                continue
            compared += 1
            if not _same(row[column], found[column]):
                differing.append(f"{', '.join(map(str, key))}: {column} {row[column]}, computed {found[column]}")
    return Recomputed(compared, tuple(differing), absent)


def _same(given: Any, computed: Any) -> bool:
    one, other = (math.nan if value is None else float(value) for value in (given, computed))
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


KEYS = {
    "ladder": ("model", "split", "level"),
    "differences": ("a", "b", "split", "level"),
    "tie_curve": ("model", "split", "margin"),
    "disagreement": ("model", "split", "margin"),
}


def _key(name: str, row: Mapping[Any, Any]) -> Key:
    """What tells the rows of a table apart; tables of disagreement may leave out a margin of 0."""
    return tuple(int(row.get(column, 0)) if column == "margin" else str(row[column]) for column in KEYS[name])


def _keyed(name: str, frame: pd.DataFrame) -> dict[Key, Mapping[str, Any]]:
    return {_key(name, row): {str(k): v for k, v in row.items()} for row in frame.to_dict("records")}


def _accuracies(given: pd.DataFrame, material: Material) -> list[Any]:
    from analysis.accuracy import accuracy

    levels = [level for level in ("user", "population") if (given["level"] == level).any()]
    tables = material.tables["predictions"], material.tables["ratings"]
    options = {"confidence": material.plan.confidence, "scale": material.scale}
    return [accuracy(*tables, level=level, provenance=material.provenance(), **options) for level in levels]  # type: ignore[arg-type]


def _ladder(given: pd.DataFrame, material: Material) -> Rows:
    return {k: v for found in _accuracies(given, material) for k, v in _keyed("ladder", found.to_frame()).items()}


def _differences(given: pd.DataFrame, material: Material) -> Rows:
    """Every difference in both directions."""
    rows: dict[Key, Mapping[str, Any]] = {}
    for found in _accuracies(given, material):
        for d in found.differences:
            rows[d.a, d.b, d.split, d.level] = vars(d)
            turned = {"estimate": -d.estimate, "ci_low": -d.ci_high, "ci_high": -d.ci_low}
            rows[d.b, d.a, d.split, d.level] = {**vars(d), **turned}
    return rows


def _tie_curve(given: pd.DataFrame, material: Material) -> Rows:
    from analysis.tie_curve import tie_curve

    found = tie_curve(
        material.tables["predictions"],
        material.tables["ratings"],
        sorted({int(margin) for margin in given["margin"]}),
        rng=np.random.default_rng(material.plan.seed),
        confidence=material.plan.confidence,
        scale=material.scale,
        provenance=material.provenance(),
    )
    return _keyed("tie_curve", found.to_frame())


def _disagreement(given: pd.DataFrame, material: Material) -> Rows:
    from analysis.disagreement import disagreement

    dense = "predictions_dense" if "predictions_dense" in material.tables else "predictions"
    margins = sorted({int(margin) for margin in given["margin"]}) if "margin" in given else [0]
    rows: dict[Key, Mapping[str, Any]] = {}
    for margin in margins:
        found = disagreement(
            material.tables[dense],
            material.tables["ratings"],
            rng=np.random.default_rng(material.plan.seed),
            margin=margin,
            confidence=material.plan.confidence,
            draws=FEWEST_DRAWS,
            scale=material.scale,
            provenance=material.provenance(),
        )
        rows |= _keyed("disagreement", found.to_frame().assign(margin=margin))
    return rows


_FRESH: dict[str, Callable[[pd.DataFrame, Material], Rows]] = {
    "ladder": _ladder,
    "differences": _differences,
    "tie_curve": _tie_curve,
    "disagreement": _disagreement,
}
