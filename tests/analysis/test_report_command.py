"""`python -m analysis report`: from a folder of tables and pictures to a page, a bundle and numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main
from analysis.report_gallery import files_in, gallery
from analysis.win_rates import win_rate

sys.path.insert(0, str(Path(__file__).parent))
import report_studies
from html_reader import Reader


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return report_studies.everything(np.random.default_rng(7))


def test_gallery_shows_what_was_seen_and_how_it_fared(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    votes = tables["votes"]
    images = report_studies.painted(votes, tmp_path)
    prompts = pd.DataFrame({"prompt_id": ["p0"], "prompt": ["a lake"]})
    made = gallery(votes, images, files_in(tmp_path), report_studies.plan(), prompts=prompts, n_rows=3)
    assert [row.prompt_id for row in made.rows] == ["p0", "p4", "p7"]
    assert made.rows[0].prompt == "a lake"
    for row in made.rows:
        assert [p.condition for p in row.pictures] == ["own", "other", "population", "unoptimised"]
        assert row.pictures[0].made_for == row.participant_id
        (record,) = [p for p in row.pictures if p.condition == "population"]
        won = shown = 0.0
        for vote in votes[(votes["kind"] == "main") & (votes["prompt_id"] == row.prompt_id)].itertuples():
            for side in ("left", "right"):
                if getattr(vote, f"{side}_condition") == "population":
                    shown += 1
                    won += 0.5 if vote.choice == "tie" else float(vote.choice == side)
        assert (record.won, record.shown) == (won, shown)
        assert len(record.uri) < 20_000


def test_gallery_does_not_depend_on_who_won(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    votes = tables["votes"]
    images = report_studies.painted(votes, tmp_path)
    first = gallery(votes, images, files_in(tmp_path), report_studies.plan())
    turned = votes.assign(choice=votes["choice"].map({"left": "right", "right": "left", "tie": "tie"}))
    second = gallery(turned, images, files_in(tmp_path), report_studies.plan())
    assert [[p.uri for p in row.pictures] for row in first.rows] == [
        [p.uri for p in row.pictures] for row in second.rows
    ]


def test_gallery_says_why_there_is_none(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    votes, plan, read = tables["votes"], report_studies.plan(), files_in(tmp_path)
    images = pd.DataFrame({"image_id": sorted(votes["left_image_id"].unique()), "path": "gone.png"})
    assert gallery(votes, images, read, plan).reason == "no picture could be read"
    assert gallery(votes, images.assign(image_id="else").iloc[:1], read, plan).reason == (
        "no image of the votes is in the table of images"
    )
    assert gallery(votes.drop(columns="left_image_id"), images, read, plan).reason == "the votes name no images"


@pytest.fixture
def folder(tables: dict[str, pd.DataFrame], tmp_path: Path) -> Path:
    """A folder as a study hands it over: tables in both forms, a plan, pictures."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("votes", "ratings"):
        tables[name].to_csv(data / f"{name}.csv", index=False)
    for name in ("predictions", "steered"):
        tables[name].to_parquet(data / f"{name}.parquet", index=False)
    report_studies.painted(tables["votes"], data).to_csv(data / "images.csv", index=False)
    (tmp_path / "plan.yaml").write_text(report_studies.plan().to_yaml())
    return tmp_path


def run(folder: Path, *more: str) -> int:
    return main(["report", str(folder / "plan.yaml"), str(folder / "data"), "--out", str(folder / "out"), *more])


def test_the_command_writes_page_bundle_and_numbers(
    folder: Path, tables: dict[str, pd.DataFrame], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--deviation", "we ate first") == 0
    assert "Checks: " in capsys.readouterr().out
    html = (folder / "out" / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 16
    assert "we ate first." in html
    assert str(folder) not in html
    rate = win_rate(tables["votes"], "own", "other")
    assert Reader(html).numbers["contrasts/contrasts[own:other]/estimate"] == rate.estimate
    result = json.loads((folder / "out" / "result.json").read_text())
    assert result["sections"]["contrasts"]["contrasts"][0]["estimate"] == rate.estimate
    assert pd.read_csv(folder / "out" / "contrasts.csv").loc[0, "estimate"] == rate.estimate
    assert main(["rerun", str(folder / "out" / "bundle")]) == 0
    assert run(folder, "--zip") == 0
    assert main(["rerun", str(folder / "out" / "bundle.zip")]) == 0


def test_a_selection_is_counted_and_a_deviation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--where", "participant_id != 'u00'", "--json") == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "rows were selected by participant_id != 'u00'" in result["deviations"]
    assert result["exclusions"]["n_in"] == 216
    assert {r["reason"]: r["n"] for r in result["exclusions"]["reasons"]}["not --where participant_id != 'u00'"] == 18
    assert main(["rerun", str(folder / "out" / "bundle")]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", "5"], "--seed differs from the plan"),
        (["--confidence", ".9"], "--confidence differs from the plan; allowed: the planned 0.95"),
        (["--population", "these-people,new-prompts"], "--population differs from the plan"),
    ],
)
def test_the_plan_rules_over_the_command_line(folder: Path, capsys, options: list[str], told: str) -> None:
    assert run(folder, *options) == 2
    assert told in capsys.readouterr().err


def test_bad_folders_and_tables_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = str(folder / "plan.yaml")
    assert main(["report", plan, str(folder / "nowhere"), "--out", str(folder / "o")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["report", plan, str(folder), "--out", str(folder / "o")]) == 2
    assert "no tables" in capsys.readouterr().err
    assert main(["report", plan, str(folder / "data")]) == 2
    assert "--out" in capsys.readouterr().err
    pd.read_csv(folder / "data" / "votes.csv").to_parquet(folder / "data" / "votes.parquet")
    assert run(folder) == 2
    assert "votes.parquet and votes.csv; allowed: one file a table" in capsys.readouterr().err
