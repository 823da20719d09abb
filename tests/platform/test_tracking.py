"""Tracking, read back by MLflow's own client: once each, whole after a kill, the same model in a new process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beholder import tracking
from beholder.errors import StoreError
from beholder.records import pack
from beholder.steering import reward as reward_module
from beholder.steering.reward import EVERYBODY, Reward, raw_features
from beholder.store import Store
from beholder.taste.base import Ratings, TasteModel
from beholder.taste.designs import Pictures, learn_design
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.fusion import SMALL, Fusion
from beholder.taste.networks import Training
from beholder.taste.stack import Stack
from beholder.tracking import KEY, ServedModel, Tracker, TrainingRun

CODE = Path(reward_module.__file__).with_name("served_reward.py")
USERS = [f"rater_{k:03d}" for k in range(5)]


def feature_rows(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows as in the `features` table, with few columns."""
    network = rng.normal(size=(count, 12)).astype(np.float32)
    statistics = rng.normal(size=(count, 7)).astype(np.float32)
    packed = {"network": [pack(v) for v in network], "statistics": [pack(v) for v in statistics]}
    return pd.DataFrame({"image_id": [f"image_{k:03d}" for k in range(count)], **packed})


def save_reward(recipe: TasteModel, folder: Path) -> Path:
    """A small personal reward with text alignment, saved."""
    rng = np.random.default_rng(5)
    table = feature_rows(60, rng)
    raw = raw_features(table)
    prompts = np.array([f"prompt_{k // 4:02d}" for k in range(60)])
    learned = learn_design(Pictures(raw, prompts, rng.normal(size=(15, 6))[np.arange(60) // 4]), rng)
    who, what = np.repeat(USERS, 60), np.tile(raw.image_ids, len(USERS))
    liking = raw.blocks["network"] @ rng.normal(size=(12, len(USERS)))
    score = np.clip(np.rint(500 + 60 * liking.T.ravel() + rng.normal(0, 80, 300)), 0, 1000)
    model = recipe.fit(Ratings(who, what, np.tile(prompts, len(USERS)), score), learned.training, rng)
    Reward.of(model, learned).save(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward(EBSlopes(), tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="module")
def questions() -> pd.DataFrame:
    """Rows a served model is asked: every user and the mean person on new pictures."""
    asked = feature_rows(30, np.random.default_rng(6)).drop(columns="image_id")
    asked.insert(0, "user_id", [*USERS, EVERYBODY] * 5)
    return asked


def answers(folder: Path, asked: pd.DataFrame) -> pd.DataFrame:
    """What the reward says without MLflow, each row alone."""
    loaded, rows = Reward.load(folder), []
    for k in range(len(asked)):
        one = asked.iloc[[k]].assign(image_id="x")
        found = loaded.predict(one["user_id"].to_numpy(str), loaded.design(raw_features(one)))
        rows.append({"mean": found.mean[0], "sd": found.sd[0]})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, with nothing logged: they take seconds to make, so most tests start from a copy."""
    made = Store(tmp_path_factory.mktemp("database"))
    Tracker(made, "another study")
    return made.root / "mlflow.db"


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Store:
    made = Store(tmp_path / "store")
    shutil.copy(empty_database, made.root / "mlflow.db")
    return made


def training_of(folder: Path, questions: pd.DataFrame) -> TrainingRun:
    """What is logged of a saved reward."""
    example = questions.head(3)
    return TrainingRun(
        name="eb_slopes",
        params={"seed": "1", "n_users": "5"},
        metrics={"heldout_accuracy": 0.625, "noise_sd": 80.5},
        tags={"plan_hash": "c0ffee"},
        data={"ratings": "a" * 64, "features": "b" * 64},
        model=ServedModel(CODE, folder, example, answers(folder, example), ("numpy", "pandas")),
        model_digest=reward_module.folder_digest(folder),
    )


@pytest.fixture
def training(trained: Path, questions: pd.DataFrame) -> TrainingRun:
    return training_of(trained, questions)


class Seen:
    """What another MLflow client finds."""

    def __init__(self, store: Store, name: str = "study") -> None:
        from mlflow import MlflowClient

        self.client, self.name = MlflowClient(tracking.tracking_uri(store), tracking.tracking_uri(store)), name
        self.experiment = self.client.get_experiment_by_name(name)

    def runs(self) -> list[Any]:
        return list(self.client.search_runs([self.experiment.experiment_id]))

    def models(self) -> list[Any]:
        return list(self.client.search_logged_models([self.experiment.experiment_id]))

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions(f"name = '{self.name}'"))


def test_a_training_is_logged_once_with_all_that_it_came_from(store: Store, training: TrainingRun) -> None:
    first = Tracker(store, "study").log(training)
    again = Tracker(store, "study").log(replace(training, tags={"plan_hash": "another plan, the same training"}))
    assert again == first
    seen = Seen(store)
    (run,), (model,), (version,) = seen.runs(), seen.models(), seen.versions()
    assert (run.info.run_id, model.model_id, str(version.version)) == (first.run_id, first.model_id, first.version)
    assert run.info.status == "FINISHED"
    assert run.data.params == dict(training.params)
    assert run.data.metrics == dict(training.metrics)
    assert run.data.tags["plan_hash"] == "c0ffee"
    assert {run.data.tags[f"digest.{name}"] for name in training.data} == set(training.data.values())
    inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert inputs == {name: digest[:36] for name, digest in training.data.items()}
    assert [output.model_id for output in run.outputs.model_outputs] == [first.model_id]
    assert version.run_id == first.run_id
    assert version.source == f"models:/{first.model_id}"
    assert len(seen.client.get_metric_history(first.run_id, "noise_sd")) == 1


@pytest.mark.parametrize(
    "difference", [{"data": {"ratings": "c" * 64}}, {"model_digest": "d" * 64}, {"params": {"seed": "2"}}]
)
def test_another_training_is_another_run_and_version(
    store: Store, training: TrainingRun, difference: dict[str, Any]
) -> None:
    tracker = Tracker(store, "study")
    one, two = tracker.log(training), tracker.log(replace(training, **difference))
    assert one.run_id != two.run_id
    assert (one.version, two.version) == ("1", "2")


def test_the_alias_moves_to_the_champion(store: Store, training: TrainingRun) -> None:
    tracker = Tracker(store, "study")
    versions = [tracker.log(replace(training, params={"seed": str(k)})).version for k in range(2)]
    for champion in (versions[1], versions[0], versions[0]):
        tracker.promote(champion)
        assert str(Seen(store).client.get_model_version_by_alias("study", "champion").version) == champion
        assert tracker.aliased() == champion


LOAD = """
import sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/study@champion")
found = model.predict(pd.read_json(sys.argv[2], dtype={"user_id": str}))
print(found["mean"].to_numpy().tobytes().hex(), found["sd"].to_numpy().tobytes().hex())
"""


FUSION = Fusion(SMALL, Training(seeds=2, epochs=2, folds=4))


@pytest.mark.parametrize(
    "recipe", [EBSlopes(), FUSION, Stack((EBSlopes(factors=2), FUSION), folds=4, tested=2)], ids=lambda m: m.name
)
def test_the_champion_predicts_the_same_bits_in_a_new_process(
    store: Store, recipe: TasteModel, questions: pd.DataFrame, tmp_path: Path
) -> None:
    tracker, trained = Tracker(store, "study"), save_reward(recipe, tmp_path / "reward")
    tracker.promote(tracker.log(training_of(trained, questions)).version)
    questions.to_json(tmp_path / "questions.json", orient="records")
    command = [sys.executable, "-c", LOAD, tracker.uri, str(tmp_path / "questions.json")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    output = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True).stdout
    expected = answers(trained, questions)
    mean, sd = (expected[name].to_numpy() for name in ("mean", "sd"))
    assert output.split() == [mean.tobytes().hex(), sd.tobytes().hex()]
    assert len(set(mean)) == len(mean)


def test_a_logged_model_is_code_and_safetensors_with_a_signature(
    store: Store, training: TrainingRun, questions: pd.DataFrame
) -> None:
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException

    logged = Tracker(store, "study").log(training)
    folder = store.root / "mlflow" / "models" / logged.model_id / "artifacts"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {p.suffix for p in files} <= {".py", ".safetensors", ".json", ".yaml", ".txt", ""}
    assert not any(path.read_bytes()[:1] == b"\x80" for path in files), "a pickle begins like this"
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert "python_model" not in described["flavors"]["python_function"]
    code = folder / Path(described["flavors"]["python_function"]["model_code_path"]).name
    assert code.read_text() == CODE.read_text()
    assert [column["name"] for column in json.loads(described["signature"]["inputs"])] == list(questions.columns)
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert loaded.input_example.equals(training.model.example.reset_index(drop=True))
    with pytest.raises(MlflowException, match="statistics"):
        loaded.predict(questions.drop(columns="statistics"))


POINTS = ("log_batch", "log_inputs", "create_logged_model", "log_model_artifacts", "finalize_logged_model",
          "create_model_version", "set_terminated")  # fmt: skip


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*args: object, **kwargs: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_anywhere_leaves_nothing_twice(store: Store, training: TrainingRun, point: str) -> None:
    from mlflow import MlflowClient

    def log_until_killed() -> None:
        setattr(MlflowClient, point, die)
        Tracker(store, "study").log(training)

    assert in_child(log_until_killed) == -signal.SIGKILL
    Tracker(store, "study").log(training)
    seen = Seen(store)
    assert [run.info.status for run in seen.runs()] == ["FINISHED"]
    assert [str(model.status) for model in seen.models()] == ["READY"]
    assert [version.tags[KEY] for version in seen.versions()] == [training.key]
    assert len(seen.client.get_metric_history(seen.runs()[0].info.run_id, "noise_sd")) == 1


def test_a_new_store_survives_a_kill_and_two_writers_at_once(tmp_path: Path, training: TrainingRun) -> None:
    store = Store(tmp_path / "new")

    def make_until_killed() -> None:
        tracking.os.replace = die  # type: ignore[attr-defined]
        Tracker(store, "study")

    assert in_child(make_until_killed) == -signal.SIGKILL
    assert not (store.root / "mlflow.db").exists()
    children = []
    for seed in ("1", "2"):
        child = os.fork()
        if child == 0:
            try:
                Tracker(store, "study").log(replace(training, params={"seed": seed}))
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert sorted(str(version.version) for version in Seen(store).versions()) == ["1", "2"]


def test_the_environment_names_the_server(
    store: Store, training: TrainingRun, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.root / "mlflow.db").unlink()
    shutil.copy(empty_database, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    Tracker(store, "study").log(training)
    assert len(Seen(store).runs()) == 1
    assert not (store.root / "mlflow.db").exists()


def test_logging_leaves_process_and_folder_as_they_were(
    store: Store, training: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Tracker(store, "study").log(training)
    assert not mlflow.is_tracking_uri_set()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not list((tmp_path / "here").iterdir())


def test_a_database_of_another_version_is_refused_with_the_remedy(store: Store) -> None:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        Tracker(store, "study")


@pytest.mark.slow
def test_a_server_keeps_the_same(
    tmp_path: Path, training: TrainingRun, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real MLflow server, which keeps the artifacts too."""
    import socket
    import time
    import urllib.request

    import mlflow

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copy(empty_database, tmp_path / "server.db")
    places = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "art"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).read()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        store = Store(tmp_path / "store")
        tracker = Tracker(store, "study")
        first = tracker.log(training)
        assert Tracker(store, "study").log(training) == first
        tracker.promote(first.version)
        assert not (store.root / "mlflow.db").exists()
        assert [run.info.status for run in Seen(store).runs()] == ["FINISHED"]
        mlflow.set_tracking_uri(uri)
        found = mlflow.pyfunc.load_model(tracker.model_uri()).predict(training.model.example)
        pd.testing.assert_frame_equal(found, training.model.answer, check_exact=True)
    finally:
        mlflow.set_tracking_uri(None)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
