"""Evaluation as a job: on a plan's store, on real people's ratings, and on any CSV files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml

import evaluate_taste
from analysis.cli import main as analysis
from beholder.models import weights
from beholder.readers.base import data_root
from beholder.store import Store

if TYPE_CHECKING:
    from conftest import TinyStudy

MODELS = ("constant", "user_mean", "population", "population_bias", "user_ridge", "eb_population", "eb_slopes")
COLUMNS = {
    "ladder.csv": ["model", "split", "level", "srocc", "plcc", "accuracy", "ci_low", "ci_high", "n_users"],
    "differences.csv": ["a", "b", "split", "level", "estimate", "ci_low", "ci_high", "p"],
    "tie_curve.csv": ["model", "split", "margin", "accuracy", "band_low", "band_high", "constant_skill", "implied_r"],
    "disagreement.csv": ["model", "split", "both", "one", "none", "accuracy", "p_permutation", "ceiling"],
    "predictions.parquet": ["model", "user_id", "image_id", "score", "sd", "split"],
    "predictions_dense.parquet": ["model", "user_id", "image_id", "score", "sd", "split"],
}

pytestmark = pytest.mark.models

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the job in this process: its status, its last line and what it said before."""

    def job(*arguments: object) -> tuple[int, dict[str, Any], str]:
        status = evaluate_taste.main([*map(str, arguments), "--in-process"])
        said = capsys.readouterr()
        lines = said.out.strip().splitlines()
        if status == 2:
            return status, {}, said.err
        return status, json.loads(lines[-1]), "\n".join(lines[:-1])

    return job


def tables_in(folder: Path) -> dict[str, pd.DataFrame]:
    """The files of an evaluation, with the columns that others rely on checked."""
    found = {}
    for name, columns in COLUMNS.items():
        path = folder / name
        found[path.stem] = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        assert set(columns) <= set(found[path.stem].columns), name
    return found


