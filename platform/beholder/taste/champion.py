"""Which model serves: the simplest one that no other surely beats.

The champion moves only when a paired test says so: a challenger must order more pairs right for known people and new
images, with the whole two-way interval of the difference (users and prompts where prompts are known) above 0. From the
incumbent, or from the first model of the plan where there is none, the models are gone through in the plan's order, and
each that surely beats the champion so far takes its place. A model that only looks better stays the challenger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Choice:
    """Who serves, and why.

    Attributes
    ----------
    champion : str
    challenger : str or None
        The model of the highest accuracy, where that is another one.
    reason : str
        In words, with the differences that decided.
    """

    champion: str
    challenger: str | None
    reason: str


def choose(
    models: Sequence[str],
    accuracy: Mapping[str, float],
    differences: pd.DataFrame,
    incumbent: str | None,
    evidence: str,
) -> Choice:
    """The champion among some models.

    Parameters
    ----------
    models : sequence of str
        In the plan's order, the simplest first.
    accuracy : mapping of str to float
        User level, known people.
    differences : DataFrame
        `a, b, estimate, ci_low, ci_high` of that accuracy; `prompt_ci_low`, `prompt_ci_high` go before where they are.
    incumbent : str or None
        The champion so far. One that is not among `models` was not tested against them and stays.
    evidence : str
        What the accuracies are, for `reason`.
    """
    best = max(models, key=lambda name: accuracy[name])
    if incumbent is not None and incumbent not in models:
        return Choice(incumbent, best, f"{incumbent} was not tested against {', '.join(models)} and stays; {evidence}")
    champion, steps = incumbent or models[0], []
    for name in models:
        if name == champion:
            continue
        estimate, low, high = _difference(differences, name, champion)
        if low > 0:
            steps.append(f"{name} beats {champion} by {_points(estimate)} [{_points(low)}, {_points(high)}]")
            champion = name
    challenger = best if best != champion and accuracy[best] > accuracy[champion] else None
    if challenger is not None:
        estimate, low, high = _difference(differences, challenger, champion)
        steps.append(f"{challenger} is not shown to beat it: {_points(estimate)} [{_points(low)}, {_points(high)}]")
    start = f"{incumbent} was champion" if incumbent else f"begun with {models[0]}, the plan's first"
    return Choice(champion, challenger, "; ".join([start, *steps, f"points, {evidence}"]))


def _difference(differences: pd.DataFrame, a: str, b: str) -> tuple[float, float, float]:
    """Accuracy of `a` less that of `b` with its interval; NaN where they were not compared."""
    for one, other, sign in ((a, b, 1.0), (b, a, -1.0)):
        rows = differences[(differences["a"] == one) & (differences["b"] == other)]
        if len(rows):
            row = rows.iloc[0]
            ends = [float(row["ci_low"]), float(row["ci_high"])]
            if "prompt_ci_low" in rows.columns and not math.isnan(row["prompt_ci_low"]):
                ends = [float(row["prompt_ci_low"]), float(row["prompt_ci_high"])]
            low, high = sorted(sign * end for end in ends)
            return sign * float(row["estimate"]), low, high
    return math.nan, math.nan, math.nan


def _points(value: float) -> str:
    return "?" if math.isnan(value) else f"{100 * value:+.1f}"
