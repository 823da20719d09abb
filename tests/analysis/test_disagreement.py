from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main
from analysis.components import Components
from analysis.disagreement import disagreement
from analysis.diverging import (
    Diverging,
    diverging_pairs,
    identity_table,
    oracle_accuracy,
    permutation_p,
    two_way_interval,
)
from analysis.errors import TableError

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def elements(y: np.ndarray, rated: np.ndarray, margin: int) -> list[tuple[int, int, int, int]]:
    """All (x, z, A, B) with x preferring A to B and z preferring B to A, both beyond the margin; by enumeration."""
    found = []
    for x, z in itertools.combinations(range(len(y)), 2):
        for a, b in itertools.permutations(range(y.shape[1]), 2):
            seen = rated[[x, x, z, z], [a, b, a, b]].all()
            if seen and y[x, a] - y[x, b] > margin and y[z, b] - y[z, a] > margin:
                found.append((x, z, a, b))
    return found


def credits(s: np.ndarray, element: tuple[int, int, int, int]) -> tuple[float, float]:
    x, z, a, b = element
    return (np.sign(s[x, a] - s[x, b]) + 1) / 2, (np.sign(s[z, b] - s[z, a]) + 1) / 2


def by_enumeration(y: np.ndarray, s: np.ndarray, rated: np.ndarray, margin: int) -> dict[str, object]:
    """Shares, and influences of users and images as sums over the elements they are in."""
    listed = elements(y, rated, margin)
    pairs = [credits(s, e) for e in listed]
    accuracy = np.mean([sum(p) / 2 for p in pairs])
    both, none = np.mean([max(sum(p) - 1, 0) for p in pairs]), np.mean([max(1 - sum(p), 0) for p in pairs])
    user, image = np.zeros(y.shape[0]), np.zeros(y.shape[1])
    for (x, z, a, b), p in zip(listed, pairs, strict=True):
        gap = (sum(p) / 2 - accuracy) / len(listed)
        user[[x, z]] += gap
        image[[a, b]] += gap
    return {"n": len(listed), "accuracy": accuracy, "both": both, "none": none, "user": user, "image": image}


def case(rng: np.random.Generator, n_users: int = 6, n_images: int = 8, share: float = 0.8) -> Case:
    """Few levels, so that ratings and scores tie often."""
    y, s = rng.integers(0, 6, (n_users, n_images)) * 100, rng.integers(0, 4, (n_users, n_images)).astype(float)
    return y, s, rng.random((n_users, n_images)) < share


@pytest.mark.parametrize("margin", [0, 100, 250])
@pytest.mark.parametrize("seed", range(5))
def test_equals_enumeration(seed: int, margin: int) -> None:
    y, s, rated = case(np.random.default_rng(seed))
    found, wanted = diverging_pairs(y, s, rated, margin), by_enumeration(y, s, rated, margin)
    assert found.n_elements == wanted["n"] > 0
    for name in ("accuracy", "both", "none"):
        assert getattr(found, name) == pytest.approx(wanted[name], abs=1e-12)
    assert found.both + found.one + found.none == pytest.approx(1)
    assert found.accuracy == pytest.approx(found.both + found.one / 2)
    np.testing.assert_allclose(found.influence.sum(axis=1) / 2, wanted["user"], atol=1e-13)
    np.testing.assert_allclose(found.influence.sum(axis=0) / 2, wanted["image"], atol=1e-13)


@pytest.mark.parametrize("levels", [3, 10**6])  # with and without ties of the population's own scores
def test_what_knows_no_person_is_right_about_exactly_one(levels: int, rng: np.random.Generator) -> None:
    y, _, rated = case(rng, 20, 30)
    shared = rng.integers(0, levels, 30) / 7
    scores = shared * rng.uniform(0.5, 2, (20, 1)) + rng.normal(0, 3, (20, 1))
    found = diverging_pairs(y, np.round(scores, 9) if levels > 3 else np.tile(shared, (20, 1)), rated)
    assert (found.accuracy, found.both, found.one, found.none) == pytest.approx((0.5, 0, 1, 0), abs=1e-12)
    assert math.isnan(two_way_interval(found, rated, 0.95)[0])


def test_both_right_alone_shows_nothing(rng: np.random.Generator) -> None:
    """Random private scores raise "both" and "none" together: published .18/.19 at equal size, accuracy .49 to .50."""
    w, f = rng.normal(size=(60, 4)) / 2, rng.normal(size=(100, 4))
    shared = rng.normal(size=100)
    y = np.rint(1e5 * (0.3**0.5 * shared + 0.35**0.5 * w @ f.T + 0.35**0.5 * rng.normal(size=(60, 100)))).astype(int)
    rated = rng.random((60, 100)) < 0.6
    found = [
        diverging_pairs(y, 0.3**0.5 * shared + gain * 0.35**0.5 * (rng.normal(size=(60, 4)) / 2) @ f.T, rated, 20_000)
        for gain in (0, 0.5, 3)
    ]
    assert [f.both for f in found] == sorted(f.both for f in found)
    assert found[1].both > 0.08
    for f in found:
        assert f.accuracy == pytest.approx(0.5, abs=0.03)
        assert f.both - f.none == pytest.approx(2 * f.accuracy - 1)


