"""Folds on workers give the tables of one process, to the bit; and taste is followed where people rated again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import evaluate_taste
from beholder.engine.environment import worker_environment
from beholder.records import table_digest
from beholder.store import Store

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models
JOB = Path(evaluate_taste.__file__)
FEW = ("--set", "taste.models=[user_mean, population, eb_slopes]", "--set", "analysis.permutations=99")


def run(study: TinyStudy, *arguments: str) -> dict[str, str]:
    """The job as a process of its own: digests of the tables it made."""
    command = [sys.executable, str(JOB), "--plan", str(study.plan), "--store", str(study.store), *FEW, *arguments]
    done = subprocess.run(
        command, env={**os.environ, **worker_environment()}, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tables: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])["tables"]
    return tables


@pytest.mark.ray
def test_workers_give_what_one_process_gives(study_copy: Callable[[], TinyStudy]) -> None:
    alone, spread = study_copy(), study_copy()
    expected = run(alone, "--in-process")
    found = run(spread, "--workers", "2")
    assert found == expected
    rows = list(Store(spread.store).ledger_rows("evaluate"))
    assert len(rows) == 3 * (3 + 6)
    assert {row["worker"] for row in rows}.isdisjoint(
        {row["worker"] for row in Store(alone.store).ledger_rows("evaluate")}
    )


def test_a_gain_that_lasts_and_one_that_does_not(
    study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str]
) -> None:
    """Everybody rates all images again: once as before, once as the next person did."""
    for lasts in (True, False):
        study = study_copy()
        store = Store(study.store)
        ratings = store.read_table("ratings")
        ratings = ratings[ratings["occasion"] == 1]
        users = sorted(ratings["user_id"].unique())
        following = dict(zip(users, [*users[1:], users[0]], strict=True))
        again = ratings.assign(occasion=2)
        if not lasts:
            mine = ratings.assign(user_id=ratings["user_id"].map({v: k for k, v in following.items()}))
            again = again.drop(columns="score").merge(
                mine[["user_id", "image_id", "score"]], on=["user_id", "image_id"]
            )
        both = pd.concat([ratings, again], ignore_index=True)
        store.write_table("ratings", both)
        record = store.read_record("table-ratings")
        store.write_record("table-ratings", record | {"digest": table_digest(both)})
        assert evaluate_taste.main(["--plan", str(study.plan), "--store", str(study.store), "--in-process", *FEW]) == 0
        capsys.readouterr()
        table = store.read_table("stability").set_index("quantity")
        first, later = table.loc["gain_first", "estimate"], table.loc["gain_later", "estimate"]
        assert table["personal"].unique().tolist() == ["eb_slopes"]
        if lasts:
            assert later == first
        else:
            assert not np.isclose(later, first)


def test_too_few_rated_again_is_said(study_copy: Callable[[], TinyStudy], capsys: pytest.CaptureFixture[str]) -> None:
    study = study_copy()
    assert evaluate_taste.main(["--plan", str(study.plan), "--store", str(study.store), "--in-process", *FEW]) == 0
    capsys.readouterr()
    store = Store(study.store)
    assert store.read_table("stability").empty
    notes = store.read_table("evaluation_notes")
    (note,) = notes.loc[notes["about"] == "stability", "note"]
    assert note.startswith("not computed: ")
