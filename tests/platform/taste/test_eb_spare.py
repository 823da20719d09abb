"""What new images scatter more than the slopes say: against a dense kernel, closed forms and simulated truth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beholder.taste.designs import Pictures, learn_design
from beholder.taste.eb_likelihood import Problem, Variances, prior_of
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.eb_spare import HeldOut, held_out_prompts, spare_variance
from beholder.taste.features import Design, Features, Refit
from beholder.taste.splits import seen_splits

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world
from test_eb_slopes import V, simulated


def test_excess_is_that_of_dense_gaussian_process_regression() -> None:
    """Errors and expected errors of the ratings left out, from the covariance of all ratings entry by entry."""
    plain = simulated(np.random.default_rng(3), V, n_users=6, n_images=14, n_rated=8)
    problem = Problem(plain.rows, [50 * s for s in plain.scores], plain.images, 14, plain.blocks)
    v = replace(V, shared=(0.5, 0.5), own=(0.3, 0.3))
    who, image = np.repeat(np.arange(6), 8), np.concatenate(list(problem.images))
    x = np.vstack(list(problem.rows))
    same = (who[:, None] == who) * (v.user + v.own[0] * x @ x.T)
    k = same + v.shared[0] * x @ x.T + (image[:, None] == image) * v.image + v.noise * np.eye(len(x))
    out, y = image < 4, np.concatenate(list(problem.scores))
    inverse = np.linalg.inv(k[np.ix_(~out, ~out)])
    one, cross = inverse.sum(axis=0), k[np.ix_(out, ~out)]
    beta = one @ y[~out] / one.sum()
    free = 1 - cross @ one
    error = y[out] - beta - cross @ inverse @ (y[~out] - beta)
    expected = np.diag(k[np.ix_(out, out)] - cross @ inverse @ cross.T) + free**2 / one.sum()
    part = HeldOut(problem, [i < 4 for i in problem.images])
    truth = float(np.mean(error**2 - expected))
    assert truth > 0
    assert spare_variance([part], prior_of(problem, v), exact=True) == pytest.approx(truth, rel=1e-8)


def test_balanced_closed_form_of_noise_that_was_stated_too_small() -> None:
    """Two users, both rate both of two images, no features: leaving one image out, everything fits on one line.

    With variances of users and images at 0 the expectation is the mean m of the ratings kept, known up to noise / 2.
    """
    nothing = [np.zeros((2, 1))] * 2
    problem = Problem(nothing, [np.array([1.0, 9.0]), np.array([3.0, 7.0])], [np.arange(2)] * 2, 2, (slice(0, 1),))
    v = Variances(noise=2.0, user=1e-12, image=1e-12, shared=(1.0,), own=(1.0,))
    part = HeldOut(problem, [np.array([False, True])] * 2)
    by_hand = ((9 - 2) ** 2 + (7 - 2) ** 2) / 2 - (2.0 + 2.0 / 2)
    assert spare_variance([part], prior_of(problem, v), exact=True) == pytest.approx(by_hand, rel=1e-6)
    sure = replace(v, noise=2000.0)
    assert spare_variance([part], prior_of(problem, sure), exact=True) == 0.0


def pictures(noise: float, n: int = 90, rank: int = 3) -> Pictures:
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((n, rank))
    blocks = {
        "network": hidden @ rng.standard_normal((rank, 200)) + noise * rng.standard_normal((n, 200)),
        "statistics": hidden @ rng.standard_normal((rank, 20)) + noise * rng.standard_normal((n, 20)),
    }
    ids = np.array([f"i{k:03d}" for k in range(n)])
    return Pictures(Features(ids, blocks), np.array([f"p{k // 2:02d}" for k in range(n)]))


def left_out_length(noise: float) -> float:
    """Mean square of a left-out image's row, as a share of its mean square where it was learned from."""
    training = learn_design(pictures(noise), np.random.default_rng(0)).training
    out = [r.design.rows(r.left_out) for r in training.refits]
    return float(np.mean(np.vstack(out) ** 2) / np.mean(training.matrix**2))


