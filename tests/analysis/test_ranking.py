"""Rankings of tables of votes against published fits, a model fitted by scipy, simulated truth and invariances."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.errors import EstimateError, TableError
from analysis.ranking import Ranking, Strength, rank_conditions
from analysis.results import Population

FIVE = {"own": 0.3, "other": 0.15, "unoptimised": 0.0, "hpsv3": -0.1, "qalign": -0.3}


def spread(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """(left, right, choice) rows given to ten people and seven prompts in turn."""
    frame = pd.DataFrame(rows, columns=["left_condition", "right_condition", "choice"])
    k = np.arange(len(frame))
    return frame.assign(participant_id=[f"u{i}" for i in k % 10], prompt_id=[f"p{i}" for i in k % 7])


def three_conditions() -> pd.DataFrame:
    table = {("a", "b"): (30, 20, 10), ("a", "c"): (40, 10, 10), ("b", "c"): (22, 18, 20)}
    choices = np.repeat(["left", "right", "tie"] * 3, np.concatenate(list(table.values())))
    pairs = [pair for pair, n in table.items() for _ in range(sum(n))]
    return spread([(*pair, choice) for pair, choice in zip(pairs, choices, strict=True)])


def by_name(result: Ranking) -> dict[str, Strength]:
    return {c.condition: c for c in result.conditions}


@pytest.mark.data
def test_citations_as_r_bradleyterry2(stats_reference: Path) -> None:
    table = pd.read_csv(stats_reference / "bt2_citations.csv")
    rows = [
        (row.player1, row.player2, choice)
        for row in table.itertuples()
        for choice, n in (("left", row.win1), ("right", row.win2))
        for _ in range(n)
    ]
    result = rank_conditions(spread(rows), reference="Biometrika")
    found = by_name(result)
    for name, value, se in (
        ("Comm Statist", -2.9490725, 0.10254534),
        ("JASA", -0.4795698, 0.06058873),
        ("JRSS-B", 0.2689541, 0.07082997),
    ):
        assert found[name].log_strength == pytest.approx(value, abs=5e-8)
        assert found[name].se_model == pytest.approx(se, abs=5e-9)
    assert found["Biometrika"].log_strength == found["Biometrika"].se == 0
    assert (result.tie_parameter, result.order_effect) == (None, None)
    assert any("one order only" in w for w in result.warnings)


def test_three_conditions_as_published() -> None:
    result = rank_conditions(three_conditions(), reference="c")
    found = by_name(result)
    assert (found["a"].log_strength, found["b"].log_strength) == pytest.approx((1.1313639, 0.4278159), abs=5e-8)
    assert (found["a"].se_model, found["b"].se_model) == pytest.approx((0.2643519, 0.2498479), abs=5e-8)
    assert result.tie_parameter == pytest.approx(0.6175808, abs=1e-7)
    assert math.log(result.tie_parameter) == pytest.approx(-0.4819453, abs=5e-8)
    assert result.log_likelihood == pytest.approx(-182.0783, abs=5e-5)
    other = rank_conditions(three_conditions(), reference="c", ties="rao-kupper")
    found = by_name(other)
    assert (found["a"].log_strength, found["b"].log_strength) == pytest.approx((0.9291239, 0.3245064), abs=5e-7)
    assert other.tie_parameter == pytest.approx(1.648405, abs=5e-7)
    assert other.log_likelihood == pytest.approx(-181.8135, abs=5e-5)


def test_baseball_home_advantage(run_r) -> None:
    """The order effect of the home team, in votes with the home team on the left."""
    lines = run_r('data(baseball, package = "BradleyTerry2"); write.csv(baseball, row.names = FALSE)').splitlines()[1:]
    rows = []
    for line in lines:
        home, away, won, lost = (x.strip('"') for x in line.split(","))
        rows += [(home, away, "left")] * int(won) + [(home, away, "right")] * int(lost)
    result = rank_conditions(spread(rows))
    assert result.order_effect == pytest.approx(0.3022607, abs=5e-8)


def test_elo_and_win_probabilities() -> None:
    """Elo gaps of the literature: 27 -> .5388, 106 -> .6480; a difference's win probability is the same number."""
    result = rank_conditions(three_conditions(), reference="c")
    found = by_name(result)
    first = result.differences[0]
    assert (first.first, first.second) == ("a", "b")
    gap = found["a"].elo - found["b"].elo
    assert first.win_probability == pytest.approx(1 / (1 + 10 ** (-gap / 400)), rel=1e-12)
    assert pytest.approx(0.5388, abs=5e-5) == 1 / (1 + 10 ** (-27 / 400))
    assert found["a"].elo == pytest.approx(1.1313639 * 400 / math.log(10), rel=1e-7)


