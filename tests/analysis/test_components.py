from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.components import (
    Components,
    accuracy_beyond,
    accuracy_from_r,
    moment_components,
    r_from_accuracy,
    shrunken_offsets,
    srocc_from_r,
)
from analysis.errors import EstimateError, TableError


def ratings(rng: np.random.Generator, n_users: int, n_images: int, each: int, repeats: int) -> tuple[np.ndarray, ...]:
    """Ratings with variances .30 (image), .15 (user), .30 (private), .25 (noise)."""
    shared, level = rng.normal(0, 0.3**0.5, n_images), rng.normal(0, 0.15**0.5, n_users)
    own = rng.normal(0, 0.3**0.5, (n_users, n_images))
    user = np.repeat(np.arange(n_users), each)
    image = np.concatenate([rng.choice(n_images, each, replace=False) for _ in range(n_users)])
    again = rng.choice(len(user), repeats, replace=False)
    user, image = np.concatenate((user, user[again])), np.concatenate((image, image[again]))
    score = 3 + shared[image] + level[user] + own[user, image] + rng.normal(0, 0.5, len(user))
    return score, user, image


def test_equals_the_double_sum_over_pairs(rng: np.random.Generator) -> None:
    score, user, image = ratings(rng, 6, 12, 7, 25)
    sums: dict[tuple[bool, bool], list[float]] = {}
    for i, j in itertools.combinations(range(len(score)), 2):
        kind = (bool(user[i] == user[j]), bool(image[i] == image[j]))
        sums.setdefault(kind, []).append((score[i] - score[j]) ** 2 / 2)
    mean = {kind: np.mean(values) for kind, values in sums.items()}
    found = moment_components(score, user, image)
    assert found.separable
    assert found.n_repeat_pairs == len(sums[True, True])
    assert found.v_error == pytest.approx(mean[True, True])
    assert found.v_image == pytest.approx(mean[False, False] - mean[False, True])
    assert found.v_user == pytest.approx(mean[False, False] - mean[True, False])
    assert found.v_image + found.v_user + found.v_user_image + found.v_error == pytest.approx(mean[False, False])


def test_recovers_the_truth_and_ignores_a_large_constant(rng: np.random.Generator) -> None:
    """40 studies of 60 x 300; published spread of one estimate .029 .023 .019 .020, so four standard errors here."""
    found = []
    for _ in range(40):
        score, user, image = ratings(rng, 60, 300, 75, 450)
        c = moment_components(score + 1e6, user.astype(str), image)
        found.append((c.v_image, c.v_user, c.v_user_image, c.v_error))
    spread = np.array([0.029, 0.023, 0.019, 0.020]) / np.sqrt(40)
    assert (np.abs(np.mean(found, axis=0) - [0.30, 0.15, 0.30, 0.25]) < 4 * spread).all()


def test_without_repeats_taste_and_noise_stay_together(rng: np.random.Generator) -> None:
    """Dividing private taste *and noise* by the total would give a beholder index near .65 instead of .50."""
    found = moment_components(*ratings(rng, 60, 300, 75, 0))
    assert not found.separable
    assert "0 repeated ratings" in str(found.why_not_separable)
    assert math.isnan(found.beholder_index)
    assert math.isnan(found.personal_r)
    assert found.population_r == pytest.approx(math.sqrt(0.3 / 0.85), abs=0.06)
    assert found.v_within / (found.v_within + found.v_image) == pytest.approx(0.648, abs=0.06)


def test_derived_numbers() -> None:
    c = Components(0.3, 0.15, 0.7, 0.3, 0.4, True, 0, 0, 0, 99)
    assert c.beholder_index == pytest.approx(0.5)
    assert c.reliability == pytest.approx(0.6)
    assert accuracy_from_r(c.population_r) == pytest.approx(0.685, abs=5e-4)
    assert accuracy_from_r(c.personal_r) == pytest.approx(0.782, abs=5e-4)
    # Spearman-Brown: single-rating reliability .3/(.3 + .7) at 15 raters
    assert c.image_mean_r(15) ** 2 == pytest.approx(15 * 0.3 / (1 + 14 * 0.3))
    assert c.image_mean_r(1) == pytest.approx(c.population_r)


