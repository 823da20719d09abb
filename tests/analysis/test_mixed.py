from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import expit, gammaln

from analysis.errors import EstimateError, TableError, UserError
from analysis.mixed import design_matrix, rating_effects
from analysis.ordinal import fit_ordinal
from analysis.results import Population
from analysis.slider import standardised

WINE = "23344455 12132354 23325544 32323253 23433333 32322454 11222323 22233334 12323244"
"""Bitterness of wine, 1 to 5, by nine judges (Randall 1989): two bottles each cold, with skins, warm, both."""


def wine() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers from 0, judges, and columns warm, contact."""
    answers = np.array([int(c) for c in WINE.replace(" ", "")]) - 1
    columns = np.stack([np.tile([0, 0, 0, 0, 1, 1, 1, 1], 9), np.tile([0, 0, 1, 1, 0, 0, 1, 1], 9)], axis=1)
    return answers, np.repeat(np.arange(9), 8), columns


def log_p(answers: np.ndarray, eta: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]])
    return np.log(expit(ends[answers + 1] - eta) - expit(ends[answers] - eta))


def test_likelihood_is_laplace_at_the_mode_of_each_judge() -> None:
    """Mode by another optimiser, curvature by differences, judge by judge."""
    answers, judge, columns = wine()
    found = fit_ordinal(answers, [judge], columns)
    total = 0.0
    for j in range(9):
        mine = judge == j
        fixed = columns[mine] @ found.coefficients

        def joint(v: float, mine: np.ndarray = mine, fixed: np.ndarray = fixed) -> float:
            eta = fixed + found.sds[0] * v
            return float(log_p(answers[mine], eta, found.thresholds).sum()) - v * v / 2

        mode = optimize.minimize_scalar(lambda v, f=joint: -f(v), bounds=(-5, 5), method="bounded").x
        h = 1e-4
        curvature = -(joint(mode + h) - 2 * joint(mode) + joint(mode - h)) / h**2
        total += joint(mode) - 0.5 * math.log(curvature)
    assert found.log_likelihood == pytest.approx(total, abs=1e-5)
    assert found.log_likelihood >= -81.5656  # what another program's search ends with
    assert found.converged


def test_nearly_the_exact_likelihood_of_the_wine_data() -> None:
    """R's ordinal with ten quadrature points: -81.53246, temp 3.0619, contact 1.8334, sd 1.1348."""
    answers, judge, columns = wine()
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def exact(at: np.ndarray) -> float:
        thresholds = np.cumsum(np.concatenate([at[:1], np.exp(at[1:4])]))
        eta = (columns @ at[4:6])[:, None] + math.exp(at[6]) * points
        each = np.stack([log_p(answers, eta[:, k], thresholds) for k in range(40)], axis=1)
        by_judge = np.stack([np.bincount(judge, each[:, k]) for k in range(40)], axis=1)
        return float(np.log(np.exp(by_judge) @ weights).sum())

    found = fit_ordinal(answers, [judge], columns)
    start = np.concatenate(
        [found.thresholds[:1], np.log(np.diff(found.thresholds)), found.coefficients, np.log(found.sds)]
    )
    best = optimize.minimize(lambda at: -exact(at), start, method="BFGS", options={"gtol": 1e-5})
    assert -best.fun == pytest.approx(-81.53246, abs=5e-5)
    assert best.x[4:6] == pytest.approx([3.0619, 1.8334], abs=3e-4)
    assert math.exp(best.x[6]) == pytest.approx(1.1348, abs=3e-4)
    # Laplace is near: a hundredth of a standard error for the effects
    assert found.coefficients == pytest.approx([3.0619, 1.8334], abs=0.01)
    assert found.sds[0] == pytest.approx(1.1348, abs=0.01)
    assert found.se == pytest.approx([0.595, 0.513], abs=0.005)


