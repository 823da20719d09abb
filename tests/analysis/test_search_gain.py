from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from analysis.errors import EstimateError, TableError
from analysis.optimism import candidate_spread, expected_best, expected_search, shrunken_scores
from analysis.own_other import double_centred, own_other_gap, personal_gain
from analysis.results import Population
from analysis.search_gain import run_icc, search_gain, transfer


@pytest.mark.parametrize(("n", "printed"), [(5, 1.163), (20, 1.867), (50, 2.249), (200, 2.746)])
def test_expected_best_as_published(n: int, printed: float) -> None:
    assert expected_best(n) == pytest.approx(printed, abs=5e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 1000, 100_000])
def test_expected_best_equals_the_integral_of_the_density(n: int) -> None:
    def integrand(x: float) -> float:
        return float(x * n * np.exp(stats.norm.logpdf(x) + (n - 1) * stats.norm.logcdf(x)))

    expected, _ = integrate.quad(integrand, -9, 12, limit=400, points=[0, 2, 4], epsabs=1e-12)
    assert expected_best(n) == pytest.approx(expected, abs=1e-9)
    assert expected_best(2) == pytest.approx(1 / math.sqrt(math.pi))


def simulated_search(rng: np.random.Generator, n: int, m: int, noise: float, searches: int) -> tuple[np.ndarray, ...]:
    """Reported score, true worth and held-out score (8 fresh seeds) of best-of-n; candidates have spread 1."""
    worth = rng.standard_normal((searches, n))
    seeds = rng.standard_normal((searches, 1, m))  # common to all candidates of a search
    score = (worth[..., None] + seeds + noise * rng.standard_normal((searches, n, m))).mean(axis=2)
    best = score.argmax(axis=1)
    rows = np.arange(searches)
    reported = score[rows, best] - seeds[:, 0].mean(axis=1)
    held = worth[rows, best] + noise / math.sqrt(8) * rng.standard_normal(searches)
    return reported, worth[rows, best], held


def test_bias_of_the_best_of_twenty(rng: np.random.Generator) -> None:
    """N = 20, m = 4, sigma = tau: bias .42 +- .03, on held-out seeds 0 +- .03."""
    reported, worth, held = simulated_search(rng, 20, 4, 1.0, 4000)
    expected = expected_search(20, 4, 1.0, 1.0)
    assert expected.bias == pytest.approx(0.42, abs=0.005)
    assert (reported - worth).mean() == pytest.approx(0.42, abs=0.03)
    assert (held - worth).mean() == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("n", "m", "noise", "reported", "true"),
    [(5, 1, 1.0, 1.645, 0.822), (20, 1, 2.0, 4.176, 0.835), (50, 8, 2.0, 2.755, 1.836), (200, 4, 1.0, 3.070, 2.456)],
)
def test_closed_forms(rng: np.random.Generator, n: int, m: int, noise: float, reported: float, true: float) -> None:
    found = expected_search(n, m, 1.0, noise)
    assert (found.reported, found.true) == pytest.approx((reported, true), abs=5.5e-4)
    assert found.bias == pytest.approx(found.reported - found.true)
    seen, worth, _ = simulated_search(rng, n, m, noise, 1500)
    for values, expected in ((seen, reported), (worth, true)):
        assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(1500))
    with pytest.raises(EstimateError, match="spread"):
        expected_search(5, 1, 0.0, 0.0)
    with pytest.raises(EstimateError, match="best of 0"):
        expected_best(0)


def test_spread_of_candidates_and_what_the_best_is_worth(rng: np.random.Generator) -> None:
    """Variances recovered without bias; the shrunken score of the winner is right on average, its mean is not."""
    found, promised, shrunk, worth = [], [], [], []
    for _ in range(800):
        a, s = 1.5 * rng.standard_normal(20), 0.7 * rng.standard_normal(4)
        table = 3 + a[:, None] + s + 2.0 * rng.standard_normal((20, 4))
        one = candidate_spread(table)
        found.append((one.v_candidate, one.v_seed, one.v_noise))
        best = int(table.mean(axis=1).argmax())
        promised.append(table.mean(axis=1)[best] - table.mean())
        shrunk.append(shrunken_scores(table)[best] - table.mean())
        worth.append(a[best] - a.mean())
        assert int(shrunken_scores(table).argmax()) == best or one.v_candidate <= 0
    spread = np.std(found, axis=0) / math.sqrt(800)
    assert (np.abs(np.mean(found, axis=0) - [2.25, 0.49, 4.0]) < 4 * spread).all()
    assert np.mean(promised) - np.mean(worth) > 0.7
    assert np.mean(shrunk) == pytest.approx(np.mean(worth), abs=0.12)
    with pytest.raises(EstimateError, match="two candidates"):
        candidate_spread([[1.0, 2.0]])


