"""Bad input through the evaluation job: refused in one line, or left out by name and number."""

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
from beholder.store import Store

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models
FEW = ("--set", "taste.models=[user_mean, population, eb_slopes]", "--set", "analysis.permutations=99")


@pytest.fixture
def files(study_copy: Callable[[], TinyStudy], tmp_path: Path) -> tuple[TinyStudy, Path]:
    """The tiny study, also as files on a scale of 0 to 1000 with people's genders."""
    study = study_copy()
    store, folder = Store(study.store), tmp_path / "others"
    (folder / "pictures").mkdir(parents=True)
    ratings, images, prompts = (store.read_table(name) for name in ("ratings", "images", "prompts"))
    first = ratings[ratings["occasion"] == 1]
    first[["user_id", "image_id", "score"]].to_csv(folder / "ratings.csv", index=False)
    rated = images[images["image_id"].isin(first["image_id"])].merge(prompts[["prompt_id", "prompt"]], on="prompt_id")
    rated[["image_id", "prompt_id", "prompt"]].to_csv(folder / "images.csv", index=False)
    for row in rated.itertuples():
        shutil.copy(store.path(str(row.path)), folder / "pictures" / f"{row.image_id}.png")
    return study, folder


def run(capsys: pytest.CaptureFixture[str], study: TinyStudy, *arguments: object) -> tuple[int, str, dict[str, Any]]:
    status = evaluate_taste.main(
        [*map(str, ("--plan", study.plan, "--store", study.store, *arguments)), "--in-process", *FEW]
    )
    said = capsys.readouterr()
    last = json.loads(said.out.strip().splitlines()[-1]) if status in (0, 3) else {}
    return status, said.out + said.err, last


def csv(folder: Path, low: float = 0, high: float = 1000, **more: object) -> tuple[object, ...]:
    mapping = {
        "ratings": {"file": "ratings.csv", "scale": {"min": low, "max": high}, **more},
        "images": {"folder": "pictures", "pattern": "{image_id}.png", "file": "images.csv"},
    }
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    return ("--data", folder, "--reader", "csv", "--mapping", folder / "mapping.yaml", "--out", folder / "out")


def test_people_and_pictures_that_say_nothing_are_counted(
    files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A constant rater, one with a single rating, a picture that is missing and one that is broken."""
    study, folder = files
    ratings = pd.read_csv(folder / "ratings.csv")
    images = sorted(ratings["image_id"].unique())
    constant = pd.DataFrame({"user_id": "always_five", "image_id": images, "score": 500})
    once = pd.DataFrame({"user_id": ["once"], "image_id": images[5:6], "score": [700]})
    pd.concat([ratings, constant, once]).to_csv(folder / "ratings.csv", index=False)
    (folder / "pictures" / f"{images[0]}.png").unlink()
    (folder / "pictures" / f"{images[1]}.png").write_bytes(b"not a picture")
    gone = int(ratings["image_id"].isin(images[:2]).sum()) + 2
    status, said, _ = run(capsys, study, *csv(folder))
    assert status in (0, 3), said
    counts = pd.read_csv(folder / "out" / "evaluation_counts.csv").set_index("split")
    assert counts.loc["all", "n_ratings"] == len(ratings) + len(images) + 1 - gone
    assert (counts.loc["all", "n_single"], counts.loc["all", "n_constant"]) == (1, 1)
    assert counts.loc["all", "n_images"] == len(images) - 2
    notes = pd.read_csv(folder / "out" / "evaluation_notes.csv")["note"]
    assert notes.str.contains("seen: 1 users without ratings outside a fold are not tested").any()
    ladder = pd.read_csv(folder / "out" / "ladder.csv").query("level == 'user' and split == 'seen'")
    assert (ladder["n_users"] <= ratings["user_id"].nunique()).all(), "nobody can order a constant rater's pairs"
    assert notes.str.contains("seen: 1 users with fewer than 30 pairs beyond the margin have no accuracy").any()
    assert (notes == f"ratings of 2 images without a readable file, set aside: {images[0]}, {images[1]}: {gone}").any()


def test_a_scale_that_does_not_fit_is_refused(
    files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = files
    status, said, _ = run(capsys, study, *csv(folder, 1, 7))
    assert status == 2
    assert len(said.strip().splitlines()) == 1
    assert "scale" in said


def test_features_with_gaps_are_refused(files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from beholder.records import pack, table_digest, unpack

    study, _ = files
    store = Store(study.store)
    features = store.read_table("features")
    wide = unpack(features["statistics"]).copy()
    wide[3, 2] = np.nan
    broken = features.assign(statistics=[pack(row) for row in wide])
    store.write_table("features", broken)
    record = store.read_record("table-features")
    store.write_record("table-features", record | {"digest": table_digest(broken)})
    status, said, _ = run(capsys, study)
    assert status == 2
    assert f"gaps or infinities in 1 images, first '{features['image_id'][3]}'" in said.replace("np.str_(", "")


def test_ratings_that_do_not_vary_are_refused(
    files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = files
    pd.read_csv(folder / "ratings.csv").assign(score=500).to_csv(folder / "ratings.csv", index=False)
    status, said, _ = run(capsys, study, *csv(folder))
    assert status == 2
    assert f"all {len(pd.read_csv(folder / 'ratings.csv'))} ratings are equal" in said


def test_a_release_without_splits_says_which_there_are(
    files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = files
    status, said, _ = run(capsys, study, "--split", "release")
    assert status == 2
    assert "no split train and test_seen or test" in said
    assert "folds hold prompts and people out" in said


def test_people_the_plan_asks_for_and_nobody_told_of(
    files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = files
    status, said, _ = run(capsys, study, "--set", "taste.demographics=true")
    assert status == 2
    assert "users" in said


def test_a_releases_own_splits_are_kept(files: tuple[TinyStudy, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts and three people held out by the release: nobody else is tested, on nothing else."""
    study, _ = files
    store = Store(study.store)
    ratings = store.read_table("ratings")
    prompts, users = sorted(ratings["prompt_id"].unique()), sorted(ratings["user_id"].unique())
    test = ratings["prompt_id"].isin(prompts[:8])
    split = np.where(test, "test_seen", "train")
    split = np.where(ratings["user_id"].isin(users[:3]), "test_unseen", split)
    released = ratings.assign(split=split)
    store.write_table("ratings", released)
    from beholder.records import table_digest

    record = store.read_record("table-ratings")
    store.write_record("table-ratings", record | {"digest": table_digest(released)})
    status, said, _ = run(capsys, study, "--split", "release")
    assert status == 0, said
    predictions = pd.read_parquet(study.store / "evaluation" / "release" / "predictions.parquet")
    for name, people in (("seen", users[3:]), ("unseen", users[:3])):
        mine = predictions[predictions["split"] == name]
        rated = released[(released["split"] == f"test_{name}") & released["prompt_id"].isin(prompts[:8])]
        assert set(mine["user_id"]) <= set(people)
        assert set(mine["image_id"]) <= set(rated["image_id"])
        assert len(mine.drop_duplicates(["user_id", "image_id"])) > 0
        assert len(set(mine["fold"])) == 1
    assert not (study.store / "evaluation" / "ladder.csv").exists()
    notes = pd.read_csv(study.store / "evaluation" / "release" / "evaluation_notes.csv")["note"]
    assert notes.str.contains("are tested, as the release says").any()