def test_crossed_likelihood_is_laplace_with_the_whole_hessian(rng: np.random.Generator) -> None:
    """Joint mode of users and images by another optimiser; determinant of the full matrix of second differences."""
    user, image = (codes.ravel() for codes in np.indices((5, 4)))
    eta = rng.normal(0, 1, 5)[user] + rng.normal(0, 1, 4)[image] + rng.logistic(size=20)
    answers = np.searchsorted([-1.0, 1.0], eta)
    found = fit_ordinal(answers, [user, image])

    def joint(v: np.ndarray) -> float:
        value = found.sds[0] * v[:5][user] + found.sds[1] * v[5:][image]
        return float(log_p(answers, value, found.thresholds).sum()) - float(v @ v) / 2

    mode = optimize.minimize(lambda v: -joint(v), np.zeros(9), method="BFGS", options={"gtol": 1e-9}).x
    steps = 1e-3 * np.eye(9)

    def second(a: np.ndarray, b: np.ndarray) -> float:
        return (joint(mode + a + b) - joint(mode + a - b) - joint(mode - a + b) + joint(mode - a - b)) / 4e-6

    hessian = np.array([[second(a, b) for b in steps] for a in steps])
    expected = joint(mode) - 0.5 * np.linalg.slogdet(-hessian)[1]
    assert found.log_likelihood == pytest.approx(expected, abs=1e-4)


def test_two_answers_are_the_binomial_model_of_lme4(stats_reference: Path) -> None:
    """Infected cattle by herd and period: R's glmer, which stops its inner iteration a step early (3e-4)."""
    reference = json.loads((stats_reference / "reference_results_R.json").read_text())["cbpp"]
    herds = pd.read_csv(stats_reference / "lme4_cbpp.csv")
    rows = herds.loc[herds.index.repeat(herds["size"])]
    ill = (rows.groupby(level=0).cumcount() < rows["incidence"]).astype(int)
    columns = np.stack([(rows["period"] == k).to_numpy(dtype=float) for k in (2, 3, 4)], axis=1)
    found = fit_ordinal(ill, [pd.factorize(rows["herd"])[0]], columns)
    expected = [row["Estimate"] for row in reference["fixef"]]
    assert [-found.thresholds[0], *found.coefficients] == pytest.approx(expected, abs=1e-3)
    assert found.sds[0] == pytest.approx(reference["varcomp"][0]["sdcor"], abs=5e-4)
    n, k = herds["size"], herds["incidence"]
    ways = float((gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)).sum())
    assert found.log_likelihood + ways == pytest.approx(reference["logLik"], abs=5e-4)
    assert found.log_likelihood + ways >= reference["logLik"]


def test_crossed_spreads_are_recovered(rng: np.random.Generator) -> None:
    """Spreads .8 and 1.2 on the logit, an effect of .5; the spread of one study from four, five errors."""
    found = []
    for _ in range(4):
        user, image = (codes.ravel() for codes in np.indices((40, 40)))
        x = rng.integers(0, 2, 40)[image].astype(float)
        eta = 0.5 * x + 0.8 * rng.normal(size=40)[user] + 1.2 * rng.normal(size=40)[image] + rng.logistic(size=1600)
        fit = fit_ordinal(np.searchsorted([-2.0, -0.7, 0.7, 2.0], eta), [user, image], x[:, None])
        found.append((fit.sds[0], fit.sds[1], fit.coefficients[0]))
    spread = np.std(found, axis=0, ddof=1) / math.sqrt(4)
    assert (np.abs(np.mean(found, axis=0) - [0.8, 1.2, 0.5]) < 5 * spread).all()


def test_impossible_answers_are_refused() -> None:
    with pytest.raises(EstimateError, match="all in use"):
        fit_ordinal([0, 2, 2], [np.array([0, 1, 1])])
    with pytest.raises(EstimateError, match="two answers"):
        fit_ordinal([0, 0], [np.array([0, 1])])


def table(rng: np.random.Generator, users: int = 30, images: int = 40, effect: float = 60.0) -> pd.DataFrame:
    """Two generators, half of the images each, one better by `effect` ticks; a column that does nothing."""
    user, image = (codes.ravel() for codes in np.indices((users, images)))
    y = 500 + 80 * rng.normal(size=users)[user] + 70 * rng.normal(size=images)[image] + 110 * rng.normal(size=len(user))
    score = np.clip(np.rint(y + effect * (image % 2)), 0, 1000).astype(int)
    return pd.DataFrame(
        {
            "user_id": user.astype(str),
            "image_id": image.astype(str),
            "score": score,
            "generator": np.where(image % 2, "new", "old"),
            "brightness": rng.normal(size=images)[image],
        }
    )


