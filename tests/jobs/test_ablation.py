"""The ablation as a job: on the store's own ratings, and on two data sets that use the same ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml

import ablation
from beholder.store import Store

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models
FILES = ("ablation", "ablation_adds", "ablation_gap", "ablation_spread")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = ablation.main([*map(str, arguments), "--in-process", "--model", "eb_slopes"])
    said = capsys.readouterr()
    return status, said.err if status == 2 else said.out


def test_the_stores_own_ratings(study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str]) -> None:
    study = study_copy()
    arguments = ("--plan", study.plan, "--store", study.store)
    status, said = run(capsys, *arguments)
    assert status == 0
    tables = {name: pd.read_csv(study.store / "evaluation" / f"{name}.csv") for name in FILES}
    assert set(tables["ablation"]["variant"]) == {"full", "no_text", "no_user"}
    assert set(tables["ablation"]["split"]) == {"seen", "unseen"}
    assert set(tables["ablation_adds"]["variant"]) == {"no_text", "no_user"}
    assert tables["ablation_spread"]["against"].isna().all()
    assert tables["ablation_spread"]["vector_spread"].between(0, 1).all()
    assert "What each thing adds" in said
    first = json.loads(said.strip().splitlines()[-1])
    status, said = run(capsys, *arguments)
    assert json.loads(said.strip().splitlines()[-1])["counts"] == {"found": 1}
    assert json.loads(said.strip().splitlines()[-1])["digest"] == first["digest"]


def write_set(study: TinyStudy, folder: Path, seed: int) -> None:
    """The tiny study as somebody's files, each person with a gender; another seed moves its scores."""
    store = Store(study.store)
    (folder / "pictures").mkdir(parents=True)
    ratings, images, prompts = (store.read_table(name) for name in ("ratings", "images", "prompts"))
    first = ratings[ratings["occasion"] == 1]
    moved = np.clip(first["score"] + np.random.default_rng(seed).integers(-40, 41, len(first)), 0, 1000)
    first.assign(score=moved)[["user_id", "image_id", "score"]].to_csv(folder / "ratings.csv", index=False)
    rated = images[images["image_id"].isin(first["image_id"])].merge(prompts[["prompt_id", "prompt"]], on="prompt_id")
    rated[["image_id", "prompt_id", "prompt"]].to_csv(folder / "images.csv", index=False)
    for row in rated.itertuples():
        shutil.copy(store.path(str(row.path)), folder / "pictures" / f"{row.image_id}.png")
    users = pd.DataFrame({"user_id": sorted(first["user_id"].unique())})
    users.assign(gender=np.where(users.index % 2, "f", "m")).to_csv(folder / "users.csv", index=False)


def test_two_sets_with_the_same_ids_are_told_apart(
    study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = study_copy()
    mapping = {
        "ratings": {"file": "ratings.csv", "scale": {"min": 0, "max": 1000}},
        "images": {"folder": "pictures", "pattern": "{image_id}.png", "file": "images.csv"},
        "users": {"file": "users.csv"},
    }
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    for seed, name in enumerate(("one", "two")):
        write_set(study, tmp_path / name, seed)
    sets = [part for name in ("one", "two") for part in ("--data", tmp_path / name, "--reader", "csv")]
    arguments = ("--plan", study.plan, "--store", study.store, "--mapping", tmp_path / "mapping.yaml")
    # The pictures of both are the same files, so all of a held-out image's twins stay out of training.
    status, said = run(capsys, *arguments, *sets, "--out", tmp_path / "out")
    assert status == 0, said
    tables = {name: pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in FILES}
    assert set(tables["ablation"]["variant"]) >= {"full", "no_others", "no_user"}
    assert tables["ablation"]["n_users"].max() <= 8, "only the first set is tested"
    assert set(tables["ablation_spread"]["against"]) == {"eb_slopes/no_others"}
    assert tables["ablation_spread"]["kept"].notna().all()
    status, said = run(capsys, *arguments, *sets[:4], *sets[:4])
    assert status == 2
    assert "two data sets are called 'one'" in said
    status, said = run(capsys, *arguments, *sets[:2])
    assert status == 2
    assert "one reader for each data set" in said
