"""Style across prompts: the statistic by brute force, its size without style, and planted styles found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.consistency import (
    PERMUTATIONS,
    cross_prompt_cosines,
    label_permutations,
    steering_consistency,
    style_directions,
    t1_statistic,
    t2_statistic,
)
from analysis.errors import EstimateError, TableError


def table(z: np.ndarray) -> pd.DataFrame:
    """Embeddings (U, P, R, d) as one row an image, in random order."""
    rows = [
        {"user_id": f"u{u:02d}", "prompt_id": f"p{p:02d}", "run": r + 1, "embedding": z[u, p, r].tolist()}
        for u, p, r in itertools.product(*map(range, z.shape[:3]))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def embeddings(
    rng: np.random.Generator,
    n_users: int,
    *,
    n_prompts: int = 12,
    n_runs: int = 2,
    style: float = 0.0,
    private: float = 0.0,
    spread: np.ndarray | float = 1.0,
    d: int = 16,
) -> np.ndarray:
    """Prompt content, a style of each user on all prompts, private content by user and prompt, and noise of runs."""
    shape = (n_users, n_prompts, n_runs, d)
    content = rng.normal(size=(1, n_prompts, 1, d))
    own_style = style * rng.normal(size=(n_users, 1, 1, d))
    own_content = private * rng.normal(size=(n_users, n_prompts, 1, d))
    noise = np.reshape(spread, (-1, 1, 1, 1)) * rng.normal(size=shape)
    return content + own_style + own_content + noise


def brute_t2(z: np.ndarray) -> float:
    """The definition, term by term."""
    d = z - z.mean(axis=0)
    d = d / np.linalg.norm(d, axis=-1, keepdims=True)
    n_users, n_prompts, n_runs, _ = z.shape
    values = []
    for r, s in itertools.combinations(range(n_runs), 2):
        same, different = [], []
        for u, v, p, q in itertools.product(range(n_users), range(n_users), range(n_prompts), range(n_prompts)):
            if p != q:
                (same if u == v else different).append(float(d[u, p, r] @ d[v, q, s]))
        values.append(np.mean(same) - np.mean(different))
    return float(np.mean(values))


@pytest.mark.parametrize("n_runs", [2, 3])
def test_statistics_are_their_definitions(rng: np.random.Generator, n_runs: int) -> None:
    z = embeddings(rng, 4, n_prompts=5, n_runs=n_runs, style=0.5, d=6)
    result = steering_consistency(table(z), rng=rng)
    assert result.t2 == pytest.approx(brute_t2(z), rel=1e-10)
    within, between = [], []
    for r, s in itertools.combinations(range(n_runs), 2):
        for u, v, p in itertools.product(range(4), range(4), range(5)):
            (within if u == v else between).append(float(((z[u, p, r] - z[v, p, s]) ** 2).sum()))
    assert result.t1 == pytest.approx(np.mean(within) - np.mean(between), rel=1e-10)
    assert t1_statistic(z) == pytest.approx(result.t1)


def test_every_permutation_is_tried_when_there_are_few(rng: np.random.Generator) -> None:
    z = embeddings(rng, 4, style=0.4)
    result = steering_consistency(table(z), rng=rng)
    assert (result.n_permutations, result.exact) == (23, True)
    observed = brute_t2(z)
    relabelled = []
    for order in itertools.permutations(range(4)):
        moved = z.copy()
        moved[:, :, 1] = z[list(order), :, 1]
        relabelled.append(brute_t2(moved))
    assert result.p == pytest.approx(np.mean(np.array(relabelled) >= observed - 1e-12))
    labels, exact = label_permutations(7, 2, rng)
    assert (len(labels), exact) == (math.factorial(7) - 1, True)
    assert len({tuple(row) for row in labels[:, 1].tolist()} | {tuple(range(7))}) == 5040
    labels, exact = label_permutations(8, 2, rng)
    assert (len(labels), exact) == (PERMUTATIONS, False)
    labels, exact = label_permutations(3, 3, rng)
    assert (len(labels), exact) == (35, True)
    assert (labels[:, 0] == [0, 1, 2]).all()


def rejections(rng: np.random.Generator, n: int, n_users: int, **truth: float) -> int:
    """How many of `n` studies give p below .05; arrays only, for speed."""
    count = 0
    for _ in range(n):
        cosines = cross_prompt_cosines(style_directions(embeddings(rng, n_users, **truth)))
        labels, _ = label_permutations(n_users, 2, rng)
        values = t2_statistic(cosines, labels[:400] if n_users > 6 else labels)
        observed = t2_statistic(cosines, np.tile(np.arange(n_users), (1, 2, 1)))[0]
        count += (1 + (values >= observed - 1e-12).sum()) / (1 + len(values)) < 0.05
    return count


@pytest.mark.parametrize("n_users", [6, 12])
def test_no_style_is_not_found(n_users: int) -> None:
    """Nothing personal, and runs that reproduce arbitrary images per prompt: 200 studies each."""
    rng = np.random.default_rng(n_users)
    assert rejections(rng, 200, n_users) <= 23  # .07 and three Monte Carlo standard errors
    assert rejections(rng, 200, n_users, private=1.0) <= 23


def test_reproduced_images_fool_distances_only() -> None:
    """Runs alike without a style: T1 says so in every study, T2 does not claim a style."""
    rng = np.random.default_rng(5)
    found = [steering_consistency(table(embeddings(rng, 6, private=1.5)), rng=rng) for _ in range(20)]
    assert all(result.t1 < 0 for result in found)
    assert sum(result.p < 0.05 for result in found) <= 4


def test_unequal_spread_is_no_style() -> None:
    """Users whose runs scatter differently: a trap for tests on cosine distances."""
    rng = np.random.default_rng(11)
    count = 0
    for _ in range(150):
        z = embeddings(rng, 6, spread=np.linspace(0.3, 2, 6))
        cosines = cross_prompt_cosines(style_directions(z))
        labels, _ = label_permutations(6, 2, rng)
        observed = t2_statistic(cosines, np.tile(np.arange(6), (1, 2, 1)))[0]
        count += (1 + (t2_statistic(cosines, labels) >= observed - 1e-12).sum()) / 720 < 0.05
    assert count <= 18


def test_a_planted_style_is_found_and_recognised(rng: np.random.Generator) -> None:
    z = embeddings(rng, 8, style=0.6)
    result = steering_consistency(table(z), rng=rng)
    assert result.p == pytest.approx(1 / (1 + PERMUTATIONS))
    assert result.ci_low > 0
    assert result.identification_rate == 1
    assert result.chance == 1 / 8
    assert rejections(rng, 20, 6, style=0.5) >= 18
    diagonal = result.similarity.query("user == other")["cosine"].mean()
    rest = result.similarity.query("user != other")["cosine"].mean()
    assert diagonal - rest == pytest.approx(result.t2)


def test_interval_of_resampled_users_holds_the_truth() -> None:
    """T2 of very many users of the same kind lies in the interval of 15 users in most studies."""
    rng = np.random.default_rng(21)
    true = t2_statistic(
        cross_prompt_cosines(style_directions(embeddings(rng, 300, style=0.4))), np.tile(np.arange(300), (1, 2, 1))
    )[0]
    found = [steering_consistency(table(embeddings(rng, 15, style=0.4)), rng=rng) for _ in range(40)]
    assert sum(result.ci_low <= true <= result.ci_high for result in found) >= 30


def test_few_users_are_these_people(rng: np.random.Generator) -> None:
    result = steering_consistency(table(embeddings(rng, 3, style=1.0)), rng=rng)
    assert "for these people and these prompts" in result.estimand.text
    assert any("p cannot fall below 0.167" in w for w in result.warnings)
    assert steering_consistency(table(embeddings(rng, 6)), rng=rng).estimand.people == "new"


def test_conditions_are_chosen_and_counted(rng: np.random.Generator) -> None:
    own, other = table(embeddings(rng, 4, style=0.5)), table(embeddings(rng, 4))
    both = pd.concat([own.assign(condition="own"), other.assign(condition="other")])
    result = steering_consistency(both, rng=np.random.default_rng(1), condition="own")
    assert result.t2 == steering_consistency(own, rng=np.random.default_rng(1)).t2
    assert result.exclusions.reasons == (("another condition", len(other)),)
    with pytest.raises(EstimateError, match="several conditions in the table; allowed: other, own"):
        steering_consistency(both, rng=rng)
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        steering_consistency(both, rng=rng, condition="mine")


def test_refusals(rng: np.random.Generator) -> None:
    frame = table(embeddings(rng, 4))
    for wrong, message in (
        (frame[frame["user_id"] == "u00"], "1 users"),
        (frame[frame["prompt_id"] == "p00"], "1 prompts"),
        (frame[frame["run"] == 1], "1 runs"),
        (frame.iloc[1:], "1 of 96 combinations"),
        (frame.assign(embedding=[[1.0, 2.0]] * len(frame)), "same images"),
    ):
        with pytest.raises(EstimateError, match=message):
            steering_consistency(wrong, rng=rng)
    short = frame.assign(embedding=[[1.0], *frame["embedding"].iloc[1:]])
    with pytest.raises(TableError, match="embedding unusable"):
        steering_consistency(short, rng=rng)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.1, 20))
def test_shifts_scales_and_names_change_nothing(seed: int, shift: float, scale: float) -> None:
    """Content of a prompt, the unit of the encoder and the users' names are not style."""
    rng = np.random.default_rng(seed)
    z = embeddings(rng, 5, n_prompts=4, style=0.3, d=5)
    content = shift * rng.normal(size=(1, 4, 1, 5))
    plain = steering_consistency(table(z), rng=np.random.default_rng(1))
    moved = steering_consistency(table(scale * (z + content)), rng=np.random.default_rng(1))
    renamed = steering_consistency(table(z[::-1]), rng=np.random.default_rng(1))
    for other in (moved, renamed):
        assert other.t2 == pytest.approx(plain.t2, abs=1e-9)
        assert other.identification_rate == plain.identification_rate
        assert other.p == pytest.approx(plain.p)
    assert moved.t1 == pytest.approx(scale**2 * plain.t1, rel=1e-6, abs=1e-6)


def test_outputs(rng: np.random.Generator) -> None:
    result = steering_consistency(table(embeddings(rng, 4, style=0.5)), rng=rng)
    assert "share a personal style" in result.summary()
    assert len(result.tables()["similarity"]) == 16
    assert result.plot().to_dict()["mark"]
