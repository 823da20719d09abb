"""Win rates against hand numbers, R's two-way clusters, brute force and simulated studies."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.clusters import cluster_mean, integer_codes
from analysis.errors import EstimateError
from analysis.results import Population, Provenance
from analysis.win_rates import WinRate, win_rate

HAND = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
SWAP = {"left": "right", "right": "left", "tie": "tie"}


def table(wins: np.ndarray, left: np.ndarray | None = None) -> pd.DataFrame:
    """Votes of people (rows) on prompts (columns): 1 own won, 0 other, .5 tie; own is on the left where `left`."""
    people, items = (x.ravel() for x in np.indices(wins.shape))
    y = wins.ravel()
    own_left = np.ones(len(y), dtype=bool) if left is None else left.ravel()
    return pd.DataFrame(
        {
            "participant_id": [f"u{k:03d}" for k in people],
            "prompt_id": [f"p{k:03d}" for k in items],
            "left_condition": np.where(own_left, "own", "other"),
            "right_condition": np.where(own_left, "other", "own"),
            "choice": np.where(y == 0.5, "tie", np.where((y == 1) == own_left, "left", "right")),
        }
    )


def test_hand_example() -> None:
    result = win_rate(table(HAND), "own", "other")
    assert result.estimate == pytest.approx(2 / 3)
    assert result.se**2 == pytest.approx(0.0185185, abs=5e-8)
    assert (result.t, result.df, result.p) == (pytest.approx(1.2247449), 2, pytest.approx(0.3453463))
    assert (result.n_votes, result.n_ties, result.n_participants, result.n_prompts) == (12, 0, 3, 4)
    assert result.naive["se"] == pytest.approx(math.sqrt(2 / 9 / 12))
    assert result.naive["p"] == pytest.approx(2 * stats.norm.sf((1 / 6) / math.sqrt(2 / 9 / 12)))
    assert (result.estimand.people, result.estimand.items) == ("these", "these")
    assert sum("needed to speak for new ones" in w for w in result.warnings) == 2


def test_petersen_as_r_sandwich(run_r) -> None:
    """Standard errors of a regression are those of means of its influence values: firm, year and both."""
    data = pd.read_csv(
        io.StringIO(run_r('data(PetersenCL, package = "sandwich"); write.csv(PetersenCL, row.names = FALSE)'))
    )
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    firm, year = integer_codes(data["firm"])[0], integer_codes(data["year"])[0]
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    influence = (X * (y - X @ beta)[:, None]) @ np.linalg.inv(X.T @ X) * len(y)
    n, k = X.shape
    correction = (n - 1) / (n - k)  # R's type HC1 on top of G / (G - 1)
    for j, expected in enumerate([(0.0670127, 0.0233867, 0.0650639), (0.0505957, 0.0333889, 0.0535580)]):
        v_firm, v_year, v_cells = cluster_mean(influence[:, j], firm, year).variances
        for variance, se in zip((v_firm, v_year, v_firm + v_year - v_cells), expected, strict=True):
            assert math.sqrt(variance * correction) == pytest.approx(se, abs=5e-8)


def test_the_same_numbers_whatever_the_side(rng: np.random.Generator) -> None:
    wins = rng.integers(0, 3, (12, 9)) / 2
    left = rng.random((12, 9)) < 0.5
    one, other = win_rate(table(wins), "own"), win_rate(table(wins, left), "own")
    assert (one.estimate, one.se, one.p) == (other.estimate, other.se, other.p)
    assert other.net_benefit == pytest.approx((wins == 1).mean() - (wins == 0).mean())
    assert other.cohens_h == pytest.approx(2 * math.asin(math.sqrt(wins.mean())) - math.pi / 2)
    assert other.side_adjusted == pytest.approx((wins[left].mean() + wins[~left].mean()) / 2)
    chose_left = np.where(left, wins, 1 - wins)
    assert other.left_share == pytest.approx(chose_left.mean())
    assert math.isnan(one.side_adjusted)
    own = other.participants.set_index("participant_id")["rate"]
    assert own.to_numpy() == pytest.approx(wins.mean(axis=1))


def test_intervals_on_the_logit_near_the_ends(rng: np.random.Generator) -> None:
    wins = (rng.random((30, 20)) < 0.96).astype(float)
    result = win_rate(table(wins), "own", "other")
    w, half = result.estimate, stats.t.ppf(0.975, 19) * result.se
    logit = math.log(w / (1 - w))
    expected = [1 / (1 + math.exp(-(logit + s * half / (w * (1 - w))))) for s in (-1, 1)]
    assert (result.ci_low, result.ci_high) == pytest.approx(tuple(expected))
    assert result.ci_high < 1
    middle = win_rate(table((rng.random((30, 20)) < 0.6).astype(float)), "own", confidence=0.9)
    assert middle.ci_high - middle.estimate == pytest.approx(stats.t.ppf(0.95, 19) * middle.se)


def test_all_other_conditions_or_one_of_them(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, {"own": 0.4, "other": 0.0, "third": 0.0})
    sides = votes[["left_condition", "right_condition"]]
    involved = (sides == "own").any(axis=1)
    everything, one = win_rate(votes, "own"), win_rate(votes, "own", "other")
    assert everything.n_votes == involved.sum()
    assert one.n_votes == (involved & (sides == "other").any(axis=1)).sum()
    assert dict(one.exclusions.reasons) == {"another comparison": len(votes) - one.n_votes}
    against = win_rate(votes, "other", "own")
    assert against.estimate == pytest.approx(1 - one.estimate)
    assert against.t == pytest.approx(-one.t)


def test_only_main_votes_count(rng: np.random.Generator) -> None:
    votes = table(rng.integers(0, 2, (8, 8)))
    kinds = np.resize(["main", "main", "main", "repeat", "catch", "practice"], len(votes))
    result = win_rate(votes.assign(kind=kinds), "own")
    assert result.n_votes == (kinds == "main").sum()
    assert dict(result.exclusions.reasons) == {"kind is not main": int((kinds != "main").sum())}
    same = win_rate(votes[kinds == "main"], "own")
    assert (result.estimate, result.se) == (same.estimate, same.se)


def test_populations(rng: np.random.Generator) -> None:
    votes = table((rng.random((20, 10)) < 0.5 + 0.2 * rng.normal(size=(20, 1))).astype(float))
    texts = {}
    for people in ("new", "these"):
        for items in ("new", "these"):
            result = win_rate(votes, "own", population=Population(people, items))
            assert f"for {people} people and {items} prompts" in result.estimand.text
            texts[people, items] = (result.se, result.df, result.method)
    assert [texts[k][1] for k in (("new", "new"), ("new", "these"), ("these", "new"))] == [9, 19, 9]
    assert texts["these", "these"][2] == "cells"
    assert texts["new", "new"][0] >= max(texts["new", "these"][0], texts["these", "new"][0])


def test_a_person_with_many_votes_is_named(rng: np.random.Generator) -> None:
    votes = table(rng.integers(0, 2, (10, 10)))
    many = pd.concat([votes, *[votes[votes["participant_id"] == "u000"]] * 5], ignore_index=True)
    result = win_rate(many, "own")
    assert any("one participant supplies" in w for w in result.warnings)
    sizes = many["participant_id"].value_counts().to_numpy()
    assert result.effective_participants == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())
    assert not win_rate(votes, "own").warnings


def test_refusals(rng: np.random.Generator) -> None:
    votes = table(rng.integers(0, 2, (8, 8)))
    for wrong, message in (
        (votes.assign(choice="left"), "all 64 values are 1"),
        (votes.assign(participant_id="u"), "1 people"),
        (votes.assign(prompt_id="p"), "1 items"),
        (votes.assign(kind="catch"), "no main trial"),
    ):
        with pytest.raises(EstimateError, match=message):
            win_rate(wrong, "own")
    with pytest.raises(EstimateError, match="no condition 'mine' in the votes; allowed: other, own"):
        win_rate(votes, "mine")
    with pytest.raises(EstimateError, match="against itself"):
        win_rate(votes, "own", "own")


def sourced(rng: np.random.Generator, opponents: int | None, n: int = 20, n_prompts: int = 10) -> pd.DataFrame:
    """Own against the image of another user; images of a user are better or worse for everybody (SD .8)."""
    quality = rng.normal(0, 0.8, n)
    p = np.repeat(np.arange(n), n_prompts)
    other = (p + rng.integers(1, n, len(p))) % n if opponents is None else rng.integers(0, opponents, len(p))
    won = rng.random(len(p)) < 1 / (1 + np.exp(-(quality[p] - quality[other])))
    frame = table(won.reshape(n, n_prompts).astype(float))
    frame = frame.assign(left_source_user=frame["participant_id"], right_source_user=[f"u{k:03d}" for k in other])
    return frame[other != p]


def test_sources_choose_the_clusters(rng: np.random.Generator) -> None:
    balanced = win_rate(sourced(rng, None), "own", "other")
    assert balanced.method == "two-way"
    assert balanced.dyadic is not None
    assert balanced.three_way is not None
    four = win_rate(sourced(rng, 4), "own", "other")
    assert four.method == "three-way"
    assert four.df == 3  # four source users
    assert four.three_way is not None
    assert (four.three_way["se"], four.three_way["p"]) == (four.se, four.p)
    assert any("source users are clusters of their own" in w for w in four.warnings)
    few = sourced(rng, None, n=8)
    assert any("only 8 source users" in w for w in win_rate(few, "own", "other").warnings)
    assert win_rate(sourced(rng, 4), "own", population=Population("these", "new")).method == "items"
    unsourced = sourced(rng, None).drop(columns=["left_source_user"])
    assert win_rate(unsourced, "own").dyadic is None


def test_fixed_opponents_mislead_two_way_clusters_only() -> None:
    """120 null studies of 20 people against four fixed opponents, each image maker better or worse for everybody."""
    rng = np.random.default_rng(16)
    used, two_way = 0, 0
    for _ in range(120):
        votes = sourced(rng, 4)
        used += win_rate(votes, "own", "other", provenance=Provenance()).p < 0.05
        plain = votes.drop(columns=["left_source_user", "right_source_user"])
        two_way += win_rate(plain, "own", "other", provenance=Provenance()).p < 0.05
    assert used <= 16  # .07 and three Monte Carlo standard errors
    assert two_way > 16


def test_size_where_the_naive_test_fails() -> None:
    """100 null studies, 40 people x 20 prompts whose effects cancel on average (logit SD .3, .6, .3)."""
    rng = np.random.default_rng(7)
    rejected, naive = 0, 0
    for _ in range(100):
        logit = 0.3 * rng.normal(size=(40, 1)) + 0.6 * rng.normal(size=(1, 20)) + 0.3 * rng.normal(size=(40, 20))
        votes = table((rng.random((40, 20)) < 1 / (1 + np.exp(-logit))).astype(float))
        found = win_rate(votes, "own", provenance=Provenance())
        rejected += found.p < 0.05
        naive += found.naive["p"] < 0.05
    assert rejected <= 14  # .07 and three Monte Carlo standard errors; the grid is in the slow suite
    assert naive > 25


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_properties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wins = (rng.integers(0, 3, (7, 8)) + (rng.random((7, 1)) < 0.4)).clip(0, 2) / 2
    wins[0, :2] = 0, 1  # never constant
    votes = table(wins, rng.random((7, 8)) < 0.5)
    plain = win_rate(votes, "own", "other")

    def same(other: WinRate, sign: int = 1) -> None:
        assert other.t == pytest.approx(sign * plain.t, rel=1e-8, abs=1e-10)
        assert other.se == pytest.approx(plain.se, rel=1e-9)

    same(win_rate(votes.sample(frac=1, random_state=seed % 1000), "own", "other"))
    same(win_rate(votes, "other", "own"), -1)
    same(win_rate(votes.assign(choice=votes["choice"].map(SWAP)), "own", "other"), -1)
    doubled = win_rate(pd.concat([votes, votes], ignore_index=True), "own", "other")
    same(doubled)
    assert doubled.naive["se"] == pytest.approx(plain.naive["se"] / math.sqrt(2))
    as_categories = win_rate(votes.astype("category"), "own", "other")
    assert as_categories.to_json() | {"provenance": 0} == plain.to_json() | {"provenance": 0}


def test_outputs(rng: np.random.Generator) -> None:
    result = win_rate(table(rng.integers(0, 2, (8, 8))), "own", "other")
    assert "for comparison only" in result.summary()
    frame = result.to_frame()
    assert frame["naive_se"].item() == result.naive["se"]
    assert len(result.tables()["participants"]) == 8
    assert result.plot().to_dict()["layer"]
