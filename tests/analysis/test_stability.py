from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.cli import main
from analysis.errors import EstimateError, TableError
from analysis.kept_gain import Estimator, credits_on_both, kept_gain
from analysis.results import Population
from analysis.returners import welch_p
from analysis.stability import taste_stability
from analysis.user_means import crossing

SHARED, OWN, NOISE = 0.30, 0.30, 0.25
QUALITY = 0.5
"""How much of private taste the personal model knows."""


def world(rng: np.random.Generator, users: int, images: int, lasting: float) -> tuple[np.ndarray, ...]:
    """Ratings of two occasions and two models, each (users, images); private taste correlates `lasting` over time."""
    shared = rng.normal(0, math.sqrt(SHARED), images)
    own = rng.normal(0, math.sqrt(OWN), (users, images))
    later_own = lasting * own + math.sqrt(1 - lasting**2) * rng.normal(0, math.sqrt(OWN), (users, images))
    noise = rng.normal(0, math.sqrt(NOISE), (2, users, images))
    population = np.broadcast_to(shared + rng.normal(0, math.sqrt(SHARED / 2), images), (users, images))
    personal = population + QUALITY * own + rng.normal(0, math.sqrt(0.3 * OWN), (users, images))
    return shared + own + noise[0], shared + later_own + noise[1], population, personal


