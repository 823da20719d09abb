"""Resampled rankings against single fits, the sandwich, and resampling done vote by vote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.batched_fits import fit_batch
from analysis.cli import main
from analysis.comparisons import comparisons
from analysis.davidson import Counts, Ties, fit_counts, strength_design
from analysis.errors import EstimateError
from analysis.ranking import rank_conditions
from analysis.resampled_ranking import resample_ranking
from analysis.results import Population, Provenance

FIVE = {"own": 0.3, "other": 0.15, "unoptimised": 0.0, "hpsv3": -0.1, "qalign": -0.3}


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper", "none"])
def test_batch_equals_single_fits(draw_votes, rng: np.random.Generator, ties: str) -> None:
    votes = draw_votes(rng, FIVE, left=0.2)
    if ties == "none":
        votes = votes[votes["choice"] != "tie"]
    model: Ties = "rao-kupper" if ties == "rao-kupper" else "davidson"
    counts = comparisons(votes).counts
    design = strength_design(counts, 0, True)
    tables = rng.poisson(counts.votes, (60, *counts.votes.shape)).astype(float)
    start = fit_counts(counts, design, model).parameters
    found = fit_batch(tables, design, model, start)
    for table, row in zip(tables, found, strict=True):
        single = fit_counts(Counts(counts.left, counts.right, table, 5), design, model)
        assert row == pytest.approx(single.parameters, abs=1e-7)
    far = fit_batch(tables, design, model, start + 0.8)
    assert far == pytest.approx(found, abs=1e-7)


def test_tables_without_a_maximum_are_nan(rng: np.random.Generator) -> None:
    left, right = np.array([0, 1, 0]), np.array([1, 2, 2])
    good = np.array([[5.0, 4, 1], [6, 3, 1], [4, 4, 2]])
    perfect = np.array([[9.0, 0, 0], [6, 3, 1], [8, 0, 0]])
    empty = np.array([[5.0, 4, 1], [0, 0, 0], [0, 0, 0]])
    design = strength_design(Counts(left, right, good, 3), 2, False)
    found = fit_batch(np.stack([good, perfect, empty]), design, "davidson", np.array([0.0, 0.0, -1.0]))
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, False]


def test_spread_of_resampled_participants_is_the_one_way_sandwich(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE, n_people=150, n_prompts=30, per_person=30, sd=0.5, left=0.2)
    found = {c.condition: c for c in resample_ranking(votes, rng=rng).conditions}
    sandwich = rank_conditions(votes, population=Population("new", "these"))
    for c in sandwich.conditions:
        resampled = found[c.condition]
        assert resampled.log_strength == pytest.approx(c.log_strength, abs=1e-9)
        if c.condition != sandwich.reference:
            assert resampled.se == pytest.approx(c.se, rel=0.1)  # 1,000 resamples: .022 of Monte Carlo error
            assert resampled.ci_low == pytest.approx(c.ci_low, abs=0.3 * c.se)
            assert resampled.ci_high == pytest.approx(c.ci_high, abs=0.3 * c.se)


def test_prompts_too_are_resampled(draw_votes, rng: np.random.Generator) -> None:
    """With ten prompts that matter, intervals over both are wider; their middle stays."""
    votes = draw_votes(rng, FIVE, n_people=60, n_prompts=10, per_person=40, sd=0.6)
    people = resample_ranking(votes, rng=rng, n_resamples=400)
    both = resample_ranking(votes, rng=rng, n_resamples=400, over="participants-and-prompts")
    assert both.estimand.items == "new"
    assert people.estimand.items == "these"
    for a, b in zip(people.conditions, both.conditions, strict=True):
        assert a.log_strength == b.log_strength
        assert b.se >= a.se
    two_way = {c.condition: c.se for c in rank_conditions(votes).conditions}
    for c in both.conditions:
        if c.condition != both.reference:
            assert 0.9 * two_way[c.condition] < c.se < 1.8 * two_way[c.condition]


def test_resamples_are_those_of_whole_participants(draw_votes, rng: np.random.Generator) -> None:
    """The same draws with tables of votes put together row by row."""
    votes = draw_votes(rng, {"a": 0.3, "b": 0.0, "c": -0.2}, n_people=15, n_prompts=8, left=0.1)
    result = resample_ranking(votes, rng=np.random.default_rng(5), n_resamples=20)
    draws, people = np.random.default_rng(5), sorted(set(votes["participant_id"]))
    strengths = []
    for _ in range(20):
        chosen = draws.integers(0, 15, 15, dtype=np.int32)
        parts = [
            votes[votes["participant_id"] == people[k]].assign(participant_id=f"{j}") for j, k in enumerate(chosen)
        ]
        again = rank_conditions(pd.concat(parts), provenance=Provenance())
        strengths.append({c.condition: c.log_strength for c in again.conditions})
    expected = pd.DataFrame(strengths)
    for c in result.conditions:
        assert c.se == pytest.approx(expected[c.condition].std(), rel=1e-6)
        assert c.ci_low == pytest.approx(expected[c.condition].quantile(0.025), abs=1e-6)


def test_refusals_and_failures_are_told(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, FIVE, n_people=10)
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        resample_ranking(votes, rng=rng, reference="mine")
    left, right = votes["left_condition"] == "own", votes["right_condition"] == "own"
    perfect = votes.assign(choice=votes["choice"].mask(left, "left").mask(right, "right"))
    with pytest.raises(EstimateError, match="infinite estimate"):
        resample_ranking(perfect, rng=rng)
    saved = perfect.copy()
    saved.loc[saved.index[left][0], "choice"] = "right"  # one loss, of one person whom a third of resamples miss
    with pytest.raises(EstimateError, match="resamples have no finite strengths"):
        resample_ranking(saved, rng=rng)
    same = [resample_ranking(votes, rng=np.random.default_rng(1)).to_json() for _ in range(2)]
    assert same[0] == same[1]
    result = resample_ranking(votes, rng=rng)
    assert "percentile intervals" in result.summary()
    assert len(result.to_frame()) == 5


def test_command_resamples_whom_the_population_names(
    draw_votes, rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = draw_votes(rng, FIVE, n_people=20, n_prompts=12)
    path = str(tmp_path / "votes.csv")
    votes.to_csv(path, index=False)

    def printed(*more: str) -> dict:
        assert main(["ranking", path, "--bootstrap", "200", "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    both = printed("--seed", "4")
    expected = resample_ranking(
        votes, rng=np.random.default_rng(4), over="participants-and-prompts", n_resamples=200, provenance=Provenance()
    )
    assert both["conditions"] == expected.to_json()["conditions"]
    assert both["provenance"]["seed"] == 4
    people = printed("--population", "new-people,these-prompts", "--reference", "own")
    assert (people["over"], people["reference"], people["estimand"]["items"]) == ("participants", "own", "these")
    for wrong, told in (
        (["--bootstrap", "5"], "200 or more"),
        (["--bootstrap", "200", "--pseudo-wins", "0.5"], "leave the others out"),
        (["--bootstrap", "200", "--population", "these-people,new-prompts"], "speak for new people"),
    ):
        assert main(["ranking", path, *wrong]) == 2
        assert told in capsys.readouterr().err
