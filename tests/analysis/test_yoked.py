"""Yoked pairs: by hand, with planted taste, and without any where images of some users are better for everybody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.cli import main
from analysis.clusters import dyadic_mean
from analysis.errors import EstimateError
from analysis.results import Provenance
from analysis.yoked import yoked_effect


def study(
    rng: np.random.Generator, n_people: int, n_prompts: int, taste: float, quality_sd: float, per_prompt: int = 6
) -> pd.DataFrame:
    """For each prompt some pairs of people; both judge the image made for one against that made for the other."""
    quality = rng.normal(0, quality_sd, n_people)
    rows = []
    for i in range(n_prompts):
        order = rng.permutation(n_people)[: 2 * per_prompt]
        for u, v in order.reshape(-1, 2):
            for rater, foreign in ((u, v), (v, u)):
                d = taste + quality[rater] - quality[foreign]
                own_left, own_won = rng.random() < 0.5, rng.random() < 1 / (1 + np.exp(-d))
                sides = (rater, foreign) if own_left else (foreign, rater)
                rows.append(
                    {
                        "participant_id": f"u{rater:02d}",
                        "prompt_id": f"p{i:02d}",
                        "left_condition": "own" if own_left else "other",
                        "right_condition": "other" if own_left else "own",
                        "left_source_user": f"u{sides[0]:02d}",
                        "right_source_user": f"u{sides[1]:02d}",
                        "left_image_id": f"i{i}-{sides[0]}",
                        "right_image_id": f"i{i}-{sides[1]}",
                        "choice": "left" if own_left == own_won else "right",
                    }
                )
    return pd.DataFrame(rows)


def test_by_hand(rng: np.random.Generator) -> None:
    votes = study(rng, 8, 6, 0.8, 0.5, per_prompt=3)
    own_won = (votes["left_condition"] == "own") == (votes["choice"] == "left")
    y = own_won.to_numpy().reshape(-1, 2).sum(axis=1) - 1.0
    result = yoked_effect(votes.sample(frac=1, random_state=1))
    assert (result.n_pairs, result.n_votes, result.n_participants, result.n_prompts) == (18, 36, 8, 6)
    assert result.estimate == pytest.approx(y.mean())
    ids = votes["participant_id"].str[1:].astype(int).to_numpy().reshape(-1, 2)
    prompts = votes["prompt_id"].str[1:].astype(int).to_numpy()[::2]
    assert result.se == pytest.approx(dyadic_mean(y, ids[:, 0], ids[:, 1], prompts).se)
    assert result.p == pytest.approx(2 * stats.t.sf(abs(result.t), 5))
    assert not result.exclusions.reasons


def test_votes_without_their_counterpart_are_counted(rng: np.random.Generator) -> None:
    votes = study(rng, 12, 8, 0.8, 0.5, per_prompt=4)
    extra = votes.iloc[:1].assign(left_image_id="another", prompt_id="p00")
    result = yoked_effect(pd.concat([votes.iloc[1:], extra], ignore_index=True))
    assert dict(result.exclusions.reasons) == {"no vote of the other person on the same pair": 2}
    assert result.n_pairs == len(votes) // 2 - 1


def test_ties_and_repeated_votes_are_averaged(rng: np.random.Generator) -> None:
    votes = study(rng, 12, 8, 0.8, 0.5, per_prompt=4)
    doubled = yoked_effect(pd.concat([votes, votes], ignore_index=True))
    assert (doubled.estimate, doubled.se) == (yoked_effect(votes).estimate, pytest.approx(yoked_effect(votes).se))
    undecided = yoked_effect(votes.assign(choice=votes["choice"].where(votes.index >= 20, "tie")))
    won = ((votes["left_condition"] == "own") == (votes["choice"] == "left")).astype(float)
    won[:20] = 0.5
    assert undecided.estimate == pytest.approx(2 * won.mean() - 1)


def test_quality_alone_is_no_personal_taste() -> None:
    """100 studies in which some users' images are simply better: the effect is 0, whatever own against other says."""
    rng = np.random.default_rng(2)
    results = [yoked_effect(study(rng, 20, 15, 0.0, 1.0), provenance=Provenance()) for _ in range(100)]
    assert sum(r.p < 0.05 for r in results) <= 17  # .09 allowed for the dyadic test, three Monte Carlo errors above
    estimates = np.array([r.estimate for r in results])
    assert abs(estimates.mean()) < 3 * estimates.std() / 10


def test_planted_taste_lies_in_the_interval() -> None:
    """P(own) + P(own) - 1 of equally good images at a log odds of .8 is tanh(.4)."""
    rng = np.random.default_rng(3)
    results = [yoked_effect(study(rng, 20, 15, 0.8, 0.0), provenance=Provenance()) for _ in range(60)]
    covered = sum(r.ci_low <= np.tanh(0.4) <= r.ci_high for r in results)
    assert covered >= 50
    assert sum(r.p < 0.05 for r in results) > 50


def test_refusals(rng: np.random.Generator) -> None:
    votes = study(rng, 8, 6, 0.8, 0.5, per_prompt=3)
    with pytest.raises(EstimateError, match="name no source users"):
        yoked_effect(votes.drop(columns=["left_source_user"]))
    with pytest.raises(EstimateError, match="no pair of images was judged by both"):
        yoked_effect(votes.iloc[::2])
    with pytest.raises(EstimateError, match="1 items"):
        yoked_effect(votes[votes["prompt_id"] == "p00"])


def test_outputs(rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = study(rng, 8, 6, 0.8, 0.5, per_prompt=3)
    result = yoked_effect(votes)
    assert "personalisation effect" in result.summary()
    assert result.to_frame()["n_pairs"].item() == 18
    votes.to_csv(tmp_path / "votes.csv", index=False)
    assert main(["yoked", str(tmp_path / "votes.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimate"] == result.estimate
