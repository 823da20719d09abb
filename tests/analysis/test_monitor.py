from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.betting import asymptotic_sequence, betting_sequence, holm_e, log_capital
from analysis.cli import main
from analysis.errors import EstimateError, TableError
from analysis.monitor import monitor_votes

UNIT = [0.6, 0.7, 0.4, 0.8, 0.55, 0.9, 0.65, 0.5, 0.75, 0.6]
CAPITAL = [1.0, 1.02, 0.99, 1.0494, 1.07415, 1.293138, 1.439708, 1.439708, 1.732483, 1.885585]


def votes_of(means: list[float], prompts: int = 20) -> pd.DataFrame:
    """Each participant sees every prompt once and chooses the focal image in the given share of them."""
    rows = []
    for k, mean in enumerate(means):
        wins = round(mean * prompts)
        for i in range(prompts):
            left = i % 2 == 0
            sides = ("own", "other") if left else ("other", "own")
            rows.append((f"p{k:03d}", f"q{i:02d}", *sides, "left" if (i < wins) == left else "right"))
    return pd.DataFrame(rows, columns=["participant_id", "prompt_id", "left_condition", "right_condition", "choice"])


def test_capital_equals_published_formula() -> None:
    np.testing.assert_allclose(np.exp(log_capital(UNIT, alpha=0.05)), CAPITAL, atol=5e-7)
    result = monitor_votes(votes_of(UNIT), "own", "other")
    np.testing.assert_allclose(result.path, CAPITAL, atol=5e-7)
    assert result.e_value == pytest.approx(1.885585, abs=5e-7)
    assert result.decision == "continue"
    assert result.means == pytest.approx(UNIT)


def test_capital_equals_a_plain_loop_for_another_mean() -> None:
    """Definition written out bet by bet."""
    x, m, alpha = UNIT, 0.3, 0.1
    up = down = 1.0
    seen: list[float] = []
    squares = 0.0
    for t, value in enumerate(x, start=1):
        variance = (0.25 + squares) / t
        stake = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(t + 1)))
        up *= 1 + min(stake, 0.5 / m) * (value - m)
        down *= 1 - min(stake, 0.5 / (1 - m)) * (value - m)
        seen.append(value)
        squares += (value - (0.5 + sum(seen)) / (t + 1)) ** 2
        assert math.exp(log_capital(x, m, alpha=alpha)[t - 1]) == pytest.approx((up + down) / 2, rel=1e-12)


def simulated(rng: np.random.Generator, delta: float, paths: int, people: int = 200) -> np.ndarray:
    """Means of 18 trials of people whose log odds scatter by .5 around delta, shape (paths, people)."""
    p = 1 / (1 + np.exp(-(delta + 0.5 * rng.standard_normal((paths, people)))))
    return rng.binomial(18, p) / 18


def test_false_stops_and_expected_capital(rng: np.random.Generator) -> None:
    """4,000 studies without effect: at most 5 % ever reach 20 (1 % seen), and the capital is no gain on average."""
    ends, stopped = [], 0
    for x in simulated(rng, 0.0, 4000):
        path = log_capital(x, alpha=0.05)
        stopped += path.max() >= math.log(20)
        ends.append(math.exp(path[-1]))
    assert stopped / 4000 <= 0.05
    assert np.mean(ends) <= 1 + 3 * np.std(ends) / math.sqrt(4000)


def test_power_and_time_to_stop(rng: np.random.Generator) -> None:
    """At a win rate of .538: power .64 and .70, 150 and 130 people on average (4,000 studies); here 600."""
    stopped, sharp_stopped, people, sharp_people = [], [], [], []
    for x in simulated(rng, 0.16, 600):
        hits = np.flatnonzero(log_capital(x, alpha=0.05) >= math.log(20))
        stopped.append(len(hits) > 0)
        people.append(hits[0] + 1 if len(hits) else 200)
        sharp = asymptotic_sequence(x, alpha=0.05, t_opt=60)
        out = np.flatnonzero((sharp.low > 0.5) | (sharp.high < 0.5))
        sharp_stopped.append(len(out) > 0)
        sharp_people.append(out[0] + 1 if len(out) else 200)
    se = 3 * math.sqrt(0.64 * 0.36 * (1 / 600 + 1 / 4000))
    assert np.mean(stopped) == pytest.approx(0.638, abs=se)
    assert np.mean(sharp_stopped) == pytest.approx(0.699, abs=se)
    assert np.mean(people) == pytest.approx(150, abs=3 * np.std(people) / math.sqrt(500))
    assert np.mean(sharp_people) == pytest.approx(130, abs=3 * np.std(sharp_people) / math.sqrt(500))