def test_differences_are_those_of_another_reference(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE, left=0.2)
    result = rank_conditions(votes)
    assert len(result.differences) == 10
    for d in result.differences:
        again = by_name(rank_conditions(votes, reference=d.second))[d.first]
        assert d.log_ratio == pytest.approx(again.log_strength, abs=1e-8)
        assert d.se == pytest.approx(again.se, rel=1e-7)
        assert (d.ci_low, d.ci_high) == pytest.approx((again.ci_low, again.ci_high), abs=1e-7)
        assert d.p == pytest.approx(2 * stats.t.sf(abs(d.t), result.df), rel=1e-9)
        assert d.p_holm >= d.p
    assert [c.log_strength for c in result.conditions] == sorted(c.log_strength for c in result.conditions)[::-1]


def test_one_dimension_is_refused_by_a_circle_and_kept_by_a_line(draw_votes, rng: np.random.Generator) -> None:
    circle = spread(
        [
            (a, b, c)
            for a, b in (("a", "b"), ("b", "c"), ("c", "a"))
            for c in ["left"] * 70 + ["right"] * 30 + ["tie"] * 9
        ]
    )
    result = rank_conditions(circle)
    assert result.dimension is not None
    assert result.dimension["df"] == 1
    assert result.dimension["p"] < 0.001
    assert max(abs(p.observed - p.fitted) for p in result.pairs) > 0.15
    fine = rank_conditions(draw_votes(rng, FIVE, sd=0.0)).dimension
    assert fine is not None
    assert (fine["df"], fine["df_error"]) == (6, 19)
    assert fine["p"] > 0.05
    two = rank_conditions(three_conditions().query("left_condition == 'a' and right_condition == 'b'"))
    assert two.dimension is None


def test_dimension_test_holds_its_size_where_the_likelihood_ratio_does_not() -> None:
    """60 null studies in which people and prompts prefer within pairs: chi-squared on the likelihood ratio rejects."""
    rng = np.random.default_rng(5)
    rejected, naive = 0, 0
    pairs = np.array([(a, b) for k, a in enumerate("abcd") for b in "abcd"[k + 1 :]])
    for _ in range(60):
        person, prompt, n = rng.normal(0, 0.7, (30, 6)), rng.normal(0, 0.7, (20, 6)), 1200
        p, i, k = rng.integers(0, 30, n), rng.integers(0, 20, n), rng.integers(0, 6, n)
        left = rng.random(n) < 1 / (1 + np.exp(-person[p, k] - prompt[i, k]))
        ids = {"participant_id": p.astype(str), "prompt_id": i.astype(str), "choice": np.where(left, "left", "right")}
        votes = pd.DataFrame({"left_condition": pairs[k, 0], "right_condition": pairs[k, 1], **ids})
        found = rank_conditions(votes).dimension
        assert found is not None
        rejected += found["p"] < 0.05
        naive += stats.chi2.sf(found["statistic"] * found["df"] * found["design_effect"], found["df"]) < 0.05
    assert rejected <= 10  # .07 x 60 and three standard errors above
    assert naive > 20


def test_two_way_interval_covers_where_the_models_own_does_not(draw_votes) -> None:
    """120 studies; own over other is 0.15 on the log scale before averaging over people and prompts."""
    rng = np.random.default_rng(8)
    covered, naive = 0, 0
    for _ in range(120):
        found = rank_conditions(
            draw_votes(rng, dict.fromkeys(FIVE, 0.0), n_people=25, n_prompts=20, sd=0.4), reference="other"
        )
        own = by_name(found)["own"]
        covered += own.ci_low <= 0 <= own.ci_high
        naive += abs(own.log_strength) <= 1.96 * own.se_model
    assert covered >= 107  # .95 less three Monte Carlo standard errors
    assert naive < covered - 12


