"""What people wrote of themselves, from files to models: embedded without a trace, masked, and worth something."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import ablation
import embed
import evaluate_taste
import train_taste
from beholder.records import unpack

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models
LIGHT = ("sunlit bright pictures full of light", "brilliant white, radiant daylight scenes", "bright pastel tones")
DARK = ("dark moody night scenes in deep shadow", "gloomy black pictures", "sombre dim interiors at midnight")
SAID = ("I collect postcards and prefer {}.", "My flat is full of {}.", "Give me {} any day.", "I look for {}.")


def texts_of(n: int) -> list[str]:
    """The even ones love light, the odd ones darkness, in words of their own."""
    words = [(LIGHT, DARK)[k % 2][k // 2 % 3] for k in range(n)]
    return [f"{SAID[k // 6 % 4].format(word)} That is what I, number {k}, think." for k, word in enumerate(words)]


def written_under(folder: Path) -> bytes:
    """Everything that was written but tables, which are what the user gave."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    return b"".join(path.read_bytes() for path in files)


def test_texts_are_embedded_where_the_plan_says_so_and_leave_no_trace(
    study_copy: Callable[[], TinyStudy], capfd: pytest.CaptureFixture[str]
) -> None:
    study = study_copy()
    context = study.context("taste.profiles=true")
    people = sorted(context.load("ratings")["user_id"].unique())
    texts = texts_of(len(people))
    ages = ["60-69"] * 2 + ["20-29"] * (len(people) - 2)
    context.save("users", pd.DataFrame({"user_id": people, "profile": texts, "age": ages}))
    with context.engine:
        embed.run(context)
    vectors = context.load("profile_vectors")
    assert list(vectors["user_id"]) == people[2:], "two people over sixty are too few to tell of"
    told = unpack(vectors["vector"])
    assert told.shape == (len(people) - 2, 384)
    alike = told @ told.T
    kind = np.arange(len(people) - 2) % 2
    assert alike[kind[:, None] == kind].mean() > alike[kind[:, None] != kind].mean() + 0.05
    said = capfd.readouterr()
    assert "profiles: 6 people told of; 2 withheld, of groups under 5; 0 without a text" in said.err
    again = study.context("taste.profiles=true")
    assert train_taste.inputs_of(again.plan)[-1] == "profile_vectors"
    known = train_taste.people_of(again)
    assert known.user_ids.tolist() == people[2:]
    np.testing.assert_array_equal(known.profiles, told)
    assert train_taste.people_of(study.context()) is None
    arguments = ["--plan", str(study.plan), "--store", str(study.store), "--in-process", "--set", "taste.profiles=true"]
    assert ablation.main([*arguments, "--model", "population"]) == 0
    said = capfd.readouterr()
    adds = pd.read_csv(study.store / "evaluation" / "ablation_adds.csv").set_index(["variant", "split"])
    assert (adds.loc["no_profiles", "estimate"] == 0).all(), "the population head does not read them"
    written = written_under(study.store)
    for text in texts:
        assert text.encode() not in written
        assert text not in said.out + said.err


def test_texts_that_nobody_embedded_are_asked_for(
    study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_copy()
    arguments = ["--plan", str(study.plan), "--store", str(study.store), "--in-process", "--set", "taste.profiles=true"]
    assert evaluate_taste.main(arguments) == 2
    assert "no table 'profile_vectors'" in capsys.readouterr().err
    assert ablation.main(arguments) == 2
    assert "no set has embeddings of people's texts" in capsys.readouterr().err
    context = study.context("taste.profiles=true")
    people = sorted(context.load("ratings")["user_id"].unique())
    context.save(
        "users", pd.DataFrame({"user_id": people, "profile": texts_of(8), "age": ["20-29"] * 4 + ["30-39"] * 4})
    )
    assert embed.main(arguments) == 2
    assert "no text that may be told" in capsys.readouterr().err


def write_release(folder: Path, n_users: int, n_images: int, rated: int) -> None:
    """Half of the people rate bright pictures high, half dark ones; only what they wrote says who is who."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    light = rng.uniform(-1, 1, n_images)
    for k, level in enumerate(light):
        field = np.clip(127 + 90 * level + 20 * rng.standard_normal((8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(field).resize((64, 64), Image.Resampling.BICUBIC).save(folder / "pictures" / f"i{k:02d}.png")
    people = [f"u{k:02d}" for k in range(n_users)]
    rows = []
    for k, person in enumerate(people):
        images = rng.choice(n_images, rated, replace=False)
        score = 500 + (160, -160)[k % 2] * light[images] + 90 * rng.standard_normal(rated)
        ids = [f"i{image:02d}" for image in images]
        rows.append(pd.DataFrame({"user_id": person, "image_id": ids, "score": np.clip(score, 0, 1000).astype(int)}))
    pd.concat(rows).to_csv(folder / "ratings.csv", index=False)
    pd.DataFrame({"user_id": people, "profile": texts_of(n_users)}).to_csv(folder / "users.csv", index=False)
    mapping = {
        "ratings": {"file": "ratings.csv", "scale": {"min": 0, "max": 1000}},
        "images": {"folder": "pictures", "pattern": "{image_id}.png"},
        "users": {"file": "users.csv"},
    }
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))


@pytest.mark.slow
def test_what_people_wrote_tells_of_newcomers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newcomers who rated one image: the ablation shows what their texts add, and that predictions rest on them."""
    models = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[2] / "models"))
    if not (models / "minilm").is_dir():
        pytest.skip(f"no minilm in {models}: beholder models fetch embedded")
    write_release(tmp_path / "told", 32, 40, 24)
    taste = {"prompt_folds": 2, "user_folds": 2, "context": 1, "profiles": True}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"name": "told", "embed": {"size": 64}, "taste": taste}))
    arguments = ["--plan", tmp_path / "plan.yaml", "--store", tmp_path / "store", "--in-process"]
    arguments += ["--data", tmp_path / "told", "--reader", "csv", "--mapping", tmp_path / "told" / "mapping.yaml"]
    status = ablation.main([*map(str, arguments), "--model", "fusion_light", "--out", str(tmp_path / "out")])
    assert status == 0, capsys.readouterr().err
    adds, tokens = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("ablation_adds", "token_effects"))
    assert set(adds["variant"]) == {"no_profiles", "no_user"}
    assert adds.set_index(["variant", "split"]).loc[("no_profiles", "unseen"), "ci_low"] > 0
    assert set(tokens["token"]) == {"components", "user", "profile"}
    assert tokens.set_index(["token", "split"]).loc[("profile", "unseen"), "ci_low"] > 0
