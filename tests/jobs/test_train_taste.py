"""Training as a job: what is saved is what was fitted, MLflow knows it, and the champion is the best one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import train_taste
from beholder.plans import Taste
from beholder.steering.reward import Reward, folder_digest, pictures_of, raw_features
from beholder.store import Store
from beholder.taste.base import Ratings
from beholder.taste.designs import learn_design
from beholder.taste.registry import taste_model
from beholder.taste.splits import seen_splits
from beholder.tracking import Tracker

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables take seconds to make; the copies below start from these."""
    made = Store(tmp_path_factory.mktemp("database"))
    Tracker(made, "another study")
    return made.root / "mlflow.db"


@pytest.fixture(scope="module")
def trained(rated_study: TinyStudy, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    study = rated_study.copy(tmp_path_factory.mktemp("trained") / "store")
    shutil.copy(empty_database, study.store)
    train_taste.run(study.context())
    return study


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(variable, raising=False)


def mlflow_client(study: TinyStudy) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{study.store}/mlflow.db", f"sqlite:///{study.store}/mlflow.db")


def champion_of(study: TinyStudy) -> str:
    return str(mlflow_client(study).get_model_version_by_alias("beholder-tiny", "champion").tags["model"])


def test_a_saved_reward_is_the_model_fitted_on_all_ratings(trained: TinyStudy) -> None:
    store = Store(trained.store)
    features, table = store.read_table("features"), store.read_table("ratings")
    pictures = pictures_of(store.read_table("images"), features, store.read_table("prompt_vectors"))
    learned = learn_design(pictures, np.random.default_rng([4, 31]))
    fitted = taste_model("eb_slopes").fit(Ratings.from_frame(table), learned.training, np.random.default_rng([4, 32]))
    raw = raw_features(features)
    users = np.resize(fitted.user_ids, len(raw.image_ids))
    loaded = Reward.load(trained.store / "models" / "eb_slopes")
    found = loaded.predict(users, loaded.design(raw))
    np.testing.assert_array_equal(found.mean, fitted.predict(users, learned.transform(raw).matrix).mean)


def test_the_table_says_what_lies_in_the_store_and_in_mlflow(trained: TinyStudy) -> None:
    table, client = Store(trained.store).read_table("trained"), mlflow_client(trained)
    assert list(table["model"]) == list(trained.context().plan.taste.models)
    for row in table.itertuples():
        assert row.digest == folder_digest(trained.store / "models" / row.model)
        run = client.get_run(row.mlflow_run_id)
        assert run.data.metrics["heldout_accuracy"] == row.heldout_accuracy
        assert run.data.tags["model_digest"] == row.digest
        assert run.data.tags["digest.ratings"] == trained.context().digest("ratings")
    assert table["n_ratings"].unique() == [len(Store(trained.store).read_table("ratings"))]


def test_heldout_accuracy_is_that_of_models_that_have_not_seen_the_prompts(trained: TinyStudy) -> None:
    """Pairs are counted one by one; a model without images orders nothing."""
    context, store = trained.context(), Store(trained.store)
    table = store.read_table("trained").set_index("model")["heldout_accuracy"]
    assert table["constant"] == table["user_mean"] == 0.5
    pictures = pictures_of(*(store.read_table(n) for n in ("images", "features", "prompt_vectors")))
    ratings = Ratings.from_frame(store.read_table("ratings"))
    split = seen_splits(ratings, ratings.prompt_id, 3, np.random.default_rng([context.plan.seed, 33]))[0]
    keep = ~np.isin(pictures.prompt_ids, split.test_ratings.prompt_id)
    learned = learn_design(pictures.take(keep), np.random.default_rng([context.plan.seed, 34]))
    model = taste_model("population").fit(split.train_ratings, learned.training, np.random.default_rng([4, 35]))
    test = split.test_ratings
    score = model.predict_population(learned.transform(pictures.features.take(test.images())).matrix).mean
    guess = dict(zip(test.images().tolist(), score.tolist(), strict=True))
    each = []
    for user in test.users():
        mine = test.take(test.user_id == user)
        right = [
            0.5 if guess[a] == guess[b] else float((guess[a] > guess[b]) == (x > y))
            for i, (a, x) in enumerate(zip(mine.image_id.tolist(), mine.score, strict=True))
            for b, y in zip(mine.image_id.tolist()[:i], mine.score[:i], strict=True)
            if x != y
        ]
        each.append(np.mean(right))
    assert table["population"] == pytest.approx(np.mean(each), abs=1e-12)


def test_the_same_ratings_give_the_same_table_anywhere(
    trained: TinyStudy, study_copy: Callable[[], TinyStudy], empty_database: Path
) -> None:
    other = study_copy()
    shutil.copy(empty_database, other.store)
    context = other.context()
    train_taste.run(context)
    assert context.digests["trained"] == trained.context().digest("trained")
    ids = [Store(s.store).read_table("trained")["mlflow_run_id"] for s in (trained, other)]
    assert set(ids[0]).isdisjoint(ids[1]), "the runs differ, the content does not"


def test_a_second_run_finds_everything_and_a_lost_database_is_filled_again(
    trained: TinyStudy, empty_database: Path, tmp_path: Path
) -> None:
    study = trained.copy(tmp_path / "store")
    written = (study.store / "records" / "tracking.json").stat().st_mtime_ns
    context, first = study.context(), trained.context()
    train_taste.run(context)
    assert context.counts == {"found": 1}
    tables = ("trained", "trained_differences", *train_taste.INPUTS)
    assert context.digests == {name: first.digest(name) for name in tables}
    assert (study.store / "records" / "tracking.json").stat().st_mtime_ns == written
    shutil.copy(empty_database, study.store / "mlflow.db")
    (study.store / "records" / "tracking.json").unlink()
    train_taste.run(study.context())
    experiment = mlflow_client(study).get_experiment_by_name("beholder-tiny").experiment_id
    assert len(mlflow_client(study).search_runs([experiment])) == len(Taste().models)


def write_evaluation(study: TinyStudy, better: str, low: float) -> None:
    """Tables as if these ratings had been evaluated: one model ahead of each other by .1, from `low` on."""
    context = study.context()
    models = list(Store(study.store).read_table("trained")["model"])
    ladder = pd.DataFrame({"model": models, "accuracy": [0.7 if m == better else 0.6 for m in models]})
    ladder = ladder.assign(split="seen", level="user", ci_low=0.5, ci_high=0.8, srocc=np.nan, plcc=0.2)
    pairs = [(a, b) for k, a in enumerate(models) for b in models[:k]]
    differences = pd.DataFrame(pairs, columns=["a", "b"]).assign(split="seen", level="user", estimate=0.0)
    differences = differences.assign(ci_low=-0.1, ci_high=0.1, prompt_ci_low=-0.2, prompt_ci_high=0.2)
    names = ["estimate", "ci_low", "ci_high", "prompt_ci_low", "prompt_ci_high"]
    differences.loc[differences["a"] == better, names] = [0.1, 0.05, 0.15, low, 0.2 - low]
    differences.loc[differences["b"] == better, names] = [-0.1, -0.15, -0.05, low - 0.2, -low]
    curve = pd.DataFrame({"model": better, "split": "seen", "margin": [0, 250], "accuracy": [0.7, 0.8]})
    for name, table in (("ladder", ladder), ("differences", differences), ("tie_curve", curve)):
        context.save(name, table, ["ratings"])


def test_the_champion_moves_only_when_the_whole_interval_says_so(
    trained: TinyStudy, empty_database: Path, tmp_path: Path
) -> None:
    study = trained.copy(tmp_path / "store")
    shutil.copy(empty_database, study.store / "mlflow.db")
    client = mlflow_client(study)

    def aliases() -> dict[str, str]:
        found = client.get_registered_model("beholder-tiny").aliases
        return {a: client.get_model_version("beholder-tiny", v).tags["model"] for a, v in found.items()}

    write_evaluation(study, "population", 0.02)
    train_taste.run(study.context())
    assert aliases() == {"champion": "population"}
    write_evaluation(study, "eb_slopes", -0.01)
    train_taste.run(study.context())
    assert aliases() == {"champion": "population", "challenger": "eb_slopes"}
    record = Store(study.store).read_record("tracking")
    assert "eb_slopes is not shown to beat it: +10.0 [-1.0, +21.0]" in record["criterion"]
    write_evaluation(study, "eb_slopes", 0.01)
    train_taste.run(study.context())
    assert aliases() == {"champion": "eb_slopes"}
    version = client.get_model_version_by_alias("beholder-tiny", "champion")
    assert "eb_slopes beats population by +10.0 [+1.0, +19.0]" in version.tags["beholder.reason"]
    run = client.get_run(version.run_id)
    assert run.data.metrics["seen.user.accuracy"] == 0.7
    assert "seen.user.srocc" not in run.data.metrics
    steps = client.get_metric_history(version.run_id, "seen.accuracy_beyond_margin")
    assert {m.step: m.value for m in steps} == {0: 0.7, 250: 0.8}


def test_an_evaluation_of_other_ratings_is_no_evidence(
    trained: TinyStudy, empty_database: Path, tmp_path: Path
) -> None:
    study = trained.copy(tmp_path / "store")
    shutil.copy(empty_database, study.store / "mlflow.db")
    write_evaluation(study, "user_mean", 0.02)
    for name in ("ladder", "differences", "tie_curve"):
        record = Store(study.store).read_record(f"table-{name}")
        Store(study.store).write_record(f"table-{name}", record | {"inputs": {"ratings": "of another study"}})
    train_taste.run(study.context())
    assert "held-out fold" in Store(study.store).read_record("tracking")["criterion"]
