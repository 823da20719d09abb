"""The crossed logistic model against R lme4, an independent Laplace approximation, quadrature and simulated truth."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import mixedlm
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from analysis.cli import main
from analysis.errors import EstimateError
from analysis.logistic import crossed_logistic, fit_crossed, marginal_rate
from analysis.results import Provenance

LME4_STOPS_EARLY = 5e-4
"""Relative: lme4 evaluates the weights of Laplace's determinant one inner step early (see the test of the maximum)."""

LME4_CURVATURE = 5e-3
"""Relative, of standard errors: both sides difference their own approximation of the likelihood twice."""

TWO = {"own": 0.5, "other": 0.0}


def laplace(y: np.ndarray, fixed: np.ndarray, groups: tuple[np.ndarray, np.ndarray], sds: tuple[float, float]) -> float:
    """Laplace's log-likelihood with dense matrices, straight from its definition."""
    Z = np.hstack([sd * np.eye(g.max() + 1)[g] for g, sd in zip(groups, sds, strict=True)])
    u = np.zeros(Z.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-(fixed + Z @ u)))
        H = (Z * (p * (1 - p))[:, None]).T @ Z + np.eye(len(u))
        u += np.linalg.solve(H, Z.T @ (y - p) - u)
    eta = fixed + Z @ u
    p = 1 / (1 + np.exp(-eta))
    H = (Z * (p * (1 - p))[:, None]).T @ Z + np.eye(len(u))
    return float((y * eta - np.logaddexp(0, eta)).sum() - u @ u / 2 - np.linalg.slogdet(H)[1] / 2)


@pytest.mark.filterwarnings("ignore:The 'float_precision' argument")
def test_verbal_aggression_as_lme4() -> None:
    """7,584 answers of 316 people to 24 items; estimates published by lme4."""
    data = mixedlm.load_verbagg().assign(y=lambda d: (d["r2"] == "Y").astype(float))
    dummies = {
        "male": data["Gender"] == "M",
        "scold": data["btype"] == "scold",
        "shout": data["btype"] == "shout",
        "self": data["situ"] == "self",
    }
    for name, column in dummies.items():
        data[name] = column.astype(float)
    fit = fit_crossed(data, "y ~ Anger + male + scold + shout + self + (1|id) + (1|item)", ("id", "item"))
    published = {
        "Anger": 0.0574084,
        "male": 0.3206026,
        "scold": -1.0586394,
        "shout": -2.1050513,
        "self": -1.0552867,
    }
    for name, value in published.items():
        assert fit.coefficients[name] == pytest.approx(value, rel=LME4_STOPS_EARLY)
    assert fit.sds["id"] == pytest.approx(1.339536, rel=LME4_STOPS_EARLY)
    assert fit.sds["item"] == pytest.approx(0.495249, rel=LME4_STOPS_EARLY)
    assert fit.log_likelihood == pytest.approx(-4075.7, abs=0.05)

    X = np.column_stack([np.ones(len(data)), *(data[name] for name in published)])
    groups = tuple(pd.factorize(data[name])[0] for name in ("id", "item"))
    ours = X @ [fit.coefficients["(Intercept)"], *(fit.coefficients[name] for name in published)]
    at_ours = laplace(data["y"].to_numpy(), ours, groups, (fit.sds["id"], fit.sds["item"]))
    theirs = X @ [0.19925722, *published.values()]
    at_theirs = laplace(data["y"].to_numpy(), theirs, groups, (1.339536, 0.495249))
    assert fit.log_likelihood == pytest.approx(at_ours, abs=1e-5)
    assert at_ours >= at_theirs


def test_study_as_lme4(draw_votes, run_r, rng: np.random.Generator, tmp_path: Path) -> None:
    votes = draw_votes(rng, TWO, n_people=25, n_prompts=15, sd=0.4, left=0.3)
    result = crossed_logistic(votes, "own", "other")
    decided = votes[votes["choice"] != "tie"]
    own_left = decided["left_condition"] == "own"
    won = own_left == (decided["choice"] == "left")
    frame = decided.assign(y=won.astype(int), side=np.where(own_left, 0.5, -0.5))
    frame.to_csv(tmp_path / "votes.csv", index=False)
    text = run_r(
        f'suppressMessages(library(lme4)); d <- read.csv("{tmp_path / "votes.csv"}");'
        "m <- glmer(y ~ side + (1|participant_id) + (1|prompt_id), d, binomial);"
        "n <- glmer(y ~ 0 + side + (1|participant_id) + (1|prompt_id), d, binomial);"
        "s <- attr(VarCorr(m)$participant_id, 'stddev'); w <- attr(VarCorr(m)$prompt_id, 'stddev');"
        "cat(sprintf('%.10f', c(fixef(m), sqrt(diag(as.matrix(vcov(m)))), s, w, 2 * (logLik(m) - logLik(n)))))"
    )
    beta, gamma, se, gamma_se, sd_people, sd_prompts, ratio = map(float, text.split())
    assert (result.log_odds, result.side) == pytest.approx((beta, gamma), rel=LME4_STOPS_EARLY)
    assert (result.se, result.side_se) == pytest.approx(
        (se, gamma_se), rel=5e-3
    )  # lme4's curvature is of its own weights
    assert (result.sd_participant, result.sd_prompt) == pytest.approx((sd_people, sd_prompts), rel=1e-3)
    assert result.likelihood_ratio == pytest.approx(ratio, abs=1e-3)
    assert result.n_votes == len(decided)
    assert dict(result.exclusions.reasons)["tie"] == len(votes) - len(decided)