def test_peeking_with_a_t_test_fails(rng: np.random.Generator) -> None:
    """The usual test at each of 39 looks stops falsely in 31 % (4,000 studies), so that nobody puts it back."""
    x = simulated(rng, 0.0, 1000)
    t = np.arange(1, 201)
    mean = x.cumsum(1) / t
    variance = ((x**2).cumsum(1) - t * mean**2) / np.maximum(t - 1, 1)
    z = np.abs(mean - 0.5) / np.sqrt(variance / t + 1e-12)
    looks = np.arange(10, 201, 5) - 1
    assert (z[:, looks] > 1.96).any(axis=1).mean() > 0.25


def test_sequence_is_the_inversion_of_the_capital() -> None:
    """A mean is inside exactly when no capital against it has reached 20; ends are rounded out by one step at most."""
    x = np.random.default_rng(3).beta(3, 2, 60)
    found = betting_sequence(x, alpha=0.05)
    for t in (1, 10, 60):
        inside = [m for m in np.linspace(0.005, 0.995, 199) if log_capital(x[:t], m, alpha=0.05).max() < math.log(20)]
        assert found.low[t - 1] <= inside[0] <= found.low[t - 1] + 0.006
        assert found.high[t - 1] - 0.006 <= inside[-1] <= found.high[t - 1]


def test_sequence_covers_at_every_time(rng: np.random.Generator) -> None:
    """300 studies of 80 people with mean .6: the true mean stays inside throughout in 95 % or more."""
    kept = 0
    for _ in range(300):
        found = betting_sequence(rng.beta(6, 4, 80), alpha=0.05)
        kept += bool(((found.low < 0.6) & (found.high > 0.6)).all())
    assert kept / 300 >= 0.95


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_swapping_labels_mirrors_everything(x: list[float]) -> None:
    mirrored = [1 - value for value in x]
    np.testing.assert_allclose(log_capital(mirrored, alpha=0.05), log_capital(x, alpha=0.05), atol=1e-9)
    here, there = betting_sequence(x, alpha=0.05), betting_sequence(mirrored, alpha=0.05)
    np.testing.assert_allclose(here.low, 1 - there.high, atol=1.1 / 2000)  # ends lie on a grid
    assert np.isnan(here.low).any() or (np.diff(here.low) >= 0).all()


def test_means_that_change_leave_no_interval() -> None:
    drifting = [0.95] * 150 + [0.05] * 400
    found = betting_sequence(drifting, alpha=0.05)
    assert np.isnan(found.low[-1])
    result = monitor_votes(votes_of(drifting), "own", "other")
    assert math.isnan(result.ci_low)
    assert any("changed on the way" in w for w in result.warnings)
    assert result.to_json()["ci_low"] is None


def test_stop_is_kept_after_the_evidence_falls_back() -> None:
    x = [0.8] * 25 + [0.4] * 40
    result = monitor_votes(votes_of(x), "own", "other")
    crossing = next(k for k, e in enumerate(result.path, 1) if e >= 20)
    assert result.stopped_at == crossing
    assert result.decision == "stop"
    assert result.path[-1] < max(result.path)
    four = monitor_votes(votes_of(x), "own", "other", planned=4)
    assert four.alpha_each == 0.0125
    assert four.stopped_at is None or four.stopped_at > crossing
    assert four.ci_low < result.ci_low


def test_e_holm() -> None:
    assert holm_e([40.0, 100.0, 0.5]) == pytest.approx([0.05, 0.03, 1.0])


def test_arrival_orders_participants_by_their_last_vote() -> None:
    votes = votes_of([0.5, 0.8, 0.2], prompts=10)
    last = {"p000": "2026-03-01T12:00:00+00:00", "p001": "2026-02-01T12:00:00Z", "p002": "2026-02-01T15:00:00+02:00"}
    votes["answered_at"] = "2026-01-01T00:00:00Z"
    final = ~votes["participant_id"].duplicated(keep="last")
    votes.loc[final, "answered_at"] = votes.loc[final, "participant_id"].map(last)
    shuffled = votes.sample(frac=1, random_state=2)
    result = monitor_votes(shuffled, "own", "other", arrival="answered_at")
    assert result.participants == ("p001", "p002", "p000")
    assert result.means == pytest.approx((0.8, 0.2, 0.5))
    with pytest.raises(TableError, match="no column"):
        monitor_votes(votes, "own", "other", arrival="when")
    with pytest.raises(TableError, match="ISO 8601"):
        monitor_votes(votes.assign(answered_at="yesterday"), "own", "other", arrival="answered_at")


def test_incomplete_participants_wait() -> None:
    votes = votes_of([0.6, 0.7, 0.4])
    votes = votes[(votes["participant_id"] != "p001") | (votes["prompt_id"] < "q12")]
    told = monitor_votes(votes, "own", "other")
    assert any("12 to 20 votes" in w for w in told.warnings)
    waiting = monitor_votes(votes, "own", "other", votes_each=20)
    assert waiting.participants == ("p000", "p002")
    assert dict(waiting.exclusions.reasons) == {"participant with fewer than 20 votes": 12}
    assert waiting.n_votes == 40
    with pytest.raises(EstimateError, match="most: 20"):
        monitor_votes(votes, "own", "other", votes_each=21)


