from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.cli import main
from analysis.errors import EstimateError
from analysis.pilot import logit_sd, pilot_effects
from analysis.planning import Costs, detectable, formula_power, needed, planned_se, planning_table, power_at
from analysis.power import power_by_simulation
from analysis.simulated_votes import Design, Effects, allocate, answer_probabilities, calibrated, draw_scores, staying


def effects(rate: float, sd: float, **more: float) -> Effects:
    return Effects((rate,), sd, sd, sd, **more)


def test_power_and_size_of_the_reference_study(rng: np.random.Generator) -> None:
    """200 participants, 100 prompts, 20 trials, spreads .4: power .79 +- .04 at .539, size .03 to .07 at .5."""
    design = Design(200, 100, 20)
    assert power_by_simulation(design, effects(0.539, 0.4), rng=rng).power == pytest.approx(0.79, abs=0.04)
    assert 0.03 <= power_by_simulation(design, effects(0.5, 0.4), rng=rng).power <= 0.07


@pytest.mark.parametrize(
    ("design", "rate", "sd", "expected"),
    [
        (Design(6, 18, 90), 0.539, 0.2, 0.16),
        (Design(20, 18, 18), 0.60, 0.4, 0.71),
        (Design(60, 40, 40), 0.539, 0.4, 0.47),
        (Design(100, 40, 20), 0.539, 0.2, 0.77),
    ],
)
def test_published_table(rng: np.random.Generator, design: Design, rate: float, sd: float, expected: float) -> None:
    """Four cells of a table made from 1,000 replicates; here 500, three standard errors of the difference."""
    found = power_by_simulation(design, effects(rate, sd), rng=rng, replicates=500)
    assert found.power == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) * (1 / 500 + 1 / 1000)))


@pytest.mark.parametrize(
    ("sd", "design", "se", "rate"),
    [
        (0.2, Design(100, 40, 20), 0.0146, 0.541),
        (0.4, Design(100, 40, 20), 0.0218, 0.561),
        (0.4, Design(200, 100, 20), 0.0146, 0.541),
        (0.4, Design(6, 18, 90), 0.0518, None),
    ],
)
def test_planning_formula(sd: float, design: Design, se: float, rate: float | None) -> None:
    """Half a unit of the last printed digit; those figures leave the interaction out and take 2.8 SE."""
    without = Effects((0.539,), sd, sd, 0.0)
    assert planned_se(design, without) == pytest.approx(se, abs=5e-5)
    if rate is not None:
        assert 0.5 + 2.8 * planned_se(design, without) == pytest.approx(rate, abs=5e-4)
        assert detectable(design, without) == pytest.approx(2.8 * planned_se(design, without), rel=0.04)
    with_cells = dataclasses.replace(without, sd_interaction=sd)
    cells = design.participants * min(design.trials, design.prompts)
    extra = planned_se(design, with_cells) ** 2 - planned_se(design, without) ** 2
    assert extra == pytest.approx(sd**2 / (16 * cells), rel=1e-6)


@pytest.mark.parametrize("df", [2, 5, 19, 99])
@pytest.mark.parametrize("ncp", [0.0, 1.0, 2.8, 6.0])
def test_formula_is_the_noncentral_t(df: int, ncp: float) -> None:
    critical = stats.t.ppf(0.975, df)
    expected = stats.nct.sf(critical, df, ncp) + stats.nct.cdf(-critical, df, ncp)
    assert power_at(ncp * 0.02, 0.02, df) == pytest.approx(expected, abs=1e-5)


def test_multiple_of_the_standard_error_that_is_detectable() -> None:
    """2.8 with many clusters, 2.9 to 3.0 with twenty."""
    for clusters, low, high in ((400, 2.80, 2.82), (20, 2.9, 3.0)):
        design = Design(clusters, clusters, 20)
        ratio = detectable(design, effects(0.55, 0.3)) / planned_se(design, effects(0.55, 0.3))
        assert low <= ratio <= high


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 0.8), st.floats(0.0, 0.3), st.floats(0.0, 1.5))
def test_marginal_rates_are_those_asked_for(rate: float, ties: float, sd: float) -> None:
    delta, nu = calibrated(rate, ties, sd)

    def mean(which: int) -> float:
        def integrand(z: float) -> float:
            win, tie = answer_probabilities(np.array(delta + sd * z), nu)
            return float(stats.norm.pdf(z) * (tie if which else win + tie / 2))

        return float(integrate.quad(integrand, -9, 9, limit=200)[0])

    assert mean(0) == pytest.approx(rate, abs=1e-6)
    assert mean(1) == pytest.approx(ties, abs=1e-6)


