"""Exclusion rules: exact chances of streaks, honest people kept, careless ones struck, rules on taste refused."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.errors import UserError
from analysis.plan import AnalysisPlan, ExclusionRules
from analysis.report_protocol import participants_left_out
from analysis.streaks import longest_run, run_p

RULES = {
    "catch_failures": ExclusionRules(catch_failures=2),
    "median_ms_below": ExclusionRules(median_ms_below=400),
    "side_p_below": ExclusionRules(side_p_below=0.001),
    "run_p_below": ExclusionRules(run_p_below=0.001),
    "votes_below": ExclusionRules(votes_below=30),
}


@pytest.mark.parametrize("n", [1, 2, 5, 9, 12])
def test_chance_of_a_run_by_enumeration(n: int) -> None:
    runs = np.array([longest_run(flips) for flips in itertools.product("LR", repeat=n)])
    for length in range(1, n + 2):
        assert run_p(n, length) == pytest.approx(np.mean(runs >= length), abs=1e-12)


def test_longest_run() -> None:
    assert longest_run([]) == 0
    assert longest_run(["left"]) == 1
    assert longest_run(list("LLRLLLRR")) == 3
    assert run_p(40, 20) == pytest.approx(22 * 2**-20, rel=1e-6)
    assert run_p(200, 3) == pytest.approx(1, abs=1e-6)


def people(rng: np.random.Generator, n: int, kind: str) -> pd.DataFrame:
    """40 main trials and 5 catch trials each; tastes range from none to one condition always."""
    taste = rng.normal(0, 2, n)
    p, k = np.repeat(np.arange(n), 45), np.tile(np.arange(45), n)
    catch = k % 9 == 4
    left_own = rng.random(len(p)) < 0.5
    wants_own = rng.random(len(p)) < 1 / (1 + np.exp(-taste[p]))
    choice = np.where(wants_own == left_own, "left", "right")
    choice = np.where(rng.random(len(p)) < 0.1, "tie", choice)
    expected = np.where(rng.random(len(p)) < 0.5, "left", "right")
    choice = np.where(catch, np.where(rng.random(len(p)) < 0.98, expected, "tie"), choice)
    ms = np.exp(rng.normal(7.5, 0.5, n)[p] + rng.normal(0, 0.4, len(p)))
    if kind == "clicks left":
        choice = np.where(catch, expected, "left")
    elif kind == "clicks at random":
        choice = np.where(rng.random(len(p)) < 0.5, "left", "right")
    elif kind == "in blocks":
        choice = np.where(catch, expected, np.where(k < 22, "left", "right"))
    elif kind == "in a hurry":
        ms = ms / 10
    frame = pd.DataFrame(
        {
            "participant_id": [f"u{x:04d}" for x in p],
            "prompt_id": [f"p{x:02d}" for x in k],
            "left_condition": np.where(left_own, "own", "other"),
            "right_condition": np.where(left_own, "other", "own"),
            "choice": choice,
            "kind": np.where(catch, "catch", "main"),
            "expected": np.where(catch, expected, None),
            "order": k,
            "response_ms": ms,
        }
    )
    return frame[frame["order"] < 20] if kind == "leaves early" else frame


@pytest.mark.parametrize("rule", RULES)
def test_honest_people_of_any_taste_are_kept(rule: str) -> None:
    """At most one in a hundred of 1,500 simulated people, three Monte Carlo standard errors above at most."""
    left_out, warnings = participants_left_out(people(np.random.default_rng(3), 1500, "honest"), RULES[rule])
    assert warnings == ()
    assert len(left_out) <= 15 + 3 * np.sqrt(15)
    assert {x.rule for x in left_out} <= {rule}


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("clicks left", "side_p_below"),
        ("clicks left", "run_p_below"),
        ("in blocks", "run_p_below"),
        ("clicks at random", "catch_failures"),
        ("in a hurry", "median_ms_below"),
        ("leaves early", "votes_below"),
    ],
)
def test_careless_people_are_struck(kind: str, rule: str) -> None:
    left_out, _ = participants_left_out(people(np.random.default_rng(4), 100, kind), RULES[rule])
    assert len(left_out) >= 75


def test_blocks_escape_the_share_of_sides() -> None:
    """Why both rules exist: left for half the session, then right, leaves the share of sides at one half."""
    left_out, _ = participants_left_out(people(np.random.default_rng(4), 100, "in blocks"), RULES["side_p_below"])
    assert left_out == ()


def test_rows_in_any_order(rng: np.random.Generator) -> None:
    votes = people(rng, 60, "in blocks")
    shuffled = votes.sample(frac=1, random_state=1)
    assert participants_left_out(votes, RULES["run_p_below"]) == participants_left_out(shuffled, RULES["run_p_below"])
    _, warnings = participants_left_out(votes.drop(columns="order"), RULES["run_p_below"])
    assert warnings == ("rule run_p_below could not be applied: the votes lack order",)


@pytest.mark.parametrize("rule", ["agreement_with_majority", "outlier_raters", "prefers_own", "repeat_consistency"])
def test_rules_that_look_at_taste_cannot_be_written(rule: str) -> None:
    with pytest.raises(UserError, match=rf"exclusions\.{rule}: unknown key.*delete the taste under study"):
        AnalysisPlan.of({"focal": "own", "contrasts": ["own:other"], "exclusions": {rule: 0.5}})
