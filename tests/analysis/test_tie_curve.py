from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy import accuracy
from analysis.cli import main
from analysis.commands.tie_curve import margins_of
from analysis.components import accuracy_beyond
from analysis.errors import TableError, UserError
from analysis.levels import Rules
from analysis.pairs import accuracy_by_user
from analysis.tie_curve import TieCurve, implied_r, sup_t_quantile, tie_curve
from analysis.user_means import crossing, mean_over_users

R = 0.6
SD = 150.0


def tables(rng: np.random.Generator, n_users: int = 25, n_images: int = 120) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gaussian ratings; `steady` correlates .6 with them, `clear` knows the clear cases better, `weak` .3."""
    taste = rng.normal(size=(n_users, n_images))
    u, i = np.repeat(np.arange(n_users), n_images), np.tile(np.arange(n_images), n_users)
    ids = {"user_id": [f"u{k:02d}" for k in u], "image_id": [f"i{k:03d}" for k in i]}
    score = np.clip(np.rint(500 + SD * taste[u, i]), 0, 1000).astype(int)
    noise = rng.normal(size=(2, len(u)))
    models = {
        "steady": R * taste[u, i] + math.sqrt(1 - R**2) * noise[0],
        "weak": 0.3 * taste[u, i] + math.sqrt(1 - 0.3**2) * noise[1],
        "clear": taste[u, i] ** 3 + 1.5 * noise[0],
    }
    predictions = pd.concat([pd.DataFrame({**ids, "model": m, "score": s}) for m, s in models.items()])
    return predictions, pd.DataFrame({**ids, "score": score})


@pytest.fixture(scope="module")
def both() -> tuple[pd.DataFrame, pd.DataFrame]:
    return tables(np.random.default_rng(3))


@pytest.fixture(scope="module")
def curve(both: tuple[pd.DataFrame, pd.DataFrame]) -> TieCurve:
    return tie_curve(*both, tuple(range(0, 301, 50)), rng=np.random.default_rng(0))


def test_a_rising_curve_is_what_constant_skill_looks_like(curve: TieCurve) -> None:
    found = {m.model: m for m in curve.models}
    steady, clear = found["steady"], found["clear"]
    assert steady.r == pytest.approx(R, abs=0.03)
    assert steady.accuracy[-1] > steady.accuracy[0] + 0.1
    np.testing.assert_allclose(steady.constant_skill, steady.accuracy, atol=0.02)
    np.testing.assert_allclose(steady.implied_r, R, atol=0.04)
    # only the model that gains on clear cases leaves its curve of constant skill
    assert clear.implied_r[-1] > clear.implied_r[0] + 0.05
    assert clear.accuracy[-1] > clear.constant_skill[-1] + 0.02


def test_curve_starts_like_accuracy_and_retained_is_gaussian(
    curve: TieCurve, both: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    for margin in (0, 100):
        wanted = {m.model: m for m in accuracy(*both, margin=margin).models}
        for m in curve.models:
            k = m.margins.index(margin)
            assert m.accuracy[k] == wanted[m.model].accuracy
            assert m.ci_low[k] == pytest.approx(wanted[m.model].ci_low)
    normal_kept = [math.erfc(t / (2 * SD)) for t in curve.models[0].margins]
    np.testing.assert_allclose(curve.models[0].retained, normal_kept, atol=0.015)


def test_bands_hold_the_intervals_and_repeat(curve: TieCurve, both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for m in curve.models:
        assert (np.array(m.band_low) < m.ci_low).all()
        assert (np.array(m.band_high) > m.ci_high).all()
    again = tie_curve(*both, tuple(range(0, 301, 50)), rng=np.random.default_rng(0))
    assert again.to_json() == curve.to_json()


def test_band_of_one_margin_is_the_t_interval(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = tie_curve(*both, (100,), rng=np.random.default_rng(1), draws=200_000).models[0]
    # Monte Carlo error of a .95 quantile from 200,000 draws is below 1 %
    assert found.band_high[0] - found.accuracy[0] == pytest.approx(found.ci_high[0] - found.accuracy[0], rel=0.01)


def test_gap_is_the_area_between_curves(curve: TieCurve) -> None:
    found = {m.model: m for m in curve.models}
    gap = next(d for d in curve.differences if (d.a, d.b) == ("steady", "weak"))
    height = np.subtract(found["steady"].accuracy, found["weak"].accuracy)
    assert gap.estimate == pytest.approx(np.trapezoid(height, found["steady"].margins) / 300)
    assert gap.ci_low > 0
    assert gap.n_users == 25


def test_implied_r_inverts_constant_skill() -> None:
    margin_sd = np.array([[0.0, 0.5, 2.0], [0.0, 1.0, 4.0]])
    kept = np.array([[True, True, False], [True, True, True]])
    true = np.array([-0.4, 0.3, 0.8])
    mean = np.where(kept, accuracy_beyond(true, margin_sd), 0).sum(axis=0) / kept.sum(axis=0)
    np.testing.assert_allclose(implied_r(mean, margin_sd, kept), true, atol=1e-9)
    assert implied_r(np.array([1.0, np.nan]), margin_sd[:, :2], kept[:, :2])[0] == pytest.approx(1)
    assert math.isnan(implied_r(np.array([1.0, np.nan]), margin_sd[:, :2], kept[:, :2])[1])


def test_users_drop_out_visibly(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = both
    narrow = ratings["user_id"] < "u05"
    squeezed = ratings.assign(score=ratings["score"].where(~narrow, 480 + ratings["score"] // 25))
    result = tie_curve(predictions, squeezed, (0, 100), rng=np.random.default_rng(0))
    assert result.models[0].n_users == (25, 20)
    assert any("25 users at margin 0, 20 at 100" in w for w in result.warnings)
    kept = tie_curve(predictions, squeezed, (0, 100), rng=np.random.default_rng(0), same_users=True)
    assert kept.models[0].n_users == (20, 20)
    assert kept.models[0].accuracy[1] == result.models[0].accuracy[1]


def test_margins_without_pairs_are_nan(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = tie_curve(*both, (0, 1000), rng=np.random.default_rng(0), rules=Rules(min_pairs=1)).models[0]
    assert found.n_users == (25, 0)
    assert math.isnan(found.accuracy[1])
    assert math.isnan(found.band_low[1])
    assert math.isnan(found.constant_skill[1])
    assert not math.isnan(found.band_low[0])


@pytest.mark.slow
def test_simultaneous_band_covers_the_whole_curve(rng: np.random.Generator) -> None:
    """300 studies: the band holds the curve at all margins in .95 of them, the single intervals in fewer."""
    margins = np.arange(0, 301, 50)

    def study(n_users: int, n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        shared, flaw = rng.normal(size=(2, n_images))
        truth = np.rint(500 + 100 * (shared + rng.normal(size=(n_users, n_images)))).astype(int)
        score = shared + flaw + 0.5 * rng.normal(size=(n_users, n_images))
        return (
            np.repeat(np.arange(n_users), n_images),
            np.tile(np.arange(n_images), n_users),
            truth.ravel(),
            score.ravel(),
        )

    curves = [
        accuracy_by_user(u, y, s, margins).accuracy.mean(axis=0) for u, _, y, s in (study(40, 150) for _ in range(80))
    ]
    true = np.mean(curves, axis=0)
    held = np.zeros(2)
    for _ in range(300):
        u, i, y, s = study(25, 60)
        rows, found = crossing(u, i), accuracy_by_user(u, y, s, margins)
        means = [mean_over_users(a, h, rows) for a, h in zip(found.accuracy.T, found.influence.T, strict=True)]
        reach = sup_t_quantile(found.accuracy, found.influence, rows, means, 0.95, rng, 2000)
        off = np.abs([m.estimate for m in means] - true)
        held += [
            (off <= reach * np.array([m.se for m in means])).all(),
            all(m.ci_low <= t <= m.ci_high for m, t in zip(means, true, strict=True)),
        ]
    assert held[0] / 300 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)
    assert held[1] < held[0]


def test_bad_margins_are_refused(both: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for margins in ((), (10, 0), (-1, 2), (0.5, 1)):
        with pytest.raises(TableError, match="margins"):
            tie_curve(*both, margins, rng=np.random.default_rng(0))
    assert margins_of("0:50:10") == (0, 10, 20, 30, 40, 50)
    for text in ("0:50", "5:0:1", "a:b:c", "0:10:0"):
        with pytest.raises(UserError, match="--margins"):
            margins_of(text)


def test_command(both: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, table in zip(("predictions", "ratings"), both, strict=True):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    paths = [str(tmp_path / "predictions.csv"), str(tmp_path / "ratings.csv")]
    assert main(["tie-curve", *paths, "--margins", "0:200:100", "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    fields = {"model", "margins", "accuracy", "band_low", "band_high", "constant_skill", "retained", "implied_r"}
    assert fields <= set(printed["models"][0])
    assert printed["models"][0]["margins"] == [0, 100, 200]
    assert len(pd.read_csv(tmp_path / "out" / "result.csv")) == 9
    assert (tmp_path / "out" / "figure.svg").is_file()
