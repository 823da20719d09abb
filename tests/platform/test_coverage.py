"""The whole chain of a study, redrawn many times: does the reported interval hold what is true?

People, prompts, models, trials and votes are drawn anew for every seed; the truth comes from 100,000 fresh people.
Votes are analysed as in every study: mean, two-way clustered variance, t with the smaller number of clusters.
"""

import numpy as np
import pandas as pd
import pytest

from analysis.win_rates import win_rate
from beholder.simulate import Settings, World
from beholder.simulate.redraw import RedrawPlan, coverage, redraw, study_votes, true_win_rates, win_probabilities
from beholder.simulate.votes import vote_probabilities

AGAINST = ("other", "population", "statistics", "unoptimised")


@pytest.fixture(scope="module")
def world() -> World:
    return World(1, Settings())


def interval(votes: pd.DataFrame, against: str) -> tuple[float, float, float]:
    found = win_rate(votes, focal="own", against=against)
    return found.estimate, found.ci_low, found.ci_high


def truth_of(world: World, plan: RedrawPlan, people: int) -> dict[str, float]:
    rates = true_win_rates(world, plan, np.random.default_rng(9), people)
    assert all(se < 0.008 for _, se in rates.values())
    return {name: rate for name, (rate, _) in rates.items()}


def test_true_win_rate_of_a_small_study_against_counting(world):
    """`win_probabilities` against a loop over people, prompts and opponents."""
    plan = RedrawPlan(people=5, prompts=3, candidates=6)
    study = redraw(world, plan, np.random.default_rng(0))
    for against in ("other", "population"):
        found = win_probabilities(study, against)
        for u in range(5):
            for i in range(3):
                mine = study.utility[u, i, study.picks["own"][u, i]]
                others = [study.picks["own"][v, i] for v in range(5) if v != u]
                shown = others if against == "other" else [study.picks[against][i]]
                chances = []
                for pick in shown:
                    ahead = vote_probabilities(mine, study.utility[u, i, pick], world.settings)
                    behind = vote_probabilities(study.utility[u, i, pick], mine, world.settings)
                    chances += [ahead[0] + ahead[1] / 2, behind[2] + behind[1] / 2]
                assert found[u, i] == pytest.approx(np.mean(chances))


def test_strangers_images_are_no_better_than_other_peoples(world):
    """An A/A study: everybody's "own" image was chosen for somebody else."""
    rate, se = true_win_rates(world, RedrawPlan(strangers=True), np.random.default_rng(2), 20_000)["other"]
    assert rate == pytest.approx(0.5, abs=4 * se)


def test_steering_helps_people_in_this_world(world):
    """Own images beat other people's and the bare prompt; other people's are nearer than the bare prompt is."""
    truth = truth_of(world, RedrawPlan(), 10_000)
    assert 0.53 < truth["other"] < truth["unoptimised"] < 0.9


def test_a_redrawn_study_is_a_table_of_votes(world):
    plan = RedrawPlan()
    rng = np.random.default_rng(4)
    votes = study_votes(redraw(world, plan, rng), plan, rng)
    assert len(votes) == plan.people * plan.design.trials
    assert set(votes["choice"]) == {"left", "right", "tie"}


def test_a_planted_effect_is_found_and_covered_in_twenty_studies(world):
    plan = RedrawPlan()
    table = coverage(world, plan, range(20), truth_of(world, plan, 10_000), interval).set_index("against")
    row = table.loc["other"]
    assert row["mean_estimate"] == pytest.approx(row["truth"], abs=4 * row["sd_estimate"] / np.sqrt(20))
    assert row["covered"] >= 0.85  # 17 of 20: chance .984 at a coverage of .95
    assert row["mean_estimate"] - 0.5 > 4 * row["sd_estimate"] / np.sqrt(20)
    assert row["rejected"] >= 0.2  # a study of this size has a power of about .55: fewer than 4 of 20 has chance .0002


def test_nothing_is_found_in_twenty_studies_without_an_effect(world):
    table = coverage(world, RedrawPlan(strangers=True), range(20), {"other": 0.5}, interval)
    assert table["rejected"].item() <= 0.15  # 3 of 20: chance .984 at 5 %


@pytest.mark.slow
def test_intervals_cover_in_two_hundred_studies(world):
    """At least 90 %: a true coverage of 95 % falls below it with chance .1 %."""
    plan = RedrawPlan()
    table = coverage(world, plan, range(1_000, 1_200), truth_of(world, plan, 100_000), interval).set_index("against")
    assert (table["studies"] == 200).all()
    assert table.loc["other", "covered"] >= 0.90
    assert table.loc[list(AGAINST), "covered"].min() >= 0.90
    bias = (table["mean_estimate"] - table["truth"]) / (table["sd_estimate"] / np.sqrt(200))
    assert bias.abs().max() < 4


@pytest.mark.slow
def test_false_alarms_in_two_hundred_studies_without_an_effect(world):
    """At most 7 % (the limit of the acceptance suite); the yoked design makes the two-way test conservative."""
    table = coverage(world, RedrawPlan(strangers=True), range(2_000, 2_200), {"other": 0.5}, interval)
    assert table["rejected"].item() <= 0.07
    assert table["covered"].item() >= 0.90
