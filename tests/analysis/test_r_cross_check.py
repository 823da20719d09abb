"""The R script of a bundle gives the report's numbers, by other code in another language.

Win rates come from `sandwich::vcovCL`, the ranking from a log-linear model in base R with its clusters added up by
hand, Holm from `p.adjust`. In CI these must run; lme4, emmeans, psychotools are tested where they are installed.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.bundle import write_bundle
from analysis.plan import AnalysisPlan
from analysis.r_script import r_script, r_string
from analysis.report import make_report

sys.path.insert(0, str(Path(__file__).parent))
import report_studies

EXACT = 1e-8
"""Closed forms on both sides: only the order of sums differs."""
FITTED = 1e-6
"""Newton here, iterated least squares there."""

Run = Callable[..., tuple[dict[str, tuple[float, float]], str]]


def installed(package: str) -> bool:
    program = shutil.which("Rscript")
    code = f'quit(status = !requireNamespace("{package}", quietly = TRUE))'
    return (
        program is not None and subprocess.run([program, "-e", code], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def rscript() -> str:
    """Rscript with sandwich; skip without, but never in CI."""
    program = shutil.which("Rscript")
    if program is None or not installed("sandwich"):
        if os.environ.get("CI"):
            pytest.fail("Rscript with the package sandwich is missing: the cross-check must run in CI")
        pytest.skip("no Rscript with the package sandwich")
    return program


def script_of(rscript: str, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a bundle's script from another folder, as a user might."""
    return subprocess.run(
        [rscript, "--vanilla", str(bundle / "analysis.R"), str(bundle.parent / "r.csv"), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=bundle.parent,
    )


@pytest.fixture
def run(rscript: str, tmp_path: Path) -> Run:
    """R's numbers beside the report's, by path, and what the script printed."""

    def go(plan: AnalysisPlan, votes: pd.DataFrame, *options: str) -> tuple[dict[str, tuple[float, float]], str]:
        tables = {"votes": votes}
        bundle = write_bundle(make_report(plan, tables), tables, tmp_path / "bundle")
        done = script_of(rscript, bundle, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        with (tmp_path / "r.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {r["where"]: (float(r["r"]), float(r["reported"])) for r in rows}, done.stdout

    return go


def assert_same(found: dict[str, tuple[float, float]], plan: AnalysisPlan) -> None:
    """Every win rate to rounding, every strength to convergence, none left out."""
    for focal, against in plan.contrasts:
        for what in ("estimate", "se", "df", "ci_low", "ci_high", "p", "naive/se"):
            r, python = found.pop(f"win_rate {focal}:{against}/{what}")
            assert r == pytest.approx(python, rel=EXACT, abs=1e-12), what
        r, python = found.pop(f"contrasts/contrasts[{focal}:{against}]/p_holm")
        assert r == pytest.approx(python, rel=EXACT)
    ranked = [where for where in found if where.startswith("ranking")]
    assert sum(where.endswith("/se") for where in ranked) >= 2
    for where in ranked:
        r, python = found[where]
        assert r == pytest.approx(python, rel=FITTED, abs=FITTED), where


def test_win_rates_and_ranking(run: Run) -> None:
    plan = report_studies.plan()
    found, printed = run(plan, report_studies.votes(np.random.default_rng(1)))
    assert_same(found, plan)
    assert "ranking/order_effect" in found
    assert "ranking/tie_parameter" in found
    assert re.search(r"(\d+) of \1 numbers agree", printed)


def test_all_pairs_without_ties_and_without_kinds(run: Run) -> None:
    votes = report_studies.votes(np.random.default_rng(2), n_people=8)
    votes = votes[votes["choice"] != "tie"].drop(columns=["kind", "repeat_of"])
    plan = report_studies.plan(contrasts=["own:other", "own:population"])
    found, _ = run(plan, votes, "--fast")
    assert_same(found, plan)
    assert "ranking/tie_parameter" not in found


def test_sources_become_clusters_where_one_person_supplies_the_images(run: Run) -> None:
    votes = report_studies.votes(np.random.default_rng(3))
    for side in ("left", "right"):
        made_for = votes[f"{side}_source_user"].where(votes[f"{side}_condition"] != "other", "u01")
        few = votes["participant_id"] < "u03"  # u01 made nearly all of them, so that three sources are left
        made_for = made_for.mask(few & (votes[f"{side}_condition"] == "other"), "u07")
        votes = votes.assign(**{f"{side}_source_user": made_for})
    plan = report_studies.plan(contrasts=["own:other"])
    report = make_report(plan, {"votes": votes})
    assert report.result("win_rate own:other").method == "three-way"
    assert_same(run(plan, votes, "--fast")[0], plan)


@pytest.mark.parametrize(
    "population", ["these-people,new-prompts", "new-people,these-prompts", "these-people,these-prompts"]
)
def test_other_populations(run: Run, population: str) -> None:
    plan = report_studies.plan(population=population)
    assert_same(run(plan, report_studies.votes(np.random.default_rng(4)), "--fast")[0], plan)


def test_extreme_rates_have_intervals_on_the_logit(run: Run) -> None:
    votes = report_studies.votes(np.random.default_rng(5))
    own = np.where(votes["left_condition"] == "own", "left", "right")
    keep = np.random.default_rng(0).random(len(votes)) < 0.06
    plan = report_studies.plan(contrasts=["own:other"])
    votes = votes.assign(choice=np.where(keep, votes["choice"], own))
    assert make_report(plan, {"votes": votes}).result("win_rate own:other").estimate > 0.9
    assert_same(run(plan, votes, "--fast")[0], plan)


def test_half_wins_where_a_condition_never_wins(run: Run) -> None:
    votes = report_studies.votes(np.random.default_rng(6))
    own = np.where(votes["left_condition"] == "own", "left", "right")
    other = (votes["left_condition"] == "other") | (votes["right_condition"] == "other")
    votes = votes.assign(choice=np.where(other, own, votes["choice"]))
    plan = report_studies.plan(contrasts=["own:population", "own:unoptimised"])
    assert make_report(plan, {"votes": votes}).result("ranking").warnings
    assert_same(run(plan, votes, "--fast")[0], plan)


def test_the_other_model_of_ties_as_primary(run: Run) -> None:
    plan = report_studies.plan(ties="rao-kupper")
    found, _ = run(plan, report_studies.votes(np.random.default_rng(7)), "--fast")
    assert "ranking_sensitivity/tie_parameter" in found
    assert_same(found, plan)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_in_any_script_and_with_quotes(run: Run, monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    evil = 'o"wn \\ é 愛 [x]%s'
    votes = report_studies.votes(np.random.default_rng(8)).replace({"own": evil})
    plan = report_studies.plan(focal=evil, contrasts=[f"{evil}:other", f"{evil}:population"], title='t"; quit() # q')
    assert_same(run(plan, votes, "--fast")[0], plan)


def test_a_number_that_is_not_the_reported_one_is_told(rscript: str, tmp_path: Path) -> None:
    tables = {"votes": report_studies.votes(np.random.default_rng(9))}
    bundle = write_bundle(make_report(report_studies.plan(), tables), tables, tmp_path / "bundle")
    votes = pd.read_csv(bundle / "tables" / "votes.csv", dtype=str)
    row = votes.index[(votes["kind"] == "main") & (votes["choice"] == "left")][0]
    votes.loc[row, "choice"] = "right"
    votes.to_csv(bundle / "tables" / "votes.csv", index=False)
    done = script_of(rscript, bundle, "--fast")
    assert done.returncode == 1
    assert "DIFFERS" in done.stdout


def test_packages_that_are_missing_are_passed_over_with_a_note(rscript: str, tmp_path: Path) -> None:
    """An R that finds base packages only: the win rates are left out, the ranking of base R is still compared."""
    tables = {"votes": report_studies.votes(np.random.default_rng(10))}
    bundle = write_bundle(make_report(report_studies.plan(), tables), tables, tmp_path / "bundle")
    script = (bundle / "analysis.R").read_text()
    hidden = script.replace("requireNamespace(package, quietly = TRUE)", "FALSE")
    assert hidden != script
    (bundle / "analysis.R").write_text(hidden)
    done = script_of(rscript, bundle)
    assert done.returncode == 0, done.stderr
    for package in ("sandwich", "psychotools", "BradleyTerry2", "lme4"):
        assert f"(package {package} is not installed" in done.stdout
    assert "ranking/conditions[own]/se" in done.stdout


@pytest.mark.skipif(not installed("psychotools"), reason="R package psychotools is not installed")
def test_psychotools_gives_the_strengths_of_the_log_linear_model(run: Run) -> None:
    found, _ = run(report_studies.plan(), report_studies.votes(np.random.default_rng(11)))
    worths = {where: pair for where, pair in found.items() if where.startswith("psychotools/")}
    assert len(worths) == 3
    for r, loglinear in worths.values():
        assert r == pytest.approx(loglinear, abs=1e-4)  # its optimiser stops there


@pytest.mark.skipif(
    not (installed("lme4") and installed("emmeans")), reason="R packages lme4 and emmeans are not installed"
)
def test_the_crossed_logistic_model_agrees_with_the_win_rates(run: Run) -> None:
    """Another model (conditional, without ties), so near and on the same side of one half, not equal."""
    votes = report_studies.votes(np.random.default_rng(12), n_people=20, n_prompts=12, per_person=26)
    plan = report_studies.plan()
    found, printed = run(plan, votes)
    for focal, against in plan.contrasts:
        line = next(row for row in printed.splitlines() if row.split()[:3] == [focal, "over", against])
        rate = found[f"win_rate {focal}:{against}/estimate"][1]
        assert float(line.split()[3]) == pytest.approx(rate, abs=0.06)


def test_strings_survive_r(rscript: str, tmp_path: Path) -> None:
    texts = ['"', "\\", "\\n", "a'b", "é", "愛", "😀", "%d", "tab\tnewline\nend", "$x", "`"]
    code = f"x <- c({', '.join(map(r_string, texts))}); writeBin(charToRaw(paste(enc2utf8(x), collapse = '|')), 'x')"
    (tmp_path / "x.R").write_text(code)
    subprocess.run([rscript, "--vanilla", "x.R"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "x").read_bytes().decode() == "|".join(texts)


def test_the_script_is_ascii_and_the_same_for_the_same_plan() -> None:
    plan = report_studies.plan(title="Geschmack – größer")
    script = r_script(plan, half_wins=False)
    assert script.isascii()
    assert script == r_script(AnalysisPlan.of(json.loads(json.dumps(plan.to_json()))), half_wins=False)
