"""Canaries: records, what they catch, and what they let pass."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from beholder.cli import app
from beholder.engine.environment import worker_environment
from beholder.errors import UserError
from beholder.models import canary
from beholder.models.canary import CanaryError, Probe, answers, check, record
from beholder.models.checked_stage import Checked, probe_of
from beholder.models.configured import EMBEDDED, configured, embedded_probe
from beholder.models.encode_stages import EncodeImages, EncodeTexts
from beholder.models.interfaces import Needs
from beholder.models.named_statistics import MeasureImages
from beholder.models.score_stages import ScoreImages
from beholder.models.scorers import ScorerSettings
from beholder.models.stages import EmbedImages, EmbedTexts
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))
CACHE = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
IDENTITY = {"model": "m", "weights": "a" * 64, "torch": "2.13.0", "device": "cpu", "dtype": "float32"}


class Linear:
    """A model that can be broken in the ways real ones break."""

    def __init__(self, *, shift: float = 0.0, normalised: bool = False, first: float = 0.0) -> None:
        self.shift, self.normalised, self.first = shift, normalised, first
        self.weight = np.random.default_rng(2).normal(size=(9, 5))

    def encode(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.stack([np.resize(image.astype(float) / 255, 9) for image in inputs]) @ self.weight + self.shift
        if self.normalised:
            rows = rows - rows.mean(axis=0)
        rows[0] += self.first
        return rows.astype(np.float32)


def probe(model: Linear, **changed: Any) -> Probe:
    pictures = canary.golden_pictures()
    return Probe("linear", "vectors", IDENTITY | changed, 3, lambda rows: model.encode([pictures[i] for i in rows]))


def test_golden_pictures_are_fixed() -> None:
    import hashlib

    digest = hashlib.sha256(b"".join(p.tobytes() for p in canary.golden_pictures())).hexdigest()
    assert digest.startswith("0ac5c9469f1170a3")
    assert [p.shape for p in canary.golden_pictures()] == [(96, 128, 3), (72, 64, 3), (96, 80, 3)]


def test_the_same_model_passes_and_another_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CanaryError, match=r"linear is not recorded; .*beholder models canary --record"):
        check(probe(Linear()), [tmp_path])
    assert check(probe(Linear()), [tmp_path], allow_unrecorded=True).status == "not recorded"
    record(probe(Linear()), tmp_path)
    verdict = check(probe(Linear()), [tmp_path])
    assert (verdict.status, verdict.difference, verdict.changed) == ("same", 0.0, ())
    with pytest.raises(CanaryError, match=r"linear answers differently: .*nothing it names has changed"):
        check(probe(Linear(shift=0.01)), [tmp_path])
    with pytest.raises(CanaryError, match="not recorded"):
        check(probe(Linear(), weights="b" * 64), [tmp_path])


def test_other_versions_may_differ_a_little_and_are_named(tmp_path: Path) -> None:
    record(probe(Linear()), tmp_path)
    verdict = check(probe(Linear(shift=1e-4), torch="2.14.0"), [tmp_path])
    assert verdict.status == "agrees"
    assert verdict.changed == ("torch 2.13.0 -> 2.14.0",)
    assert 0 < (verdict.difference or 0) < (verdict.tolerance or 0)
    with pytest.raises(CanaryError, match=r"since the record changed: torch 2\.13\.0 -> 2\.14\.0"):
        check(probe(Linear(shift=0.1), torch="2.14.0"), [tmp_path])
    half = check(probe(Linear(shift=0.01), dtype="bfloat16"), [tmp_path])
    assert half.tolerance == canary.ACROSS["vectors"]["bfloat16"]


def test_answers_that_depend_on_neighbours_are_refused() -> None:
    with pytest.raises(CanaryError, match="linear answers otherwise in another order"):
        answers(probe(Linear(first=1e-6)))
    with pytest.raises(CanaryError, match="linear answers otherwise"):
        answers(probe(Linear(normalised=True)))
    with pytest.raises(CanaryError, match="not finite"):
        answers(probe(Linear(shift=float("nan"))))


def test_batch_sizes_are_compared_when_a_record_is_made(tmp_path: Path) -> None:
    path = record(probe(Linear()), tmp_path, lambda size: probe(Linear(shift=1e-5 * size)))
    spread = json.loads(path.read_text())["batch_sizes"]
    assert list(spread) == ["1", "4", "8"]
    assert 0 < spread["1"] < spread["4"] < spread["8"] < canary.ACROSS["vectors"]["float32"]
    with pytest.raises(CanaryError, match="at batch sizes 8"):
        record(probe(Linear()), tmp_path, lambda size: probe(Linear(shift=0.1 if size == 8 else 0)))


def test_differences_by_hand() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert canary.difference("vectors", vectors, vectors + np.array([[0.0, 0.5], [0, 0]])) == pytest.approx(0.1)
    assert canary.difference("scores", np.array([[0.1], [20.0]]), np.array([[0.2], [21.0]])) == pytest.approx(0.1)
    assert canary.difference("pictures", np.zeros((2, 4)), np.array([[0, 0, 0, 0], [4, 0, 0, 0.0]])) == 1
    assert canary.difference("vectors", vectors, vectors[:, :1]) == float("inf")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = record(probe(Linear()), tmp_path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CanaryError, match="is no record"):
        check(probe(Linear()), [tmp_path])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders as tiny

    root = tmp_path_factory.mktemp("canary")
    tiny.clip(root / "clip")
    tiny.dinov2(root / "dinov2")
    tiny.bert_sentences(root / "bert", {"pooling_mode_mean_tokens": True})
    return root


MODELS: dict[str, dict[str, Any]] = {
    "image encoder": {"checkpoint": "dinov2", "normalise": True},
    "text encoder": {"checkpoint": "clip", "normalise": True},
    "sentence encoder": {"checkpoint": "bert"},
    "scorer": {"checkpoint": "clip", "name": "clip_similarity"},
}


def content_of(role: str, checkpoints: Path) -> dict[str, Any]:
    plain = {"role": role, "device": "cpu", "dtype": "float32", "batch_size": 2} | MODELS[role]
    return plain | {"checkpoint": str(checkpoints / MODELS[role]["checkpoint"])}


@pytest.fixture
def like_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command then asks the model in this process; else it starts one that computes as workers do."""
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("like_a_worker")
@pytest.mark.parametrize("role", MODELS)
def test_every_role_is_recorded_and_checked_from_the_command_line(checkpoints: Path, tmp_path: Path, role: str) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(content_of(role, checkpoints)))
    run = CliRunner()
    arguments = ["models", "canary", str(file), "--offline", "--cache", str(tmp_path)]
    before = run.invoke(app, arguments)
    assert isinstance(before.exception, CanaryError)
    made = run.invoke(app, [*arguments, "--record"])
    assert made.exit_code == 0, made.exception
    written = json.loads(next((tmp_path / "canary").glob("*/*.json")).read_text())
    assert set(written["batch_sizes"]) == {"1", "4", "8"}
    assert max(written["batch_sizes"].values()) < 1e-5
    after = run.invoke(app, arguments)
    assert after.exit_code == 0, after.exception
    assert "\tsame\t" in after.stdout


