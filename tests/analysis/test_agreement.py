from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import mixedlm
import numpy as np
import pandas as pd
import pytest

from analysis.agreement import rating_agreement
from analysis.cli import main
from analysis.component_spread import component_spread
from analysis.components import Components, moment_components
from analysis.errors import EstimateError, UserError
from analysis.reml import reml_fit
from analysis.resampling import Crossed, Draws, component_draws
from analysis.results import Population

PRINTED = 1e-4
"""Relative: R's optimiser itself stops at about this."""


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> dict[str, object]:
    folder: Path = request.getfixturevalue("stats_reference")
    return json.loads((folder / "reference_results_R.json").read_text())  # type: ignore[no-any-return]


def design(
    rng: np.random.Generator, users: int, images: int, raters: int, repeats: float, truth: tuple[float, ...]
) -> pd.DataFrame:
    """Each image rated by some users, a share of the ratings repeated; `truth` is (image, user, private, noise)."""
    image = np.repeat(np.arange(images), raters)
    user = np.concatenate([rng.choice(users, raters, replace=False) for _ in range(images)])
    sd = np.sqrt(truth)
    base = rng.normal(0, sd[0], images)[image] + rng.normal(0, sd[1], users)[user] + rng.normal(0, sd[2], len(image))
    again = rng.choice(len(image), int(repeats * len(image)), replace=False)
    order = np.concatenate([np.arange(len(image)), again])
    y = base[order] + rng.normal(0, sd[3], len(order))
    occasion = np.concatenate([np.ones(len(image), int), np.full(len(again), 2)])
    return pd.DataFrame({"user_id": user[order], "image_id": image[order], "y": y, "occasion": occasion})


TRUTH = (0.30, 0.15, 0.30, 0.25)


def ratings(rng: np.random.Generator, repeats: float = 0.1, users: int = 60, images: int = 300) -> pd.DataFrame:
    """The same on the slider."""
    table = design(rng, users, images, 15, repeats, TRUTH)
    score = np.clip(np.rint(500 + 150 * table.pop("y")), 0, 1000).astype(int)
    return table.assign(score=score, user_id=table["user_id"].astype(str), image_id=table["image_id"].astype(str))


# --- REML -----------------------------------------------------------------------------------------------------------


def test_reml_equals_lme4_on_penicillin(stats_reference: Path, reference: dict) -> None:
    table = pd.read_csv(stats_reference / "lme4_Penicillin.csv")
    fit = reml_fit(table["diameter"], table["plate"], table["sample"])
    expected = {row["grp"]: row for row in reference["penicillin"]["varcomp"]}
    assert math.sqrt(fit.components.v_user) == pytest.approx(expected["plate"]["sdcor"], rel=PRINTED)
    assert math.sqrt(fit.components.v_image) == pytest.approx(expected["sample"]["sdcor"], rel=PRINTED)
    assert math.sqrt(fit.components.v_within) == pytest.approx(expected["Residual"]["sdcor"], rel=PRINTED)
    assert fit.log_likelihood == pytest.approx(-165.4303, abs=5e-5)
    assert fit.converged