def test_tests_and_interval_follow_from_the_fit(draw_votes, rng: np.random.Generator) -> None:
    result = crossed_logistic(draw_votes(rng, TWO, n_people=20, n_prompts=12), "own", "other", confidence=0.9)
    assert result.df == 11
    assert result.p == pytest.approx(2 * stats.t.sf(abs(result.log_odds / result.se), 11))
    assert result.ci_high == pytest.approx(result.log_odds + stats.t.ppf(0.95, 11) * result.se)
    assert result.p_likelihood_ratio == pytest.approx(stats.chi2.sf(result.likelihood_ratio, 1))
    assert result.win_rate_low < result.win_rate < result.win_rate_high
    expected = stats.norm.cdf(result.log_odds / result.sd_participant)
    assert result.share_above_half == pytest.approx(expected)


def test_marginal_rate() -> None:
    """Quadrature of another kind to eight digits; the usual approximation of the log odds is good to .01."""
    rate = marginal_rate(0.3, 1)
    assert math.log(rate / (1 - rate)) == pytest.approx(0.3 / math.sqrt(1.346), abs=0.011)
    for beta, sd in ((0.3, 1.0), (-1.2, 0.4), (2.0, 1.5)):
        exact, _ = integrate.quad(lambda z, b=beta, s=sd: stats.norm.pdf(z) / (1 + math.exp(-(b + s * z))), -12, 12)
        assert marginal_rate(beta, sd) == pytest.approx(exact, abs=1e-8)
    assert marginal_rate(0.3, 0) == pytest.approx(1 / (1 + math.exp(-0.3)))


def null_study(rng: np.random.Generator) -> tuple[pd.DataFrame, float]:
    """Twenty people on twenty prompts with spreads of .5 and no effect, and the share of wins."""
    p, i = (x.ravel() for x in np.indices((20, 20)))
    logit = 0.5 * rng.normal(size=20)[p] + 0.5 * rng.normal(size=20)[i]
    won = rng.random(400) < 1 / (1 + np.exp(-logit))
    ids = {"participant_id": p.astype(str), "prompt_id": i.astype(str), "choice": np.where(won, "left", "right")}
    return pd.DataFrame({**ids, "left_condition": "own", "right_condition": "other"}), float(won.mean())


def test_swapped_names_change_the_sign() -> None:
    votes, _ = null_study(np.random.default_rng(3))
    found, swapped = (crossed_logistic(votes, *pair) for pair in (("own", "other"), ("other", "own")))
    assert swapped.log_odds == pytest.approx(-found.log_odds, abs=1e-5)
    assert swapped.p == pytest.approx(found.p, abs=1e-4)
    assert found.side is None


@pytest.mark.slow
def test_size_where_the_naive_test_fails() -> None:
    rng = np.random.default_rng(12)
    rejected, naive = 0, 0
    for _ in range(100):
        votes, share = null_study(rng)
        rejected += crossed_logistic(votes, "own", "other", provenance=Provenance()).p < 0.05
        naive += abs(share - 0.5) / 0.025 > 1.96
    assert rejected <= 14  # .07 and three Monte Carlo standard errors
    assert naive > 20


def test_refusals(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, TWO, n_people=8, n_prompts=8)
    with pytest.raises(EstimateError, match="no condition 'mine'"):
        crossed_logistic(votes, "own", "mine")
    with pytest.raises(EstimateError, match="1 participants"):
        crossed_logistic(votes.assign(participant_id="u"), "own", "other")
    own_left = votes["left_condition"] == "own"
    with pytest.raises(EstimateError, match="answers that vary"):
        crossed_logistic(votes.assign(choice=np.where(own_left, "left", "right")), "own", "other")
    with pytest.raises(EstimateError, match="0 votes that are no ties"):
        crossed_logistic(votes.assign(choice="tie"), "own", "other")
    with pytest.raises(EstimateError, match=r"infinite estimate|did not converge"):
        crossed_logistic(votes.assign(choice="left"), "own", "other")  # the side explains everything


def test_zero_spread_is_told() -> None:
    """Every person and prompt answers alike, so both spreads are zero and the model is a plain logit."""
    ids = np.indices((6, 8, 5)).reshape(3, -1)
    votes = pd.DataFrame({"participant_id": ids[0].astype(str), "prompt_id": ids[1].astype(str)})
    votes = votes.assign(left_condition="own", right_condition="other", choice=np.where(ids[2] < 3, "left", "right"))
    result = crossed_logistic(votes, "own", "other")
    assert result.log_odds == pytest.approx(math.log(3 / 2), rel=1e-5)
    assert [w for w in result.warnings if "spread" in w] == [
        "the spread of participants is estimated as zero",
        "the spread of prompts is estimated as zero",
    ]
    assert result.share_above_half == 1


def test_command(draw_votes, rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_votes(rng, TWO, n_people=8, n_prompts=8).to_csv(tmp_path / "votes.csv", index=False)
    call = ["logistic", str(tmp_path / "votes.csv"), "--focal", "own", "--against", "other"]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"log_odds", "se", "ci_low", "ci_high", "df", "t", "p", "likelihood_ratio", "sd_prompt"} <= set(printed)
    assert len(pd.read_csv(io.StringIO((tmp_path / "out" / "result.csv").read_text()))) == 1
    assert main(call) == 0
    assert "Crossed logistic model" in capsys.readouterr().out
