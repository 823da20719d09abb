"""Onboarding sets against brute force: every candidate's posterior computed in full."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import EstimateError, UserError
from beholder.taste.features import Design
from beholder.taste.linear import Belief, posterior, with_intercept
from beholder.taste.onboarding import make_pool, next_image, onboarding_set


def make_case(seed: int = 0, n: int = 40, p: int = 5) -> tuple[Design, np.ndarray, Belief, np.ndarray]:
    """A design, prompts (four images each), a newcomer's prior and target images."""
    rng = np.random.default_rng(seed)
    design = Design(np.array([f"i{k:02d}" for k in range(n)]), rng.standard_normal((n, p)), ("a", "b"), (p - 2, 2))
    root = rng.standard_normal((p + 1, p + 1))
    prompts = np.array([f"p{k // 4}" for k in range(n)])
    return design, prompts, Belief(rng.standard_normal(p + 1), root @ root.T), rng.standard_normal((60, p)) + 2.0


def doubt_after(prior: Belief, rows: np.ndarray, noise: np.ndarray, target: np.ndarray) -> float:
    """Mean over target images of the variance of (expected rating - its mean over the target), by the posterior."""
    belief = posterior(prior, rows, np.zeros(len(rows)), noise)
    centred = with_intercept(target) - with_intercept(target).mean(axis=0)
    return float(np.mean([row @ belief.covariance @ row for row in centred]))


@pytest.mark.parametrize("per_prompt", [1, 40])
def test_each_step_is_the_best_of_all_candidates(per_prompt: int) -> None:
    design, prompts, prior, target = make_case()
    noise = np.random.default_rng(1).uniform(0.5, 2.0, len(prompts))
    pool = make_pool(design, prompts, noise, leverage_quantile=1.0)
    assert pool.n_guarded == 0
    found = onboarding_set(prior, pool, target, 6, per_prompt=per_prompt)
    rows, chosen = with_intercept(design.matrix), []
    assert found.doubt[0] == pytest.approx(doubt_after(prior, rows[:0], noise[:0], target), rel=1e-10)
    for k, image in enumerate(found.image_ids):
        allowed = [
            j for j in range(len(rows)) if j not in chosen and np.sum(prompts[chosen] == prompts[j]) < per_prompt
        ]
        each = {j: doubt_after(prior, rows[[*chosen, j]], noise[[*chosen, j]], target) for j in allowed}
        best = min(each, key=each.__getitem__)
        assert design.image_ids[best] == image
        assert found.doubt[k + 1] == pytest.approx(each[best], rel=1e-9)
        chosen.append(best)


def test_every_prompt_is_asked_once_before_one_is_asked_twice() -> None:
    design, prompts, prior, target = make_case()
    pool = make_pool(design, prompts, 1.0, leverage_quantile=1.0)
    found = onboarding_set(prior, pool, target, 15)
    asked = [prompts[design.image_ids.tolist().index(image)] for image in found.image_ids]
    assert len(set(asked[:10])) == 10
    assert len(set(found.image_ids)) == 15


def test_the_next_image_continues_the_fixed_set_and_steps_over_what_was_skipped() -> None:
    design, prompts, prior, target = make_case(2)
    pool = make_pool(design, prompts, 1.0)
    fixed = onboarding_set(prior, pool, target, 4).image_ids
    rows = design.rows(fixed[:3])
    known = posterior(prior, with_intercept(rows), np.array([700.0, 20.0, 333.0]), 1.0)
    assert next_image(known, pool, target, fixed[:3]) == fixed[3]
    assert next_image(prior, pool, target, [fixed[0]]) not in fixed[:1]
    with pytest.raises(EstimateError, match="every image"):
        next_image(prior, pool, target, pool.image_ids.tolist())


def test_an_image_far_out_is_never_asked_about() -> None:
    design, prompts, prior, target = make_case(3, n=200)
    matrix = design.matrix.copy()
    matrix[17] = 50.0
    pool = make_pool(Design(design.image_ids, matrix, ("a", "b"), (3, 2)), prompts, 1.0)
    assert pool.n_guarded == 2
    assert "i17" not in pool.image_ids
    with pytest.raises(UserError, match="onboarding set of 500"):
        onboarding_set(prior, pool, target, 500)
    with pytest.raises(EstimateError, match="target"):
        onboarding_set(prior, pool, target[:1], 1)