def searches(rng: np.random.Generator, users: int = 12, prompts: int = 10, runs: int = 2) -> pd.DataFrame:
    """Gains .8 on average with spreads .3 (user), .4 (prompt), .2 (both), .3 (run); the search promises .5 more."""
    user, prompt, run = (codes.ravel() for codes in np.indices((users, prompts, runs)))
    gain = 0.8 + 0.3 * rng.normal(size=users)[user] + 0.4 * rng.normal(size=prompts)[prompt]
    gain = gain + 0.2 * rng.normal(size=(users, prompts))[user, prompt] + 0.3 * rng.normal(size=len(user))
    base = rng.normal(size=prompts)[prompt]
    held = base + gain
    return pd.DataFrame(
        {
            "condition": "own",
            "user_id": np.char.mod("u%02d", user),
            "prompt_id": np.char.mod("q%02d", prompt),
            "run": run,
            "search_score": held + 0.5 + 0.1 * rng.normal(size=len(user)),
            "heldout_score": held,
            "base_score": base,
        }
    )


def test_gain_and_optimism(rng: np.random.Generator) -> None:
    table = searches(rng)
    found = search_gain(table)
    gain = table["heldout_score"] - table["base_score"]
    optimism = table["search_score"] - table["heldout_score"]
    assert found.gain.estimate == pytest.approx(gain.mean())
    assert found.optimism.estimate == pytest.approx(optimism.mean())
    assert found.gain.ci_low < 0.8 < found.gain.ci_high
    assert found.gain.df == 9
    assert found.inflation == pytest.approx((gain + optimism).mean() / gain.mean())
    assert found.share_gained == (gain > 0).mean()
    assert (found.n_searches, found.n_users, found.n_prompts, found.n_runs) == (240, 12, 10, 2)
    assert "held-out" in found.summary()
    json.dumps(found.to_json(), allow_nan=False)
    assert len(found.to_frame()) == 2
    assert found.plot() is not None


def test_interval_of_the_gain_covers(rng: np.random.Generator) -> None:
    """200 studies; an interval over searches alone would cover far less."""
    covered = naive = 0
    for _ in range(200):
        table = searches(rng)
        found = search_gain(table).gain
        covered += found.ci_low <= 0.8 <= found.ci_high
        gain = (table["heldout_score"] - table["base_score"]).to_numpy()
        naive += abs(gain.mean() - 0.8) <= 1.96 * gain.std(ddof=1) / math.sqrt(len(gain))
    assert covered / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)
    assert naive / 200 < 0.6


def test_conditions_and_searches_for_nobody(rng: np.random.Generator) -> None:
    own = searches(rng)
    everybody = searches(rng, users=1).assign(condition="population", user_id=None)
    table = pd.concat([own, everybody], ignore_index=True)
    with pytest.raises(EstimateError, match="several conditions"):
        search_gain(table)
    found = search_gain(table, condition="population")
    assert found.gain.df == 9
    assert found.estimand.people == "these"
    assert dict(found.exclusions.reasons) == {"another condition": 240}
    assert math.isnan(found.run_icc.icc)
    assert found.run_icc.reason is not None
    with pytest.raises(EstimateError, match="no condition 'x'"):
        search_gain(table, condition="x")
    assert search_gain(own, population=Population("these", "new")).gain.df == 9


def test_bad_tables_are_refused(rng: np.random.Generator) -> None:
    table = searches(rng)
    with pytest.raises(TableError, match="no column base_score"):
        search_gain(table.drop(columns="base_score"))
    with pytest.raises(TableError, match="finite"):
        search_gain(table.assign(search_score=np.nan))
    with pytest.raises(TableError, match="twice"):
        search_gain(table.drop(columns="run"))
    with pytest.raises(TableError, match="all or none"):
        search_gain(table.assign(user_id=table["user_id"].where(table["user_id"] != "u03")))


def test_run_icc_recovers_the_shares(rng: np.random.Generator) -> None:
    """.09, .16, .04, .09 of .38; forty studies, four standard errors."""
    found = []
    for _ in range(40):
        table = searches(rng, users=20, prompts=20)
        one = run_icc((table["heldout_score"] - table["base_score"]).to_numpy(), table["user_id"], table["prompt_id"])
        found.append((one.icc, one.user, one.prompt, one.user_prompt))
    truth = np.array([0.29, 0.09, 0.16, 0.04]) / 0.38
    assert (np.abs(np.mean(found, axis=0) - truth) < 4 * np.std(found, axis=0) / math.sqrt(40)).all()
    single = searches(rng, runs=1)
    none = run_icc(single["heldout_score"] - single["base_score"], single["user_id"], single["prompt_id"])
    assert math.isnan(none.icc)
    assert "runs" in str(none.reason)