def test_populations(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    both, people, items = (
        by_name(rank_conditions(votes, population=Population(*p)))["own"].se
        for p in (("new", "new"), ("new", "these"), ("these", "new"))
    )
    assert both >= max(people, items)
    assert rank_conditions(votes, population=Population("new", "these")).df == 29
    assert rank_conditions(votes, population=Population("these", "new")).df == 19
    few = rank_conditions(votes[votes["participant_id"] < "u004"])
    assert (few.estimand.people, few.estimand.items) == ("these", "new")
    assert any("only 4 participants" in w for w in few.warnings)


def test_refusals(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        rank_conditions(votes, reference="mine")
    with pytest.raises(EstimateError, match="no votes connect a, b with c, d"):
        rank_conditions(spread([("a", "b", "left"), ("b", "a", "left"), ("c", "d", "left"), ("d", "c", "left")]))
    with pytest.raises(EstimateError, match="every vote is a tie"):
        rank_conditions(votes.assign(choice="tie"))
    with pytest.raises(EstimateError, match="1 participants"):
        rank_conditions(votes.assign(participant_id="u"))
    with pytest.raises(EstimateError, match="1 prompts"):
        rank_conditions(votes.assign(prompt_id="p"))
    with pytest.raises(TableError, match="choice"):
        rank_conditions(votes.assign(choice="both"))


def test_a_condition_that_never_loses_is_refused_or_told(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    left, right = votes["left_condition"] == "own", votes["right_condition"] == "own"
    perfect = votes.assign(choice=votes["choice"].mask(left, "left").mask(right, "right"))
    with pytest.raises(EstimateError, match=r"infinite estimate: own never lost to .*--pseudo-wins"):
        rank_conditions(perfect)
    result = rank_conditions(perfect, pseudo_wins=0.5)
    assert result.conditions[0].condition == "own"
    assert 2 < result.conditions[0].log_strength < 9
    assert any("0.5 wins were added" in w for w in result.warnings)
    with pytest.raises(EstimateError, match="infinite"):
        rank_conditions(perfect.assign(choice=perfect["choice"].map({"left": "right", "right": "left", "tie": "tie"})))


def test_only_main_votes_between_two_conditions_count(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    extra = votes.assign(kind="main").iloc[:50]
    more = pd.concat([votes.assign(kind="main"), extra.assign(kind="repeat", left_condition="catch")])
    same = extra.assign(left_condition="own", right_condition="own")
    result = rank_conditions(pd.concat([more, same], ignore_index=True))
    assert result.exclusions.reasons == (("kind is not main", 50), ("the same condition twice", 50))
    assert result.to_json()["conditions"] == rank_conditions(votes).to_json()["conditions"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_properties(draw_votes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = draw_votes(rng, {"a": 0.3, "b": 0.0, "c": -0.2}, n_people=8, n_prompts=7, per_person=25, left=0.2)
    plain = rank_conditions(votes, reference="c")
    first = by_name(plain)
    shuffled = rank_conditions(votes.sample(frac=1, random_state=seed % 1000), reference="c")
    doubled = rank_conditions(pd.concat([votes, votes], ignore_index=True), reference="c")
    swap = {"left": "right", "right": "left", "tie": "tie"}
    mirrored = rank_conditions(
        votes.rename(columns={"left_condition": "right_condition", "right_condition": "left_condition"}).assign(
            choice=votes["choice"].map(swap)
        ),
        reference="c",
    )
    renamed = rank_conditions(votes.replace({"a": "z", "z": "a"}), reference="c")
    for name in "ab":
        for other in (shuffled, doubled, mirrored):
            assert by_name(other)[name].log_strength == pytest.approx(first[name].log_strength, abs=1e-8)
            assert by_name(other)[name].se == pytest.approx(first[name].se, rel=1e-7)
        assert by_name(doubled)[name].se_model == pytest.approx(first[name].se_model / math.sqrt(2), rel=1e-7)
    assert mirrored.order_effect == pytest.approx(-plain.order_effect, abs=1e-8)
    assert by_name(renamed)["z"].log_strength == pytest.approx(first["a"].log_strength, abs=1e-8)
    loser = rank_conditions(votes.assign(choice=votes["choice"].map(swap)), reference="c", order_effect=False)
    winner = rank_conditions(votes, reference="c", order_effect=False)
    for name in "ab":
        assert by_name(loser)[name].log_strength == pytest.approx(-by_name(winner)[name].log_strength, abs=1e-8)


def test_text_and_categories_give_the_same_ranking(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE)
    unused = votes.astype("category")
    unused["left_condition"] = unused["left_condition"].cat.add_categories(["never shown"])
    for one, other in zip(rank_conditions(unused).conditions, rank_conditions(votes).conditions, strict=True):
        assert one.condition == other.condition
        assert (one.log_strength, one.se) == pytest.approx((other.log_strength, other.se), rel=1e-12)


def test_outputs(draw_votes, rng: np.random.Generator) -> None:
    result = rank_conditions(draw_votes(rng, FIVE))
    tables = result.tables()
    assert [len(tables[k]) for k in ("result", "pairs", "differences")] == [5, 10, 10]
    assert "Estimand: log strength" in result.summary()
    assert result.plot().to_dict()["layer"]
