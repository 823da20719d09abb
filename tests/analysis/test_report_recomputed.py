"""Sections of a report that were commands only, and finished tables that are computed again from predictions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy import accuracy
from analysis.bundle import write_bundle
from analysis.disagreement import disagreement
from analysis.logistic import crossed_logistic
from analysis.monitor import monitor_votes
from analysis.order_effects import session_effects
from analysis.report import Report, make_report
from analysis.report_contrasts import MOST_VOTES_OF_A_MODEL
from analysis.report_gallery import Gallery
from analysis.report_page import page
from analysis.rerun import compare, rerun_bundle
from analysis.tie_curve import tie_curve

sys.path.insert(0, str(Path(__file__).parent))
import report_studies


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return report_studies.everything(np.random.default_rng(7))


@pytest.fixture(scope="module")
def finished(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The four tables as an evaluation hands them in: its own random numbers, differences turned its own way."""
    given, rng = (tables["predictions"], tables["ratings"]), np.random.default_rng(99)
    levels = [accuracy(*given, level=level) for level in ("user", "population")]
    differences = pd.concat([found.tables()["differences"] for found in levels], ignore_index=True)
    turned = differences.rename(columns={"a": "b", "b": "a"}).assign(
        estimate=-differences["estimate"], ci_low=-differences["ci_high"], ci_high=-differences["ci_low"]
    )
    margins = [disagreement(*given, rng=rng, margin=m, draws=99).to_frame().assign(margin=m) for m in (0, 100)]
    return {
        "ladder": pd.concat([found.to_frame() for found in levels], ignore_index=True),
        "differences": turned,
        "tie_curve": tie_curve(*given, (0, 50, 200), rng=rng).to_frame(),
        "disagreement": pd.concat(margins, ignore_index=True),
    }


def check(report: Report, start: str) -> tuple[str, str]:
    (found,) = [(c.status, c.found) for c in report.checks if c.name.startswith(start)]
    return found


