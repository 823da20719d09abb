"""Ranking of all conditions from votes with ties: the models of `analysis.davidson` applied to a table of votes.

The order effect (what the left side gains) is fitted when at least one pair was seen in both orders. A condition that
wins or loses everything has no finite strength: then half a win is added on each side of every pair, and a warning says
so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.charts import interval_chart
from analysis.clusters import Floats, Ints, integer_codes, t_quantile
from analysis.davidson import (
    LEFT,
    RIGHT,
    TIE,
    Counts,
    Fit,
    Sandwich,
    Ties,
    choice_probabilities,
    fit_counts,
    two_way_sandwich,
)
from analysis.errors import EstimateError
from analysis.results import Exclusions, Population, Provenance, Result
from analysis.tables import CHOICES, check_votes
from analysis.trials import conditions_in, estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

PSEUDO_WIN = 0.5


@dataclass(frozen=True)
class Strength:
    """One condition: log strength relative to the reference; `se_model` ignores clusters (for comparison only)."""

    condition: str
    log_strength: float
    se: float
    ci_low: float
    ci_high: float
    se_model: float


@dataclass(frozen=True, kw_only=True)
class Ranking(Result):
    """See `rank_conditions`.

    Attributes
    ----------
    conditions : tuple of Strength
        Strongest first; the reference has strength 0 and no error.
    covariance : array (K, K)
        Two-way covariance of the log strengths, in the order of `conditions`.
    tie_parameter : float
        log nu (Davidson) or log theta (Rao-Kupper); None without ties.
    tie_parameter_se, order_effect_se : float or None
    order_effect : float or None
        log gamma: what the left side adds to the log strength; None when no pair was seen in both orders.
    log_likelihood : float
    pairs : tuple of dict
        For each pair: votes, ties, observed and fitted win rate of the first (a tie one half): where the model fails.
    """

    conditions: tuple[Strength, ...]
    covariance: Floats
    tie_parameter: float | None
    tie_parameter_se: float | None
    order_effect: float | None
    order_effect_se: float | None
    log_likelihood: float
    converged: bool
    steps: int
    reference: str
    ties: Ties
    df: int
    n_votes: int
    n_ties: int
    n_participants: int
    n_prompts: int
    confidence: float
    pairs: tuple[dict[str, Any], ...]

    def summary(self) -> str:
        """One paragraph for a results section."""
        name = {"davidson": "Davidson", "rao-kupper": "Rao-Kupper"}[self.ties]
        listed = "; ".join(
            f"{c.condition} {c.log_strength:.3f}"
            + ("" if c.condition == self.reference else f" [{c.ci_low:.3f}, {c.ci_high:.3f}]")
            for c in self.conditions
        )
        return (
            f"Log strengths relative to {self.reference} ({name} model of {self.n_votes} votes, {self.n_ties} ties; "
            f"{100 * self.confidence:g} % CI with two-way clusters of {self.n_participants} participants and "
            f"{self.n_prompts} prompts, t with {self.df} df): {listed}. Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a condition."""
        import pandas as pd

        return pd.DataFrame([vars(c) for c in self.conditions])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Strengths, and observed against fitted win rates of every pair."""
        import pandas as pd

        return {"result": self.to_frame(), "pairs": pd.DataFrame(list(self.pairs))}

    def plot(self) -> alt.LayerChart:
        """Log strengths with their intervals, strongest first."""
        frame = self.to_frame().rename(columns={"log_strength": "estimate"})
        axis = f"log strength relative to {self.reference}"
        return interval_chart(frame, "condition", axis, "Strength of the conditions", 0.0)


def rank_conditions(
    votes: pd.DataFrame,
    *,
    ties: Ties = "davidson",
    reference: str | None = None,
    order_effect: bool | None = None,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> Ranking:
    """Log strengths of all conditions, relative to one of them.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes between two different conditions are used.
    ties : {"davidson", "rao-kupper"}
    reference : str, optional
        Condition with strength 0; the first in alphabetical order unless given.
    order_effect : bool, optional
        Fit what the left side gains. Default: when any pair was seen in both orders.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Conditions that no chain of votes connects, only ties, fewer than two participants or prompts, no convergence.
    """
    votes = check_votes(votes)
    names = conditions_in(votes)
    reference = reference or names[0]
    if reference not in names:
        raise EstimateError(f"no condition {reference!r} in the votes", ", ".join(names), "name one of these")
    rows, exclusions = _comparisons(votes)
    used = votes.iloc[rows]
    left, right = (_codes_in(used[f"{side}_condition"], names) for side in ("left", "right"))
    choice = _codes_in(used["choice"], list(CHOICES))
    counts, pair_row = _count(left, right, choice, len(names))
    _require_connected(counts, names)
    both_orders = bool(np.isin(counts.right * len(names) + counts.left, counts.left * len(names) + counts.right).any())
    with_order = both_orders if order_effect is None else order_effect
    fitted_counts, warnings = _finite(counts, names)
    fit = fit_counts(fitted_counts, names.index(reference), ties, with_order)
    people, items = integer_codes(used["participant_id"])[0], integer_codes(used["prompt_id"])[0]
    sandwich = two_way_sandwich(fit, pair_row * 3 + choice, people, items)
    n_people, n_items = int(people.max()) + 1, int(items.max()) + 1
    quantity = f"log strength of each condition relative to {reference}"
    estimand, few = estimand_for(quantity, Population(), n_people, n_items)
    df = min(n_people, n_items) - 1
    has_ties = bool(counts.votes[:, TIE].any())
    strengths, covariance = _strengths(fit, sandwich, names, names.index(reference), df, confidence)
    if not both_orders and order_effect is None:
        warnings += ("every pair was seen in one order only: a preference for a side cannot be told from strength",)
    at = len(names) - 1
    unit = np.eye(len(fit.parameters))
    return Ranking(
        estimand=estimand,
        exclusions=exclusions,
        warnings=few + warnings,
        provenance=provenance or Provenance.of({"votes": votes}),
        conditions=strengths,
        covariance=covariance,
        tie_parameter=float(fit.parameters[-1]) if has_ties else None,
        tie_parameter_se=float(np.sqrt(sandwich.variance(unit[-1]))) if has_ties else None,
        order_effect=float(fit.parameters[at]) if with_order else None,
        order_effect_se=float(np.sqrt(sandwich.variance(unit[at]))) if with_order else None,
        log_likelihood=fit.log_likelihood,
        converged=True,
        steps=fit.steps,
        reference=reference,
        ties=ties,
        df=df,
        n_votes=len(rows),
        n_ties=int((choice == TIE).sum()),
        n_participants=n_people,
        n_prompts=n_items,
        confidence=confidence,
        pairs=_pair_residuals(counts, fit, names, names.index(reference), ties, with_order),
    )


def _comparisons(votes: pd.DataFrame) -> tuple[Ints, Exclusions]:
    """Rows that are main votes between two different conditions."""
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else np.ones(len(votes), dtype=bool)
    same = (votes["left_condition"].astype("str") == votes["right_condition"].astype("str")).to_numpy()
    rows = np.flatnonzero(main & ~same)
    if not len(rows):
        raise EstimateError("no main vote between two conditions", "at least 2 participants and prompts")
    reasons = (("kind is not main", int((~main).sum())), ("the same condition twice", int((main & same).sum())))
    return rows, Exclusions(len(votes), len(rows), tuple(r for r in reasons if r[1]), "votes")


def _codes_in(values: pd.Series, names: list[str]) -> Ints:
    """Positions in `names`; every value is one of them."""
    import pandas as pd

    codes, uniques = pd.factorize(values)
    positions = np.array([names.index(value) for value in uniques], dtype=np.int64)
    return positions[codes]


def _count(left: Ints, right: Ints, choice: Ints, n_conditions: int) -> tuple[Counts, Ints]:
    """Counts of the ordered pairs that occur, and each vote's row among them."""
    pair = left * n_conditions + right
    table = np.bincount(pair * 3 + choice, minlength=3 * n_conditions**2).reshape(-1, 3)
    present = np.flatnonzero(table.sum(axis=1))
    row = np.full(len(table), -1, dtype=np.int64)
    row[present] = np.arange(len(present))
    counts = Counts(present // n_conditions, present % n_conditions, table[present].astype(float), n_conditions)
    return counts, row[pair]


def _reach(edges: np.ndarray) -> np.ndarray:
    """Transitive closure of a small boolean adjacency matrix."""
    closure = edges | np.eye(len(edges), dtype=bool)
    for k in range(len(edges)):
        closure |= closure[:, k, None] & closure[k]
    return np.asarray(closure)


def _require_connected(counts: Counts, names: list[str]) -> None:
    edges = np.zeros((len(names), len(names)), dtype=bool)
    edges[counts.left, counts.right] = edges[counts.right, counts.left] = True
    reach = _reach(edges)
    if not reach.all():
        together = [name for name, linked in zip(names, reach[0], strict=True) if linked]
        apart = [name for name in names if name not in together]
        raise EstimateError(
            f"no votes connect {', '.join(together)} with {', '.join(apart)}",
            "conditions that are linked by comparisons",
            "rank the groups apart (--where)",
        )
    if counts.votes[:, TIE].sum() == counts.votes.sum():
        raise EstimateError("every vote is a tie", "some preferences", "no strengths can be told apart")


def _finite(counts: Counts, names: list[str]) -> tuple[Counts, tuple[str, ...]]:
    """Counts with a finite maximum: half a win more on both sides of each pair where some group never loses."""
    beats = np.zeros((len(names), len(names)), dtype=bool)
    won_left, won_right = ((counts.votes[:, k] + counts.votes[:, TIE]) > 0 for k in (LEFT, RIGHT))
    beats[counts.left[won_left], counts.right[won_left]] = True
    beats[counts.right[won_right], counts.left[won_right]] = True
    reach = _reach(beats)
    if reach.all():
        return counts, ()
    unbeaten = [name for k, name in enumerate(names) if not reach[:, k].all()]
    more = counts.votes + np.array([PSEUDO_WIN, PSEUDO_WIN, 0])
    warning = (
        f"no chain of losses links {', '.join(unbeaten)} to all others, so half a win was added on each side of every "
        "pair; the strengths are finite only by that"
    )
    return Counts(counts.left, counts.right, more, counts.n_conditions), (warning,)


def _strengths(
    fit: Fit, sandwich: Sandwich, names: list[str], reference: int, df: int, confidence: float
) -> tuple[tuple[Strength, ...], Floats]:
    free = [k for k in range(len(names)) if k != reference]
    values, model_se = np.zeros(len(names)), np.zeros(len(names))
    values[free] = fit.parameters[: len(free)]
    model_se[free] = np.sqrt(np.diag(np.linalg.inv(fit.information)))[: len(free)]
    covariance = np.zeros((len(names), len(names)))
    covariance[np.ix_(free, free)] = sandwich.two_way[: len(free), : len(free)]
    unit = np.eye(len(fit.parameters))
    se = np.zeros(len(names))
    se[free] = [np.sqrt(sandwich.variance(unit[j])) for j in range(len(free))]
    half = t_quantile(0.5 + confidence / 2, df) * se
    order = sorted(range(len(names)), key=lambda k: (-values[k], names[k]))
    strengths = tuple(
        Strength(
            names[k],
            float(values[k]),
            float(se[k]),
            float(values[k] - half[k]),
            float(values[k] + half[k]),
            float(model_se[k]),
        )
        for k in order
    )
    return strengths, covariance[np.ix_(order, order)]


def _pair_residuals(
    counts: Counts, fit: Fit, names: list[str], reference: int, ties: Ties, with_order: bool
) -> tuple[dict[str, Any], ...]:
    """Observed and fitted win rates of each unordered pair: where they differ, one dimension is not enough."""
    utility = np.insert(fit.parameters[: len(names) - 1], reference, 0.0)
    order = float(fit.parameters[len(names) - 1]) if with_order else 0.0
    tie = float(fit.parameters[-1]) if counts.votes[:, TIE].any() else None
    p = choice_probabilities(utility[counts.left] - utility[counts.right] + order, tie, ties)
    n = counts.votes.sum(axis=1)
    rows: dict[tuple[int, int], list[float]] = {}
    for k, (i, j) in enumerate(zip(counts.left.tolist(), counts.right.tolist(), strict=True)):
        side = LEFT if i < j else RIGHT
        cell = rows.setdefault((min(i, j), max(i, j)), [0.0, 0.0, 0.0, 0.0])
        won = counts.votes[k, side] + 0.5 * counts.votes[k, TIE]
        expected = n[k] * (p[k, side] + 0.5 * p[k, TIE])
        for at, amount in enumerate((n[k], counts.votes[k, TIE], won, expected)):
            cell[at] += float(amount)
    return tuple(
        {
            "first": names[i],
            "second": names[j],
            "n_votes": int(total),
            "n_ties": int(tied),
            "observed": won / total,
            "fitted": expected / total,
        }
        for (i, j), (total, tied, won, expected) in sorted(rows.items())
    )
