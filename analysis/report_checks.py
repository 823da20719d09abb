"""The checks panel of a report: what must hold for its numbers to mean what they say, and whether it does.

A check is passed, failed or not run; none is left out, and one that is not run says what it would need. A failed check
takes no number away: it tells the reader which of them to doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.clusters import LARGEST_SHARE_OF_A_SOURCE, largest_source_share
from analysis.errors import EstimateError
from analysis.report_design import Design
from analysis.report_sections import HALF_WINS, Material, Section, result_of
from analysis.results import FEWEST_FOR_NEW, p_text, percent
from analysis.trials import LARGE_SHARE, FocalTrials, focal_trials

Status = Literal["passed", "failed", "not run"]
DIMENSION_P = 0.01
"""Below this p, one strength a condition is not enough."""


@dataclass(frozen=True)
class Check:
    """One check: what must hold, whether it does, what was found, and what it is for."""

    name: str
    status: Status
    found: str
    why: str


@dataclass(frozen=True)
class Checked:
    """What the checks look at; `trials` holds every planned contrast that has trials."""

    material: Material
    sections: Sequence[Section]
    design: Design
    registered: str | None
    trials: tuple[tuple[str, FocalTrials], ...]

    def result(self, name: str) -> Any:
        """The result of a section, or None."""
        return result_of(self.sections, name)


Verdict = tuple[Status, str]


def run_checks(
    material: Material, sections: Sequence[Section], design: Design, registered: str | None
) -> tuple[Check, ...]:
    """Every check in reading order; `registered` is the hash of the plan that was registered before the data."""
    trials = []
    if "votes" in material.tables:
        for pair in material.plan.contrasts:
            try:
                trials.append((" over ".join(pair), focal_trials(material.tables["votes"], *pair)))
            except EstimateError:
                continue
    checked = Checked(material, sections, design, registered, tuple(trials))
    return tuple(Check(name, *verdict(checked), why) for name, verdict, why in CHECKS)


def _tables(checked: Checked) -> Verdict:
    rows = ", ".join(f"{name} ({len(frame)} rows)" for name, frame in sorted(checked.material.tables.items()))
    return "passed", rows


def _registered(checked: Checked) -> Verdict:
    plan = checked.material.plan
    if checked.registered is None:
        return "not run", "no registered hash was given (--registered)"
    if checked.registered == plan.hash:
        return "passed", f"hash {plan.hash[:12]}…"
    return "failed", f"registered {checked.registered[:12]}…, this plan {plan.hash[:12]}…"


def _estimated(checked: Checked) -> Verdict:
    if "votes" not in checked.material.tables:
        return "not run", "no votes"
    names = [f"win_rate {a}:{b}" for a, b in checked.material.plan.contrasts]
    missing = [f"{s.title}: {s.reason}" for s in checked.sections if s.name in names and s.result is None]
    if missing:
        return "failed", "; ".join(missing)
    return "passed", f"{len(names)} of {len(names)} contrasts"


def _size(checked: Checked) -> Verdict:
    planned = {name: n for name, n in vars(checked.material.plan.size).items() if n is not None}
    if not planned:
        return "not run", "the plan names no size"
    had = shortfalls(checked.material, checked.design)
    return ("failed", "; ".join(had)) if had else ("passed", ", ".join(f"{n} {name}" for name, n in planned.items()))


def shortfalls(material: Material, design: Design) -> list[str]:
    """Planned sizes that the study did not reach."""
    counts = dict(design.counts)
    names = {"participants": "participants", "prompts": "prompts", "votes": "main votes"}
    return [
        f"{planned} {name} planned, {counts.get(names[name], 0):g} there"
        for name, planned in vars(material.plan.size).items()
        if planned is not None and counts.get(names[name], 0) < planned
    ]


def _over_contrasts(problem: Callable[[FocalTrials], str | None], fine: str) -> Callable[[Checked], Verdict]:
    """A check of every planned contrast; `problem` says what is wrong with one, or None."""

    def verdict(checked: Checked) -> Verdict:
        if not checked.trials:
            return "not run", "no votes on a planned contrast"
        problems = [f"{name}: {text}" for name, text in ((n, problem(t)) for n, t in checked.trials) if text]
        return ("failed", "; ".join(problems)) if problems else ("passed", fine)

    return verdict


def _too_few(trials: FocalTrials) -> str | None:
    people, items = int(trials.people.max()) + 1, int(trials.items.max()) + 1
    return None if min(people, items) >= FEWEST_FOR_NEW else f"{people} participants, {items} prompts"


def _dominated(trials: FocalTrials) -> str | None:
    for name, codes in (("participant", trials.people), ("prompt", trials.items)):
        share = float(np.bincount(codes).max() / len(codes))
        if share > LARGE_SHARE:
            return f"one {name} supplies {percent(share)} of the votes"
    return None


def _unbalanced(trials: FocalTrials) -> str | None:
    difference = np.abs(np.bincount(trials.people, np.where(trials.focal_left, 1.0, -1.0)))
    if difference.max() <= 1:
        return None
    return f"{int((difference > 1).sum())} participants saw the first condition on one side more often"


def _sides_matter(checked: Checked) -> Verdict:
    rates = [s.result for s in checked.sections if s.name.startswith("win_rate ") and s.result is not None]
    found: list[Any] = [r for r in rates if np.isfinite(r.side_adjusted)]  # type: ignore[attr-defined]
    if not found:
        return "not run", "no contrast was seen on both sides"
    moved = [r for r in found if abs(r.side_adjusted - r.estimate) > r.se / 2]
    if moved:
        return "failed", "; ".join(
            f"{r.focal} over {r.against}: {percent(r.estimate)}, {percent(r.side_adjusted)} adjusted" for r in moved
        )
    left = sum(r.left_share * r.n_votes for r in found) / sum(r.n_votes for r in found)
    return "passed", f"left was chosen in {percent(left)} of the votes; adjusting for it moves no rate by half an error"


def _neighbours(checked: Checked) -> Verdict:
    votes = checked.material.tables.get("votes")
    if votes is None or "order" not in votes:
        return "not run", "the votes have no column order"
    person, prompt = votes["participant_id"].astype("str"), votes["prompt_id"].astype("str")
    ordered = votes.assign(person=person, prompt=prompt).sort_values(["person", "order"], kind="stable")
    same = (ordered["person"] == ordered["person"].shift()) & (ordered["prompt"] == ordered["prompt"].shift())
    if same.any():
        return "failed", f"{int(same.sum())} of {len(votes)} trials follow one of the same prompt"
    return "passed", f"none of {len(votes)} trials follows one of the same prompt"


def _sources(checked: Checked) -> Verdict:
    shares = {}
    for name, trials in checked.trials:
        if trials.sources is not None and trials.raters is not None:
            foreign = trials.sources[trials.sources != trials.raters]
            people = int(trials.people.max()) + 1
            shares[name] = largest_source_share(foreign, people) * len(foreign) / len(trials.people)
    if not shares:
        return "not run", "no images made for other people"
    text = ", ".join(f"{name}: largest {share:.1f} equal shares" for name, share in shares.items())
    return ("passed" if max(shares.values()) <= LARGEST_SHARE_OF_A_SOURCE else "failed"), text


def _finite(checked: Checked) -> Verdict:
    ranking = checked.result("ranking")
    if ranking is None:
        return "not run", "no ranking"
    return ("failed", HALF_WINS) if HALF_WINS in ranking.warnings else ("passed", f"{ranking.steps} Newton steps")


def _one_dimension(checked: Checked) -> Verdict:
    ranking = checked.result("ranking")
    if ranking is None:
        return "not run", "no ranking"
    test = ranking.dimension
    if test is None:
        return "not run", "no more pairs than free strengths: any win rates fit"
    text = f"F({test['df']:.0f}, {test['df_error']:.0f}) = {test['statistic']:.2f}, {p_text(test['p'])}"
    return ("passed" if test["p"] >= DIMENSION_P else "failed"), text


def _tie_models(checked: Checked) -> Verdict:
    first, second = checked.result("ranking"), checked.result("ranking_sensitivity")
    if first is None or second is None:
        return "not run", "no ranking"
    orders = [[c.condition for c in ranking.conditions] for ranking in (first, second)]
    if orders[0] == orders[1]:
        return "passed", " > ".join(orders[0])
    return "failed", f"{' > '.join(orders[0])} ({first.ties}), {' > '.join(orders[1])} ({second.ties})"


def _protocols(checked: Checked) -> Verdict:
    everybody, kept = checked.result("contrasts"), checked.result("per_protocol")
    if everybody is None or kept is None:
        return (
            "not run",
            "the plan has no exclusion rules" if not checked.material.plan.exclusions.any else "no contrasts",
        )
    if kept.warnings and any("could not be applied" in text for text in kept.warnings):
        return "failed", next(text for text in kept.warnings if "could not be applied" in text)
    for all_of, some in zip(everybody.contrasts, kept.contrasts.contrasts, strict=True):
        if not all_of.ci_low <= some.estimate <= all_of.ci_high:
            return "failed", f"{some.focal} over {some.against}: {percent(some.estimate)} outside everybody's interval"
    return "passed", f"{len(kept.left_out)} participants left out; every estimate inside everybody's interval"


def _handed_in(checked: Checked) -> Verdict:
    given = [s.result for s in checked.sections if s.kind == "as handed in" and s.result is not None]
    compared: list[Any] = [r for r in given if r.recomputed is not None]  # type: ignore[attr-defined]
    if not compared:
        return "not run", "no finished tables with predictions and ratings beside them"
    wrong = [f"{r.name}: {r.recomputed.differing[0]}" for r in compared if r.recomputed.differing]
    if wrong:
        return "failed", "; ".join(wrong)
    if not sum(r.recomputed.compared for r in compared):
        return "not run", "the predictions are of other models"
    return "passed", ", ".join(f"{r.name}: {r.recomputed.compared} numbers" for r in compared)


def _planted(checked: Checked) -> Verdict:
    planted = checked.result("planted")
    if planted is None:
        return "not run", "people are not simulated, or no truth was given"
    outside = [f"{r.focal} over {r.against}" for r in planted.rates if not r.inside]
    return (
        ("failed", ", ".join(outside))
        if outside
        else ("passed", f"{len(planted.rates)} of {len(planted.rates)} inside")
    )


def _never(reason: str) -> Callable[[Checked], Verdict]:
    return lambda checked: ("not run", reason)


CHECKS: tuple[tuple[str, Callable[[Checked], Verdict], str], ...] = (
    ("Tables hold what their definitions ask for", _tables, "an unknown answer must never become a tie"),
    ("The plan is the registered one", _registered, "tests chosen after the data need another correction"),
    ("Every planned contrast has an estimate", _estimated, "a test that was planned and left out is a deviation"),
    ("The study has its planned size", _size, "power was computed for it"),
    (
        f"{FEWEST_FOR_NEW} or more participants and prompts in every contrast",
        _over_contrasts(_too_few, "in every contrast"),
        "with fewer, nothing is said about new ones",
    ),
    (
        "No participant or prompt dominates",
        _over_contrasts(_dominated, f"none supplies more than {percent(LARGE_SHARE)} of a contrast's votes"),
        "the interval would lean on one of them",
    ),
    (
        "Sides are balanced within every participant and contrast",
        _over_contrasts(_unbalanced, "left and right differ by one trial at most"),
        "a preference for a side must cancel",
    ),
    ("A preference for a side moves no result", _sides_matter, "position is not taste"),
    ("Neighbouring trials show different prompts", _neighbours, "answers must not carry over"),
    ("Source users supply equal shares", _sources, "one person's images for everybody are a cluster of their own"),
    ("The ranking has a finite maximum", _finite, "a condition that always wins has no finite strength"),
    ("One dimension fits every pair", _one_dimension, "otherwise the ranking is nobody's preference"),
    ("Both models of ties give one order", _tie_models, "the order must not hang on how ties are read"),
    ("Per protocol agrees with intention to treat", _protocols, "exclusions must not make the result"),
    (
        "Finished tables follow from the predictions",
        _handed_in,
        "a table that was handed in may be of other predictions",
    ),
    ("Planted win rates lie inside their intervals", _planted, "the analysis must recover what is known"),
    ("Nobody stopped the study for its result", _never("say so in the deviations"), "looking costs error rate"),
    (
        "Every number can be computed again",
        _never("python -m analysis rerun BUNDLE"),
        "others must get the same",
    ),
    ("R gives the same main numbers", _never("Rscript analysis.R in the bundle"), "other programs must get the same"),
)
"""Name, verdict and purpose, in reading order."""