def test_reml_equals_lme4_on_73421_ratings() -> None:
    """Lectures rated by students (InstEval of lme4): sd of students, lecturers and residual, likelihood."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its reader
        table = mixedlm.load_insteval()
    assert len(table) == 73_421
    fit = reml_fit(table["y"], table["s"], table["d"])
    found = [math.sqrt(v) for v in (fit.components.v_user, fit.components.v_image, fit.components.v_within)]
    assert found == pytest.approx([0.3259057, 0.5231968, 1.1777859], rel=PRINTED)
    assert fit.log_likelihood == pytest.approx(-118_891.9, abs=0.05)


def test_reml_equals_lme4_with_repeats(rng: np.random.Generator, run_r: Callable[[str], str], tmp_path: Path) -> None:
    """All four components and the likelihood of ratings in ticks, fitted there in another language."""
    table = ratings(rng, users=40, images=100)
    table.to_csv(tmp_path / "ratings.csv", index=False)
    code = f"""
        suppressMessages(library(lme4))
        d <- read.csv("{tmp_path.as_posix()}/ratings.csv")
        d$cell <- paste(d$user_id, d$image_id)
        tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
        m <- lmer(score ~ 1 + (1 | image_id) + (1 | user_id) + (1 | cell), d, control = tight)
        v <- as.data.frame(VarCorr(m)); v <- setNames(v$vcov, v$grp)
        cat(format(v[c("image_id", "user_id", "cell", "Residual")], digits = 15), format(c(logLik(m)), digits = 15))
    """
    *expected, log_likelihood = map(float, run_r(code).split())
    fit = reml_fit(table["score"], table["user_id"], table["image_id"])
    c = fit.components
    assert [c.v_image, c.v_user, c.v_user_image, c.v_error] == pytest.approx(expected, rel=PRINTED)
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)


def test_reml_likelihood_keeps_the_unit_of_the_scores(stats_reference: Path) -> None:
    """Scores times c: variances times c squared, likelihood less (n - 1) log c."""
    table = pd.read_csv(stats_reference / "lme4_Penicillin.csv")
    one, ten = (reml_fit(c * table["diameter"], table["plate"], table["sample"]) for c in (1.0, 10.0))
    assert ten.components.v_image == pytest.approx(100 * one.components.v_image, rel=1e-6)
    assert ten.log_likelihood == pytest.approx(one.log_likelihood - 143 * math.log(10), abs=1e-6)


def test_reml_and_moments_recover_the_truth(rng: np.random.Generator) -> None:
    """Published spread of one REML estimate .027 .022 .019 .019; 12 studies, four standard errors."""
    by_reml, by_moments = [], []
    for _ in range(12):
        table = design(rng, 60, 300, 15, 0.1, TRUTH)
        c = reml_fit(table["y"], table["user_id"], table["image_id"]).components
        by_reml.append((c.v_image, c.v_user, c.v_user_image, c.v_error))
        m = moment_components(table["y"], table["user_id"], table["image_id"])
        by_moments.append((m.v_image, m.v_user, m.v_user_image, m.v_error))
    spread = np.array([0.027, 0.022, 0.019, 0.019]) / math.sqrt(12)
    assert (np.abs(np.mean(by_reml, axis=0) - TRUTH) < 4 * spread).all()
    assert (np.abs(np.mean(by_moments, axis=0) - np.mean(by_reml, axis=0)) < 4 * spread).all()


def test_reml_without_repeats_leaves_taste_and_noise_together(rng: np.random.Generator) -> None:
    table = design(rng, 40, 120, 12, 0.0, TRUTH)
    c = reml_fit(table["y"], table["user_id"], table["image_id"]).components
    assert not c.separable
    assert math.isnan(c.v_error)
    assert c.v_within == pytest.approx(0.55, abs=0.08)


# --- standard errors ------------------------------------------------------------------------------------------------


def test_spread_equals_the_double_sum_over_pairs(rng: np.random.Generator) -> None:
    """Each user's influence written out: a pair of two users counts for both, one inside a user for him once."""
    table = design(rng, 7, 10, 4, 0.5, TRUTH)
    y, user, image = (table[name].to_numpy() for name in ("y", "user_id", "image_id"))
    gaps: dict[str, list[tuple[int, int, float]]] = {"cell": [], "user": [], "image": [], "neither": []}
    for a in range(len(y)):
        for b in range(a):
            same = user[a] == user[b], image[a] == image[b]
            kind = "cell" if all(same) else "user" if same[0] else "image" if same[1] else "neither"
            gaps[kind].append((a, b, (y[a] - y[b]) ** 2 / 2))
    influence = np.zeros((7, 4))
    mean = {kind: np.mean([g for *_, g in rows]) for kind, rows in gaps.items()}
    for k, (kind, rows) in enumerate(gaps.items()):
        for a, b, gap in rows:
            for person in {user[a], user[b]}:
                influence[person, k] += (gap - mean[kind]) / len(rows)
    cell, own, shared, neither = influence.T
    moved = np.stack([neither - shared, neither - own, shared + own - neither, cell], axis=1)
    found = component_spread(y, user, image)
    np.testing.assert_allclose(found.user, 7 / 6 * moved.T @ moved, rtol=1e-9)
    expected = moment_components(y, user, image)
    np.testing.assert_allclose(found.estimates[:3], [expected.v_image, expected.v_user, expected.v_within])
    assert found.estimates[3] == pytest.approx(mean["cell"])


def test_spread_equals_resampled_users_and_resampled_images(rng: np.random.Generator) -> None:
    """One side at a time the bootstrap has the right variance; 1,000 resamples know a spread to 2 %."""
    table = design(rng, 60, 200, 15, 0.15, TRUTH)
    columns = table["y"], table["user_id"], table["image_id"]
    found, crossed = component_spread(*columns), Crossed.of(*columns)
    for population, matrix in ((Population("new", "these"), found.user), (Population("these", "new"), found.image)):
        drawn = component_draws(crossed, Draws.random(crossed, 1000, rng, population))
        resampled = [np.std(values) for values in vars(drawn).values()]
        np.testing.assert_allclose(np.sqrt(np.diag(matrix)), resampled, rtol=0.12)