def test_linear_effects_equal_lme4(rng: np.random.Generator, run_r: Callable[[str], str], tmp_path: Path) -> None:
    rows = table(rng)
    rows.assign(z=standardised(rows["score"], rows["user_id"])).to_csv(tmp_path / "ratings.csv", index=False)
    code = f"""
        suppressMessages(library(lme4))
        d <- read.csv("{tmp_path.as_posix()}/ratings.csv")
        tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))  # the default ends below the maximum
        f <- z ~ 1 + (generator == "old") + brightness + (1 | user_id) + (1 | image_id)
        m <- suppressMessages(lmer(f, d, control = tight))
        cat(format(coef(summary(m))[-1, 1:2], digits = 12), format(c(logLik(m)), digits = 12))
    """
    *numbers, log_likelihood = map(float, run_r(code).split())
    found = rating_effects(rows, ["generator", "brightness"], ordinal=False)
    ours = [found.effects[0].estimate, found.effects[1].estimate, found.effects[0].se, found.effects[1].se]
    assert ours == pytest.approx(numbers, rel=1e-4)
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)
    assert [e.term for e in found.effects] == ["generator[old]", "brightness"]


def test_effects_and_their_ordinal_version(rng: np.random.Generator) -> None:
    found = rating_effects(table(rng, effect=120.0), ["generator", "brightness"])
    better, nothing = found.effects
    assert better.estimate < -0.2
    assert better.log_odds < 0
    assert better.p < 0.05
    assert better.log_odds_p < 0.05
    assert nothing.ci_low < 0 < nothing.ci_high
    assert better.p_holm == pytest.approx(2 * better.p)
    assert found.df == 29
    assert len(found.ordinal_thresholds) == 4
    assert math.isnan(found.sd_cell)
    assert "generator[old]" in found.summary()
    json.dumps(found.to_json(), allow_nan=False)
    assert len(found.to_frame()) == 2
    assert found.plot() is not None
    linear = rating_effects(table(rng), ["generator"], ordinal=False)
    assert math.isnan(linear.effects[0].log_odds)
    assert linear.to_json()["ordinal_sd_user"] is None


def test_a_difference_between_images_is_tested_against_images(rng: np.random.Generator) -> None:
    """100 studies without effect: 5 % within three errors; a t test over ratings would reject in a third of them."""
    rejected = naive = 0
    for _ in range(100):
        rows = table(rng, users=12, images=14, effect=0.0)
        rejected += rating_effects(rows, ["generator"], ordinal=False).effects[0].p < 0.05
        halves = [rows.loc[rows["generator"] == g, "score"] for g in ("new", "old")]
        naive += stats.ttest_ind(*halves).pvalue < 0.05
    assert rejected / 100 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)
    assert naive / 100 > 0.15


def test_repeats_enter_as_cells(rng: np.random.Generator) -> None:
    once = table(rng)
    again = once.assign(score=np.clip(once["score"] + np.rint(40 * rng.normal(size=len(once))).astype(int), 0, 1000))
    both = pd.concat([once.assign(occasion=1), again.assign(occasion=2)], ignore_index=True)
    found = rating_effects(both, ["generator"], ordinal=False)
    assert found.sd_cell > found.sd_residual


def test_users_without_spread_are_counted(rng: np.random.Generator) -> None:
    rows = table(rng)
    flat = rows["score"].where(rows["user_id"] != "3", 500)
    found = rating_effects(rows.assign(score=flat), ["generator"], ordinal=False)
    assert dict(found.exclusions.reasons) == {"user without spread of ratings": 40}
    assert found.n_users == 29


def test_columns_that_cannot_enter(rng: np.random.Generator) -> None:
    rows = table(rng)
    with pytest.raises(TableError, match="no column 'seed'"):
        rating_effects(rows, ["seed"])
    with pytest.raises(TableError, match="without generator"):
        rating_effects(rows.assign(generator=rows["generator"].where(rows["image_id"] != "0")), ["generator"])
    with pytest.raises(TableError, match="at most 50"):
        design_matrix(rows.assign(key=np.arange(len(rows)).astype(str)), ["key"])
    with pytest.raises(EstimateError, match="repeat each other"):
        rating_effects(rows.assign(copy=rows["generator"]), ["generator", "copy"])
    with pytest.raises(EstimateError, match="one value"):
        rating_effects(rows.assign(generator="new"), ["generator"])
    with pytest.raises(UserError, match="random effects"):
        rating_effects(rows, ["generator"], population=Population("these", "new"))
    columns, terms = design_matrix(rows.assign(level=[0.5, 1.5, 2.5] * 400), ["level", "generator"])
    assert terms == ["level", "generator[old]"]
    assert columns.shape == (1200, 2)


def test_no_warning_reaches_the_user(rng: np.random.Generator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rating_effects(table(rng), ["generator"])
