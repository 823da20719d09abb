from __future__ import annotations

import json
import math
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.alpha import alpha_interval, krippendorff_alpha
from analysis.components import Components, moment_components
from analysis.errors import EstimateError
from analysis.intraclass import component_icc, intraclass_table


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> dict[str, object]:
    folder: Path = request.getfixturevalue("stats_reference")
    return json.loads((folder / "reference_results_R.json").read_text())  # type: ignore[no-any-return]


def design(rng: np.random.Generator, users: int, images: int, raters: int) -> pd.DataFrame:
    """Each image rated once by some users; variances .30 (image), .15 (user), .55 (the rest)."""
    image = np.repeat(np.arange(images), raters)
    user = np.concatenate([rng.choice(users, raters, replace=False) for _ in range(images)])
    y = rng.normal(0, math.sqrt(0.3), images)[image] + rng.normal(0, math.sqrt(0.15), users)[user]
    return pd.DataFrame({"user_id": user, "image_id": image, "y": y + rng.normal(0, math.sqrt(0.55), len(image))})


@pytest.mark.parametrize(
    ("metric", "expected", "printed"),
    [("nominal", 0.743, 0.74342), ("ordinal", 0.815, None), ("interval", 0.849, 0.84911), ("ratio", 0.797, 0.7974)],
)
def test_alpha_of_the_published_example(
    stats_reference: Path, reference: dict, metric: str, expected: float, printed: float | None
) -> None:
    """Krippendorff 2011, four observers and twelve units. (irrCAC weighs ordinal values otherwise: .834.)"""
    wide = pd.read_csv(stats_reference / "krippendorff_2011.csv").reset_index(names="unit")
    table = wide.melt(id_vars="unit").dropna()
    found = krippendorff_alpha(table["value"], table["unit"], metric)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=5e-4)
    if printed is not None:
        assert found == pytest.approx(reference["krippendorff"][metric][0]["coeff.val"], abs=5e-6)
        assert reference["krippendorff"][metric][0]["coeff.val"] == printed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["nominal", "ordinal", "interval", "ratio"]))
def test_alpha_equals_the_krippendorff_package(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 6, (5, 9)).astype(float)
    wide[rng.random(wide.shape) < 0.4] = np.nan
    pairable = wide[:, np.isfinite(wide).sum(axis=0) > 1]
    if not pairable.size or np.nanmin(pairable) == np.nanmax(pairable):
        return
    expected = krippendorff.alpha(reliability_data=wide, level_of_measurement=metric)
    rater, unit = np.nonzero(np.isfinite(wide))
    assert krippendorff_alpha(wide[rater, unit], unit, metric) == pytest.approx(expected, abs=1e-10)  # type: ignore[arg-type]


def test_alpha_interval_covers(rng: np.random.Generator) -> None:
    """200 studies of 40 users; its expectation with users' pairs in D_e is 1 - .7/(1 - .15/40 - .3/120)."""
    hits, true = 0, 1 - 0.7 / (1 - 0.15 / 40 - 0.3 / 120)
    for _ in range(200):
        table = design(rng, 40, 120, 12)
        low, high = alpha_interval(table["y"], table["user_id"], table["image_id"])
        hits += low <= true <= high
    assert hits / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


def test_alpha_is_the_icc_of_single_ratings(rng: np.random.Generator) -> None:
    table = design(rng, 150, 500, 12)
    parts = moment_components(table["y"], table["user_id"], table["image_id"])
    alpha = krippendorff_alpha(table["y"], table["image_id"])
    assert alpha == pytest.approx(component_icc(parts, 12)["ICC(A,1)"], abs=0.005)


def test_alpha_refuses_what_has_none() -> None:
    with pytest.raises(EstimateError, match="two ratings"):
        krippendorff_alpha([1.0, 2.0], np.array([0, 1]))
    with pytest.raises(EstimateError, match="vary"):
        krippendorff_alpha([2.0, 2.0], np.array([0, 0]))
    with pytest.raises(EstimateError, match="ratio"):
        krippendorff_alpha([-2.0, 2.0], np.array([0, 0]), "ratio")


def test_intraclass_correlations_of_shrout_and_fleiss(stats_reference: Path, reference: dict) -> None:
    """Estimates and F intervals as R's psych prints them."""
    scores = pd.read_csv(stats_reference / "shrout_fleiss_1979.csv").to_numpy(dtype=float)
    found = {row.kind: row for row in intraclass_table(scores)}
    names = {"ICC1": "ICC(1,1)", "ICC2": "ICC(A,1)", "ICC3": "ICC(C,1)"}
    names |= {"ICC1k": "ICC(1,k)", "ICC2k": "ICC(A,k)", "ICC3k": "ICC(C,k)"}
    for row in reference["shrout_fleiss"]:
        ours = found[names[row["type"]]]
        assert ours.estimate == pytest.approx(row["ICC"], rel=1e-9)
        assert (ours.ci_low, ours.ci_high) == pytest.approx((row["lower bound"], row["upper bound"]), rel=1e-8)
    printed = {"ICC(1,1)": 0.1657, "ICC(A,1)": 0.2898, "ICC(C,1)": 0.7148, "ICC(A,k)": 0.6201, "ICC(C,k)": 0.9093}
    assert {k: round(found[k].estimate, 4) for k in printed} == printed
    with pytest.raises(EstimateError, match="complete"):
        intraclass_table([[1.0, np.nan], [2.0, 3.0]])


def test_icc_of_components_is_that_of_a_complete_table(rng: np.random.Generator) -> None:
    """Moments on a complete table are the mean squares, so both roads meet."""
    scores = rng.normal(size=(30, 1)) + 0.5 * rng.normal(size=(1, 8)) + rng.normal(size=(30, 8))
    image, user = (codes.ravel() for codes in np.indices(scores.shape))
    found = component_icc(moment_components(scores.ravel(), user, image), 8)
    expected = {row.kind: row.estimate for row in intraclass_table(scores)}
    for name in ("ICC(A,1)", "ICC(C,1)", "ICC(A,k)", "ICC(C,k)"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9)
    assert component_icc(Components(0.2, 0, 0.8, 0, 0, False, 0, 0, 0, 0), 15)["ICC(C,k)"] == pytest.approx(
        0.789, abs=5e-4
    )