def test_a_changed_prompt_list_is_told() -> None:
    votes = votes_of([0.5] * 40, prompts=20)
    late = votes["participant_id"] >= "p020"
    swapped = votes["prompt_id"].where(~(late & (votes["prompt_id"] < "q05")), votes["prompt_id"] + "new")
    result = monitor_votes(votes.assign(prompt_id=swapped), "own", "other")
    assert any("10 prompts" in w for w in result.warnings)
    assert not any("prompts were shown" in w for w in monitor_votes(votes, "own", "other").warnings)


def yoked_votes(
    rng: np.random.Generator, people: int, prompts: int, quality: float, yoked: bool = True
) -> pd.DataFrame:
    """Nobody has private taste; images differ in quality. Each person meets `prompts` partners, one on each prompt."""
    good = rng.normal(0, quality, (people, prompts))
    rows = []
    for i in range(prompts):
        pairs = rng.permutation(people).reshape(-1, 2) if yoked else None
        for u in range(people):
            if pairs is None:
                v = (u + 1 + i) % people
            else:
                v = next(int(b if a == u else a) for a, b in pairs if u in (a, b))
            wins = rng.random() < 1 / (1 + math.exp(-(good[u, i] - good[v, i])))
            left = rng.random() < 0.5
            shown = [("own", u), ("other", v)] if left else [("other", v), ("own", u)]
            rows.append(
                (f"p{u}", f"q{i}", shown[0][0], shown[1][0], f"p{shown[0][1]}", f"p{shown[1][1]}",
                 f"i{shown[0][1]}_{i}", f"i{shown[1][1]}_{i}", "left" if wins == left else "right")
            )  # fmt: skip
    return pd.DataFrame(
        rows,
        columns=["participant_id", "prompt_id", "left_condition", "right_condition", "left_source_user",
                 "right_source_user", "left_image_id", "right_image_id", "choice"],
    )  # fmt: skip


def test_yoked_pairs_pass_and_others_are_refused(rng: np.random.Generator) -> None:
    fine = monitor_votes(yoked_votes(rng, 20, 12, 1.0), "own", "other")
    assert fine.estimate == pytest.approx(0.5, abs=0.12)
    assert not any("source users" in w for w in fine.warnings)
    with pytest.raises(EstimateError, match="same pair"):
        monitor_votes(yoked_votes(rng, 20, 12, 1.0, yoked=False), "own", "other")


def test_yoked_pairs_never_stop_falsely(rng: np.random.Generator) -> None:
    """Image quality of SD 1 on the logit and no private taste: what one gains the partner loses (0 of 60 studies)."""
    stops = sum(monitor_votes(yoked_votes(rng, 40, 8, 1.0), "own", "other").decision == "stop" for _ in range(60))
    assert stops <= 3


def test_few_opponents_for_everybody_are_refused(rng: np.random.Generator) -> None:
    votes = yoked_votes(rng, 40, 12, 1.0)
    for side in ("left", "right"):
        other = votes[f"{side}_condition"] == "other"
        votes.loc[other, f"{side}_source_user"] = "s" + (np.arange(other.sum()) % 4).astype(str).astype(object)
    with pytest.raises(EstimateError, match="equal share"):
        monitor_votes(votes, "own", "other")


def test_two_way_interval_says_it_knows_no_stopping() -> None:
    rng = np.random.default_rng(1)
    result = monitor_votes(votes_of(rng.beta(5, 4, 30).tolist()), "own", "other")
    assert result.two_way is not None
    assert "not adjusted for stopping" in str(result.two_way["note"])
    assert result.estimand.items == "these"
    assert "these prompts" in result.summary()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "votes.csv"
    votes_of(UNIT * 4).to_csv(path, index=False)
    call = ["monitor", str(path), "--focal", "own", "--against", "other"]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    wanted = {"e_value", "path", "decision", "ci_low", "ci_high", "provenance", "exclusions", "estimand", "warnings"}
    assert wanted <= set(printed)
    np.testing.assert_allclose(printed["path"][:10], CAPITAL, atol=5e-7)
    assert len(pd.read_csv(tmp_path / "out" / "result.csv")) == 40
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert main(call) == 0
    assert "valid at any time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--alpha", "2"], "alpha"),
        (["--confidence", ".9"], "--alpha"),
        (["--population", "these-people,these-prompts"], "new-people"),
        (["--votes-each", "99"], "99 votes"),
        (["--arrival", "when"], "no column"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], told: str
) -> None:
    path = tmp_path / "votes.csv"
    votes_of(UNIT).to_csv(path, index=False)
    assert main(["monitor", str(path), "--focal", "own", *extra]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