def test_transfer_to_a_second_reward(rng: np.random.Generator) -> None:
    table = searches(rng, users=30, prompts=20, runs=1)
    gain = (table["heldout_score"] - table["base_score"]).to_numpy()
    other = 0.4 * gain + 0.2 * rng.normal(size=len(gain))
    found = transfer(gain, other, table["user_id"], table["prompt_id"])
    assert found.estimate == pytest.approx(other.mean() / gain.mean())
    assert found.ci_low < 0.4 < found.ci_high
    assert found.ci_high - found.ci_low < 0.15
    with pytest.raises(EstimateError, match="includes 0"):
        transfer(gain - gain.mean(), other, table["user_id"], table["prompt_id"])


def cross_rewards(rng: np.random.Generator, users: int, personal: float, prompts: int = 6) -> pd.DataFrame:
    """Images good for everybody, generous models, and `personal` more under the own model."""
    u, v, q = (codes.ravel() for codes in np.indices((users, users, prompts)))
    value = rng.normal(0, 1, users)[u] + rng.normal(0, 1, users)[v] + personal * (u == v)
    value = value + rng.normal(0, 0.5, (users, users))[u, v] + rng.normal(0, 0.3, len(u))
    ids = {name: np.char.mod("u%02d", codes) for name, codes in (("user_id", u), ("judge_user", v))}
    return pd.DataFrame({**ids, "prompt_id": np.char.mod("q%d", q), "run": 0, "gain": value})


def test_gap_equals_its_definition(rng: np.random.Generator) -> None:
    table = cross_rewards(rng, 7, 0.6)
    wide = table.pivot_table(index="user_id", columns="judge_user", values="gain").to_numpy()
    centred = wide - wide.mean(axis=0) - wide.mean(axis=1)[:, None] + wide.mean()
    off = ~np.eye(7, dtype=bool)
    found = own_other_gap(table, rng=rng)
    assert found.estimate == pytest.approx(np.diag(centred).mean() - centred[off].mean())
    np.testing.assert_allclose(found.matrix, centred, atol=1e-12)
    every = [centred[range(7), list(p)].sum() for p in itertools.permutations(range(7))]
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.array(every) >= np.trace(centred) - 1e-9))
    assert "permutations" in found.summary()
    json.dumps(found.to_json(), allow_nan=False)
    assert len(found.to_frame()) == 49
    assert found.plot() is not None


def test_gap_ignores_what_serves_everybody() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(6, 6))
    moved = wide + 10 * rng.normal(size=(6, 1)) + 10 * rng.normal(size=(1, 6))
    assert personal_gain(moved) == pytest.approx(personal_gain(wide))
    assert double_centred(moved) == pytest.approx(double_centred(wide))
    assert personal_gain(np.eye(6)) == pytest.approx(1)


def test_size_power_and_coverage_of_the_gap(rng: np.random.Generator) -> None:
    """No personal gain: 5 % or less of 100 studies within three errors; a gain of .5: found, covered."""
    rejected = covered = found = 0
    for _ in range(100):
        rejected += own_other_gap(cross_rewards(rng, 6, 0.0, 2), rng=rng).p <= 0.05
        with_gain = own_other_gap(cross_rewards(rng, 12, 0.5, 2), rng=rng)
        found += with_gain.p <= 0.05
        covered += with_gain.ci_low <= 0.5 <= with_gain.ci_high
    assert rejected / 100 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)
    assert found / 100 > 0.7
    assert covered / 100 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)


def test_incomplete_rewards_are_refused(rng: np.random.Generator) -> None:
    table = cross_rewards(rng, 6, 0.5)
    with pytest.raises(EstimateError, match="1 of 216 combinations"):
        own_other_gap(table.iloc[1:], rng=rng)
    with pytest.raises(EstimateError, match="3 or more"):
        own_other_gap(table[table["user_id"] < "u02"], rng=rng)
    with pytest.raises(TableError, match="no column reward"):
        own_other_gap(table, rng=rng, value="reward")
    nobody = pd.concat([table, table.assign(user_id=None)], ignore_index=True)
    found = own_other_gap(nobody, rng=rng)
    assert dict(found.exclusions.reasons) == {"a search for nobody": len(table)}
    few = own_other_gap(cross_rewards(rng, 4, 0.5), rng=rng)
    assert any("only 4 users" in w for w in few.warnings)
    assert few.estimand.people == "these"