def test_drawn_studies_have_the_rates_and_spreads(rng: np.random.Generator) -> None:
    design = Design(2000, 400, 40)
    asked = Effects((0.6, 0.55), 0.5, 0.3, 0.2, tie_rate=0.15)
    first, second = draw_scores(design, asked, allocate(design, rng), rng)
    assert first.mean() == pytest.approx(0.6, abs=0.01)
    assert second.mean() == pytest.approx(0.55, abs=0.01)
    assert (first == 0.5).mean() == pytest.approx(0.15, abs=0.01)
    people = allocate(design, rng).people
    by_person = [np.bincount(people, y) / design.trials for y in (first, second)]
    # contrasts share the focal condition: true participant effects correlate one half
    cross = np.cov(by_person)[0, 1]
    sd = [logit_sd(cross * 2, rate, 0.15) for rate in (0.6, 0.55)]
    assert np.mean(sd) == pytest.approx(0.5, abs=0.08)


def test_prompts_and_opponents_are_balanced(rng: np.random.Generator) -> None:
    for trials, prompts in ((20, 40), (18, 18), (90, 18), (7, 12)):
        shown = allocate(Design(24, prompts, trials), rng)
        counts = np.bincount(shown.items, minlength=prompts)
        assert counts.max() - counts.min() <= 1
        per_person = np.bincount(shown.people * prompts + shown.items)
        assert per_person.max() <= math.ceil(trials / prompts)
    balanced = allocate(Design(11, 8, 20, "balanced"), rng)
    assert balanced.sources is not None
    assert (balanced.sources != balanced.people).all()
    assert set(np.bincount(balanced.sources)) == {20}


@pytest.mark.parametrize(("people", "trials"), [(3, 4), (6, 18), (9, 20), (40, 12)])
def test_yoked_pairs_are_judged_from_both_sides(rng: np.random.Generator, people: int, trials: int) -> None:
    shown = allocate(Design(people, 10, trials, "yoked"), rng)
    assert shown.sources is not None
    mirrored = Counter(zip(shown.sources.tolist(), shown.people.tolist(), shown.items.tolist(), strict=True))
    assert Counter(zip(shown.people.tolist(), shown.sources.tolist(), shown.items.tolist(), strict=True)) == mirrored
    assert set(np.bincount(shown.people)) == {trials}
    assert (shown.sources != shown.people).all()


def test_those_who_leave_do_their_first_trials(rng: np.random.Generator) -> None:
    design = Design(4000, 20, 10, drop_out=0.3)
    people = allocate(design, rng).people
    done = staying(design, people, rng).reshape(4000, 10)
    assert (np.diff(done.astype(int), axis=1) <= 0).all()
    assert (~done[:, -1]).mean() == pytest.approx(0.3, abs=0.03)
    assert done.sum() == pytest.approx(design.expected_votes, rel=0.02)


def test_source_quality_fools_two_clusters_but_not_the_test_chosen(rng: np.random.Generator) -> None:
    """Opponents from four persons: two-way clusters rejected .19 of true hypotheses; they are refused here."""
    design, quality = Design(20, 20, 20, "few", sources=4), Effects((0.5,), 0.3, 0.3, 0.0, sd_source=0.5)
    with pytest.raises(EstimateError, match="three-way"):
        power_by_simulation(design, quality, rng=rng, test="two-way")
    found = power_by_simulation(design, quality, rng=rng, replicates=400)
    assert found.test == "three-way"
    assert found.power <= 0.05
    balanced = Design(20, 20, 40, "balanced")
    assert power_by_simulation(balanced, quality, rng=rng, replicates=400).power <= 0.03
    dyadic = power_by_simulation(balanced, quality, rng=rng, replicates=400, test="dyadic")
    assert dyadic.power <= 0.077 + 3 * math.sqrt(0.077 * 0.923 / 400)