def test_refits_leave_every_prompt_out_once_and_keep_the_variance_of_the_rest() -> None:
    given = pictures(1.0)
    learned = learn_design(given, np.random.default_rng(0))
    refits = learned.training.refits
    assert sorted(np.concatenate([r.left_out for r in refits])) == given.features.image_ids.tolist()
    prompt = dict(zip(given.features.image_ids.tolist(), given.prompt_ids.tolist(), strict=True))
    for refit in refits:
        inside = ~np.isin(given.features.image_ids, refit.left_out)
        assert not {prompt[i] for i in refit.left_out.tolist()} & set(given.prompt_ids[inside].tolist())
        assert refit.design.matrix.shape == learned.training.matrix.shape
        kept = np.mean(refit.design.matrix[inside] ** 2)
        assert kept == pytest.approx(np.mean(learned.training.matrix**2), rel=1e-9)


def test_rows_of_images_left_out_are_shorter_where_components_fit_noise_and_only_there() -> None:
    assert left_out_length(0.0) == pytest.approx(1.0, abs=0.08)  # 90 images, rank 3: sampling of the images
    assert left_out_length(2.0) < 0.85


def test_refits_lie_where_the_design_lies() -> None:
    """Without noise the axes are the same up to a turn: rows of a refit are nearly those of the design."""
    training = learn_design(pictures(0.0), np.random.default_rng(0)).training
    for refit in training.refits:
        gap = np.mean((refit.design.matrix - training.matrix) ** 2) / np.mean(training.matrix**2)
        assert gap < 0.05


def test_refits_take_the_place_of_folds() -> None:
    problem = simulated(np.random.default_rng(1), V, n_users=4, n_images=10, n_rated=6)
    ids = np.array([f"i{k}" for k in range(10)])
    phi = np.random.default_rng(2).standard_normal((10, 8))
    design = Design(ids, phi, ("a", "b"), (5, 3))
    refit = Refit(replace(design, matrix=phi + 1), ids[:3])
    prompts = np.concatenate(list(problem.images)) // 2
    (part,) = held_out_prompts(problem, ids, prompts, replace(design, refits=(refit,)), 3, np.random.default_rng(0))
    for images, mask, rows in zip(problem.images, part.masks, part.problem.rows, strict=True):
        np.testing.assert_array_equal(mask, images < 3)
        np.testing.assert_array_equal(rows, (phi + 1)[images])
    folds = held_out_prompts(problem, ids, prompts, design, 3, np.random.default_rng(0))
    for masks in zip(*(f.masks for f in folds), strict=True):
        np.testing.assert_array_equal(np.sum(masks, axis=0), 1)


def z_of_worlds(n_users: int, worlds: int) -> tuple[float, float]:
    """SD of standardised errors on new images over all worlds: as fitted, and on the design as it is."""
    squares = []
    for seed in range(worlds):
        world = make_world(np.random.default_rng(1000 + seed), n_users=n_users, n_images=120, n_rated=50)
        split = seen_splits(world.ratings, world.ratings.prompt_id, 4, np.random.default_rng(1))[0]
        train, test = world.ratings.take(split.train), world.ratings.take(split.test)
        prompts = np.array([f"p{k // 2:04d}" for k in range(120)])
        every = Pictures(world.features, prompts)
        new = np.isin(prompts, test.prompt_id)
        design = learn_design(every.take(~new), np.random.default_rng(2)).with_new(every.take(new))
        both = [
            EBSlopes().fit(train, d, np.random.default_rng(0)).predict(test.user_id, design.rows(test.image_id))
            for d in (design, replace(design, refits=()))
        ]
        np.testing.assert_array_equal(both[0].mean, both[1].mean)
        squares.append([np.mean(((test.score - p.mean) / p.predictive_sd) ** 2) for p in both])
    known, bare = np.sqrt(np.mean(squares, axis=0))
    return float(known), float(bare)


def test_sds_are_honest_where_the_design_was_learned_from_few_images() -> None:
    known, bare = z_of_worlds(24, 3)
    assert 0.9 < known < 1.1
    assert bare > known + 0.03


@pytest.mark.slow
@pytest.mark.parametrize("n_users", [12, 24, 40])
def test_sds_are_honest_over_twenty_worlds(n_users: int) -> None:
    """A world's own figure scatters by .06 with 24 people, so the mean of twenty by .015."""
    known, bare = z_of_worlds(n_users, 20)
    assert 0.95 < known < 1.05
    assert bare > 1.07