PLAN = """
name: canaries
embed:
  encoder: {{model: dinov2, checkpoint: {0}/dinov2, device: cpu, dtype: float32}}
  text_encoder: {{model: sentences, checkpoint: {0}/bert, device: cpu, dtype: float32}}
score:
  scorers: [statistics, {{model: clip_similarity, checkpoint: {0}/clip, device: cpu, dtype: float32}}]
"""


def test_all_models_of_a_plan_are_recorded_and_then_start(
    checkpoints: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By one command, in processes that compute as workers do."""
    from beholder.models.planned import image_encoder_stage, scorer_stage, text_encoder_stage
    from beholder.plans import load_plan

    (tmp_path / "plan.yaml").write_text(PLAN.format(checkpoints))
    plan = load_plan(tmp_path / "plan.yaml")
    assert plan.score is not None
    stages: list[Any] = [
        image_encoder_stage(plan.embed.encoder, 224, 8, str(tmp_path)),
        text_encoder_stage(plan.embed.text_encoder, str(tmp_path)),
        scorer_stage(plan.score.scorers[1], str(tmp_path)),
    ]
    for stage in stages:
        with pytest.raises(CanaryError, match="is not recorded"):
            stage.setup(Store(tmp_path / "store"))
    command = ["models", "canary", "--plan", str(tmp_path / "plan.yaml"), "--cache", str(tmp_path)]
    made = CliRunner().invoke(app, [*command, "--record"])
    assert made.exit_code == 0, made.exception
    for stage in stages:
        stage.setup(Store(tmp_path / "store"))
        assert stage.verdict.status == "same"
    (tmp_path / "plan.yaml").write_text("name: bare")
    assert CliRunner().invoke(app, command).exit_code == 2
    assert "embedded ones ship theirs" in capfd.readouterr().err


def test_stages_ask_their_own_loaded_models(checkpoints: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    store = Store(tmp_path / "store")
    models = {role: configured(content_of(role, checkpoints)) for role in MODELS}
    stages: list[Any] = [
        EncodeImages(models["image encoder"].settings, Needs(1)),
        EncodeTexts(models["text encoder"].settings, Needs(1)),
        EncodeTexts(models["sentence encoder"].settings, Needs(1)),
        ScoreImages(models["scorer"].settings, Needs(1)),
    ]
    for stage, role in zip(stages, MODELS, strict=True):
        stage.setup(store)
        record(models[role].probe(None, True), tmp_path / "canary")
        assert check(stage.canary(), [tmp_path / "canary"]).status == "same"
    # A device path that computes otherwise: one weight moved after loading, as a broken kernel would.
    stages[0]._encoder._tower.network.layernorm.weight.data *= 1.001
    stages[0]._encoder._tower.network.layernorm.weight.data[0] *= 3
    with pytest.raises(CanaryError, match="dinov2 answers differently"):
        check(stages[0].canary(), [tmp_path / "canary"])
    other = replace(models["scorer"].settings, options={"form": "logit"})
    assert isinstance(other, ScorerSettings)


def test_generators_are_compared_by_coarse_levels(tmp_path: Path) -> None:
    import tiny_pipelines

    folder = tiny_pipelines.flux(tmp_path / "flux")
    content = {
        "role": "generator", "checkpoint": str(folder), "device": "cpu", "dtype": "float32", "batch_size": 2,
        "steps": 2, "guidance": 3.0, "width": 64, "height": 64, "options": {"max_sequence_length": 16},
    }  # fmt: skip
    model = configured(content)
    path = record(model.probe(None, True), tmp_path / "canary", lambda size: model.probe(size, True))
    assert max(json.loads(path.read_text())["batch_sizes"].values()) < 0.05
    assert check(model.probe(None, True), [tmp_path / "canary"]).status == "same"
    thumb = canary._thumb(np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3) % 251)
    assert thumb.shape == (32 * 32 * 3,)
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    blocks = picture.reshape(32, 2, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(canary._thumb(picture), blocks.ravel(), rtol=1e-6)


def test_settings_of_plans_are_checked(checkpoints: Path) -> None:
    good = content_of("image encoder", checkpoints)
    for change, message in [
        ({"role": "painter"}, "role 'painter'"),
        ({"size": 3}, "unknown key size"),
        ({"batch_size": None}, "without batch_size"),
        ({"dtype": None}, "without dtype"),
        ({"checkpoint": "owner/model"}, "branches and tags can move"),
    ]:
        content = {k: v for k, v in (good | change).items() if v is not None}
        with pytest.raises(UserError, match=message):
            configured(content)
    with pytest.raises(UserError, match="scorer 'mine'"):
        configured(content_of("scorer", checkpoints) | {"name": "mine"})


@pytest.mark.models
@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models_answer_as_their_shipped_records_say(name: str) -> None:
    if not (CACHE / name).is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no {name} in {CACHE}")
    verdict = check(embedded_probe(name, CACHE), [canary.SHIPPED])
    assert verdict.status in ("same", "agrees")


@pytest.mark.models
def test_other_weights_under_an_embedded_name_are_refused(tmp_path: Path) -> None:
    """The file on disk is another one than its manifest says: the canary sees it by what it answers."""
    from safetensors.torch import load_file, save_file

    if not (CACHE / "minilm").is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no minilm in {CACHE}")
    folder = shutil.copytree(CACHE / "minilm", tmp_path / "minilm")
    state = load_file(folder / "model.safetensors")
    state["encoder.layer.3.attention.output.dense.weight"] *= 1.05
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["bytes"] = (folder / "model.safetensors").stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CanaryError, match="minilm answers differently"):
        check(embedded_probe("minilm", tmp_path), [canary.SHIPPED])


def test_a_checked_stage_lets_no_wrong_worker_start(checkpoints: Path, tmp_path: Path) -> None:
    from beholder.engine.inprocess import InProcess
    from beholder.engine.progress import Quiet
    from beholder.engine.run import Engine

    store, model = Store(tmp_path / "store"), configured(content_of("text encoder", checkpoints))
    plain = EncodeTexts(model.settings, Needs(1))
    checked = Checked(EncodeTexts(model.settings, Needs(1)), str(tmp_path))
    items = [{"text": text} for text in ("fog", "a lake", "dunes")]
    assert dict(checked.identity()) == dict(plain.identity())
    with Engine(store, InProcess(store), Quiet()) as engine, pytest.raises(CanaryError, match="clip is not recorded"):
        engine.run(checked, items)
    assert not list(store.ledger_rows("embed_text"))
    record(model.probe(None, True), tmp_path / "canary")
    with Engine(store, InProcess(store), Quiet()) as engine:
        assert engine.run(checked, items).computed == 3
        assert engine.run(plain, items).done == 3  # the same keys with and without
    assert checked.verdict is not None
    assert checked.verdict.status == "same"
    unrecorded = Checked(EncodeTexts(model.settings, Needs(1)), str(tmp_path / "empty"), allow_unrecorded=True)
    unrecorded.setup(store)
    assert unrecorded.verdict is not None
    assert unrecorded.verdict.status == "not recorded"
    with pytest.raises(TypeError, match="MeasureImages has no canary"):
        Checked(MeasureImages(), str(tmp_path)).setup(store)


@pytest.mark.models
def test_embedded_stages_are_checked_with_the_model_they_loaded(tmp_path: Path) -> None:
    if not (CACHE / "minilm").is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no minilm in {CACHE}")
    store = Store(tmp_path)
    for stage in (EmbedTexts(str(CACHE)), EmbedImages(224, 8, str(CACHE))):
        checked = Checked(stage, str(tmp_path))
        checked.setup(store)
        assert checked.verdict is not None
        assert checked.verdict.status in ("same", "agrees")
    texts = EmbedTexts(str(CACHE))
    texts.setup(store)
    assert texts._encoder is not None
    texts._encoder._network.encoder.layer[2].output.dense.weight.data *= 1.05  # a path that computes otherwise
    with pytest.raises(CanaryError, match="minilm answers differently"):
        check(probe_of(texts), [canary.SHIPPED])