def test_dyadic_test_finds_more_in_yoked_designs(rng: np.random.Generator) -> None:
    design, quality = Design(30, 20, 20, "yoked"), Effects((0.56,), 0.2, 0.2, 0.0, sd_source=0.5)
    two_way = power_by_simulation(design, quality, rng=rng, replicates=300)
    dyadic = power_by_simulation(design, quality, rng=rng, replicates=300, test="dyadic")
    assert dyadic.power > two_way.power + 0.1
    assert any("source quality" in w for w in two_way.warnings)


def test_several_contrasts_share_alpha_by_holm(rng: np.random.Generator) -> None:
    design = Design(60, 40, 20)
    one = power_by_simulation(design, effects(0.56, 0.2), rng=rng, replicates=500)
    three = power_by_simulation(design, Effects((0.56, 0.6, 0.5), 0.2, 0.2, 0.2), rng=rng, replicates=500)
    assert three.power < one.power
    assert three.formula_power == pytest.approx(formula_power(design, effects(0.56, 0.2), 0.05 / 3))
    assert three.power_all <= min(three.contrasts)
    assert three.power_any >= max(three.contrasts)
    assert three.contrasts[2] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_how_many(rng: np.random.Generator) -> None:
    """The number found has the power asked for, one fewer by the formula does not, and floors are told."""
    design, asked = Design(2, 40, 20), effects(0.539, 0.2)
    by_formula = needed(design, asked, "participants", 0.8)
    assert by_formula is not None
    assert formula_power(dataclasses.replace(design, participants=by_formula), asked) >= 0.8
    assert formula_power(dataclasses.replace(design, participants=by_formula - 1), asked) < 0.8
    assert needed(design, effects(0.539, 0.4), "participants", 0.8) is None
    sought = power_by_simulation(
        Design(100, 40, 20), asked, rng=rng, replicates=500, target=0.8, costs=Costs(participant=4, vote=0.05)
    )
    assert sought.needed is not None
    assert sought.needed.number == pytest.approx(120, abs=25)
    assert sought.needed.power == pytest.approx(0.8, abs=0.06)
    n = sought.needed.number
    assert n is not None
    assert sought.needed.cost == pytest.approx(n * (4 + 20 * 0.05))
    assert sought.cost == pytest.approx(100 * (4 + 20 * 0.05))
    assert f"needs {n} participants" in sought.summary()
    floor = power_by_simulation(Design(100, 40, 20), effects(0.539, 0.4), rng=rng, replicates=20, target=0.8)
    assert floor.needed is not None
    assert floor.needed.number is None
    assert "sets a floor" in floor.summary()


def test_cheapest_designs_come_first() -> None:
    table = planning_table(Design(100, 40, 20), effects(0.539, 0.2), costs=Costs(participant=4, vote=0.05, prompt=1))
    assert (table["cost"].diff().dropna() >= 0).all()
    assert (table["power"] >= 0.8).all()
    first = table.iloc[0]
    assert first["cost"] == pytest.approx(4 * first["participants"] + 0.05 * first["votes"] + first["prompts"])


def test_answers_that_do_not_vary_count_as_not_found(rng: np.random.Generator) -> None:
    found = power_by_simulation(Design(2, 2, 1), effects(0.6, 0.0), rng=rng, replicates=60)
    assert found.n_degenerate > 0
    assert found.power < 0.2


def pilot_votes(rng: np.random.Generator, people: int, prompts: int, repeats: int, spread: Effects) -> pd.DataFrame:
    design = Design(people, prompts, prompts * repeats)
    shown = allocate(design, rng)
    y = draw_scores(design, spread, shown, rng)[0]
    return pd.DataFrame(
        {
            "participant_id": [f"p{k}" for k in shown.people],
            "prompt_id": [f"q{k}" for k in shown.items],
            "left_condition": "own",
            "right_condition": "other",
            "choice": np.where(y == 1, "left", np.where(y == 0, "right", "tie")),
        }
    )


