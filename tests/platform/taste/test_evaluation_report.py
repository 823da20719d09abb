"""The report's tables against `analysis` and against sums by hand; the verdict in plain sentences."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis.accuracy import accuracy
from beholder.plans import Taste
from beholder.taste.designs import Pictures
from beholder.taste.evaluate import Evaluated, Folds, evaluate, rungs
from beholder.taste.registry import taste_model
from beholder.taste.report import EvaluationTables, ReportSettings, report, upward
from beholder.taste.summary import evaluation_summary
from beholder.taste.verdict import cautions, tied_share, verdicts

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world

MODELS = tuple(taste_model(name) for name in Taste().models)


@pytest.fixture(scope="module")
def ratings_and_found() -> tuple[pd.DataFrame, Evaluated]:
    world = make_world(np.random.default_rng(4), n_users=24, n_images=120, n_rated=50)
    r = world.ratings
    prompts = np.array([f"p{k // 2:04d}" for k in range(120)])
    found = evaluate(r, Pictures(world.features, prompts), MODELS, Folds(4, 3, 12), np.random.default_rng(1))
    ids = {"user_id": r.user_id, "image_id": r.image_id, "prompt_id": r.prompt_id}
    return pd.DataFrame(ids | {"score": r.score.astype(int)}), found


@pytest.fixture(scope="module")
def tables(ratings_and_found: tuple[pd.DataFrame, Evaluated]) -> EvaluationTables:
    ratings, found = ratings_and_found
    settings = ReportSettings(rungs([m.name for m in MODELS]), (0, 100, 200), permutations=199)
    return report(found.predictions, found.dense, ratings, settings, np.random.default_rng(0))


def test_the_ladder_holds_what_analysis_computes(
    tables: EvaluationTables, ratings_and_found: tuple[pd.DataFrame, Evaluated]
) -> None:
    ratings, found = ratings_and_found
    ladder = tables.ladder.set_index(["level", "split", "model"]).sort_index()
    for level in ("user", "population"):
        for m in accuracy(found.predictions, ratings, level=level).models:
            row = ladder.loc[(level, m.split, m.model)]
            np.testing.assert_array_equal(
                row[["accuracy", "ci_low", "ci_high", "srocc", "plcc", "n_users"]].to_numpy(float),
                np.array([m.accuracy, m.ci_low, m.ci_high, m.srocc, m.plcc, m.n_users], float),
            )
    by_prompt = accuracy(found.predictions, ratings, items="prompt")
    for m in by_prompt.models:
        row = ladder.loc[("user", m.split, m.model)]
        np.testing.assert_array_equal(row[["prompt_ci_low", "prompt_ci_high"]].to_numpy(float), [m.ci_low, m.ci_high])
    first = tables.ladder[(tables.ladder["level"] == "user") & (tables.ladder["split"] == "seen")]
    assert tuple(first["model"]) == rungs([m.name for m in MODELS])


def test_differences_are_higher_rung_less_lower(
    tables: EvaluationTables, ratings_and_found: tuple[pd.DataFrame, Evaluated]
) -> None:
    ratings, found = ratings_and_found
    rung = {name: k for k, name in enumerate(rungs([m.name for m in MODELS]))}
    d = tables.differences
    assert (d["a"].map(rung) > d["b"].map(rung)).all()
    given = {(x.a, x.b, x.split): x for x in accuracy(found.predictions, ratings).differences}
    for row in d[d["level"] == "user"].to_dict("records"):
        straight = given.get((row["a"], row["b"], row["split"]))
        turned = given.get((row["b"], row["a"], row["split"]))
        assert (straight is None) != (turned is None)
        if straight is not None:
            expected = [straight.estimate, straight.ci_low, straight.ci_high, straight.share_a_better, straight.p]
        else:
            expected = [-turned.estimate, -turned.ci_high, -turned.ci_low, 1 - turned.share_a_better, turned.p]
        names = ["estimate", "ci_low", "ci_high", "share_a_better", "p"]
        np.testing.assert_allclose([row[n] for n in names], expected, rtol=1e-12)


def test_errors_and_their_spread_by_hand(
    tables: EvaluationTables, ratings_and_found: tuple[pd.DataFrame, Evaluated]
) -> None:
    ratings, found = ratings_and_found
    score = {(u, i): s for u, i, s in ratings[["user_id", "image_id", "score"]].itertuples(index=False)}
    p = found.predictions[(found.predictions["model"] == "eb_slopes") & (found.predictions["split"] == "seen")]
    squares: dict[str, list[tuple[float, float]]] = {}
    for row in p.itertuples():
        error = score[row.user_id, row.image_id] - row.fold_score
        squares.setdefault(row.user_id, []).append((error**2, (error / row.sd) ** 2))
    by_hand = np.sqrt(np.mean([np.mean(v, axis=0) for v in squares.values()], axis=0))
    row = tables.ladder.query("level == 'user' and split == 'seen' and model == 'eb_slopes'").iloc[0]
    np.testing.assert_allclose([row["rmse"], row["z_sd"]], by_hand, rtol=1e-12)


def test_the_verdict_needs_both_comparisons(tables: EvaluationTables) -> None:
    found = {v.split: v for v in verdicts(tables.differences, 0.95)}
    assert set(found) == {"seen", "unseen"}
    assert found["seen"].shown
    assert "personal taste is shown" in found["seen"].text
    d = tables.differences.copy()
    own_mean = (d["a"] == "eb_slopes") & (d["b"] == "eb_population") & (d["level"] == "user") & (d["split"] == "seen")
    d.loc[own_mean, ["estimate", "prompt_ci_low", "prompt_ci_high", "prompt_p"]] = [0.004, -0.01, 0.018, 0.5]
    unsure = {v.split: v for v in verdicts(d, 0.95)}["seen"]
    assert not unsure.shown
    assert "personalisation is NOT shown" in unsure.text
    d.loc[own_mean, ["estimate", "prompt_ci_low", "prompt_ci_high", "prompt_p"]] = [-0.02, -0.03, -0.01, 0.001]
    worse = {v.split: v for v in verdicts(d, 0.95)}["seen"]
    assert worse.worse
    assert "WORSE" in worse.text
    assert not verdicts(d[d["b"] != "eb_population"], 0.95)


def test_p_values_are_joint_and_adjusted_over_splits() -> None:
    rows = [
        ("seen", "population", 0.03, 0.001), ("seen", "eb_population", 0.02, 0.02),
        ("unseen", "population", 0.02, 0.03), ("unseen", "eb_population", 0.02, 0.002),
    ]  # fmt: skip
    frame = pd.DataFrame(
        [
            {"a": "eb_slopes", "b": b, "split": s, "level": "user", "estimate": e, "prompt_p": p, "n_users": 30}
            | {"prompt_ci_low": e - 0.02, "prompt_ci_high": e + 0.02}
            for s, b, e, p in rows
        ]
    )
    seen, unseen = verdicts(frame, 0.95)
    # The larger p of each split, .02 and .03; Holm: 2 x .02, then the larger of that and .03.
    assert (seen.p_holm, unseen.p_holm) == pytest.approx((0.04, 0.04))
    assert seen.shown
    assert unseen.shown


def test_turning_a_difference_twice_gives_it_back(tables: EvaluationTables) -> None:
    ladder = rungs([m.name for m in MODELS])
    back = upward(upward(tables.differences, ladder[::-1]), ladder)
    pd.testing.assert_frame_equal(back, tables.differences, rtol=1e-12)


def test_the_page_names_every_model_and_says_the_verdict(
    tables: EvaluationTables, ratings_and_found: tuple[pd.DataFrame, Evaluated]
) -> None:
    ratings, _ = ratings_and_found
    console = Console(width=200, file=io.StringIO(), record=True)
    named = {"ladder": tables.ladder, "differences": tables.differences, "tie_curve": tables.tie_curve}
    named |= {"disagreement": tables.disagreement, "evaluation_notes": tables.notes}
    for part in evaluation_summary(named, ratings, 0.95):
        console.print(part)
    text = console.export_text()
    accuracy_of = tables.ladder.query("level == 'user' and split == 'seen'").set_index("model")["accuracy"]
    for name in rungs([m.name for m in MODELS]):
        assert f"{name} " in text
        assert f"{accuracy_of[name]:.3f}" in text
    assert "personal taste is shown" in text
    assert "No noise ceiling" in text


def test_cautions_count(ratings_and_found: tuple[pd.DataFrame, Evaluated], tables: EvaluationTables) -> None:
    ratings, _ = ratings_and_found
    lines = cautions(ratings, tables.ladder)
    assert lines[0].startswith("1200 ratings by 24 people of 120 images; ratings a person: 50 to 50, median 50")
    assert any(line.startswith("60 prompts with 2.0 images each") for line in lines)
    three = pd.DataFrame({"user_id": list("aaab"), "image_id": list("wxyw"), "score": [1, 1, 2, 5]})
    assert tied_share(three) == pytest.approx(1 / 3)
