"""Per-protocol analysis: the planned contrasts without the participants whom the plan's rules leave out.

Participants are left out whole, never single votes. The rules look at a participant's own effort; with honest people of
random taste each should strike one in a hundred or fewer. Intention to treat (everybody) stays the primary analysis;
this one stands beside it. Wrong when a rule is chosen after looking at its effect: rules belong in the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

from analysis.contrasts import Contrasts, planned_contrasts
from analysis.errors import EstimateError
from analysis.plan import ExclusionRules
from analysis.results import Exclusions, Result
from analysis.streaks import longest_run, run_p

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report_sections import Material


@dataclass(frozen=True)
class LeftOut:
    """A participant whom a rule leaves out: the first rule of the plan's order that does, and the value it found."""

    participant_id: str
    rule: str
    value: float


@dataclass(frozen=True, kw_only=True)
class PerProtocol(Result):
    """The planned contrasts of the remaining participants.

    Attributes
    ----------
    contrasts : Contrasts
    left_out : tuple of LeftOut
    n_participants : int
        Before anybody was left out.
    """

    contrasts: Contrasts
    left_out: tuple[LeftOut, ...]
    n_participants: int

    def summary(self) -> str:
        """Who was left out, then the contrasts."""
        return f"Without {len(self.left_out)} of {self.n_participants} participants: {self.contrasts.summary()}"

    def to_frame(self) -> pd.DataFrame:
        """One row a contrast."""
        return self.contrasts.to_frame()

    def tables(self) -> dict[str, pd.DataFrame]:
        """Contrasts, and participants left out."""
        import pandas as pd

        columns = ["participant_id", "rule", "value"]
        return {"result": self.to_frame(), "left_out": pd.DataFrame([vars(x) for x in self.left_out], columns=columns)}


def per_protocol(material: Material, rng: np.random.Generator) -> PerProtocol:
    """Apply the plan's rules, then compute its contrasts.

    Raises
    ------
    EstimateError
        Nobody is left, or a contrast cannot be computed from those who are.
    """
    plan, votes = material.plan, material.tables["votes"]
    left_out, warnings = participants_left_out(votes, plan.exclusions)
    gone = votes["participant_id"].astype("str").isin([x.participant_id for x in left_out]).to_numpy()
    if gone.all():
        raise EstimateError("the rules leave out every participant")
    contrasts = planned_contrasts(
        votes[~gone],
        plan.contrasts,
        rng=rng,
        confidence=plan.confidence,
        population=plan.population,
        provenance=material.provenance("votes"),
    )
    reasons = (("participant left out by a rule", int(gone.sum())),) if gone.any() else ()
    earlier = Exclusions(len(votes), int((~gone).sum()), reasons, "votes")
    return PerProtocol(
        estimand=contrasts.estimand,
        exclusions=contrasts.exclusions.after(earlier),
        warnings=(*warnings, *contrasts.warnings),
        provenance=contrasts.provenance,
        contrasts=contrasts,
        left_out=left_out,
        n_participants=int(votes["participant_id"].nunique()),
    )


def participants_left_out(votes: pd.DataFrame, rules: ExclusionRules) -> tuple[tuple[LeftOut, ...], tuple[str, ...]]:
    """Participants whom the rules leave out, by id, and what could not be applied because a column is missing."""
    main = votes[votes["kind"] == "main"] if "kind" in votes else votes
    found: dict[str, LeftOut] = {}
    warnings = []
    for rule, limit in vars(rules).items():
        if limit is None:
            continue
        values = _VALUES[rule](votes, main)
        if values is None:
            warnings.append(f"rule {rule} could not be applied: the votes lack {_COLUMNS[rule]}")
            continue
        struck = values >= limit if rule == "catch_failures" else values < limit
        for person, value in values[struck].items():
            found.setdefault(str(person), LeftOut(str(person), rule, float(value)))
    return tuple(found[person] for person in sorted(found)), tuple(warnings)


def _n_votes(votes: pd.DataFrame, main: pd.DataFrame) -> pd.Series:
    everybody = votes["participant_id"].astype("str").unique()
    return main["participant_id"].astype("str").value_counts().reindex(everybody, fill_value=0)


def _median_ms(votes: pd.DataFrame, main: pd.DataFrame) -> pd.Series | None:
    if "response_ms" not in main:
        return None
    return main.groupby(main["participant_id"].astype("str"))["response_ms"].median()


def _catch_failures(votes: pd.DataFrame, main: pd.DataFrame) -> pd.Series | None:
    if "expected" not in votes or "kind" not in votes:
        return None
    catch = votes[votes["kind"] == "catch"]
    failed = catch["choice"].astype("str") != catch["expected"].astype("str")
    return failed.groupby(catch["participant_id"].astype("str")).sum()


def _side_p(votes: pd.DataFrame, main: pd.DataFrame) -> pd.Series:
    """Two-sided exact binomial p of one half: by symmetry twice the smaller tail."""
    import pandas as pd

    decided = main[main["choice"] != "tie"]
    left = (decided["choice"] == "left").groupby(decided["participant_id"].astype("str")).agg(["sum", "size"])
    n_left, n = (left[name].to_numpy(dtype=np.int64) for name in ("sum", "size"))
    return pd.Series(np.minimum(1.0, 2 * bdtr(np.minimum(n_left, n - n_left), n, 0.5)), index=left.index)


def _run_p(votes: pd.DataFrame, main: pd.DataFrame) -> pd.Series | None:
    if "order" not in main:
        return None
    keys = ["session", "order"] if "session" in main else ["order"]
    decided = main[main["choice"] != "tie"].sort_values(keys, kind="stable")
    chosen = decided["choice"].astype("str").groupby(decided["participant_id"].astype("str"))
    return chosen.agg(lambda sides: run_p(len(sides), longest_run(sides.to_numpy())))


_VALUES = {
    "votes_below": _n_votes,
    "median_ms_below": _median_ms,
    "catch_failures": _catch_failures,
    "side_p_below": _side_p,
    "run_p_below": _run_p,
}
_COLUMNS = {"run_p_below": "order", "median_ms_below": "response_ms", "catch_failures": "kind and expected"}