def test_pilot_gives_back_the_spreads(rng: np.random.Generator) -> None:
    """Large enough that a spread is known to a tenth; a single one is a number of its own."""
    truth = Effects((0.6,), 0.6, 0.4, 0.5, tie_rate=0.1)
    found = pilot_effects(pilot_votes(rng, 300, 120, 2, truth), "own", "other")
    assert found.interaction_known
    assert found.effects.win_rates[0] == pytest.approx(0.6, abs=0.03)
    assert found.effects.tie_rate == pytest.approx(0.1, abs=0.01)
    # spreads are told one at a time: with the others averaged over they look up to a tenth smaller
    assert found.effects.sd_participant == pytest.approx(0.6, abs=0.08)
    assert found.effects.sd_prompt == pytest.approx(0.4, abs=0.08)
    assert found.effects.sd_interaction == pytest.approx(0.5, abs=0.1)
    once = pilot_effects(pilot_votes(rng, 20, 10, 1, truth), "own", "other")
    assert not once.interaction_known
    assert once.effects.sd_interaction == 0
    assert any("unknown" in note for note in once.notes)
    assert any("uncertain" in note for note in once.notes)


def test_logit_sd_inverts_the_variance() -> None:
    for sd in (0.1, 0.5, 1.5):
        delta, _ = calibrated(0.7, 0.0, sd)
        z = np.random.default_rng(0).standard_normal(400_000)
        variance = np.var(1 / (1 + np.exp(-(delta + sd * z))))
        assert logit_sd(variance, 0.7) == pytest.approx(sd, rel=0.01)
    assert logit_sd(-0.01, 0.5) == 0


CALL = ["power", "--participants", "100", "--prompts", "40", "--trials", "20", "--win-rate", ".539"]
SPREAD = ["--sd-participant", ".2", "--sd-prompt", ".2", "--sd-interaction", ".2"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = [*CALL, *SPREAD, "--replicates", "300", "--seed", "4"]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    assert {"power", "mc_se", "formula_power", "provenance", "exclusions", "estimand", "warnings"} <= set(printed)
    assert printed["mc_se"] == pytest.approx(math.sqrt(printed["power"] * (1 - printed["power"]) / 300))
    assert printed["formula_power"] == pytest.approx(formula_power(Design(100, 40, 20), effects(0.539, 0.2)))
    assert printed["provenance"]["seed"] == 4
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["power"] == printed["power"]


def test_command_with_a_pilot_and_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    path = tmp_path / "pilot.csv"
    pilot_votes(rng, 20, 20, 1, effects(0.6, 0.4)).to_csv(path, index=False)
    call = [*CALL, "--pilot", str(path), "--focal", "own", "--replicates", "50", "--target", ".8", "--cost-vote", ".1"]
    assert main([*call, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert any(w.startswith("pilot:") for w in printed["warnings"])
    assert printed["needed"]["dimension"] == "participants"
    assert printed["cost"] == pytest.approx(200)
    assert "votes" in printed["provenance"]["data"]
    assert printed["cheapest"]["cost"] <= pd.read_csv(tmp_path / "out" / "plans.csv")["cost"].min() + 1e-9


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (CALL, "--sd-participant"),
        ([*CALL, *SPREAD, "--tie-rate", "1.5"], "tie rate"),
        ([*CALL[:-1], "high", *SPREAD], "--win-rate"),
        ([*CALL[:-1], "1.2", *SPREAD], "win rates"),
        ([*CALL, *SPREAD, "--opponents", "few"], "sources"),
        ([*CALL, *SPREAD, "--test", "dyadic"], "opponents"),
        ([*CALL, *SPREAD, "--focal", "own"], "--pilot"),
        ([*CALL, *SPREAD, "--target", "80"], "power 80"),
        ([*CALL, *SPREAD, "--drop-out", "1"], "drop-out"),
        ([*CALL, *SPREAD, "--population", "these-people,new-prompts"], "--population"),
    ],
)
def test_mistakes_are_told_in_one_line(call: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*call, "--replicates", "5"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