@pytest.mark.parametrize(
    ("rho", "plcc", "srocc", "accuracy", "own_first"),
    [
        (0.4, 0.632, 0.614, 0.718, 0.631),
        (0.5, 0.707, 0.690, 0.750, 0.667),
        (0.6, 0.775, 0.760, 0.782, 0.705),
        (0.7, 0.837, 0.824, 0.816, 0.747),
        (0.8, 0.894, 0.886, 0.852, 0.795),
    ],
)
def test_ceilings_table(rho: float, plcc: float, srocc: float, accuracy: float, own_first: float) -> None:
    """Computed independently for the methods note and checked by simulation there."""
    r = math.sqrt(rho)
    half_a_digit = 5.5e-4
    assert r == pytest.approx(plcc, abs=half_a_digit)
    assert srocc_from_r(r) == pytest.approx(srocc, abs=half_a_digit)
    assert accuracy_from_r(r) == pytest.approx(accuracy, abs=half_a_digit)
    assert accuracy_from_r(rho) == pytest.approx(own_first, abs=half_a_digit)


def test_arcsine_law_and_its_inverse() -> None:
    assert accuracy_from_r(0.5) == pytest.approx(2 / 3)
    np.testing.assert_allclose(r_from_accuracy(accuracy_from_r([-0.9, 0, 0.3])), [-0.9, 0, 0.3], atol=1e-15)


@pytest.mark.parametrize(
    ("r", "expected"),
    [
        (0.30, [0.597, 0.611, 0.626, 0.656, 0.688, 0.720]),
        (0.4722, [0.657, 0.679, 0.702, 0.749, 0.794, 0.836]),
        (0.60, [0.705, 0.734, 0.763, 0.819, 0.870, 0.911]),
        (0.80, [0.795, 0.836, 0.873, 0.933, 0.970, 0.989]),
    ],
)
def test_constant_skill_table(r: float, expected: list[float]) -> None:
    np.testing.assert_allclose(accuracy_beyond(r, [0, 0.25, 0.5, 1, 1.5, 2]), expected, atol=0.001)


@pytest.mark.parametrize("r", [-0.7, 0.2, 0.95])
@pytest.mark.parametrize("margin", [0.0, 0.4, 3.0, 8.0])
def test_constant_skill_equals_numerical_integration(r: float, margin: float) -> None:
    d, slope = margin / math.sqrt(2), r / math.sqrt(1 - r * r)
    right, _ = integrate.quad(
        lambda z: 2 * stats.norm.pdf(z) * stats.norm.cdf(slope * z), d, d + 12, epsabs=0, epsrel=1e-11
    )
    assert accuracy_beyond(r, margin) == pytest.approx(right / (2 * stats.norm.sf(d)), rel=1e-7)
    assert accuracy_beyond(0.5, 1.0) == pytest.approx(0.7639163, abs=5e-8)
    assert accuracy_beyond(1.0, margin) == pytest.approx(1)
    assert accuracy_beyond(r, 1e6) == pytest.approx(accuracy_beyond(r, 7 * math.sqrt(2)))


def test_offsets_shrink_and_vanish_for_a_scorer_without_users(rng: np.random.Generator) -> None:
    user, image = np.repeat(np.arange(50), 20), np.tile(np.arange(20), 50)
    same_for_all = rng.normal(size=20)[image]
    assert not shrunken_offsets(same_for_all, user, image).any()
    level = rng.normal(0, 2, 50)
    values = level[user] + rng.normal(0, 1, 1000)
    offsets = shrunken_offsets(values, user, image)
    own_means = np.bincount(user, values) / 20 - values.mean()
    ratio = offsets / own_means
    np.testing.assert_allclose(ratio, ratio[0])
    assert ratio[0] == pytest.approx(4 / (4 + 1 / 20), abs=0.01)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(EstimateError, match="crossed"):
        moment_components([1.0, 2.0, 3.0], np.array(["a", "b", "c"]), np.array(["x", "y", "z"]))
    with pytest.raises(TableError, match="NaN"):
        moment_components([1.0, np.nan], np.array(["a", "b"]), np.array(["x", "x"]))


@pytest.mark.parametrize(("r", "printed"), [(0.1471, 0.5470), (0.2855, 0.5922), (0.2906, 0.5939), (0.4444, 0.6466)])
def test_accuracies_that_published_correlations_imply(r: float, printed: float) -> None:
    assert float(accuracy_from_r(r)) == pytest.approx(printed, abs=5.1e-5)
