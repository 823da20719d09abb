"""Bundles: complete, the same bytes from the same content, never half there."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.bundle import MANIFEST, Bundle, write_bundle
from analysis.errors import UserError
from analysis.report import Report, make_report
from analysis.results import frame_digest

sys.path.insert(0, str(Path(__file__).parent))
import report_studies

Study = tuple[Report, dict[str, pd.DataFrame]]


@pytest.fixture(scope="module")
def study() -> Study:
    tables = report_studies.everything(np.random.default_rng(1))
    return make_report(report_studies.plan(seed=5), tables), tables


@pytest.fixture
def bundle(study: Study, tmp_path: Path) -> Path:
    return write_bundle(*study, tmp_path / "bundle", page=b"<html>")


def test_the_manifest_lists_every_file_with_its_digest(bundle: Path, study: Study) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()} - {MANIFEST}
    assert set(manifest["files"]) == there
    assert {
        "plan.yaml",
        "results.json",
        "numbers.csv",
        "analysis.R",
        "tables/votes.csv",
        "tables/steered.parquet",
    } <= there
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert manifest["page"] == hashlib.sha256(b"<html>").hexdigest()
    assert manifest["plan_hash"] == study[0].plan.hash
    assert manifest["seed"] == 5
    assert manifest["versions"]["numpy"] == np.__version__


def test_same_content_same_bytes_as_folder_and_as_zip(study: Study, tmp_path: Path) -> None:
    first, second = (write_bundle(*study, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert first.read_bytes() == second.read_bytes()
    folder = write_bundle(*study, tmp_path / "folder")
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_tables_and_plan_come_back_as_they_went_in(study: Study, tmp_path: Path, name: str) -> None:
    report, tables = study
    opened = Bundle.open(write_bundle(report, tables, tmp_path / name))
    assert opened.plan() == report.plan
    assert opened.altered() == []
    back = opened.tables()
    assert {name: frame_digest(frame) for name, frame in back.items()} == {
        name: frame_digest(frame) for name, frame in tables.items()
    }


def test_votes_as_text_hold_what_the_table_holds(bundle: Path, study: Study) -> None:
    text = pd.read_csv(bundle / "tables" / "votes.csv", dtype=str, keep_default_na=False)
    votes = study[1]["votes"]
    assert list(text.columns) == list(votes.columns)
    for column in votes:
        expected = ["" if pd.isna(value) else str(value) for value in votes[column]]
        assert text[column].tolist() == expected


def test_numbers_are_the_exact_numbers_of_the_results(bundle: Path, study: Study) -> None:
    with (bundle / "numbers.csv").open(newline="") as stream:
        numbers = {row["where"]: float(row["value"]) for row in csv.DictReader(stream)}
    report = study[0]
    for c in report.result("contrasts").contrasts:
        at = f"contrasts/contrasts[{c.focal}:{c.against}]"
        assert (numbers[f"{at}/estimate"], numbers[f"{at}/p_holm"]) == (c.estimate, c.p_holm)
        rate = report.result(f"win_rate {c.focal}:{c.against}")
        assert numbers[f"win_rate {c.focal}:{c.against}/naive/p"] == rate.naive["p"]
    for strength in report.result("ranking").conditions:
        assert numbers[f"ranking/conditions[{strength.condition}]/log_strength"] == strength.log_strength
    assert numbers["consistency/t2"] == report.result("consistency").t2


def test_nothing_tells_the_folder_it_was_made_in(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


def test_an_old_bundle_is_replaced_whole(study: Study, bundle: Path) -> None:
    (bundle / "left over from before.txt").write_text("old")
    report, tables = study
    write_bundle(report, {"votes": tables["votes"]}, bundle)
    assert not (bundle / "left over from before.txt").exists()
    assert not (bundle / "tables" / "steered.parquet").exists()
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_a_failure_leaves_the_old_bundle_and_nothing_else(study: Study, bundle: Path, monkeypatch) -> None:
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    rename, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:  # the old one is out of the way, the new one is about to come in
            raise OSError(28, "no space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        write_bundle(*study, bundle)
    assert {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()} == before
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_other_folders_and_files_are_not_replaced(study: Study, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no bundle"):
        write_bundle(*study, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    (tmp_path / "notes").write_text("x")
    with pytest.raises(UserError, match="is no bundle"):
        write_bundle(*study, tmp_path / "notes")


def test_what_cannot_be_opened_is_told(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such bundle"):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(UserError, match=r"broken.zip"):
        Bundle.open(tmp_path / "broken.zip")
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="format 99; allowed: format 1"):
        Bundle.open(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(UserError, match="a finished bundle"):
        Bundle.open(bundle)