def assert_ladder_is_that_of_analysis(
    folder: Path, ratings: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> None:
    """`python -m analysis accuracy` on the written predictions and ratings gives the written ladder."""
    ladder = pd.read_csv(folder / "ladder.csv").set_index(["level", "split", "model"]).sort_index()
    assert {level for level, _, _ in ladder.index} == {"user", "population"}
    for level in ("user", "population"):
        assert (
            analysis(["accuracy", str(folder / "predictions.parquet"), str(ratings), "--json", "--level", level]) == 0
        )
        models = json.loads(capsys.readouterr().out)["models"]
        assert {(m["split"], m["model"]) for m in models} == {(s, m) for lev, s, m in ladder.index if lev == level}
        for m in models:
            row = ladder.loc[(level, m["split"], m["model"])]
            for name in ("accuracy", "ci_low", "ci_high", "srocc", "plcc", "n_users"):
                expected = np.nan if m[name] is None else m[name]
                np.testing.assert_allclose(row[name], expected, rtol=1e-12, atol=1e-12, err_msg=f"{row.name} {name}")


def test_a_plan_is_evaluated_once(
    study_copy: Callable[[], TinyStudy], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_copy()
    arguments = ("--plan", study.plan, "--store", study.store)
    status, first, said = run(*arguments)
    assert status == 0
    folds = 3 + 2 * 3
    assert first["counts"]["computed"] == 1 + 6 * folds
    assert "Can personal taste be shown?" in said
    tables = tables_in(study.store / "evaluation")
    assert set(tables["ladder"]["split"]) == {"seen", "unseen"}
    assert set(tables["ladder"]["model"]) == set(MODELS)
    stored = Store(study.store)
    for name, table in tables.items():
        assert len(stored.read_table(name)) == len(table)
    assert_ladder_is_that_of_analysis(study.store / "evaluation", study.store / "tables" / "ratings.parquet", capsys)
    status, second, _ = run(*arguments)
    assert status == 0
    assert second["counts"] == {"found": 1}
    assert second["digest"] == first["digest"]


def test_files_go_where_they_are_asked_for(study_copy: Callable[[], TinyStudy], run: Run, tmp_path: Path) -> None:
    study = study_copy()
    only = "taste.models=[constant, population, eb_slopes]"
    status, _, said = run("--plan", study.plan, "--store", study.store, "--out", tmp_path / "here", "--set", only)
    assert status == 0
    assert set(tables_in(tmp_path / "here")["ladder"]["model"]) == {
        "constant",
        "population",
        "eb_population",
        "eb_slopes",
    }
    assert not (study.store / "evaluation").exists()
    assert "eb_slopes" in said


def test_csv_files_are_read_embedded_and_evaluated_beside_the_plan(
    study_copy: Callable[[], TinyStudy], run: Run, tmp_path: Path
) -> None:
    """The tiny study written out as somebody else's data set, on a scale of 1 to 7."""
    study = study_copy()
    store, folder = Store(study.store), tmp_path / "others"
    (folder / "pictures").mkdir(parents=True)
    ratings, images, prompts = (store.read_table(name) for name in ("ratings", "images", "prompts"))
    first = ratings[ratings["occasion"] == 1]
    first.assign(beauty=first["score"] * 6 / 1000 + 1)[["user_id", "image_id", "beauty"]].to_csv(
        folder / "ratings.csv", index=False
    )
    rated = images[images["image_id"].isin(first["image_id"])].merge(prompts[["prompt_id", "prompt"]], on="prompt_id")
    rated[["image_id", "prompt_id", "prompt"]].to_csv(folder / "images.csv", index=False)
    for row in rated.itertuples():
        shutil.copy(store.path(str(row.path)), folder / "pictures" / f"{row.image_id}.png")
    mapping = {
        "ratings": {"file": "ratings.csv", "columns": {"score": "beauty"}, "scale": {"min": 1, "max": 7}},
        "images": {"folder": "pictures", "pattern": "{image_id}.png", "file": "images.csv"},
    }
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    before = store.read_record("table-ratings")
    data = ("--data", folder, "--reader", "csv", "--mapping", tmp_path / "mapping.yaml")
    plan = ("--plan", study.plan, "--store", study.store)
    status, last, said = run(*plan, *data)
    assert status == 0
    assert f"others: {first['user_id'].nunique()} people, {len(first)} ratings, {len(rated)} images" in said
    assert set(tables_in(study.store / "evaluation" / "others")["ladder"]["model"]) == set(MODELS)
    pd.testing.assert_series_equal(
        store.read_table("others_ratings").sort_values(["user_id", "image_id"])["score"].reset_index(drop=True),
        first.sort_values(["user_id", "image_id"])["score"].reset_index(drop=True),
    )
    assert store.read_record("table-ratings") == before
    assert "others_ladder" in last["tables"]
    assert evaluate_taste.main([*map(str, (*plan, *data)), "--dry-run"]) == 0


def test_mistakes_are_said_in_one_line(run: Run, study_copy: Callable[[], TinyStudy], tmp_path: Path) -> None:
    study = study_copy()
    plan = ("--plan", study.plan, "--store", study.store)
    for arguments, message in (
        (("--mapping", tmp_path / "m.yaml"), "--mapping without --data"),
        (("--data", tmp_path, "--reader", "nobody"), "reader 'nobody'; allowed: avt, csv"),
        (("--data", tmp_path, "--reader", "csv"), "without a mapping"),
        (("--data", tmp_path, "--reader", "avt"), "no images in"),
        (("--set", "taste.models=[oracle_of_delphi]", "--set", "steer.model=oracle_of_delphi"), "oracle_of_delphi"),
    ):
        status, _, said = run(*plan, *arguments)
        assert status == 2
        assert message in said.strip().splitlines()[-1]


@pytest.mark.data
def test_real_people(
    run: Run, study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """145 images, 55 people of two studies, read, embedded and evaluated; both selections; the verdict in words."""
    folder = data_root() / "avt_ai_images"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for name in ("efficientnet_lite0", "minilm"):
        if not weights.present(name, None):
            pytest.skip(f"{name} is not in the cache: beholder models fetch embedded")
    few = "taste.models=[constant, user_mean, population, eb_slopes]"
    rungs = 5
    quick = (few, "embed.size=96", "taste.prompt_folds=2", "taste.user_folds=2", "analysis.permutations=499")
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: people\nseed: 1\n")
    overrides = [part for value in quick for part in ("--set", value)]
    status, last, said = run(
        "--plan", plan, "--store", tmp_path / "store", "--data", folder, "--reader", "avt", "--out", tmp_path / "out",
        *overrides,
    )  # fmt: skip
    assert status == 0
    tables = tables_in(tmp_path / "out")
    ladder = tables["ladder"].set_index(["level", "split", "model"]).sort_index()
    assert len(ladder) == 2 * 2 * rungs
    assert ladder["n_users"].max() == 47
    assert tables_in(tmp_path / "out" / "all")["predictions"]["user_id"].nunique() > 47
    assert_ladder_is_that_of_analysis(tmp_path / "out", tmp_path / "store" / "tables" / "avt_ratings.parquet", capsys)
    for split in ("seen", "unseen"):
        personal = ladder.loc[("user", split, "eb_slopes")]
        crowd = ladder.loc[("user", split, "population")]
        assert crowd["accuracy"] > 0.55  # people agree about these images, and the features see it
        assert personal["accuracy"] > crowd["accuracy"] - (crowd["ci_high"] - crowd["ci_low"]) / 2
    blind = tables["ladder"][tables["ladder"]["model"].isin(["constant", "user_mean"])]
    assert (blind["accuracy"] == 0.5).all()
    dense = tables["predictions_dense"]
    assert len(dense) == 2 * rungs * 47 * 145
    assert "7062" in said
    assert said.count("Can personal taste be shown?") == 2
    shown = [line for line in said.splitlines() if "personal taste is shown" in line or "is NOT shown" in line]
    assert len(shown) == 4
    assert last["job"] == "evaluate_taste"