def test_identity_table_equals_scoring_with_another_profile(rng: np.random.Generator) -> None:
    y, s, rated = case(rng, 9, 10)
    table = identity_table(y, s, rated, 100)
    for order in (np.arange(9), rng.permutation(9), rng.permutation(9)):
        wanted = diverging_pairs(y, s[order], rated, 100).accuracy
        assert table[np.arange(9), order].sum() == pytest.approx(wanted, abs=1e-13)


def test_permutation_p_counts_all_deals() -> None:
    """Three users, six deals: the table makes only the identity and one other reach the observed total."""
    table = np.array([[2.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    p = permutation_p(table, np.random.default_rng(0), 60_000)
    assert p == pytest.approx(2 / 6, abs=0.01)
    # within strata {0} and {1, 2} both deals reach it
    assert permutation_p(table, np.random.default_rng(0), 99, np.array([0, 1, 1])) == 1
    assert permutation_p(np.eye(8), np.random.default_rng(0), 999) == pytest.approx(1 / 1000, abs=2e-3)


def simulated(rng: np.random.Generator, n_users: int, n_images: int, align: float) -> Case:
    """Private directions of four features; the model's directions correlate `align` with them."""
    f, shared = rng.normal(size=(n_images, 4)), rng.normal(size=n_images)
    w = rng.normal(size=(n_users, 4)) / 2
    v = align * w + math.sqrt(1 - align**2) * rng.normal(size=(n_users, 4)) / 2
    noise = rng.normal(size=(n_users, n_images))
    y = 0.3**0.5 * shared + 0.35**0.5 * w @ f.T + 0.35**0.5 * noise
    s = 0.3**0.5 * shared + 0.35**0.5 * v @ f.T
    return np.rint(1e5 * y).astype(int), s, rng.random((n_users, n_images)) < 0.6


def rejections(rng: np.random.Generator, align: float, replicates: int) -> tuple[float, float]:
    """Share of studies (30 users, 40 images) where the permutation and the binomial test reject at 5 %."""
    hits = np.zeros(2)
    for _ in range(replicates):
        y, s, rated = simulated(rng, 30, 40, align)
        found = diverging_pairs(y, s, rated, 20_000)
        z = abs(found.accuracy - 0.5) / math.sqrt(0.25 / found.n_elements)
        hits += [permutation_p(identity_table(y, s, rated, 20_000), rng, 199) <= 0.05, z > 1.96]
    return float(hits[0] / replicates), float(hits[1] / replicates)


def test_permutation_keeps_its_level_and_the_binomial_does_not(rng: np.random.Generator) -> None:
    """Level .05 with 100 replicates: three Monte Carlo standard errors above are .115. Binomial published at .7."""
    permutation, binomial = rejections(rng, 0.0, 100)
    assert permutation <= 0.115
    assert binomial > 0.4


def test_permutation_has_power(rng: np.random.Generator) -> None:
    """Published power .86 at alignment .3, 30 users and 60 images; less is asked of 40 images and 40 replicates."""
    assert rejections(rng, 0.4, 40)[0] > 0.6


@pytest.mark.slow
def test_permutation_level_in_a_thousand_replicates(rng: np.random.Generator) -> None:
    permutation, binomial = rejections(rng, 0.0, 1000)
    assert permutation <= 0.07
    assert binomial > 0.5


def components(shared: float, private: float, noise: float) -> Components:
    return Components(shared, 0.1, private + noise, private, noise, True, 0, 0, 0, 0)


@pytest.mark.parametrize("parts", [(0.3, 0.35, 0.35), (0.4, 0.2, 0.4), (0.25, 0.5, 0.25), (0.0, 0.5, 0.5)])
@pytest.mark.parametrize("margin", [0, 1])
def test_oracle_equals_simulation(parts: tuple[float, float, float], margin: int, rng: np.random.Generator) -> None:
    """Two million pairs of users and images: standard error below .001."""
    shared, private, noise = parts
    n = 2_000_000
    common = rng.normal(0, math.sqrt(2 * shared), n)
    taste = common + rng.normal(0, math.sqrt(2 * private), (2, n))
    seen = taste + rng.normal(0, math.sqrt(2 * noise), (2, n))
    diverging = (seen[0] > margin) & (seen[1] < -margin)
    right = (taste[0, diverging] > 0).mean() / 2 + (taste[1, diverging] < 0).mean() / 2
    assert oracle_accuracy(components(*parts), margin) == pytest.approx(right, abs=0.003)


def test_oracle_of_the_methods_note() -> None:
    """One simulated study each there (60 users, 150 images), hence the width."""
    found = [oracle_accuracy(components(0.3, 0.35, 0.35), t) for t in (0, 1)]  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [0.717, 0.869], atol=0.01)
    assert oracle_accuracy(components(0.4, 0.2, 0.4)) == pytest.approx(0.638, abs=0.012)
    unknown = Components(0.3, 0.1, 0.7, math.nan, math.nan, False, 0, 0, 0, 0)
    assert math.isnan(oracle_accuracy(unknown))


def frames(case_: Case, dense: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    y, s, rated = case_
    u, i = np.indices(y.shape).reshape(2, -1)
    ids = pd.DataFrame({"user_id": [f"u{k:02d}" for k in u], "image_id": [f"i{k:02d}" for k in i]})
    ratings = ids.assign(score=np.clip(500 + y // 500, 0, 1000).ravel())[rated.ravel()]
    models = [ids.assign(model="personal", score=s.ravel()), ids.assign(model="population", score=s.mean(axis=0)[i])]
    predictions = pd.concat(models, ignore_index=True)
    return (predictions if dense else predictions[np.tile(rated.ravel(), 2)]), ratings


def test_tables(rng: np.random.Generator) -> None:
    predictions, ratings = frames(simulated(rng, 32, 30, 0.8), dense=True)
    result = disagreement(predictions, ratings, rng=np.random.default_rng(0), margin=20, draws=999)
    found = {m.model: m for m in result.models}
    assert (found["population"].both, found["population"].one, found["population"].none) == (0, 1, 0)
    assert found["population"].p_permutation == 1
    assert found["personal"].p_permutation == pytest.approx(0.001, abs=1e-9)
    assert found["personal"].ci_low > 0.5
    assert found["personal"].delta == pytest.approx(2 * found["personal"].accuracy - 1)
    assert "repeated ratings" in str(found["personal"].ceiling_reason)
    assert result.n_elements == found["personal"].n_elements
    mixed = predictions.sample(frac=1, random_state=0), ratings.sample(frac=1, random_state=1)
    again = disagreement(*mixed, rng=np.random.default_rng(0), margin=20, draws=999)
    assert again.to_json()["models"] == result.to_json()["models"]


def test_sparse_predictions_have_no_p_and_say_why(rng: np.random.Generator) -> None:
    predictions, ratings = frames(simulated(rng, 12, 20, 0.8), dense=False)
    result = disagreement(predictions, ratings, rng=np.random.default_rng(0))
    assert math.isnan(result.models[0].p_permutation)
    assert "predictions missing" in str(result.models[0].p_reason)
    assert not math.isnan(result.models[0].accuracy)
    assert any("12 users" in w for w in result.warnings)


def test_no_diverging_pair_is_nan(rng: np.random.Generator) -> None:
    predictions, ratings = frames(simulated(rng, 12, 20, 0.8), dense=True)
    result = disagreement(predictions, ratings, rng=np.random.default_rng(0), margin=1000)
    assert result.n_elements == 0
    assert math.isnan(result.models[0].accuracy)
    assert result.models[0].p_reason == "no diverging pairs"


def test_strata_must_name_everybody(rng: np.random.Generator) -> None:
    predictions, ratings = frames(simulated(rng, 12, 20, 0.8), dense=True)
    strata = {f"u{k:02d}": str(k % 2) for k in range(12)}
    result = disagreement(predictions, ratings, rng=np.random.default_rng(0), strata=strata, draws=99)
    assert result.models[0].p_permutation <= 0.05
    strata.pop("u03")
    with pytest.raises(TableError, match="u03"):
        disagreement(predictions, ratings, rng=np.random.default_rng(0), strata=strata)


def test_scores_must_be_finite_and_dense(rng: np.random.Generator) -> None:
    y, s, rated = case(rng)
    broken = s.copy()
    broken[~rated] = np.nan
    assert isinstance(diverging_pairs(y, broken, rated), Diverging)
    with pytest.raises(TableError, match="dense"):
        identity_table(y, broken, rated)
    with pytest.raises(TableError, match="finite"):
        diverging_pairs(y, np.full(y.shape, np.nan), rated)


def test_command(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, ratings = frames(simulated(rng, 12, 20, 0.8), dense=True)
    predictions.to_parquet(tmp_path / "predictions.parquet")
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    paths = [str(tmp_path / "predictions.parquet"), str(tmp_path / "ratings.csv")]
    assert main(["disagreement", *paths, "--permutations", "99", "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"model", "both", "one", "none", "accuracy", "p_permutation", "ceiling"} <= set(printed["models"][0])
    assert printed["n_elements"] > 0
    assert printed["models"][0]["ceiling"] is None
    assert (tmp_path / "out" / "figure.svg").is_file()
