"""Side, fatigue and carry-over against least squares, brute force over all orders, and planted effects."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main
from analysis.clusters import cluster_mean
from analysis.errors import EstimateError
from analysis.order_effects import Effect, OrderEffects, session_effects

THREE = {"a": 0.4, "b": 0.0, "c": -0.3}


def effect(result: OrderEffects, start: str) -> Effect:
    return next(
        e for e in (result.side, *result.fatigue, result.carry_over) if e is not None and e.name.startswith(start)
    )


def test_side_is_the_intercept_of_least_squares(draw_votes, rng: np.random.Generator) -> None:
    sm = pytest.importorskip("statsmodels.api")
    votes = draw_votes(rng, THREE, n_people=12, n_prompts=10, left=0.4)
    y = votes["choice"].map({"left": 1.0, "right": 0.0, "tie": 0.5}) - 0.5
    columns = [(votes["left_condition"] == c).astype(float) - (votes["right_condition"] == c) for c in "bc"]
    X = np.column_stack([np.ones(len(votes)), *columns])
    groups = np.column_stack([pd.factorize(votes[c])[0] for c in ("participant_id", "prompt_id")])
    fit = sm.OLS(y.to_numpy(), X).fit()
    result = session_effects(votes)
    assert result.side.estimate == pytest.approx(fit.params[0], rel=1e-9)
    influence = len(y) * (X @ np.linalg.inv(X.T @ X)[:, 0]) * fit.resid
    direct = cluster_mean(fit.params[0] + influence, groups[:, 0], groups[:, 1])
    assert result.side.se == pytest.approx(direct.se, rel=1e-9)
    two_way = sm.OLS(y.to_numpy(), X).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True})
    combined = direct.variances[0] + direct.variances[1] - direct.variances[2]
    n, k = X.shape  # statsmodels scales by (n - 1) / (n - k)
    assert np.sqrt(combined * (n - 1) / (n - k)) == pytest.approx(two_way.bse[0], rel=1e-9)


def test_conditions_on_one_side_are_no_side_effect(rng: np.random.Generator) -> None:
    """The better condition stands on the left three times in four; answers do not care for sides."""
    n = 4000
    better_left = rng.random(n) < 0.75
    won = rng.random(n) < 0.7
    votes = pd.DataFrame(
        {
            "participant_id": [f"u{k}" for k in np.arange(n) % 40],
            "prompt_id": [f"p{k}" for k in rng.integers(0, 25, n)],
            "left_condition": np.where(better_left, "good", "bad"),
            "right_condition": np.where(better_left, "bad", "good"),
            "choice": np.where(better_left == won, "left", "right"),
        }
    )
    result = session_effects(votes)
    assert (votes["choice"] == "left").mean() > 0.58
    assert result.side.ci_low < 0 < result.side.ci_high
    assert result.thirds == ()
    assert any("no column order" in w for w in result.warnings)


def planted(rng: np.random.Generator, left: float = 0.0, tired: float = 0.0, repeat: float = 0.0) -> pd.DataFrame:
    """30 people x 30 votes: the left gains, ties grow over the session, the last side is repeated."""
    rows = []
    for p in range(30):
        before = 0
        for k in range(30):
            left_a = rng.random() < 0.5
            d = left + repeat * before + 0.3 * (1 if left_a else -1)
            if rng.random() < 0.1 + tired * k / 30:
                choice, before = "tie", 0
            else:
                choice = "left" if rng.random() < 1 / (1 + np.exp(-d)) else "right"
                before = 1 if choice == "left" else -1
            sides = ("a", "b") if left_a else ("b", "a")
            rows.append((f"u{p}", f"p{rng.integers(20)}", *sides, choice, k, 3000 * np.exp(-tired * k / 30)))
    names = ["participant_id", "prompt_id", "left_condition", "right_condition", "choice", "order", "response_ms"]
    return pd.DataFrame(rows, columns=names)


def test_planted_effects_are_found_and_only_they() -> None:
    rng = np.random.default_rng(4)
    nothing = [session_effects(planted(rng)) for _ in range(40)]
    for name in ("left chosen", "left chosen, last", "ties", "same side"):
        assert sum(effect(r, name).p < 0.05 for r in nothing) <= 6  # .05 x 40 and three Monte Carlo errors
    side = session_effects(planted(rng, left=0.5)).side
    assert side.p < 0.001
    assert side.ci_low < 0.12 < side.ci_high  # logistic slope .25 at most
    tired = session_effects(planted(rng, tired=0.5))
    assert effect(tired, "ties").estimate == pytest.approx(1 / 3, abs=0.12)
    assert effect(tired, "ties").p < 0.001
    assert effect(tired, "log response time").estimate == pytest.approx(-1 / 3, abs=0.02)
    rates = [t.tie_rate for t in tired.thirds]
    assert rates == sorted(rates)
    assert [t.n_votes for t in tired.thirds] == [300, 300, 300]
    again = effect(session_effects(planted(rng, repeat=0.8)), "same side")
    assert again.estimate > 0.15
    assert again.p < 0.001
    assert effect(session_effects(planted(rng, repeat=-0.8)), "same side").estimate < -0.15


def test_carry_over_moments_are_those_of_all_orders() -> None:
    """Mean and variance of the lag-one sum over all 720 orders of six answers, and of two people together."""
    answers = {"u": "LLLRRL", "v": "RRRLRL"}

    def lagged(sequence: str) -> float:
        d = np.array([c == "L" for c in sequence], dtype=float)
        d -= d.mean()
        return float((d[1:] * d[:-1]).sum())

    rows = [
        (person, f"p{k}", *(("a", "b") if k % 2 else ("b", "a")), {"L": "left", "R": "right"}[c], k)
        for person, sequence in answers.items()
        for k, c in enumerate(sequence)
    ]
    names = ["participant_id", "prompt_id", "left_condition", "right_condition", "choice", "order"]
    found = effect(session_effects(pd.DataFrame(rows, columns=names)), "same side")
    sums = [np.array([lagged("".join(o)) for o in itertools.permutations(s)]) for s in answers.values()]
    expected, sd = sum(s.mean() for s in sums), np.sqrt(sum(s.var() for s in sums))
    observed = sum(lagged(s) for s in answers.values())
    assert found.t == pytest.approx((observed - expected) / sd, rel=1e-10)


def test_row_order_and_mirrored_sides(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, THREE, n_people=12, n_prompts=10, left=0.3)
    plain = session_effects(votes)
    shuffled = session_effects(votes.sample(frac=1, random_state=2))
    swap = {"left": "right", "right": "left", "tie": "tie"}
    renamed = votes.rename(columns={"left_condition": "right_condition", "right_condition": "left_condition"})
    mirrored = session_effects(renamed.assign(choice=votes["choice"].map(swap)))
    for e in (plain.side, *plain.fatigue):
        assert effect(shuffled, e.name).t == pytest.approx(e.t, rel=1e-8)
        sign = 1 if e.name.startswith("ties") else -1
        assert effect(mirrored, e.name).estimate == pytest.approx(sign * e.estimate, abs=1e-12)
    assert plain.carry_over is not None
    assert effect(mirrored, "same side").t == pytest.approx(plain.carry_over.t, rel=1e-9)
    assert effect(shuffled, "same side").t == pytest.approx(plain.carry_over.t, rel=1e-9)


def test_sessions_come_before_order_within_them(draw_votes, rng: np.random.Generator) -> None:
    votes = draw_votes(rng, THREE, n_people=8, n_prompts=10)
    two = votes.assign(session=np.where(votes["order"] < 15, 1, 2), order=votes["order"] % 15)
    assert session_effects(two).to_json()["fatigue"] == session_effects(votes).to_json()["fatigue"]


def test_refusals_and_command(
    draw_votes, rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = draw_votes(rng, THREE, n_people=8, n_prompts=8)
    forward = votes["left_condition"] < votes["right_condition"]
    with pytest.raises(EstimateError, match="one order only"):
        session_effects(votes[forward])
    votes.to_csv(tmp_path / "votes.csv", index=False)
    assert main(["order-effects", str(tmp_path / "votes.csv"), "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"side", "thirds", "fatigue", "carry_over"} <= set(printed)
    assert len(pd.read_csv(tmp_path / "out" / "thirds.csv")) == 3
    assert main(["order-effects", str(tmp_path / "votes.csv")]) == 0
    assert "Order effects" in capsys.readouterr().out
