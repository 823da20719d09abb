"""The questions of a report, each answered by one function of this package on the tables at hand.

A question whose tables are missing, or whose data do not allow the number, is not dropped: it stays in the report as
"not run" with the reason. Every question draws from a generator of its own, seeded by the plan's seed and the
question's number, so that its numbers do not depend on which other questions could be asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.errors import EstimateError
from analysis.plan import AnalysisPlan, Ties
from analysis.results import Provenance, Result, frame_digest, package_versions
from analysis.tables import Scale
from analysis.trials import focal_trials

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["planned", "sensitivity", "description", "as handed in"]
HALF_WINS = "no finite strengths exist, so half a win was added on each side of every pair"
"""Warning of a ranking that is finite only by this."""

GIVEN = ("ladder", "differences", "tie_curve", "disagreement")
"""Tables that an evaluation of reward models wrote; shown as they are, and computed again from predictions if there."""


@dataclass(frozen=True)
class Section:
    """One question of a report.

    Attributes
    ----------
    name : str
        Unique in a report; what `rerun` and `numbers.csv` call it.
    title : str
    kind : str
        `planned` by the plan, `sensitivity` of a planned one, `description`, or a table shown `as handed in`.
    result : Result or None
    reason : str or None
        Why there is no result.
    """

    name: str
    title: str
    kind: Kind
    result: Result | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Material:
    """What the questions may use: the plan, checked tables by name, their digests, the scale of the ratings."""

    plan: AnalysisPlan
    tables: Mapping[str, pd.DataFrame]
    scale: Scale
    digests: Mapping[str, str]

    @classmethod
    def of(cls, plan: AnalysisPlan, tables: Mapping[str, pd.DataFrame], scale: Scale) -> Material:
        """With the digests computed; the tables have been checked."""
        return cls(plan, tables, scale, {name: frame_digest(frame) for name, frame in sorted(tables.items())})

    def provenance(self, *names: str) -> Provenance:
        """Digests of the named tables, the plan's seed and hash, versions."""
        data = tuple((name, self.digests[name]) for name in names if name in self.digests)
        return Provenance(data, self.plan.seed, package_versions(), (("plan", self.plan.hash),))


Ask = Callable[[Material, np.random.Generator], Result]


@dataclass(frozen=True)
class _Question:
    """`number` seeds its generator and stays the same for ever, whatever is added or taken away beside it."""

    number: int
    name: str
    title: str
    kind: Kind
    needs: tuple[str, ...]
    ask: Ask
    unless: str | None = None


def _contrasts(material: Material, rng: np.random.Generator) -> Result:
    from analysis.contrasts import planned_contrasts

    plan = material.plan
    return planned_contrasts(
        material.tables["votes"],
        plan.contrasts,
        rng=rng,
        confidence=plan.confidence,
        population=plan.population,
        provenance=material.provenance("votes"),
    )


def _win_rate(pair: tuple[str, str]) -> Ask:
    def ask(material: Material, rng: np.random.Generator) -> Result:
        from analysis.win_rates import win_rate

        plan = material.plan
        return win_rate(
            material.tables["votes"],
            *pair,
            confidence=plan.confidence,
            population=plan.population,
            provenance=material.provenance("votes"),
        )

    return ask


def _yoked(material: Material, rng: np.random.Generator) -> Result:
    from analysis.yoked import yoked_effect

    votes, plan = material.tables["votes"], material.plan
    for pair in plan.contrasts:
        if focal_trials(votes, *pair).all_sourced:
            return yoked_effect(votes, *pair, confidence=plan.confidence, provenance=material.provenance("votes"))
    raise EstimateError("no contrast sets images made for two different people side by side")


def _ranking(sensitivity: bool) -> Ask:
    def ask(material: Material, rng: np.random.Generator) -> Result:
        from analysis.ranking import rank_conditions

        plan = material.plan
        other: Ties = "rao-kupper" if plan.ties == "davidson" else "davidson"

        def rank(pseudo_wins: float) -> Result:
            return rank_conditions(
                material.tables["votes"],
                ties=other if sensitivity else plan.ties,
                pseudo_wins=pseudo_wins,
                confidence=plan.confidence,
                population=plan.population,
                provenance=material.provenance("votes"),
            )

        try:
            return rank(0)
        except EstimateError:  # an infinite strength; whatever else is wrong is wrong again below
            finite = rank(0.5)
            return dataclasses.replace(finite, warnings=(HALF_WINS, *finite.warnings))

    return ask


def _per_protocol(material: Material, rng: np.random.Generator) -> Result:
    from analysis.report_protocol import per_protocol

    return per_protocol(material, rng)


def _logistic(material: Material, rng: np.random.Generator) -> Result:
    from analysis.report_contrasts import logistic

    return logistic(material, rng)


def _monitoring(material: Material, rng: np.random.Generator) -> Result:
    from analysis.report_contrasts import monitoring

    return monitoring(material, rng)


def _order_effects(material: Material, rng: np.random.Generator) -> Result:
    from analysis.order_effects import session_effects

    votes, confidence = material.tables["votes"], material.plan.confidence
    return session_effects(votes, confidence=confidence, provenance=material.provenance("votes"))


def _planted(material: Material, rng: np.random.Generator) -> Result:
    from analysis.report_planted import planted

    return planted(material, rng)