def test_everything_drawn_once_is_the_data(rng: np.random.Generator) -> None:
    table = design(rng, 20, 40, 6, 0.3, TRUTH)
    crossed = Crossed.of(table["y"], table["user_id"], table["image_id"])
    drawn, expected = (
        component_draws(crossed, Draws.once(crossed)),
        moment_components(table["y"], table["user_id"], table["image_id"]),
    )
    for name in ("v_image", "v_user", "v_within", "v_error"):
        assert getattr(drawn, name)[0] == pytest.approx(getattr(expected, name))


def test_intervals_cover(rng: np.random.Generator) -> None:
    """200 studies of 40 users and 120 images: three Monte Carlo standard errors around .95; seen .94 to .98."""
    hits = np.zeros(3)
    for _ in range(200):
        table = design(rng, 40, 120, 12, 0.15, TRUTH)
        found = component_spread(table["y"], table["user_id"], table["image_id"])
        at = found.estimates
        for k, (number, scale, true) in enumerate(
            [
                (lambda v: v[0], "log", 0.3),
                (lambda v: (v[2] - v[3]) / (v[2] - v[3] + v[0]), "logit", 0.5),
                (lambda v: (v[0] + v[2] - v[3]) / (v[0] + v[2]), "logit", 0.6 / 0.85),
            ]
        ):
            low, high = found.interval(number, at, 0.95, None, scale)  # type: ignore[arg-type]
            hits[k] += low <= true <= high
    assert (hits / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)).all()


def test_two_way_resampling_is_too_wide(rng: np.random.Generator) -> None:
    """Why influence is the default: noise of single cells enters three times when both sides are resampled."""
    table = design(rng, 60, 200, 15, 0.15, TRUTH)
    columns = table["y"], table["user_id"], table["image_id"]
    crossed, found = Crossed.of(*columns), component_spread(*columns)
    drawn = component_draws(crossed, Draws.random(crossed, 400, rng, Population()))
    assert np.std(drawn.v_within) > 1.3 * found.se([0, 0, 1, 0])[0]


# --- the result -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return ratings(np.random.default_rng(3))


def test_numbers_hang_together(table: pd.DataFrame) -> None:
    found = rating_agreement(table)
    total = 150.0**2
    assert found.separable
    for name, true in zip(("v_image", "v_user", "v_user_image", "v_error"), TRUTH, strict=True):
        low, high = found.intervals[name]
        assert low < true * total < high
        assert low < getattr(found, name) < high
    assert found.beholder_index == pytest.approx(found.v_user_image / (found.v_user_image + found.v_image))
    low, high = found.intervals["beholder_index"]
    assert low < 0.5 < high
    assert found.ceilings["personal"]["accuracy"] == pytest.approx(
        0.5 + math.asin(math.sqrt(found.reliability)) / math.pi
    )
    assert found.ceilings["own_first_rating"]["accuracy"] == pytest.approx(0.5 + math.asin(found.reliability) / math.pi)
    assert found.ceilings["headroom"] > 0
    assert found.retest is not None
    assert found.retest["agreement"] == pytest.approx(found.ceilings["own_first_rating"]["accuracy"], abs=0.05)
    assert found.krippendorff_alpha == pytest.approx(found.icc["ICC(A,1)"], abs=0.01)
    assert found.ordinal["beholder_index"] == pytest.approx(found.beholder_index, abs=0.06)
    assert found.beholder_index_2 is None
    assert "private taste" in found.summary()
    by_moments = rating_agreement(table, method="moments", with_index_2=True)
    assert by_moments.v_image == by_moments.moments["v_image"] == found.moments["v_image"]
    assert by_moments.beholder_index_2 == pytest.approx(0.6, abs=0.08)
    assert by_moments.beholder_index_2 > by_moments.beholder_index


def test_table_of_ceilings() -> None:
    """Retest reliabilities and what they allow; half a unit of the last digit."""
    from analysis.agreement_numbers import ceilings_of

    for rho, plcc, srocc, accuracy, own in (
        (0.4, 0.632, 0.614, 0.718, 0.631),
        (0.5, 0.707, 0.690, 0.750, 0.667),
        (0.6, 0.775, 0.760, 0.782, 0.705),
        (0.7, 0.837, 0.824, 0.816, 0.747),
        (0.8, 0.894, 0.886, 0.852, 0.795),
    ):
        found = ceilings_of(Components(rho / 2, 0, 1 - rho / 2, rho / 2, 1 - rho, True, 0, 0, 0, 99), 15)
        assert found["personal"]["plcc"] == pytest.approx(plcc, abs=5e-4)
        assert found["personal"]["srocc"] == pytest.approx(srocc, abs=5.5e-4)
        assert found["personal"]["accuracy"] == pytest.approx(accuracy, abs=5.5e-4)
        assert found["own_first_rating"]["accuracy"] == pytest.approx(own, abs=5e-4)
    found = ceilings_of(Components(0.3, 0, 0.7, 0.3, 0.4, True, 0, 0, 0, 99), 15)
    assert found["population"]["accuracy"] == pytest.approx(0.685, abs=5e-4)
    assert found["headroom"] == pytest.approx(0.098, abs=6e-4)


