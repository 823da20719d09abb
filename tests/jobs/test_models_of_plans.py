"""The jobs with models other than the embedded ones: pipelines, hosted services, encoders, features of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from beholder.errors import UserError
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.stages import read_image
from beholder.records import pack, table_digest, unpack
from beholder.store import Store

if TYPE_CHECKING:
    from tests.jobs.conftest import TinyStudy

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "models"))

CPU = {"device": "cpu", "dtype": "float32", "not_recorded": "allow"}
FEW = ["generate.prompts=3", "generate.calibration_prompts=2"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders
    import tiny_pipelines

    root = tmp_path_factory.mktemp("checkpoints")
    tiny_pipelines.flux(root / "flux")
    tiny_encoders.dinov2(root / "dinov2")
    tiny_encoders.bert_sentences(root / "bert", {"pooling_mode_mean_tokens": True})
    return root


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from hosted_server import KEY, serve

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve() as played:
        yield played


def setting(name: str, value: Any) -> str:
    return f"{name}={json.dumps(value)}"


def at(study: TinyStudy, folder: Path) -> TinyStudy:
    """The same plan, on a store in which nothing was made."""
    return type(study)(study.plan, folder)


def test_pictures_of_a_pipeline_become_the_images_of_a_study(
    rated_study: TinyStudy, checkpoints: Path, tmp_path: Path
) -> None:
    import generate
    from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings

    options = {"max_sequence_length": 16}
    flux = CPU | {"model": "diffusers", "checkpoint": str(checkpoints / "flux"), "steps": 2, "guidance": 3.0}
    study = at(rated_study, tmp_path / "store")
    context = study.context(*FEW, setting("generate.generator", flux | {"options": options}))
    with context.engine:
        generate.run(context)
    images, prompts = context.store.read_table("images"), context.store.read_table("prompts")
    assert len(images) == 3 * 2 + 2
    assert set(images["generator"]) == {"flux"}
    assert images["scene"].isna().all()
    settings = PipelineSettings(
        Checkpoint(flux["checkpoint"]), Computing("cpu", "float32"),
        steps=2, guidance=3.0, width=64, height=64, batch_size=4, options=options,
    )  # fmt: skip
    text = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    row = images.iloc[4]
    by_hand = DiffusersGenerator(settings).generate([text[row["prompt_id"]]], [int(row["seed"])])[0].pixels
    np.testing.assert_array_equal(read_image(context.store, row["path"]), by_hand)
    again = study.context(*FEW, setting("generate.generator", flux | {"options": options}))
    with again.engine:
        generate.run(again)
    assert again.counts == {"computed": 0, "found": 8, "quarantined": 0}
    assert again.digests == context.digests


def test_hosted_pictures_keep_to_the_budget_over_runs_and_refusals_are_told(
    rated_study: TinyStudy, hosted: Any, tmp_path: Path
) -> None:
    from hosted_server import Trouble

    import generate

    study = at(rated_study, tmp_path / "store")
    entry = {
        "service": "openai", "model": "painter", "price": 0.04, "budget": 0.2, "per_minute": 1e6, "concurrency": 2,
        "address": hosted.address,
    }  # fmt: skip
    prompts, wanted = generate.plan_images(study.context(*FEW).plan)
    blocked = prompts["prompt"][1]
    hosted.by_prompt[blocked] = Trouble(400, {"error": {"code": "moderation_blocked", "message": "no"}})
    poor = study.context(*FEW, setting("generate.generator", entry))
    with poor.engine, pytest.raises(UserError, match=r"of 0\.20 is spent, the next picture costs 0\.04"):
        generate.run(poor)
    rows = list(poor.store.ledger_rows("generate"))
    drawn = [row for row in rows if row["path"] is not None]
    assert len(drawn) == 5  # all that the money buys, to the last one of a batch that was cut short
    assert sum(row["cost"] for row in rows) == pytest.approx(0.2)
    richer = study.context(*FEW, setting("generate.generator", entry | {"budget": 1.0}))
    with richer.engine:
        generate.run(richer)
    assert len(hosted.asked) == len(wanted)  # nothing twice over both runs
    images, refused = richer.store.read_table("images"), richer.store.read_table("refused")
    assert len(images) == len(wanted) - 2
    assert list(refused["refused"]) == ["moderation_blocked"] * 2
    assert set(refused["prompt_id"]) == {prompts["prompt_id"][1]}
    assert images["cost"].sum() == pytest.approx(0.04 * len(images))
    asked = len(hosted.asked)
    again = study.context(*FEW, setting("generate.generator", entry | {"budget": 0.0}))
    with again.engine:
        generate.run(again)
    assert len(hosted.asked) == asked
    assert again.digests == richer.digests


@pytest.mark.models
def test_hosted_pictures_are_embedded_and_scored_as_they_come(
    rated_study: TinyStudy, hosted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hosted_server

    import score

    small = hosted_server.picture_of
    monkeypatch.setattr(hosted_server, "picture_of", lambda prompt: np.tile(small(prompt), (2, 2, 1)))

    entry = {
        "service": "openai", "model": "painter", "price": 0.04, "budget": 1.0, "per_minute": 1e6, "concurrency": 2,
        "address": hosted.address,
    }  # fmt: skip
    more = [setting("generate.generator", entry), setting("score.scorers", ["statistics"])]
    context = at(rated_study, tmp_path / "store").context(*FEW, *more)
    with context.engine:
        score.stream(context)
    images, scores = context.store.read_table("images"), context.store.read_table("scores")
    assert list(scores["image_id"]) == list(images["image_id"])
    assert list(context.store.read_table("features")["image_id"]) == list(images["image_id"])
    assert len(hosted.asked) == len(images) == 8


def test_a_missing_key_is_one_line(
    rated_study: TinyStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import generate

    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    entry = {"service": "gemini", "model": "gemini-2.5-flash-image", "price": 0.04, "budget": 1, "per_minute": 60}
    where = ["--plan", str(rated_study.plan), "--store", str(tmp_path / "store"), "--in-process"]
    assert generate.main([*where, "--set", setting("generate.generator", entry)]) == 2
    assert "no key in the environment variable GEMINI_API_KEY" in capsys.readouterr().err.splitlines()[-1]


def test_other_encoders_give_the_features(
    study_copy: Callable[[], TinyStudy], checkpoints: Path, tmp_path: Path
) -> None:
    """Vectors of the plan's encoders stand where the embedded one's would; image statistics are the same."""
    import embed
    from beholder.models.encoders.sentences import SentenceEncoder, SentenceSettings
    from beholder.models.encoders.towers import ImageEncoder, TowerSettings

    study = study_copy()
    plain = study.context().store.read_table("features")
    pictures = {"model": "dinov2", "checkpoint": str(checkpoints / "dinov2")}
    texts = {"model": "sentences", "checkpoint": str(checkpoints / "bert")}
    context = study.context(setting("embed.encoder", pictures | CPU), setting("embed.text_encoder", texts | CPU))
    with context.engine:
        embed.run(context)
    features, images = context.store.read_table("features"), context.store.read_table("images")
    assert list(features.columns) == list(plain.columns)
    assert list(features["statistics"]) == list(plain["statistics"])
    cpu = Computing("cpu", "float32")
    tower = ImageEncoder(TowerSettings(Checkpoint(pictures["checkpoint"]), cpu, batch_size=8, normalise=True))
    by_hand = tower.encode([read_image(context.store, path) for path in images["path"]])
    np.testing.assert_array_equal(unpack(features["network"]), by_hand)
    vectors, prompts = context.store.read_table("prompt_vectors"), context.store.read_table("prompts")
    encoder = SentenceEncoder(SentenceSettings(Checkpoint(texts["checkpoint"]), cpu, batch_size=16))
    clauses = [clause.strip() for clause in prompts["prompt"][5].split(",")]
    expected = encoder.encode(clauses).mean(axis=0)
    np.testing.assert_allclose(unpack(vectors["vector"])[5], expected, atol=1e-6)


def test_features_of_a_file_are_read_by_image(study_copy: Callable[[], TinyStudy], tmp_path: Path) -> None:
    import embed

    study = study_copy()
    images = study.context().store.read_table("images")
    numbers = np.random.default_rng(1).normal(size=(len(images), 5)).astype(np.float32)
    file = tmp_path / "vectors.parquet"
    pd.DataFrame({"image_id": images["image_id"], "vector": [pack(row) for row in numbers]})[::-1].to_parquet(file)
    context = study.context(setting("embed.encoder", {"file": str(file)}))
    with context.engine:
        embed.run(context)
    features = context.store.read_table("features")
    np.testing.assert_array_equal(unpack(features["network"]), numbers)
    assert table_digest(features) == table_digest(Store(study.store).read_table("features"))
    lost = study.context(setting("embed.encoder", {"file": str(tmp_path / "nowhere.csv")}))
    with lost.engine, pytest.raises(UserError, match="no features file"):
        embed.run(lost)
