"""Every check of a report can pass and fail, and nothing that was planned gets lost."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.errors import EstimateError, TableError, UserError
from analysis.report import Report, make_report
from analysis.report_design import repeats_alike
from analysis.report_gallery import Gallery
from analysis.report_page import page
from analysis.report_protocol import participants_left_out
from analysis.win_rates import win_rate

sys.path.insert(0, str(Path(__file__).parent))
import report_studies


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return report_studies.everything(np.random.default_rng(7))


def status(report: Report, start: str) -> str:
    (found,) = [c.status for c in report.checks if c.name.startswith(start)]
    return found


def found(report: Report, start: str) -> str:
    (text,) = [c.found for c in report.checks if c.name.startswith(start)]
    return text


def test_missing_tables_are_not_run_with_the_reason(tables: dict[str, pd.DataFrame]) -> None:
    report = make_report(report_studies.plan(), {"votes": tables["votes"]})
    reasons = {s.name: s.reason for s in report.sections if s.result is None}
    assert reasons == {
        "consistency": "no table steered",
        "accuracy": "no table predictions and ratings",
        "accuracy_population": "no table predictions and ratings",
        "tie_curve": "no table predictions and ratings",
        "disagreement": "no table predictions and ratings",
        "planted": "no table truth_votes",
    }
    assert report.deviations == ()
    assert "Consistency of steering: no table steered." in page(report, Gallery(), "bundle")
    assert report.to_json()["sections"]["consistency"] == {"not_run": "no table steered"}


def test_a_planned_contrast_without_votes_is_a_deviation_and_a_failed_check(tables: dict[str, pd.DataFrame]) -> None:
    plan = report_studies.plan(contrasts=["own:other", "own:hpsv3"])
    report = make_report(plan, {"votes": tables["votes"]})
    assert report.result("win_rate own:other").n_votes == 72
    assert status(report, "Every planned contrast") == "failed"
    assert any("Win rate of own over hpsv3 was planned and not run" in d for d in report.deviations)
    assert any("population, unoptimised (in the ranking only)" in d for d in report.deviations)


def test_registration_size_and_stated_deviations(tables: dict[str, pd.DataFrame]) -> None:
    only = {"votes": tables["votes"]}
    plan = report_studies.plan(size={"participants": 20, "prompts": 8})
    fine = make_report(plan, only, registered=plan.hash)
    assert status(fine, "The plan is the registered one") == "passed"
    assert status(fine, "The study has its planned size") == "failed"
    assert fine.deviations == ("20 participants planned, 12 there",)
    other = make_report(plan, only, registered="0" * 64, deviations=("the room was changed",))
    assert status(other, "The plan is the registered one") == "failed"
    assert other.deviations[0] == "the room was changed"
    assert any(plan.hash in d and "0" * 64 in d for d in other.deviations)
    assert status(make_report(report_studies.plan(), only), "The plan is the registered one") == "not run"


def test_nothing_to_answer_is_an_error(tables: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(EstimateError, match="no question of the plan can be answered"):
        make_report(report_studies.plan(), {"ratings": tables["ratings"]})
    with pytest.raises(UserError, match="table 'voices'"):
        make_report(report_studies.plan(), {"voices": tables["votes"]})
    with pytest.raises(TableError, match="choice not allowed"):
        make_report(report_studies.plan(), {"votes": tables["votes"].assign(choice="both")})


def spoilt(votes: pd.DataFrame, how: str) -> pd.DataFrame:
    """Votes that one check must refuse."""
    own_left = votes["left_condition"] == "own"
    other = (votes["left_condition"] == "other") | (votes["right_condition"] == "other")
    if how == "one side":
        return votes[own_left | ~other]
    if how == "same prompt twice":
        return votes.assign(order=votes["prompt_id"].str[1:].astype(int))
    if how == "few people":
        return votes[votes["participant_id"] < "u05"]
    if how == "one dominates":
        again = votes[votes["participant_id"] == "u00"]
        return pd.concat([votes, *(again.assign(trial_id=again["trial_id"] + f"-{k}") for k in range(4))])
    if how == "always wins":
        won = np.where(own_left, "left", "right")
        return votes.assign(choice=np.where(other, won, votes["choice"]))
    if how == "one source":
        for side in ("left", "right"):
            made_for = votes[f"{side}_source_user"].where(votes[f"{side}_condition"] != "other", "u01")
            votes = votes.assign(**{f"{side}_source_user": made_for})
        return votes
    raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("one side", "Sides are balanced"),
        ("same prompt twice", "Neighbouring trials"),
        ("few people", "6 or more participants"),
        ("one dominates", "No participant or prompt dominates"),
        ("always wins", "The ranking has a finite maximum"),
        ("one source", "Source users supply equal shares"),
    ],
)
def test_every_check_can_fail(tables: dict[str, pd.DataFrame], how: str, check: str) -> None:
    sound = make_report(report_studies.plan(), {"votes": tables["votes"]})
    assert status(sound, check) == "passed", found(sound, check)
    broken = make_report(report_studies.plan(), {"votes": spoilt(tables["votes"], how)})
    assert status(broken, check) == "failed", found(broken, check)


def test_intransitive_votes_fail_the_check_of_one_dimension() -> None:
    rng = np.random.default_rng(0)
    beats = [("a", "b"), ("b", "c"), ("c", "a")]
    rows = []
    for u in range(12):
        for p in range(8):
            for k, (winner, loser) in enumerate(beats):
                left = bool((u + p + k) % 2)
                won = (rng.random() < 0.8) == left
                names = (winner, loser) if left else (loser, winner)
                rows.append((f"u{u}", f"p{p}", *names, "left" if won else "right"))
    columns = ["participant_id", "prompt_id", "left_condition", "right_condition", "choice"]
    plan = report_studies.plan(focal="a", contrasts=["a:b", "a:c"])
    report = make_report(plan, {"votes": pd.DataFrame(rows, columns=columns)})
    assert status(report, "One dimension fits every pair") == "failed"


def with_truth(votes: pd.DataFrame, p_own: float) -> pd.DataFrame:
    """Probabilities under which the own image wins with `p_own` and ties with .1."""
    own_left = votes["left_condition"] == "own"
    p = np.where(own_left, p_own, 0.9 - p_own)
    return pd.DataFrame({"trial_id": votes["trial_id"], "p_left": p, "p_tie": 0.1, "p_right": 0.9 - p})


def test_planted_rates_and_their_check(tables: dict[str, pd.DataFrame]) -> None:
    votes = tables["votes"]
    report = make_report(report_studies.plan(), {"votes": votes, "truth_votes": with_truth(votes, 0.1)})
    for rate in report.result("planted").rates:
        assert rate.planted == pytest.approx(0.15)
        assert not rate.inside
    assert status(report, "Planted win rates") == "failed"
    near = report.result("win_rate own:other").estimate - 0.05
    again = make_report(
        report_studies.plan(contrasts=["own:other"]), {"votes": votes, "truth_votes": with_truth(votes, near)}
    )
    assert status(again, "Planted win rates") == "passed"


def test_truth_that_is_no_probability_or_belongs_to_other_trials(tables: dict[str, pd.DataFrame]) -> None:
    votes = tables["votes"]
    with pytest.raises(TableError, match="is not 1"):
        make_report(report_studies.plan(), {"votes": votes, "truth_votes": with_truth(votes, 0.3).assign(p_tie=0.5)})
    report = make_report(report_studies.plan(), {"votes": votes, "truth_votes": with_truth(votes, 0.3).iloc[1:]})
    reasons = {s.name: s.reason for s in report.sections}
    assert reasons["planted"] == "1 votes have no true probabilities"


def test_repeats_are_compared_by_condition_not_by_side() -> None:
    votes = pd.DataFrame(
        {
            "trial_id": ["a", "b", "c", "a2", "b2", "c2"],
            "left_condition": ["own", "own", "own", "other", "other", "other"],
            "right_condition": ["other", "other", "other", "own", "own", "own"],
            "choice": ["left", "left", "tie", "right", "left", "tie"],
            "kind": ["main"] * 3 + ["repeat"] * 3,
            "repeat_of": [None, None, None, "a", "b", "c"],
        }
    )
    assert repeats_alike(votes) == (2, 3)
    assert repeats_alike(votes.drop(columns="repeat_of")) is None


def test_rules_leave_out_by_own_effort_alone() -> None:
    people = {"quick": (300, 10), "left": (2000, 20), "short": (2000, 3), "honest": (2000, 20)}
    rows = []
    for name, (ms, n) in people.items():
        for k in range(n):
            choice = "left" if name == "left" or k % 2 else "right"
            rows.append((name, f"p{k}", "own", "other", choice, ms + k, "main", None))
    rows += [
        ("honest", "c", "x", "y", "left", 900, "catch", "left"),
        ("short", "c", "x", "y", "left", 900, "catch", "right"),
    ]
    columns = [
        "participant_id",
        "prompt_id",
        "left_condition",
        "right_condition",
        "choice",
        "response_ms",
        "kind",
        "expected",
    ]
    votes = pd.DataFrame(rows, columns=columns)
    rules = {"median_ms_below": 400, "side_p_below": 0.001, "catch_failures": 1}
    plan = report_studies.plan(contrasts=["own:other"], exclusions=rules)
    left_out, warnings = participants_left_out(votes, plan.exclusions)
    assert {x.participant_id: x.rule for x in left_out} == {
        "quick": "median_ms_below",
        "left": "side_p_below",
        "short": "catch_failures",
    }
    assert warnings == ()
    (p,) = [x.value for x in left_out if x.participant_id == "left"]
    assert p == pytest.approx(stats.binomtest(20, 20, 0.5).pvalue, rel=1e-12)
    few = report_studies.plan(contrasts=["own:other"], exclusions={"votes_below": 5})
    assert [x.participant_id for x in participants_left_out(votes, few.exclusions)[0]] == ["short"]


def test_per_protocol_is_the_analysis_of_those_who_remain(tables: dict[str, pd.DataFrame]) -> None:
    votes = tables["votes"].copy()
    votes.loc[votes["participant_id"].isin(["u03", "u04"]), "response_ms"] = 100
    plan = report_studies.plan(exclusions={"median_ms_below": 400, "catch_failures": 2})
    report = make_report(plan, {"votes": votes})
    kept = votes[~votes["participant_id"].isin(["u03", "u04"])]
    result = report.result("per_protocol")
    assert [x.participant_id for x in result.left_out] == ["u03", "u04"]
    for contrast in result.contrasts.contrasts:
        direct = win_rate(kept, contrast.focal, contrast.against)
        assert (contrast.estimate, contrast.ci_low, contrast.p) == (direct.estimate, direct.ci_low, direct.p)
    assert result.exclusions.n_in == len(votes)
    assert dict(result.exclusions.reasons)["participant left out by a rule"] == 36
    assert report.result("contrasts").contrasts[0].n_participants == 12  # everybody stays in the primary analysis
    assert any("catch_failures could not be applied" in d for d in report.deviations)
    assert status(report, "Per protocol") == "failed"


def test_finished_tables_are_shown_as_they_are(tables: dict[str, pd.DataFrame]) -> None:
    ladder = pd.DataFrame(
        {
            "model": ["population", "eb_slopes"], "split": "seen", "level": "user", "srocc": [0.3, 0.4],
            "plcc": [0.31, 0.41], "accuracy": [0.6, 0.64], "ci_low": [0.58, np.nan],
            "ci_high": [0.62, np.nan],
            "n_users": 40,
        }
    )  # fmt: skip
    report = make_report(report_studies.plan(), {**tables, "ladder": ladder})
    names = [s.name for s in report.sections]
    assert "accuracy" not in names
    assert "tie_curve" in names
    (section,) = [s for s in report.sections if s.name == "ladder"]
    assert section.kind == "as handed in"
    shown = report.result("ladder").rows
    assert [row["accuracy"] for row in shown] == [0.6, 0.64]
    assert shown[1]["ci_low"] is None
    assert "64.0 %" in page(report, Gallery(), "bundle")
    with pytest.raises(TableError, match="ladder: no column srocc"):
        make_report(report_studies.plan(), {**tables, "ladder": ladder.drop(columns="srocc")})
