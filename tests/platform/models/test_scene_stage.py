"""The generating stage in one process: prompts to stored pictures, twice the same, and the pixels of its version."""

from __future__ import annotations

import hashlib
import io
import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beholder.models.generators.scenes import render
from beholder.models.generators.scenes.attributes import SUBJECTS, Attributes
from beholder.models.stages import GenerateScenes
from beholder.records import key_of
from beholder.store import Store

MODELS = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
GOLDEN = json.loads(Path(__file__).with_name("golden_scenes.json").read_text())["stage"]
SIZE = 64


def golden_prompts() -> list[str]:
    """Subjects bare and with every fifth wording, and free text with negations, modifiers and other signs."""
    lists = runpy.run_path(str(Path(__file__).with_name("unlisted_wordings.py")))
    wordings = [wording for ends in lists["WORDINGS"].values() for end in ends for wording in end][::5]
    subjects = [phrase for phrase, _ in lists["SUBJECT_PHRASES"]]
    free = ["not a bright scene; slightly misty", "Ünïcödé harbour -- by night!", "", "very crowded, no colour, oil"]
    return [*subjects, *(f"{subjects[n % len(subjects)]}, {w}" for n, w in enumerate(wordings)), *free]


def items_of(prompts: list[str]) -> list[dict[str, str | int]]:
    made = [{"prompt": prompt, "seed": 10 + n} for n, prompt in enumerate(prompts)]
    return [{**item, "_key": key_of(item)} for item in made]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Store, list[dict]]]]:
    """Two runs of fresh stages over the same items, the second in another order."""
    if not (MODELS / "minilm").is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no text encoder in {MODELS}")
    items, found = items_of(golden_prompts()), []
    for order in (1, -1):
        stage, store = GenerateScenes(SIZE, 8, str(MODELS)), Store(tmp_path_factory.mktemp("store"))
        stage.setup(store)
        found.append((store, stage.process(items[::order])[::order]))
    return found


@pytest.mark.models
def test_two_runs_give_the_same_rows_and_the_same_files(runs: list[tuple[Store, list[dict]]]) -> None:
    (one, rows), (other, again) = runs
    assert rows == again
    for row in rows:
        assert one.path(row["path"]).read_bytes() == other.path(row["path"]).read_bytes()


@pytest.mark.models
def test_a_row_says_what_is_in_its_file(runs: list[tuple[Store, list[dict]]]) -> None:
    store, rows = runs[0]
    for item, row in zip(items_of(golden_prompts()), rows, strict=True):
        assert {"prompt": row["prompt"], "seed": row["seed"]} == {"prompt": item["prompt"], "seed": item["seed"]}
        assert item["_key"] in row["path"]
        with Image.open(io.BytesIO(store.path(row["path"]).read_bytes())) as image:
            picture = np.asarray(image)
        assert picture.shape == (row["height"], row["width"], 3) == (SIZE, SIZE, 3)
        assert hashlib.sha256(picture.tobytes()).hexdigest() == row["sha256"]
        np.testing.assert_array_equal(picture, render.paint_exact(Attributes(**row["scene"]), row["seed"], SIZE))
    assert {row["scene"]["subject"] for row in rows} == set(SUBJECTS)
    assert len({row["sha256"] for row in rows}) == len(rows)


@pytest.mark.models
def test_pixels_and_scenes_are_those_of_this_version(runs: list[tuple[Store, list[dict]]]) -> None:
    stage = GenerateScenes(SIZE, 8, str(MODELS))
    assert (stage.version, render.RENDER_VERSION) == (GOLDEN["version"], GOLDEN["renderer"])
    assert stage.identity()["text_encoder"] == GOLDEN["text_encoder"]
    seen = [[row["scene"], row["sha256"]] for row in runs[0][1]]
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    assert digest == GOLDEN["sha256"], (
        "scenes or pixels changed: raise GenerateScenes.version (reading) or RENDER_VERSION (painting), "
        f"and store {digest}"
    )


def test_a_stage_that_was_not_set_up_says_so() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        GenerateScenes(SIZE, 8, str(MODELS)).process(items_of(["a house"]))
