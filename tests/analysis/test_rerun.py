"""Rerunning a bundle: the same numbers again, and any other bundle found out."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.bundle import MANIFEST, write_bundle
from analysis.cli import main
from analysis.report import make_report
from analysis.report_numbers import flatten
from analysis.rerun import compare, rerun_bundle, same
from analysis.tables import Scale

sys.path.insert(0, str(Path(__file__).parent))
import report_studies


@pytest.fixture(params=["bundle", "bundle.zip"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tables = report_studies.everything(np.random.default_rng(2))
    return write_bundle(make_report(report_studies.plan(), tables), tables, tmp_path / request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = {"votes": report_studies.votes(np.random.default_rng(3))}
    plan = report_studies.plan(exclusions={"median_ms_below": 700, "votes_below": 3})
    report = make_report(plan, tables, registered=plan.hash, deviations=("two people came twice",))
    return write_bundle(report, tables, tmp_path / "bundle")


def test_everything_is_reproduced(bundle: Path) -> None:
    again = rerun_bundle(bundle)
    assert again.reproduced
    assert again.differences == ()
    assert again.compared_numbers > 500
    assert again.other_versions == ()
    assert again.exit_status == 0


def test_settings_travel_with_the_bundle(tmp_path: Path, folder: Path) -> None:
    """Scale, registered hash and stated deviations change the report, so the rerun needs them."""
    assert rerun_bundle(folder).reproduced
    tables = report_studies.rated(np.random.default_rng(4))
    tables["ratings"] = tables["ratings"].assign(score=tables["ratings"]["score"] // 100 + 1)
    report = make_report(report_studies.plan(margins=[0, 4, 1]), tables, scale=Scale(1, 11))
    assert rerun_bundle(write_bundle(report, tables, tmp_path / "scaled")).reproduced


def changed_vote(folder: Path) -> tuple[pd.DataFrame, int]:
    votes = pd.read_parquet(folder / "tables" / "votes.parquet")
    row = int(np.flatnonzero((votes["kind"] == "main") & (votes["choice"] == "left"))[0])
    votes.loc[row, "choice"] = "right"
    return votes, row


def test_one_changed_vote_is_found_in_file_and_numbers(folder: Path) -> None:
    votes, row = changed_vote(folder)
    votes.to_parquet(folder / "tables" / "votes.parquet", index=False)
    again = rerun_bundle(folder)
    assert not again.reproduced
    assert again.exit_status == 1
    where = {d.where for d in again.differences}
    pair = next(c for c in (votes.loc[row, "left_condition"], votes.loc[row, "right_condition"]) if c != "own")
    assert {"tables/votes.parquet", f"contrasts/contrasts[own:{pair}]/estimate"} <= {
        w.removeprefix("sections/") for w in where
    }
    untouched = next(c for c in ("other", "population", "unoptimised") if c != pair)
    assert f"sections/win_rate own:{untouched}/estimate" not in where


def test_a_changed_number_is_found(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["sections"]["contrasts"]["contrasts"][0]["estimate"] += 1e-6
    (folder / "results.json").write_text(json.dumps(results))
    again = rerun_bundle(folder)
    assert {d.where for d in again.differences} == {
        "results.json",
        "sections/contrasts/contrasts[own:other]/estimate",
    }


def test_a_changed_table_with_a_manifest_made_to_fit_is_still_found(folder: Path) -> None:
    """Whoever also mends the digests cannot mend the numbers."""
    import hashlib

    votes, _ = changed_vote(folder)
    votes.to_parquet(folder / "tables" / "votes.parquet", index=False)
    manifest = json.loads((folder / MANIFEST).read_text())
    data = (folder / "tables" / "votes.parquet").read_bytes()
    manifest["files"]["tables/votes.parquet"] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    again = rerun_bundle(folder)
    assert not again.reproduced
    assert all(d.where.startswith(("sections/", "checks", "design")) for d in again.differences)


def test_a_changed_plan_is_found(folder: Path) -> None:
    plan = (folder / "plan.yaml").read_text()
    (folder / "plan.yaml").write_text(plan.replace("confidence: 0.95", "confidence: 0.9"))
    where = {d.where for d in rerun_bundle(folder).differences}
    assert {"plan.yaml", "plan_hash", "plan/confidence", "sections/contrasts/contrasts[own:other]/ci_low"} <= where


def test_missing_and_added_files_are_found(folder: Path) -> None:
    (folder / "README.txt").unlink()
    (folder / "extra.csv").write_text("a\n1\n")
    assert {d.where: (d.reported != d.rerun) for d in rerun_bundle(folder).differences} == {
        "README.txt": True,
        "extra.csv": True,
    }


def test_tables_that_no_longer_allow_the_report_are_a_difference(folder: Path) -> None:
    votes = pd.read_parquet(folder / "tables" / "votes.parquet").assign(choice="perhaps")
    votes.to_parquet(folder / "tables" / "votes.parquet", index=False)
    again = rerun_bundle(folder)
    assert not again.reproduced
    assert any("choice not allowed" in str(d.rerun) for d in again.differences)


def test_other_versions_are_told_and_are_no_difference(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["versions"]["numpy"] = "1.0"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    again = rerun_bundle(folder)
    assert again.reproduced
    assert again.warnings == (f"numpy: written with 1.0, rerun with {np.__version__}",)


def test_the_command_ends_with_0_1_or_2(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["rerun", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("Reproduced: ")
    assert main(["rerun", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["reproduced"], result["differences"]) == (True, [])
    assert result["compared"] > 300
    changed_vote(folder)[0].to_parquet(folder / "tables" / "votes.parquet", index=False)
    assert main(["rerun", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "NOT reproduced" in capsys.readouterr().out
    written = list(csv.DictReader((tmp_path / "out" / "result.csv").open(newline="")))
    assert "tables/votes.parquet" in {row["where"] for row in written}
    (folder / MANIFEST).unlink()
    assert main(["rerun", str(folder)]) == 2
    assert "write the report again" in capsys.readouterr().err


leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1e6, 1e6) | st.text(max_size=3)
trees = st.recursive(
    leaves, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text("abc", min_size=1), kids, max_size=3)
)


@given(trees)
def test_a_tree_equals_itself_and_flattens_to_distinct_places(tree: Any) -> None:
    places = [where for where, _ in flatten({"root": tree})]
    assert len(set(places)) == len(places)
    compared, numbers, differences = compare({"root": tree}, json.loads(json.dumps({"root": tree})))
    assert differences == ()
    assert numbers <= compared == len(places)


@given(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-4), st.sampled_from([1e-12, 1e-7, -1e-7]))
def test_decimal_numbers_may_differ_by_rounding_only(x: float, relative: float) -> None:
    assert same(x, x * (1 + relative)) == (abs(relative) < 1e-9)


@pytest.mark.parametrize(
    ("a", "b"), [(1, 2), ("x", "y"), (True, 1), (None, 0.0), ("1", 1), (False, None), (1.0, "1.0")]
)
def test_other_leaves_must_be_the_same(a: Any, b: Any) -> None:
    assert not same(a, b)
    assert same(a, a)


def test_records_are_found_by_what_they_are_not_where_they_stand() -> None:
    a = {"models": [{"model": "x", "split": "seen", "r": 1}, {"model": "y", "split": "seen", "r": 2}]}
    b = {"models": list(reversed(a["models"]))}
    assert compare(a, b)[2] == ()
