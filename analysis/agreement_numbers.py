"""Numbers that follow from variance components: shares, ceilings, their intervals, and sensitivity analyses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.alpha import krippendorff_alpha
from analysis.clusters import Floats
from analysis.component_spread import Spread
from analysis.components import Components, accuracy_from_r, moment_components, srocc_from_r
from analysis.errors import EstimateError
from analysis.results import Population
from analysis.slider import FEWEST_FOR_Z, five_answers, standardised
from analysis.tables import Scale

if TYPE_CHECKING:
    import pandas as pd

SHARES: Mapping[str, Callable[[Floats], float]] = {
    "beholder_index": lambda v: _part(v[2] - v[3], v[0]),
    "beholder_index_2": lambda v: _part(v[2] - v[3] + max(v[1], 0.0), v[0]),
    "reliability": lambda v: _part(max(v[0], 0.0) + max(v[2] - v[3], 0.0), v[3]),
}
"""Shares of variance as functions of (v_image, v_user, v_within, v_error)."""


def _part(part: float, rest: float) -> float:
    if math.isnan(part) or math.isnan(rest):
        return math.nan
    part, rest = max(float(part), 0.0), max(float(rest), 0.0)
    return part / (part + rest) if part + rest > 0 else math.nan


def numbers() -> dict[str, tuple[Callable[[Floats], float], Literal["log", "logit", "plain"]]]:
    """Name -> (function of (v_image, v_user, v_within, v_error), scale on which its interval is built)."""

    def accuracy(r: float) -> float:
        return float(accuracy_from_r(r)) if not math.isnan(r) else math.nan

    return {
        "v_image": (lambda v: v[0], "log"),
        "v_user": (lambda v: v[1], "log"),
        "v_within": (lambda v: v[2], "log"),
        "v_user_image": (lambda v: v[2] - v[3], "log"),
        "v_error": (lambda v: v[3], "log"),
        **{name: (number, "logit") for name, number in SHARES.items()},
        "accuracy_personal": (lambda v: accuracy(math.sqrt(SHARES["reliability"](v))), "plain"),
        "accuracy_population": (lambda v: accuracy(math.sqrt(_part(v[0], v[2]))), "plain"),
    }


def influence_intervals(
    spread: Spread, at: Floats, confidence: float, population: Population
) -> dict[str, tuple[float, float]]:
    """Interval of every number, centred at the components `at` (4,); see `Spread.interval`."""
    return {name: spread.interval(f, at, confidence, population, scale) for name, (f, scale) in numbers().items()}


def percentile_intervals(drawn: Floats, at: Floats, confidence: float) -> dict[str, tuple[float, float]]:
    """Percentiles of each number over replicates (B, 4); NaN where the data do not give it."""
    found = {}
    for name, (number, _) in numbers().items():
        values = np.array([number(row) for row in drawn])
        known = np.isfinite(values)
        if math.isnan(number(at)) or not known.any():
            found[name] = (math.nan, math.nan)
            continue
        low, high = np.quantile(values[known], [(1 - confidence) / 2, (1 + confidence) / 2])
        found[name] = (float(low), float(high))
    return found


def ceilings_of(parts: Components, raters: float) -> dict[str, Any]:
    """What the best predictors reach; `raters` stand behind an image mean. NaN where the components do not say."""

    def of(r: float) -> dict[str, float]:
        return {"plcc": r, "srocc": float(srocc_from_r(r)), "accuracy": float(accuracy_from_r(r))}

    found: dict[str, Any] = {
        "personal": of(parts.personal_r),
        "population": of(parts.population_r),
        "own_first_rating": of(parts.reliability),
        "image_mean": of(parts.image_mean_r(raters)),
    }
    found["headroom"] = found["personal"]["accuracy"] - found["population"]["accuracy"]
    return found


def index_of_standardised(rated: pd.DataFrame) -> float:
    """b1 by moments on ratings standardised within users of enough ratings; NaN where it cannot be had."""
    enough = rated.groupby("user_id", observed=True)["score"].transform("size").to_numpy() >= FEWEST_FOR_Z
    if not enough.any():
        return math.nan
    kept = rated[enough]
    z = standardised(kept["score"].to_numpy(), kept["user_id"], shrink=False)
    varied = np.isfinite(z)
    try:
        return moment_components(z[varied], kept["user_id"][varied], kept["image_id"][varied]).beholder_index
    except EstimateError:
        return math.nan


def five_answer_numbers(rated: pd.DataFrame, first: pd.DataFrame, scale: Scale | None) -> dict[str, float]:
    """Beholder index (moments) and ordinal alpha of the ratings as five answers; `first` holds first ratings only."""
    coarse = five_answers(rated["score"], scale).astype(np.float64)
    found = moment_components(coarse, rated["user_id"], rated["image_id"])
    answers = five_answers(first["score"], scale)
    alpha = krippendorff_alpha(answers, first["image_id"], "ordinal") if np.ptp(answers) else math.nan
    return {"beholder_index": found.beholder_index, "krippendorff_alpha": alpha}
