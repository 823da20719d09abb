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
from statsmodels.genmod import cov_struct, families
from statsmodels.genmod.generalized_estimating_equations import GEE

from analysis.cli import main
from analysis.clusters import cluster_mean
from analysis.errors import EstimateError
from analysis.logistic import crossed_logistic, fit_crossed, marginal_rate
from analysis.results import Provenance

REFERENCE = 1e-4
"""Relative, to lme4 run until its inner and outer iterations stand still."""

LME4_STOPS_EARLY = 5e-4
"""Relative, to lme4 with its default tolerances: its own numbers move by as much when they are tightened."""

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


VERBAGG_DEFAULT = (0.19925722, 0.0574084, 0.3206026, -1.0586394, -2.1050513, -1.0552867, 1.339536, 0.495249)
"""Intercept, Anger, male, scold, shout, self, and both spreads as lme4 prints them, stopping at its defaults."""

VERBAGG_TIGHT = (0.19902872, 0.05743039, 0.32071047, -1.05878673, -2.1053874, -1.05545979, 1.33970891, 0.49530247)
"""The same by `glmerControl(tolPwrss = 1e-13, optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))`."""


@pytest.mark.filterwarnings("ignore:The 'float_precision' argument")
def test_verbal_aggression_as_lme4() -> None:
    """7,584 answers of 316 people to 24 items; lme4's estimates, and where its published ones stop short."""
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
    names = ("Anger", "male", "scold", "shout", "self")
    for tolerance, values in ((REFERENCE, VERBAGG_TIGHT), (LME4_STOPS_EARLY, VERBAGG_DEFAULT)):
        _, *fixed, sd_id, sd_item = values
        assert [fit.coefficients[name] for name in names] == pytest.approx(fixed, rel=tolerance)
        assert (fit.sds["id"], fit.sds["item"]) == pytest.approx((sd_id, sd_item), rel=tolerance)
    assert fit.log_likelihood == pytest.approx(-4075.7, abs=0.05)
    assert fit.log_likelihood == pytest.approx(-4075.69985988, rel=1e-8)

    X = np.column_stack([np.ones(len(data)), *(data[name] for name in names)])
    groups = tuple(pd.factorize(data[name])[0] for name in ("id", "item"))
    at = {}
    ours = (fit.coefficients["(Intercept)"], *(fit.coefficients[n] for n in names), fit.sds["id"], fit.sds["item"])
    for name, values in (("ours", ours), ("tight", VERBAGG_TIGHT), ("default", VERBAGG_DEFAULT)):
        at[name] = laplace(data["y"].to_numpy(), X @ values[:6], groups, (values[6], values[7]))
    assert fit.log_likelihood == pytest.approx(at["ours"], abs=1e-5)
    assert at["ours"] == pytest.approx(at["tight"], abs=1e-6)  # the same maximum
    assert at["default"] < min(at["ours"], at["tight"]) - 3e-6  # short of it


OHIO = {
    0: (237, 10, 15, 4, 16, 2, 7, 3, 24, 3, 3, 2, 6, 2, 5, 11),
    1: (118, 6, 8, 2, 11, 1, 6, 4, 7, 3, 3, 1, 4, 2, 4, 7),
}
"""Children by their mother's smoking and by wheezing at 7, 8, 9, 10 years, 0000 to 1111 (Ware et al. 1984)."""


def test_one_way_clusters_of_wheezing_children_as_geepack() -> None:
    """Generalised estimating equations, exchangeable, as R's geepack prints them; their sandwich is our cluster mean's.

    They know one kind of cluster only, which is why nothing here rests on them.
    """
    rows = [
        (child, age, smoke, pattern >> (1 - age) & 1)
        for child, (smoke, pattern) in enumerate(
            (smoke, pattern) for smoke, counts in OHIO.items() for pattern, n in enumerate(counts) for _ in range(n)
        )
        for age in (-2, -1, 0, 1)
    ]
    child, age, smoke, wheezed = np.array(rows).T
    X = np.column_stack([np.ones(len(rows)), age, smoke, age * smoke]).astype(float)
    model = GEE(wheezed, X, child, family=families.Binomial(), cov_struct=cov_struct.Exchangeable())
    fit = model.fit(ctol=1e-10)
    assert fit.params == pytest.approx([-1.9004952, -0.1412359, 0.3138258, 0.0708318], abs=5e-7, rel=REFERENCE)
    assert fit.bse == pytest.approx([0.1190870, 0.0582009, 0.1878418, 0.0882789], abs=5e-8, rel=REFERENCE)

    p, alpha = fit.fittedvalues, float(model.cov_struct.dep_params)
    working = np.linalg.inv((1 - alpha) * np.eye(4) + alpha)
    children = (child.max() + 1, 4)
    sd = np.sqrt(p * (1 - p))
    D = (X * sd[:, None]).reshape(*children, 4)
    pull = np.einsum("cti,ts,cs->ci", D, working, ((wheezed - p) / sd).reshape(children))
    bread = np.linalg.inv(np.einsum("cti,ts,csj->ij", D, working, D))
    influence = children[0] * pull @ bread
    nobody = np.arange(children[0])
    for k in range(4):
        variance = cluster_mean(influence[:, k], nobody, nobody).variances[0]
        assert math.sqrt(variance * (1 - 1 / children[0])) == pytest.approx(fit.bse[k], rel=1e-6)


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
    assert rate == pytest.approx(0.5617068, abs=5e-8)
    assert math.log(rate / (1 - rate)) == pytest.approx(0.2480919, abs=5e-8)
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


def test_small_studies_give_finite_numbers_or_a_reason() -> None:
    """Few and lopsided votes, where the likelihood has no inner maximum or no curvature."""
    rng, refused = np.random.default_rng(8), 0
    for _ in range(40):
        people, prompts, n = rng.integers(2, 6), rng.integers(2, 6), rng.integers(6, 30)
        votes = pd.DataFrame(
            {
                "participant_id": rng.integers(0, people, n).astype(str),
                "prompt_id": rng.integers(0, prompts, n).astype(str),
                "left_condition": np.where(left := rng.random(n) < 0.5, "own", "other"),
                "right_condition": np.where(left, "other", "own"),
                "choice": np.where(rng.random(n) < rng.choice([0.1, 0.5, 0.95]), "left", "right"),
            }
        )
        try:
            found = crossed_logistic(votes, "own", "other")
        except EstimateError:
            refused += 1
            continue
        assert all(math.isfinite(x) for x in (found.log_odds, found.se, found.p, found.ci_low, found.ci_high))
    assert 0 < refused < 40