def _consistency(material: Material, rng: np.random.Generator) -> Result:
    from analysis.consistency import steering_consistency

    steered, plan = material.tables["steered"], material.plan
    several = "condition" in steered and len(steered["condition"].unique()) > 1
    return steering_consistency(
        steered,
        rng=rng,
        condition=plan.focal if several else None,
        confidence=plan.confidence,
        provenance=material.provenance("steered"),
    )


def _accuracy(level: Literal["user", "population"]) -> Ask:
    def ask(material: Material, rng: np.random.Generator) -> Result:
        from analysis.accuracy import accuracy

        predictions = material.tables["predictions"]
        return accuracy(
            predictions,
            material.tables["ratings"],
            level=level,
            confidence=material.plan.confidence,
            baseline="population" if (predictions["model"] == "population").any() else None,
            scale=material.scale,
            provenance=material.provenance("predictions", "ratings"),
        )

    return ask


def _tie_curve(material: Material, rng: np.random.Generator) -> Result:
    from analysis.tie_curve import tie_curve

    first, last, step = material.plan.margins
    return tie_curve(
        material.tables["predictions"],
        material.tables["ratings"],
        range(first, last + 1, step),
        rng=rng,
        confidence=material.plan.confidence,
        scale=material.scale,
        provenance=material.provenance("predictions", "ratings"),
    )


def _disagreement(material: Material, rng: np.random.Generator) -> Result:
    from analysis.disagreement import disagreement

    dense = "predictions_dense" if "predictions_dense" in material.tables else "predictions"
    return disagreement(
        material.tables[dense],
        material.tables["ratings"],
        rng=rng,
        confidence=material.plan.confidence,
        draws=material.plan.permutations,
        scale=material.scale,
        provenance=material.provenance(dense, "ratings"),
    )


def _given(name: str) -> Ask:
    def ask(material: Material, rng: np.random.Generator) -> Result:
        from analysis.report_given import given_table

        return given_table(name, material)

    return ask


def _questions(plan: AnalysisPlan) -> list[_Question]:
    votes, models = ("votes",), ("predictions", "ratings")
    found = [
        _Question(1, "contrasts", "Planned contrasts", "planned", votes, _contrasts),
        *(
            _Question(2, f"win_rate {a}:{b}", f"Win rate of {a} over {b}", "planned", votes, _win_rate((a, b)))
            for a, b in plan.contrasts
        ),
        _Question(4, "yoked", "Personalisation effect", "description", votes, _yoked),
        _Question(5, "ranking", "Ranking of all conditions", "description", votes, _ranking(False)),
        _Question(6, "ranking_sensitivity", "Ranking, other model of ties", "sensitivity", votes, _ranking(True)),
        _Question(14, "logistic", "Crossed logistic model", "sensitivity", votes, _logistic),
        _Question(15, "monitoring", "Evidence at any time", "description", votes, _monitoring),
        _Question(16, "order_effects", "Side, fatigue and carry-over", "description", votes, _order_effects),
        _Question(7, "consistency", "Consistency of steering", "description", ("steered",), _consistency),
        _Question(8, "accuracy", "Accuracy for each person", "description", models, _accuracy("user"), "ladder"),
        _Question(
            9,
            "accuracy_population",
            "Accuracy, average taste",
            "description",
            models,
            _accuracy("population"),
            "ladder",
        ),
        _Question(10, "tie_curve", "Accuracy by tie margin", "description", models, _tie_curve, "tie_curve"),
        _Question(11, "disagreement", "Diverging pairs", "description", models, _disagreement, "disagreement"),
        _Question(12, "planted", "Planted and recovered", "description", ("votes", "truth_votes"), _planted),
    ]
    if plan.exclusions.any:
        title = "Planned contrasts, per protocol"
        found.insert(1, _Question(3, "per_protocol", title, "sensitivity", votes, _per_protocol))
    return found


_GIVEN_TITLES = {
    "ladder": "Ladder of reward models",
    "differences": "Differences between reward models",
    "tie_curve": "Accuracy by tie margin",
    "disagreement": "Diverging pairs",
}


def ask_all(material: Material) -> tuple[Section, ...]:
    """Every question of the plan, answered or with the reason why not.

    Raises
    ------
    TableError
        For tables that do not hold what their definition asks for; missing numbers are reasons, not errors.
    """
    questions = _questions(material.plan)
    asked = [q for q in questions if q.unless is None or q.unless not in material.tables]
    handed = [
        _Question(13, name, _GIVEN_TITLES[name], "as handed in", (name,), _given(name))
        for name in GIVEN
        if name in material.tables
    ]
    return tuple(_answer(question, material) for question in (*asked, *handed))


def _answer(question: _Question, material: Material) -> Section:
    missing = [name for name in question.needs if name not in material.tables]
    result, reason = None, None
    if missing:
        reason = f"no table {' and '.join(missing)}"
    else:
        try:
            result = question.ask(material, np.random.default_rng([material.plan.seed, question.number]))
        except EstimateError as error:
            reason = error.found
    return Section(question.name, question.title, question.kind, result, reason)


def result_of(sections: Sequence[Section], name: str) -> Result | None:
    """The result of a question, or None where it was not asked or has none."""
    for section in sections:
        if section.name == name:
            return section.result
    return None
