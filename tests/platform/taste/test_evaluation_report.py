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
from beholder.taste.fold_tables import with_scores
from beholder.taste.registry import taste_model
from beholder.taste.report import EvaluationTables, ReportSettings, rating_counts, report, sd_calibration, upward
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
    assert not [line for line in lines if line.startswith("! eb_slopes")]
    own = (tables.ladder["model"] == "eb_slopes") & (tables.ladder["level"] == "user")
    told = tables.ladder.assign(
        z_sd=tables.ladder["z_sd"].mask(own, 1.23), sd_honest=tables.ladder["sd_honest"].mask(own, "no")
    )
    (bold,) = [line for line in cautions(ratings, told) if line.startswith("! eb_slopes, seen")]
    assert "errors are larger than it states (SD of standardised errors 1.23," in bold
    three = pd.DataFrame({"user_id": list("aaab"), "image_id": list("wxyw"), "score": [1, 1, 2, 5]})
    assert tied_share(three) == pytest.approx(1 / 3)


def test_calibration_finds_the_sd_that_was_stated_wrongly(
    ratings_and_found: tuple[pd.DataFrame, Evaluated], tables: EvaluationTables
) -> None:
    """Stated half as large, the SD of standardised errors is twice as large, and so is its interval."""
    ratings, found = ratings_and_found
    own = found.predictions[found.predictions["model"] == "eb_slopes"]
    honest, bold = (sd_calibration(frame, ratings, 0.95) for frame in (own, own.assign(sd=own["sd"] / 2)))
    z = tables.ladder.query("level == 'user' and model == 'eb_slopes'").set_index("split")
    for name in ("z_sd_low", "z_sd_high"):
        np.testing.assert_allclose(bold[name], 2 * honest[name], rtol=1e-12)
        np.testing.assert_array_equal(honest.set_index("split")[name].sort_index(), z[name].sort_index())
    assert (honest["z_sd_low"].to_numpy() < z.loc[honest["split"], "z_sd"].to_numpy()).all()
    assert (z.loc[honest["split"], "z_sd"].to_numpy() < honest["z_sd_high"].to_numpy()).all()
    assert (bold["z_sd_low"] > 1).all()
    assert set(honest["sd_honest"]) == {"yes"}
    assert set(bold["sd_honest"]) == {"no"}
    nobody = tables.ladder.query("level == 'user' and model == 'eb_population'")
    assert nobody[["z_sd", "z_sd_low", "z_sd_high", "sd_honest"]].isna().all(axis=None)


def test_helped_users_are_those_ordered_better_than_by_the_head(tables: EvaluationTables) -> None:
    own = tables.ladder[tables.ladder["level"] == "user"].set_index(["split", "model"])["share_helped"]
    gaps = tables.differences.query("level == 'user' and a == 'eb_slopes' and b == 'population'").set_index("split")
    for split in ("seen", "unseen"):
        assert own[split, "eb_slopes"] == gaps.loc[split, "share_a_better"] > 0.5
        assert np.isnan(own[split, "population"])
        assert own[split, "constant"] < 0.5


def test_counts_by_hand() -> None:
    ratings = pd.DataFrame(
        {"user_id": list("aaabbcdd"), "image_id": list("xyzxyxxy"), "score": [1, 2, 3, 5, 5, 9, 4, 4]}
    )
    ratings = ratings.assign(prompt_id="p")
    predictions = pd.DataFrame({"split": "seen", "user_id": list("aab"), "image_id": list("xyx")})
    everything, seen = rating_counts(predictions, ratings).to_dict("records")
    assert everything == {
        "split": "all", "n_ratings": 8, "n_users": 4, "n_images": 3, "n_prompts": 1, "per_user_min": 1.0,
        "per_user_median": 2.0, "per_user_max": 3.0, "n_single": 1, "n_constant": 2,
    }  # fmt: skip
    assert (seen["n_ratings"], seen["n_users"], seen["n_single"]) == (3, 2, 1)


@pytest.fixture(scope="module")
def scored(ratings_and_found: tuple[pd.DataFrame, Evaluated]) -> tuple[Evaluated, pd.DataFrame]:
    """A scorer that sees the crowd through noise, on a scale of its own, and one that has not seen every image."""
    ratings, found = ratings_and_found
    mean = ratings.groupby("image_id")["score"].mean()
    noise = np.random.default_rng(5).standard_normal(len(mean))
    good = pd.DataFrame({"image_id": mean.index, "scorer": "crowd", "score": (mean + 60 * noise).to_numpy() / 1e4})
    part = good.iloc[10:].assign(scorer="part")
    scores = pd.concat([good, part], ignore_index=True)
    return with_scores(found, scores), good


def test_a_scorer_is_a_rung_at_both_levels(
    scored: tuple[Evaluated, pd.DataFrame], ratings_and_found: tuple[pd.DataFrame, Evaluated]
) -> None:
    from scipy.stats import spearmanr

    ratings, _ = ratings_and_found
    both, good = scored
    ladder = (*rungs([m.name for m in MODELS])[:2], "score:crowd", "score:part", *rungs([m.name for m in MODELS])[2:])
    found = report(both.predictions, both.dense, ratings, ReportSettings(ladder, (0,), permutations=99),
                   np.random.default_rng(0))  # fmt: skip
    rows = found.ladder.set_index(["level", "split", "model"])
    number = good.set_index("image_id")["score"]
    by_hand = [spearmanr(own["score"], number.loc[own["image_id"]]).statistic for _, own in ratings.groupby("user_id")]
    for split in ("seen", "unseen"):
        row = rows.loc[("user", split, "score:crowd")]
        assert row["srocc"] == pytest.approx(np.mean(by_hand))
        assert row[["rmse", "z_sd", "z_sd_low"]].isna().all()
        assert row["accuracy"] > 0.55
        assert rows.loc[("population", split, "score:crowd"), "srocc"] > row["srocc"]
        assert rows.loc[("user", split, "score:part"), "n_images"] == row["n_images"] - 10
    assert any("part has no score for 10 of 120 tested images" in note for note in both.notes)
    seen = found.disagreement.query("split == 'seen' and model == 'score:crowd'").iloc[0]
    assert (seen["both"], seen["none"]) == pytest.approx((0, 0), abs=1e-12)
    rung = found.ladder.query("level == 'user' and split == 'seen'")["model"].tolist()
    assert rung == list(ladder)


def test_scores_that_cannot_be_meant_are_refused(ratings_and_found: tuple[pd.DataFrame, Evaluated]) -> None:
    from beholder.errors import TableError

    _, found = ratings_and_found
    scores = pd.DataFrame({"image_id": ["i0000", "i0000"], "scorer": "s", "score": [1.0, 2.0]})
    with pytest.raises(TableError, match="two numbers for image i0000"):
        with_scores(found, scores)
    with pytest.raises(TableError, match="1 of 1 are NaN or infinite, first image i0000"):
        with_scores(found, scores[:1].assign(score=np.nan))
    with pytest.raises(TableError, match="without column scorer"):
        with_scores(found, scores.drop(columns="scorer"))
