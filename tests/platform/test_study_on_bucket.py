"""A whole study, job by job, in a bucket and in a folder: the same tables, the same models, the same page."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ablation
import analyse
import digest
import embed
import evaluate_taste
import generate
import newcomers
import pairwise_study
import simulate_ratings
import steer
import train_taste
from beholder.errors import StoreError
from beholder.models import weights
from beholder.runs import open_context, parser
from beholder.steering.reward import Reward
from beholder.store import Store
from beholder.taste.newcomers import Sweep

pytestmark = pytest.mark.models

ROOT = Path(__file__).parents[2]
APP = ROOT / "dashboards" / "app.py"
MODELS = Path(os.environ.get("BEHOLDER_MODELS", ROOT / "models"))
PLAN = """
name: tiny
seed: 4
generate: {size: 64, prompts: 6, seeds_per_prompt: 2, calibration_prompts: 10}
rate: {raters: 6, per_image: 6}
embed: {size: 64}
taste: {models: [constant, population, eb_slopes], prompt_folds: 2, user_folds: 2, context: 3}
steer: {raters: 3, prompts: 3, rounds: 1, candidates: 2, parents: 1, rewriter: phrases}
study: {trials: 12, repeats: 0}
analysis: {permutations: 99}
"""
SWEEP = newcomers.Request(Sweep((0, 2), (1,), 0.1), 2, "")


@dataclass(frozen=True)
class Study:
    """A plan on a store."""

    plan: Path
    url: str

    @property
    def copy(self) -> Study:
        """The same study in a folder, as far as people have rated."""
        return Study(self.plan, str(self.plan.with_name("store")))

    def arguments(self) -> list[str]:
        return ["--plan", str(self.plan), "--store", self.url, "--in-process"]

    def run(self, body: Any, *more: Any) -> None:
        """One job, in a context of its own, as a process of its own has it."""
        context = open_context(parser("study", "").parse_args(self.arguments()))
        with context.engine:
            body(context, *more)

    def rate(self) -> None:
        for job in (generate, embed, simulate_ratings):
            self.run(job.run)

    def finish(self) -> None:
        self.run(evaluate_taste.run)
        self.run(newcomers.run, SWEEP)
        self.run(ablation.run, (), ["eb_slopes"])
        for job in (train_taste, steer, pairwise_study, analyse):
            self.run(job.run)


@pytest.fixture(scope="module")
def bucket_study(s3_variables, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A study in a bucket in which people have rated, with a copy in a folder. Its variables hold in this file."""
    missing = [name for name in ("minilm", "efficientnet_lite0") if not weights.present(name, MODELS)]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"{', '.join(missing)} not in {MODELS}: beholder models fetch embedded")
    import boto3

    folder, bucket = tmp_path_factory.mktemp("bucket"), f"study-{uuid.uuid4().hex}"
    (folder / "tiny.yaml").write_text(PLAN)
    named = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "BEHOLDER_MODELS": str(MODELS)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_variables, **named}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=bucket)
        study = Study(folder / "tiny.yaml", f"s3://{bucket}/studies/one")
        study.rate()
        with Store(study.url).storage.folder_to_read() as rated:
            shutil.copytree(rated, study.copy.url)
        yield study


def test_bucket_that_throttles_during_an_evaluation_is_refused_in_one_line_and_nothing_is_half_written(
    bucket_study: Study, proxied, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its second table on: what is there is whole, and no step claims more. The same command then goes on."""
    monkeypatch.setitem(Store.__init__.__kwdefaults__, "patience", 0.5)
    store = Store(bucket_study.url)
    with proxied() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        written: list[str] = []

        def late(method: str, path: str) -> bool:
            if method == "PUT" and "/tables/" in path:
                written.append(path)
            return len(written) > 1

        proxy.concerns = late
        proxy.troubles.extend(["throttle"] * 10_000)
        assert evaluate_taste.main(bucket_study.arguments()) == 2
        monkeypatch.undo()
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"evaluate_taste: {bucket_study.url}: could not write ")
    assert said[-1].endswith("The same command goes on from here")
    assert store.read_record("step-Evaluate taste") is None
    made = [name for name in store.tables() if name in (*evaluate_taste.CSV_TABLES, *evaluate_taste.PARQUET_TABLES)]
    assert len(made) == 1
    assert len(store.read_table(made[0]))
    assert store.names("evaluation") == []


def test_study_in_a_bucket_has_the_tables_models_and_page_of_one_in_a_folder(
    bucket_study: Study, proxied, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bucket_study.copy
    with proxied() as proxy:  # some throttled requests on the way are waited for
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        proxy.concerns = lambda method, path: len(proxy.requests) % 40 == 0
        proxy.troubles.extend(["throttle"] * 5)
        bucket_study.finish()
        monkeypatch.undo()
        assert not proxy.troubles
    folder.finish()
    here, there = Store(folder.url), Store(bucket_study.url)
    capsys.readouterr()
    assert digest.main(["--store", there.url, "--compare", here.url]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["differences"] == []
    assert {"ladder", "newcomers", "ablation", "trained", "steered", "votes", "contrasts"} <= {*there.tables()}
    for place in ("evaluation", "models", "report"):
        names = there.names(place)
        assert names == here.names(place)
        assert names
        assert all(there.read(name) == here.read(name) for name in names), place
    with there.place("models/eb_slopes").folder_to_read() as fetched:
        known = {str(user) for user in Reward.load(fetched).model.user_ids}
    assert known == {*here.read_table("ratings")["user_id"]}
    logged = [store.read_record("tracking")["models"] for store in (there, here)]
    assert logged[0] == logged[1], "one server, the same content: the runs of the first are found again"


def test_model_that_was_changed_behind_its_table_is_refused_and_trained_again(bucket_study: Study) -> None:
    """As after a kill between two of its files."""
    store = Store(bucket_study.url)
    name = next(name for name in store.names("models/eb_slopes") if name.endswith(".json"))
    before = store.read(name)
    store.write_file(name, before + b" ")
    context = open_context(parser("study", "").parse_args(bucket_study.arguments()))
    with pytest.raises(StoreError, match="models/eb_slopes is not what table 'trained' says; to do: run train_taste"):
        train_taste.load_reward(context, "eb_slopes")
    bucket_study.run(train_taste.run)
    assert store.read(name) == before


def test_pages_show_a_study_in_a_bucket(bucket_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", [str(APP), "--store", bucket_study.url])
    for page in ("overview", "steering", "health"):
        app = AppTest.from_file(str(APP), default_timeout=120)
        app.switch_page(f"views/{page}.py")
        app.run()
        assert not app.exception
        assert not app.error
        assert any("Store `one` · plan `tiny`" in part.value for part in app.sidebar.caption)
        assert not any("missing" in part.value for part in app.warning)
    assert any(
        f"{len(Store(bucket_study.url).tables())} table" in part.value.replace("\u00a0", " ") for part in app.success
    )


def test_training_without_a_tracking_server_is_refused_before_anything_is_fitted(
    bucket_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(StoreError, match="MLflow's database cannot lie in s3://") as refused:
        bucket_study.run(train_taste.run)
    line = str(refused.value)
    assert "to do: set MLFLOW_TRACKING_URI" in line
    assert "\n" not in line
