"""The newcomers' sweep as a job: on the store's tables, kept by fold, and the same as by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import newcomers
from analysis.accuracy import accuracy
from beholder.taste.base import Ratings
from beholder.taste.evaluate import CrossValidation, Folds
from beholder.taste.fold_stage import pictures_from
from beholder.taste.newcomer_report import label, levelled
from beholder.taste.newcomers import Sweep, predict_newcomers
from beholder.taste.registry import taste_model

SWEEP = Sweep((0, 2, 5), (1, 3))


def test_the_sweep_of_a_store_and_again_for_nothing(
    rated_study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = rated_study.copy(tmp_path / "store")
    request = newcomers.Request(SWEEP, 2, "")
    first = study.context()
    newcomers.run(first, request)
    folds = 3 * 2
    assert first.counts == {"computed": folds + 1, "found": 0, "quarantined": 0}
    again = study.context()
    newcomers.run(again, request)
    assert again.counts == {"found": 1}
    assert again.digests == first.digests
    assert "posterior_chosen against posterior, N=5" in capsys.readouterr().out

    ratings, images, features, vectors = (first.load(n) for n in ("ratings", "images", "features", "prompt_vectors"))
    seed = int(np.random.default_rng([first.plan.seed, 3, 0]).integers(2**62))
    folded = CrossValidation.of(
        Ratings.from_frame(ratings),
        pictures_from(images, features, vectors),
        Folds(3, 2, 5, splits=("unseen",)),
        seed,
    )
    model = taste_model("eb_slopes")
    by_hand = levelled(
        [
            predict_newcomers(split, folded.pictures, folded.design(k), SWEEP, [seed, 2, k], model)
            for k, split in enumerate(folded.splits)
        ]
    )
    table = first.load("newcomers")
    assert len(table) == 3 * (2 + 2 * 2)
    for row in table.itertuples():
        mine = by_hand.query(
            "method == @row.method and shown == @row.shown and neighbours == @row.neighbours", local_dict={"row": row}
        )
        named = mine.assign(model=label(row.method, row.shown, row.neighbours), split="unseen")
        found = accuracy(named, ratings, level="user").models[0]
        assert (row.accuracy, row.ci_low, row.n_users) == (found.accuracy, found.ci_low, found.n_users)
    written = pd.read_csv(study.store / "evaluation" / "newcomers_chosen.csv")
    pd.testing.assert_frame_equal(written, first.load("newcomers_chosen"), rtol=1e-12)


def test_a_sweep_that_makes_no_sense_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert newcomers.main(["--shown", "5,2", "--store", str(tmp_path / "none")]) == 2
    assert "rising numbers" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
