"""Corrections for several tests against R multcomp, hand numbers and simulated families of null hypotheses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.contrasts import parse_contrasts, planned_contrasts
from analysis.errors import EstimateError
from analysis.multiplicity import DRAWS, holm, max_t_p, max_t_quantile
from analysis.results import Population, Provenance
from analysis.win_rates import win_rate

FIVE = {"own": 0.5, "other": 0.2, "unoptimised": 0.0, "hpsv3": -0.1, "qalign": -0.3}
PLANNED = [("own", "other"), ("own", "unoptimised"), ("own", "hpsv3"), ("own", "qalign")]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(EstimateError, match="p values"):
        holm([0.1, float("nan")])


def test_warpbreaks_as_r_multcomp() -> None:
    """Tukey's three differences of tension in R's warpbreaks data: 18 observations a group, 51 degrees of freedom."""
    t = [-2.525130, -3.717552, -1.192422]
    correlation = np.array([[1, 0.5, -0.5], [0.5, 1, 0.5], [-0.5, 0.5, 1]])
    rng = np.random.default_rng(1)
    found = max_t_p(t, correlation, 51, rng)
    for p, expected in zip(found, (0.0384, 0.00143, 0.463), strict=True):
        assert p == pytest.approx(expected, abs=4 * (expected / DRAWS) ** 0.5)  # four Monte Carlo errors
    raw = 2 * stats.t.sf(np.abs(t), 51)
    assert holm(raw.tolist()) == pytest.approx([0.029434, 0.0015026, 0.238614], rel=2e-5)


def test_quantile_of_the_maximum() -> None:
    """One test needs Student's quantile, copies of it no more, independent ones Sidak's."""
    rng = np.random.default_rng(3)
    assert max_t_quantile(np.eye(1), 12, 0.95, rng) == pytest.approx(stats.t.ppf(0.975, 12), abs=0.02)
    assert max_t_quantile(np.ones((3, 3)), 12, 0.95, rng) == pytest.approx(stats.t.ppf(0.975, 12), abs=0.02)
    normal = max_t_quantile(np.eye(4), 1e7, 0.95, rng)
    assert normal == pytest.approx(stats.norm.ppf(0.5 + 0.95**0.25 / 2), abs=0.02)


def test_contrasts_are_win_rates(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    result = planned_contrasts(votes, PLANNED, rng=rng)
    assert [(c.focal, c.against) for c in result.contrasts] == PLANNED
    for c in result.contrasts:
        alone = win_rate(votes, c.focal, c.against)
        for name in ("estimate", "ci_low", "ci_high", "se", "df", "t", "p", "n_votes", "n_ties", "n_prompts", "method"):
            assert getattr(c, name) == getattr(alone, name)
        assert (c.naive_se, c.naive_p) == (alone.naive["se"], alone.naive["p"])
        assert c.simultaneous_low < c.ci_low < c.estimate < c.ci_high < c.simultaneous_high
    assert [c.p_holm for c in result.contrasts] == pytest.approx(holm([c.p for c in result.contrasts]))
    involved = sum(c.n_votes for c in result.contrasts)
    assert result.exclusions.reasons == (("no planned contrast", len(votes) - involved),)
    assert "corrected by Holm" in result.summary()
    assert "Not valid tests, for comparison only" in result.summary()
    assert len(result.to_frame()) == 4
    assert result.plot().to_dict()["layer"]


def test_correlation_is_that_of_repeated_studies(draw_votes) -> None:
    """Contrasts that share own move together: mean estimated correlation against that over 100 simulated studies."""
    rng = np.random.default_rng(4)
    estimates, correlations = [], []
    for _ in range(100):
        votes = draw_votes(rng, dict.fromkeys(("own", "b", "c"), 0.0), n_people=25, n_prompts=20, sd=0.8)
        result = planned_contrasts(votes, [("own", "b"), ("own", "c")], rng=rng, provenance=Provenance())
        estimates.append([c.estimate for c in result.contrasts])
        correlations.append(result.correlation[0, 1])
    true = np.corrcoef(np.array(estimates).T)[0, 1]
    error = (1 - true**2) / np.sqrt(100)
    assert true > 0.25
    assert np.mean(correlations) == pytest.approx(true, abs=3 * error)


def test_families_of_true_hypotheses(draw_votes) -> None:
    """80 studies without any effect: Holm and max-T keep the chance of any claim, single tests do not."""
    rng = np.random.default_rng(9)
    pairs = [(a, b) for k, a in enumerate(FIVE) for b in list(FIVE)[k + 1 :]]
    by_holm, by_max, single = 0, 0, 0
    for _ in range(80):
        votes = draw_votes(rng, dict.fromkeys(FIVE, 0.0), n_people=40, n_prompts=20)
        result = planned_contrasts(votes, pairs, rng=rng, provenance=Provenance())
        by_holm += min(c.p_holm for c in result.contrasts) < 0.05
        by_max += any(not c.simultaneous_low <= 0.5 <= c.simultaneous_high for c in result.contrasts)
        single += min(c.p for c in result.contrasts) < 0.05
    assert by_holm <= 9  # .05 and three Monte Carlo standard errors
    assert by_max <= 12  # .07 allowed: the correlation is noisy with 20 prompts
    assert single > 12


def test_populations(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    for people, items, clusters in (("new", "these", "n_participants"), ("these", "new", "n_prompts")):
        result = planned_contrasts(votes, PLANNED, rng=rng, population=Population(people, items))
        assert all(c.df == getattr(c, clusters) - 1 for c in result.contrasts)
        assert np.diag(result.correlation) == pytest.approx(1)
    cells = planned_contrasts(votes, PLANNED, rng=rng, population=Population("these", "these"))
    assert "for these people and these prompts" in cells.summary()
    off = cells.correlation - np.eye(4)
    assert np.abs(off).max() < 0.2  # only votes of one person on one prompt are shared


def test_the_seed_fixes_everything(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    one, other = (planned_contrasts(votes, PLANNED, rng=np.random.default_rng(5)) for _ in range(2))
    assert one.to_json() == other.to_json()
    shuffled = planned_contrasts(votes.sample(frac=1, random_state=1), PLANNED, rng=np.random.default_rng(5))
    assert [c.p for c in shuffled.contrasts] == pytest.approx([c.p for c in one.contrasts], rel=1e-9)


def test_swapped_contrasts_mirror(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    forth = planned_contrasts(votes, PLANNED, rng=np.random.default_rng(5))
    back = planned_contrasts(votes, [(b, a) for a, b in PLANNED], rng=np.random.default_rng(5))
    for c, d in zip(forth.contrasts, back.contrasts, strict=True):
        assert c.estimate == pytest.approx(1 - d.estimate)
        assert c.t == pytest.approx(-d.t)
        assert (c.ci_low, c.simultaneous_low) == pytest.approx((1 - d.ci_high, 1 - d.simultaneous_high))


def test_refusals(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    for pairs, message in (
        ([("own", "other"), ("other", "own")], "planned twice"),
        ([], "no contrasts"),
        ([("own", "mine")], "no condition 'mine'"),
        ([("own", "own")], "against itself"),
    ):
        with pytest.raises(EstimateError, match=message):
            planned_contrasts(votes, pairs, rng=rng)
    constant = votes.assign(choice=np.where(votes["left_condition"] == "own", "left", "right"))
    won = constant[(constant[["left_condition", "right_condition"]] == "own").any(axis=1)]
    with pytest.raises(EstimateError, match="answers that vary"):
        planned_contrasts(pd.concat([won, votes[~votes.index.isin(won.index)]]), PLANNED, rng=rng)
    assert parse_contrasts("own:other, own:hpsv3") == [("own", "other"), ("own", "hpsv3")]
    for text in ("own", "own:", ":other", "own:other,,", "own-other"):
        with pytest.raises(EstimateError, match="FOCAL:AGAINST"):
            parse_contrasts(text)