def tables(rng: np.random.Generator, users: int, images: int, lasting: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    first, later, population, personal = world(rng, users, images, lasting)
    user, image = (codes.ravel() for codes in np.indices(first.shape))
    ids = {"user_id": np.char.mod("u%02d", user), "image_id": np.char.mod("i%02d", image)}
    ratings = pd.concat(
        [
            pd.DataFrame({**ids, "occasion": k, "score": np.clip(np.rint(500 + 120 * y.ravel()), 0, 1000).astype(int)})
            for k, y in ((1, first), (2, later))
        ],
        ignore_index=True,
    )
    predictions = pd.concat(
        [
            pd.DataFrame({**ids, "model": name, "score": score.ravel()})
            for name, score in (("population", population), ("eb_slopes", personal))
        ],
        ignore_index=True,
    )
    return predictions.assign(split="seen"), ratings


@pytest.fixture(scope="module")
def both() -> tuple[pd.DataFrame, pd.DataFrame]:
    return tables(np.random.default_rng(8), 40, 30, 0.8)


def wide(table: pd.DataFrame, **chosen: object) -> np.ndarray:
    for name, value in chosen.items():
        table = table[table[name] == value]
    return table.pivot_table(index="user_id", columns="image_id", values="score").to_numpy()


def test_equals_the_loop_over_pairs(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Gains, accuracies and share from the definition: pairs that are no ties on either occasion."""
    predictions, ratings = both
    y = [wide(ratings, occasion=k) for k in (1, 2)]
    s = {name: wide(predictions, model=name) for name in ("eb_slopes", "population")}
    hits: dict[tuple[str, int], list[float]] = {(name, k): [] for name in s for k in (0, 1)}
    n_pairs = 0
    for u in range(40):
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(30), 2)
            if y[0][u, i] != y[0][u, j] and y[1][u, i] != y[1][u, j]
        ]
        n_pairs += len(pairs)
        for name, k in hits:
            right = [(s[name][u, i] - s[name][u, j]) * (y[k][u, i] - y[k][u, j]) > 0 for i, j in pairs]
            hits[name, k].append(float(np.mean(right)))
    found = taste_stability(predictions, ratings)
    models = {m.model: m for m in found.models}
    for name in s:
        assert models[name].accuracy_first == pytest.approx(np.mean(hits[name, 0]))
        assert models[name].accuracy_later == pytest.approx(np.mean(hits[name, 1]))
    gains = [np.mean(hits["eb_slopes", k]) - np.mean(hits["population", k]) for k in (0, 1)]
    assert (found.gain_first, found.gain_later) == pytest.approx(tuple(gains))
    assert found.share_kept == pytest.approx(gains[1] / gains[0])
    assert found.change.estimate == pytest.approx(gains[1] - gains[0])
    assert found.n_pairs == n_pairs
    assert (found.n_users, found.n_images) == (40, 30)
    assert (found.personal, found.population) == ("eb_slopes", "population")


def test_standard_error_of_the_share_equals_its_formula(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """The kernel (K_2 - share K_1)/G_1 written out over a complete table without ties; each image ends two pairs."""
    rng = np.random.default_rng(3)
    first, later, population, personal = world(rng, 25, 20, 0.7)
    ranks = [stats.rankdata(y, axis=1).astype(np.int64) for y in (first, later)]
    user = np.repeat(np.arange(25), 20)
    credited = credits_on_both(
        user, ranks[0].ravel(), ranks[1].ravel(), np.stack([personal.ravel(), population.ravel()], axis=1)
    )

    def kernel(y: np.ndarray, f: np.ndarray) -> np.ndarray:
        return (np.sign(y[:, :, None] - y[:, None]) * np.sign(f[:, :, None] - f[:, None]) > 0).astype(float)

    k1, k2 = (kernel(y, personal) - kernel(y, population) for y in (first, later))
    g1, g2 = k1.sum() / (25 * 20 * 19), k2.sum() / (25 * 20 * 19)
    value, influence = credited.mean([[1 / g1 * -g2 / g1, 1 / g1], [g2 / g1 / g1, -1 / g1]])
    moved = (k2 - g2 / g1 * k1) / g1
    np.testing.assert_allclose(value, moved.sum(axis=(1, 2)) / (20 * 19), atol=1e-12)
    centred = moved.sum(axis=2) - value[:, None] * 19
    np.testing.assert_allclose(influence.reshape(25, 20), centred / (20 * 19 / 2), atol=1e-12)


@pytest.mark.parametrize(("lasting", "share"), [(1.0, 1.01), (0.7, 0.533), (0.0, -0.484)])
def test_share_kept_covers_the_truth(rng: np.random.Generator, lasting: float, share: float) -> None:
    """100 studies of 30 users and 40 images; coverage .957, .987, .957 of 300 seen, mean share 1.01, .54, -.49."""
    covered, found = 0, []
    user, image = (codes.ravel() for codes in np.indices((30, 40)))
    rows = crossing(user, image)
    for _ in range(100):
        first, later, population, personal = world(rng, 30, 40, lasting)
        ranks = [stats.rankdata(y).astype(np.int64) for y in (first, later)]
        credited = credits_on_both(user, *ranks, np.stack([personal.ravel(), population.ravel()], axis=1))
        estimate = Estimator(credited, rows, np.ones(30, dtype=bool), 0.95, Population())
        one = kept_gain(estimate, 0, 1).share
        found.append(one.estimate)
        covered += one.ci_low <= share <= one.ci_high
    assert covered / 100 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)
    assert np.mean(found) == pytest.approx(share, abs=4 * np.std(found) / 10 + 0.01)


def test_taste_that_is_mood_is_told(rng: np.random.Generator) -> None:
    found = taste_stability(*tables(rng, 50, 40, 0.0))
    assert found.gain_first > 0.03
    assert found.gain_later < 0.0
    assert found.change.p < 0.001
    assert "is kept" in found.summary()
    same = taste_stability(*tables(rng, 50, 40, 1.0))
    assert same.change.p > 0.001
    assert same.p < 0.001
    assert same.retest["correlation"] == pytest.approx(0.6 / 0.85, abs=0.04)


def test_no_gain_no_share(rng: np.random.Generator) -> None:
    predictions, ratings = tables(rng, 20, 20, 0.8)
    blind = predictions["model"] == "eb_slopes"
    predictions.loc[blind, "score"] = predictions.loc[~blind, "score"].to_numpy() + rng.normal(0, 0.05, blind.sum())
    found = taste_stability(predictions, ratings)
    assert math.isnan(found.share_kept)
    assert math.isnan(found.ci_low)
    assert "includes 0" in str(found.share_reason)
    assert found.to_json()["share_kept"] is None
    assert "not given" in found.summary()


def test_which_models_are_compared(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    personal = predictions[predictions["model"] == "eb_slopes"]
    more = pd.concat(
        [
            predictions,
            personal.assign(model="oracle", score=personal["score"] * 2),
            personal.assign(model="constant", score=0.0),
        ]
    )
    found = taste_stability(more, ratings)
    assert (found.personal, found.population) == ("eb_slopes", "population")
    assert any("by its name" in w for w in found.warnings)
    assert [m.model for m in found.models] == ["constant", "eb_slopes", "oracle", "population"]
    named = taste_stability(more, ratings, personal="oracle", population_model="constant")
    assert named.gain_first == pytest.approx({m.model: m for m in found.models}["eb_slopes"].accuracy_first - 0.5)
    renamed = predictions.replace({"model": {"population": "hpsv3", "eb_slopes": "mine"}})
    assert (taste_stability(renamed, ratings).personal, taste_stability(renamed, ratings).population) == (
        "mine",
        "hpsv3",
    )
    unclear = more.replace({"model": {"population": "a", "eb_slopes": "b", "oracle": "c"}})
    with pytest.raises(EstimateError, match="--personal-model"):
        taste_stability(unclear, ratings)
    with pytest.raises(EstimateError, match="no model 'x'"):
        taste_stability(predictions, ratings, personal="x")
    with pytest.raises(EstimateError, match="itself"):
        taste_stability(predictions, ratings, personal="population", population_model="population")


def test_images_of_the_training_fold_are_left_out(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    trained = predictions["image_id"] >= "i20"
    marked = predictions.assign(split=np.where(trained, "warm", "seen"))
    found = taste_stability(marked, ratings)
    assert found.n_images == 20
    assert ("split train or warm", int(trained.sum())) in found.exclusions.reasons
    plain = taste_stability(predictions[~trained], ratings)
    assert found.share_kept == plain.share_kept
    unmarked = taste_stability(predictions[~trained].drop(columns="split"), ratings)
    assert any("not checked" in w for w in unmarked.warnings)
    halves = predictions.assign(split=np.where(predictions["user_id"] < "u20", "seen", "unseen"))
    assert any("taken together" in w for w in taste_stability(halves, ratings).warnings)
    assert taste_stability(halves, ratings, split="unseen").n_users == 20
    with pytest.raises(EstimateError, match="no prediction in split"):
        taste_stability(predictions.assign(split="warm"), ratings)


def test_those_who_did_not_come_back(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    gone = (ratings["occasion"] == 2) & (ratings["user_id"] >= "u25")
    names = np.char.mod("u%02d", np.arange(40))
    users = pd.DataFrame({"user_id": names, "age": np.arange(40) + 20, "gender": np.where(np.arange(40) % 2, "f", "m")})
    found = taste_stability(predictions, ratings[~gone], users=users)
    assert found.n_users == 25
    assert found.returners is not None
    assert (found.returners.n_returned, found.returners.n_left) == (25, 15)
    whole = taste_stability(predictions, ratings)
    assert whole.returners is None
    table = found.returners.compared
    assert table is not None
    age = table[table["column"] == "age"].iloc[0]
    assert (age["returned"], age["left"]) == (20 + 12, 20 + 32)
    assert "returners" in found.tables()
    a, b = np.random.default_rng(0).normal(size=9), np.random.default_rng(1).normal(1, 3, size=14)
    assert welch_p(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_a_better_sample_of_returners_is_told(rng: np.random.Generator) -> None:
    """Only users whom the personal model knows well come back."""
    predictions, ratings = tables(rng, 60, 40, 0.8)
    blind = (predictions["model"] == "eb_slopes") & (predictions["user_id"] >= "u30")
    predictions.loc[blind, "score"] = rng.normal(size=int(blind.sum()))
    gone = (ratings["occasion"] == 2) & (ratings["user_id"] >= "u30")
    found = taste_stability(predictions, ratings[~gone])
    assert found.returners is not None
    assert found.returners.gain_returned > found.returners.gain_left
    assert any("came back" in w for w in found.warnings)


def test_users_with_too_little_are_counted(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    few = (ratings["occasion"] == 2) & (ratings["user_id"] == "u03") & (ratings["image_id"] >= "i05")
    flat = ratings["score"].where((ratings["user_id"] != "u04") | (ratings["occasion"] != 2), 500)
    found = taste_stability(predictions, ratings.assign(score=flat)[~few])
    assert found.n_users == 38
    assert dict(found.left_out) == {
        "fewer than 10 images rated on both occasions": 1,
        "fewer than 30 pairs that are no ties": 1,
    }
    assert ("not rated on both occasions", 2 * 25) in found.exclusions.reasons


def test_invariances(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Row order, a user's level on one occasion, monotone changes of scores."""
    predictions, ratings = both
    plain = taste_stability(predictions, ratings)
    shuffled = taste_stability(predictions.sample(frac=1, random_state=1), ratings.sample(frac=1, random_state=2))
    assert shuffled.to_json()["models"] == plain.to_json()["models"]
    assert shuffled.ci_low == pytest.approx(plain.ci_low, abs=1e-12)
    inside = ratings["score"].clip(100, 900)
    level = np.where(ratings["occasion"] == 2, ratings["user_id"].str[1:].astype(int), 0)
    still = taste_stability(predictions, ratings.assign(score=inside))
    moved = taste_stability(
        predictions.assign(score=np.arctan(predictions["score"])), ratings.assign(score=inside + level)
    )
    assert moved.share_kept == pytest.approx(still.share_kept, abs=1e-12)


def test_prompts_as_items_widen_the_interval(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    copies = [
        [t.assign(image_id=t["image_id"] + k, prompt_id=t["image_id"]) for k in "ab"] for t in (predictions, ratings)
    ]
    doubled = [pd.concat(parts, ignore_index=True) for parts in copies]
    by_image, by_prompt = (taste_stability(*doubled, items=k) for k in ("image", "prompt"))  # type: ignore[arg-type]
    assert by_prompt.share_kept == by_image.share_kept
    assert by_prompt.share_se > by_image.share_se
    with pytest.raises(EstimateError, match="prompt_id"):
        taste_stability(predictions, ratings, items="prompt")


def test_bad_tables_are_refused(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    with pytest.raises(TableError, match="occasion"):
        taste_stability(predictions, ratings[ratings["occasion"] == 1].drop(columns="occasion"))
    with pytest.raises(TableError, match="none on occasion 3"):
        taste_stability(predictions, ratings, test_occasion=3)
    with pytest.raises(EstimateError, match="twice"):
        taste_stability(predictions, ratings, test_occasion=1)
    with pytest.raises(EstimateError, match="--min-images"):
        taste_stability(predictions, ratings, min_images=31)
    apart = ratings[(ratings["occasion"] == 1) == (ratings["image_id"] < "i15")]
    with pytest.raises(EstimateError, match="one user"):
        taste_stability(predictions, apart)


def test_command(both: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, ratings = both
    when = np.where(
        ratings["occasion"] == 1, "2026-01-01", np.where(ratings["image_id"] < "i15", "2026-01-09", "2026-04-01")
    )
    predictions.to_parquet(tmp_path / "predictions.parquet")
    ratings.assign(rated_at=when).to_csv(tmp_path / "ratings.csv", index=False)
    call = ["stability", str(tmp_path / "predictions.parquet"), str(tmp_path / "ratings.csv")]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    wanted = {"models", "gain_first", "gain_later", "share_kept", "ci_low", "ci_high", "p", "retest", "n_users"}
    assert wanted | {"provenance", "exclusions", "estimand", "warnings"} <= set(printed)
    assert set(printed["models"][0]) >= {"model", "accuracy_first", "accuracy_later", "ci_low", "ci_high"}
    assert {"agreement", "correlation", "by_gap"} <= set(printed["retest"])
    assert [gap["gap"] for gap in printed["retest"]["by_gap"]] == ["1 to 2 weeks", "8 weeks or more"]
    assert printed["ci_low"] < printed["share_kept"] < printed["ci_high"]
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert (
        main([*call, "--train-occasion", "1", "--test-occasion", "2", "--population", "new-people,these-prompts"]) == 0
    )
    assert "these images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--test-occasion", "3"], "none on occasion 3"),
        (["--personal-model", "x"], "no model 'x'"),
        (["--min-pairs", "9999"], "--min-pairs"),
        (["--where", "occasion == 1"], "none on occasion 2"),
        (["--items", "prompt"], "prompt_id"),
    ],
)
def test_mistakes_are_told_in_one_line(
    both: tuple[pd.DataFrame, pd.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    told: str,
) -> None:
    for table, name in zip(both, ("predictions", "ratings"), strict=True):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert main(["stability", str(tmp_path / "predictions.csv"), str(tmp_path / "ratings.csv"), *extra]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