def test_without_repeats_the_private_share_is_not_given(rng: np.random.Generator) -> None:
    found = rating_agreement(ratings(rng, repeats=0.0))
    assert not found.separable
    assert found.retest is None
    for value in (found.v_user_image, found.v_error, found.beholder_index, found.reliability):
        assert math.isnan(value)
    assert math.isnan(found.ceilings["personal"]["accuracy"])
    assert found.ceilings["population"]["accuracy"] > 0.6
    assert found.to_json()["beholder_index"] is None
    assert "cannot be told apart" in found.summary()
    assert any("told apart" in w for w in found.warnings)
    assert found.icc["ICC(A,1)"] > 0.2


def test_users_who_stretch_the_slider_are_standardised(rng: np.random.Generator) -> None:
    """No private taste at all, stretch of the scale with CV .6: raw index .288 seen elsewhere, near 0 standardised."""
    stretch = np.exp(math.sqrt(math.log(1.36)) * rng.standard_normal(100))
    table = design(rng, 100, 600, 12, 0.1, (0.5, 0.0, 0.0, 0.5))
    score = np.clip(np.rint(500 + 60 * stretch[table["user_id"]] * table["y"]), 0, 1000).astype(int)
    found = rating_agreement(table.assign(score=score), method="moments")
    assert found.beholder_index > 0.15
    assert abs(found.beholder_index_z) < 0.06
    assert found.slider["scale_cv"] == pytest.approx(0.6, abs=0.15)


def test_resampled_intervals_and_their_generator(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="rng"):
        rating_agreement(table, method="moments", bootstraps=50)
    one, two = (
        rating_agreement(table, method="moments", bootstraps=200, rng=np.random.default_rng(5)) for _ in range(2)
    )
    assert one.intervals == two.intervals
    assert "200 resamples" in one.interval_method
    plain = rating_agreement(table, method="moments")
    for name in ("v_image", "beholder_index", "accuracy_population"):
        low, high = one.intervals[name]
        assert high - low > plain.intervals[name][1] - plain.intervals[name][0]


def test_invariances(table: pd.DataFrame) -> None:
    plain = rating_agreement(table, method="moments")
    shuffled = rating_agreement(table.sample(frac=1, random_state=1), method="moments")
    assert shuffled.v_image == pytest.approx(plain.v_image)
    assert shuffled.intervals["v_image"] == pytest.approx(plain.intervals["v_image"])
    inside = table["score"].clip(100, 900)
    level = table["user_id"].astype(int) % 5 * 20
    still, moved = (rating_agreement(table.assign(score=s), method="moments") for s in (inside, inside + level))
    for name in ("v_image", "v_within", "beholder_index", "reliability"):
        assert getattr(moved, name) == pytest.approx(getattr(still, name), rel=0.02)
    assert moved.retest is not None
    assert still.retest is not None
    assert moved.retest["agreement"] == still.retest["agreement"]


def test_mistakes_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="method"):
        rating_agreement(table, method="ml")  # type: ignore[arg-type]
    with pytest.raises(EstimateError, match="vary"):
        rating_agreement(table.assign(score=500))
    with pytest.raises(EstimateError, match="crossed"):
        rating_agreement(table.drop_duplicates("image_id").drop_duplicates("user_id"))


def test_command(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.to_csv(tmp_path / "ratings.csv", index=False)
    call = ["agreement", str(tmp_path / "ratings.csv")]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    wanted = {"v_image", "v_user", "v_user_image", "v_error", "beholder_index", "krippendorff_alpha", "icc", "ceilings"}
    wanted |= {"separable", "provenance", "exclusions", "estimand", "warnings"}
    assert wanted <= set(printed)
    assert printed["separable"] is True
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert {"retest_users.csv", "retest_images.csv", "slider_users.csv"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    assert main([*call, "--method", "moments", "--population", "these-people,new-prompts"]) == 0
    assert "these users" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": 500}, "vary"),
        ({"score": 1200}, "score off the scale"),
        ({"occasion": 1}, "occasion"),
    ],
)
def test_mistakes_are_told_in_one_line(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, int], told: str
) -> None:
    table.assign(**change).to_csv(tmp_path / "ratings.csv", index=False)
    assert main(["agreement", str(tmp_path / "ratings.csv")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "ratings.csv" in error
    assert error.count("\n") == 1