def test_finished_tables_are_computed_again(
    tables: dict[str, pd.DataFrame], finished: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    together = {**tables, **finished}
    report = make_report(report_studies.plan(), together)
    for name, numbers in (("ladder", 24), ("differences", 8), ("tie_curve", 12), ("disagreement", 16)):
        again = report.result(name).recomputed
        assert again.compared == numbers
        assert again.differing == ()
        assert again.without_predictions == 0
        assert f"{numbers} of its numbers were computed again; none differ" in report.result(name).summary()
    status, found = check(report, "Finished tables follow")
    assert status == "passed"
    assert "ladder: 24 numbers" in found
    bundle = write_bundle(report, together, tmp_path / "bundle")
    assert rerun_bundle(bundle).reproduced


@pytest.mark.parametrize(
    ("name", "column"),
    [("ladder", "ci_low"), ("differences", "estimate"), ("tie_curve", "accuracy"), ("disagreement", "both")],
)
def test_a_number_that_does_not_follow_is_found(
    tables: dict[str, pd.DataFrame], finished: dict[str, pd.DataFrame], name: str, column: str
) -> None:
    altered = finished[name].copy()
    altered.loc[1, column] += 1e-6
    report = make_report(report_studies.plan(), {**tables, **finished, name: altered})
    again = report.result(name).recomputed
    assert len(again.differing) == 1
    assert column in again.differing[0]
    status, found = check(report, "Finished tables follow")
    assert status == "failed"
    assert again.differing[0] in found
    assert again.differing[0] in report.result(name).warnings[0]
    assert "not those computed" in page(report, Gallery(), "bundle")


def test_an_edited_table_in_a_bundle_is_a_difference_of_numbers_too(
    tables: dict[str, pd.DataFrame], finished: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    together = {**tables, "ladder": finished["ladder"]}
    bundle = write_bundle(make_report(report_studies.plan(), together), together, tmp_path / "bundle")
    path = bundle / "tables" / "ladder.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "accuracy"] += 0.01
    frame.to_parquet(path, index=False)
    found = rerun_bundle(bundle)
    assert not found.reproduced
    where = [d.where for d in found.differences]
    assert "tables/ladder.parquet" in where
    assert any("Finished tables follow from the predictions" in text and text.endswith("status") for text in where)


def test_without_predictions_or_with_other_models_nothing_is_claimed(
    tables: dict[str, pd.DataFrame], finished: dict[str, pd.DataFrame]
) -> None:
    alone = make_report(report_studies.plan(), {"votes": tables["votes"], "ladder": finished["ladder"]})
    assert alone.result("ladder").recomputed is None
    assert check(alone, "Finished tables follow")[0] == "not run"
    others = finished["ladder"].assign(model="another " + finished["ladder"]["model"])
    beside = make_report(report_studies.plan(), {**tables, "ladder": others})
    assert beside.result("ladder").recomputed.without_predictions == len(others)
    assert check(beside, "Finished tables follow")[0] == "not run"


def test_sections_are_what_the_commands_give(tables: dict[str, pd.DataFrame]) -> None:
    votes, plan = tables["votes"], report_studies.plan()
    report = make_report(plan, {"votes": votes})
    models, looks = report.result("logistic"), report.result("monitoring")
    for k, (focal, against) in enumerate(plan.contrasts):
        model, look = crossed_logistic(votes, focal, against), monitor_votes(votes, focal, against, planned=3)
        assert models.contrasts[k].log_odds == model.log_odds
        assert models.contrasts[k].p == model.p
        assert looks.contrasts[k].path == look.path
        assert looks.contrasts[k].alpha_each == pytest.approx(0.05 / 3)
        assert model.summary() in models.summary()
    assert models.to_frame()["against"].tolist() == looks.to_frame()["against"].tolist()
    assert report.result("order_effects").fatigue == session_effects(votes).fatigue
    text = page(report, Gallery(), "bundle")
    for title in ("Crossed logistic model", "Evidence at any time", "Side, fatigue and carry-over"):
        assert title in text


def test_a_contrast_without_the_number_is_listed_with_its_reason(tables: dict[str, pd.DataFrame]) -> None:
    """Own always wins over unoptimised: no log odds there, the others have theirs."""
    votes = tables["votes"].copy()
    foe = (votes["left_condition"] == "unoptimised") | (votes["right_condition"] == "unoptimised")
    votes["choice"] = votes["choice"].mask(foe, np.where(votes["left_condition"] == "own", "left", "right"))
    report = make_report(report_studies.plan(), {"votes": votes})
    models = report.result("logistic")
    assert [r.against for r in models.contrasts] == ["other", "population"]
    assert [r.against for r in models.refused] == ["unoptimised"]
    assert "unoptimised has no number" in " ".join(models.warnings)
    alone = make_report(report_studies.plan(contrasts=["own:unoptimised"]), {"votes": votes})
    (section,) = [s for s in alone.sections if s.name == "logistic"]
    assert section.result is None
    assert "answers that vary" in section.reason or "votes that are no ties" in section.reason


def test_large_tables_leave_the_model_to_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = report_studies.votes(np.random.default_rng(3))
    monkeypatch.setattr("analysis.report_contrasts.MOST_VOTES_OF_A_MODEL", 10)
    assert MOST_VOTES_OF_A_MODEL > 10
    (section,) = [s for s in make_report(report_studies.plan(), {"votes": votes}).sections if s.name == "logistic"]
    assert "run the command logistic" in section.reason


def test_searched_numbers_have_a_tolerance_of_their_own() -> None:
    """An optimiser's last digits may move; closed forms may not."""
    for where, allowed in (("logistic", True), ("contrasts", False)):
        reported = {"sections": {where: {"estimate": 0.5, "n_votes": 7, "note": "a"}}}
        near = {"sections": {where: {"estimate": 0.50001, "n_votes": 7, "note": "a"}}}
        assert (compare(reported, near)[2] == ()) == allowed
        other = json.loads(json.dumps(near).replace("7", "8"))
        assert compare(reported, other)[2]
