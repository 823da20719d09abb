"""Spread of people's win rates: known truth, none at all, and the moment estimate by its definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.cli import main
from analysis.errors import EstimateError
from analysis.heterogeneity import participant_spread
from analysis.results import Provenance


def study(rng: np.random.Generator, sd: float, mean: float = 0.55, n_people: int = 40, each: int = 20) -> pd.DataFrame:
    """Win rates of people normal around the mean, of prompts with an SD of .08; each vote a new draw."""
    person = rng.normal(mean, sd, n_people)
    prompt = rng.normal(0, 0.08, 30)
    p = np.repeat(np.arange(n_people), each)
    i = rng.integers(0, 30, len(p))
    won = rng.random(len(p)) < np.clip(person[p] + prompt[i], 0.01, 0.99)
    ids = {"participant_id": [f"u{k:02d}" for k in p], "prompt_id": [f"p{k:02d}" for k in i]}
    return pd.DataFrame(
        {**ids, "left_condition": "own", "right_condition": "other", "choice": np.where(won, "left", "right")}
    )


def test_known_spread_is_found_on_average_and_covered() -> None:
    rng = np.random.default_rng(6)
    results = [participant_spread(study(rng, 0.15), "own", provenance=Provenance()) for _ in range(50)]
    variances = np.array([r.v_participant for r in results])
    assert variances.mean() == pytest.approx(0.15**2, abs=3 * variances.std() / np.sqrt(50))
    prompts = np.array([r.sd_prompt**2 for r in results])
    assert prompts.mean() == pytest.approx(0.08**2, abs=3 * prompts.std() / np.sqrt(50) + 5e-4)
    covered = sum(r.ci_low <= 0.15**2 <= r.ci_high for r in results)
    assert covered >= 42
    raw = np.array([r.participants["rate"].var(ddof=1) for r in results])
    assert raw.mean() > 1.4 * 0.15**2  # what counting people's own rates would say


def test_no_spread_is_no_spread() -> None:
    rng = np.random.default_rng(7)
    results = [participant_spread(study(rng, 0.0), "own", provenance=Provenance()) for _ in range(50)]
    variances = np.array([r.v_participant for r in results])
    assert abs(variances.mean()) < 3 * variances.std() / np.sqrt(50)
    assert (variances < 0).any()
    assert all(r.ci_low <= 0 for r in results if r.v_participant <= 0)
    none = next(r for r in results if r.v_participant <= 0)
    assert none.sd_participant == 0
    assert any("no more than by chance" in w for w in none.warnings)
    assert none.participants["shrunken"].to_numpy() == pytest.approx(none.estimate)


def test_variance_is_its_definition(rng: np.random.Generator) -> None:
    """Half the mean squared difference of votes that share nothing, less that of votes of the same person only."""
    votes = study(rng, 0.2, n_people=10, each=8)
    y = (votes["choice"] == "left").to_numpy(float)
    person, prompt = votes["participant_id"].to_numpy(), votes["prompt_id"].to_numpy()
    half = (y[:, None] - y) ** 2 / 2
    same_person, same_prompt = person[:, None] == person, prompt[:, None] == prompt
    neither = half[~same_person & ~same_prompt].mean()
    within = half[same_person & ~same_prompt].mean()
    assert participant_spread(votes, "own").v_participant == pytest.approx(neither - within, rel=1e-10)


def test_rates_are_shrunken_to_the_mean(rng: np.random.Generator) -> None:
    result = participant_spread(study(rng, 0.2), "own")
    people = result.participants
    distance = (people["rate"] - result.estimate).abs()
    assert ((people["shrunken"] - result.estimate).abs() <= distance + 1e-12).all()
    assert np.corrcoef(people["rate"], people["shrunken"])[0, 1] == pytest.approx(1)
    expected = stats.norm.cdf((result.estimate - 0.5) / result.sd_participant)
    assert result.share_above_half == pytest.approx(expected)
    against = participant_spread(study(np.random.default_rng(1), 0.2), "other")
    assert against.v_participant == participant_spread(study(np.random.default_rng(1), 0.2), "own").v_participant


def test_refusals_and_command(rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = study(rng, 0.2, n_people=12)
    with pytest.raises(EstimateError, match="2 participants"):
        participant_spread(votes[votes["participant_id"] < "u02"], "own")
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        participant_spread(votes, "mine")
    votes.to_csv(tmp_path / "votes.csv", index=False)
    call = ["heterogeneity", str(tmp_path / "votes.csv"), "--focal", "own"]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"sd_participant", "sd_prompt", "share_above_half", "ci_low", "ci_high"} <= set(printed)
    assert len(pd.read_csv(tmp_path / "out" / "participants.csv")) == 12
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert main(call) == 0
    assert "differs between people" in capsys.readouterr().out
