"""The crossed logistic model of all conditions against R lme4, simulated truth, and the model of two conditions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.cli import main
from analysis.errors import EstimateError
from analysis.logistic_slopes import crossed_strengths
from analysis.multiplicity import holm

REFERENCE = 1e-4
"""Relative, to lme4 whose inner and outer iterations were tightened; both stop at a tolerance of their own."""
CURVATURE = 5e-3
"""Relative, of standard errors: both sides difference their own approximation of the likelihood twice."""

FOUR = {"own": 0.6, "other": 0.2, "population": 0.0, "unoptimised": -0.4}


@pytest.fixture
def votes(draw_votes, rng: np.random.Generator) -> pd.DataFrame:
    return draw_votes(rng, FOUR, n_people=20, n_prompts=14, per_person=50, sd=0.5, left=0.2)


def test_slopes_as_lme4(votes: pd.DataFrame, run_r, tmp_path: Path) -> None:
    found = crossed_strengths(votes)
    decided = votes[votes["choice"] != "tie"]
    frame = pd.DataFrame({"y": (decided["choice"] == "left").astype(int), "side": 1})
    for name in FOUR:
        sides = [(decided[f"{side}_condition"] == name).astype(int) for side in ("left", "right")]
        frame[name] = sides[0] - sides[1]
    frame.assign(u=decided["participant_id"], p=decided["prompt_id"]).to_csv(tmp_path / "v.csv", index=False)
    slopes = "0 + other + own + population + unoptimised"
    text = run_r(
        f'suppressMessages(library(lme4)); d <- read.csv("{(tmp_path / "v.csv").as_posix()}");'
        f"f <- y ~ 0 + side + own + population + unoptimised + ({slopes} || u) + ({slopes} || p);"
        'control <- glmerControl(tolPwrss = 1e-12, optimizer = "bobyqa", optCtrl = list(rhoend = 1e-8, maxfun = 1e5));'
        "m <- suppressMessages(glmer(f, d, binomial, control = control));"
        "sds <- sapply(VarCorr(m), function(v) attr(v, 'stddev'));"
        "cat(sprintf('%.9f', c(fixef(m), sqrt(diag(as.matrix(vcov(m)))), logLik(m), sds)))"
    )
    side, own, population, unoptimised, *rest = map(float, text.split())
    ours = {c.condition: c for c in found.conditions}
    assert found.reference == "other"
    assert found.log_likelihood == pytest.approx(rest[4], abs=1e-4)
    assert found.side == pytest.approx(side, rel=REFERENCE, abs=REFERENCE)
    theirs = {"own": own, "population": population, "unoptimised": unoptimised}
    for k, (name, value) in enumerate(theirs.items(), start=1):
        assert ours[name].log_strength == pytest.approx(value, abs=2 * REFERENCE)
        assert ours[name].se == pytest.approx(rest[k], rel=CURVATURE)
    spreads = [c for name in sorted(FOUR) for c in (ours[name].sd_participant,)]
    spreads += [ours[name].sd_prompt for name in sorted(FOUR)]
    assert sorted(spreads) == pytest.approx(sorted(rest[5:]), abs=2e-3)


def test_differences_follow_from_the_strengths(votes: pd.DataFrame) -> None:
    found = crossed_strengths(votes, reference="population", contrasts=[("own", "other"), ("own", "population")])
    strength = {c.condition: c for c in found.conditions}
    first, second = found.differences
    assert first.estimate == pytest.approx(strength["own"].log_strength - strength["other"].log_strength)
    assert second.estimate == pytest.approx(strength["own"].log_strength)
    assert second.se == pytest.approx(strength["own"].se)
    assert found.df == 13
    assert second.p == pytest.approx(2 * stats.t.sf(abs(second.t), 13))
    assert [d.p_holm for d in found.differences] == pytest.approx(holm([d.p for d in found.differences]))
    assert found.n_votes == (votes["choice"] != "tie").sum()
    assert dict(found.exclusions.reasons)["tie"] == (votes["choice"] == "tie").sum()


def test_another_reference_and_other_names_change_nothing(votes: pd.DataFrame) -> None:
    found = crossed_strengths(votes, contrasts=[("own", "other")])
    renamed = votes.replace({"own": "zzz", "other": "aaa"}).sample(frac=1, random_state=1)
    again = crossed_strengths(renamed, reference="unoptimised", contrasts=[("zzz", "aaa")])
    assert again.log_likelihood == pytest.approx(found.log_likelihood, abs=1e-5)
    assert again.differences[0].estimate == pytest.approx(found.differences[0].estimate, abs=2e-3)
    assert again.differences[0].se == pytest.approx(found.differences[0].se, rel=CURVATURE)


@pytest.mark.slow
def test_truth_is_covered_and_spreads_are_found(draw_votes) -> None:
    """40 studies of spreads .5: own over other .4 lies in the interval of .95, three Monte Carlo errors allowed."""
    rng, covered, spreads = np.random.default_rng(5), 0, []
    for _ in range(40):
        study = draw_votes(rng, FOUR, n_people=30, n_prompts=20, per_person=40, sd=0.5)
        found = crossed_strengths(study, contrasts=[("own", "other")])
        covered += found.differences[0].ci_low <= 0.4 <= found.differences[0].ci_high
        spreads += [c.sd_participant for c in found.conditions]
    assert covered / 40 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 40)
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(0.5, abs=0.06)


def test_a_spread_of_zero_is_named(draw_votes, rng: np.random.Generator) -> None:
    found = crossed_strengths(draw_votes(rng, FOUR, n_people=8, n_prompts=8, per_person=40, sd=0.0))
    assert found.dropped
    assert all(" by p" in term for term in found.dropped)
    assert any("spreads estimated as zero" in text for text in found.warnings)


def test_refusals(votes: pd.DataFrame) -> None:
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        crossed_strengths(votes, reference="mine")
    two = votes[votes["left_condition"].isin(["own", "other"]) & votes["right_condition"].isin(["own", "other"])]
    with pytest.raises(EstimateError, match="2 conditions"):
        crossed_strengths(two)
    with pytest.raises(EstimateError, match="1 participants"):
        crossed_strengths(votes.assign(participant_id="u"))
    wins = np.where(votes["left_condition"] == "own", "left", np.where(votes["right_condition"] == "own", "right", "x"))
    with pytest.raises(EstimateError, match="infinite estimate: own never lost"):
        crossed_strengths(votes.assign(choice=np.where(wins == "x", votes["choice"], wins)))
    apart = pd.concat([two, two.replace({"own": "x", "other": "y"})])
    with pytest.raises(EstimateError, match="no votes connect other, own with x, y"):
        crossed_strengths(apart)


def test_command(votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "votes.csv", tmp_path / "out"
    votes.to_csv(path, index=False)
    call = ["logistic", str(path), "--slopes", "--contrasts", "own:other,own:population"]
    assert main([*call, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(d["first"], d["second"]) for d in printed["differences"]] == [("own", "other"), ("own", "population")]
    assert len(pd.read_csv(out / "conditions.csv")) == 4
    assert (out / "figure.svg").is_file()
    for wrong in (["--slopes", "--focal", "own"], ["--focal", "own"], ["--reference", "own"], []):
        assert main(["logistic", str(path), *wrong]) == 2
        assert "which model?" in capsys.readouterr().err
