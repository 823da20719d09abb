"""Models of ties against published fits, an independent optimiser, finite differences and brute-force sums."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from analysis.clusters import integer_codes
from analysis.comparisons import comparisons
from analysis.davidson import (
    KERNELS,
    Counts,
    Fit,
    Ties,
    choice_log_probabilities,
    fit_counts,
    strength_design,
)
from analysis.errors import EstimateError
from analysis.existence import SUSPICIOUS_DIFFERENCE, require_finite, separable, unbeaten
from analysis.results import Population
from analysis.sandwich import KindTables, two_way_sandwich

R_STOPS_EARLY = 2e-5
"""Relative error of R's standard errors: glm stops at a relative change of 1e-8, and uses the step before the last."""

# wins of the first, of the second, ties for the pairs a-b, a-c, b-c
THREE = Counts(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([[30.0, 20, 10], [40, 10, 10], [22, 18, 20]]), 3)


def plain_fit(counts: Counts, reference: int, ties: Ties = "davidson", order: bool = False) -> Fit:
    return fit_counts(counts, strength_design(counts, reference, order), ties)


def model_se(fit: Fit) -> np.ndarray:
    return np.sqrt(np.diag(np.linalg.inv(fit.information)))


def test_three_conditions_as_published() -> None:
    """Direct maximum likelihood and psychotools::btmodel(undecided = TRUE) agree on these."""
    fit = plain_fit(THREE, 2)
    assert fit.parameters == pytest.approx([1.1313639, 0.4278159, -0.4819453], abs=5e-8)
    assert model_se(fit) == pytest.approx([0.2643519, 0.2498479, 0.1825844], abs=5e-8)
    assert fit.log_likelihood == pytest.approx(-182.0783, abs=5e-5)


def test_rao_kupper_as_published() -> None:
    fit = plain_fit(THREE, 2, "rao-kupper")
    assert fit.parameters[:2] == pytest.approx([0.9291239, 0.3245064], abs=5e-7)
    assert np.exp(fit.parameters[2]) == pytest.approx(1.648405, abs=5e-7)
    assert fit.log_likelihood == pytest.approx(-181.8135, abs=5e-5)


def test_half_wins_and_dropped_ties_are_other_models() -> None:
    ties = THREE.votes[:, 2:] / 2
    half = Counts(THREE.left, THREE.right, np.hstack([THREE.votes[:, :2] + ties, 0 * ties]), 3)
    dropped = Counts(THREE.left, THREE.right, np.hstack([THREE.votes[:, :2], 0 * ties]), 3)
    found = plain_fit(half, 2).parameters
    assert found == pytest.approx([0.860232, 0.325336], abs=5e-7)
    assert plain_fit(dropped, 2).parameters == pytest.approx([1.090894, 0.465476], abs=5e-7)
    assert found[0] < 0.8 * plain_fit(THREE, 2).parameters[0]  # half wins shrink


@pytest.mark.data
def test_citations_as_r_bradleyterry2(stats_reference: Path) -> None:
    table = pd.read_csv(stats_reference / "bt2_citations.csv")
    names = sorted({*table["player1"], *table["player2"]})
    left, right = (np.array([names.index(x) for x in table[c]]) for c in ("player1", "player2"))
    votes = np.column_stack([table[["win1", "win2"]].to_numpy(float), np.zeros(len(table))])
    fit = plain_fit(Counts(left, right, votes, 4), names.index("Biometrika"))
    assert names[1:] == ["Comm Statist", "JASA", "JRSS-B"]
    assert fit.parameters == pytest.approx([-2.9490725, -0.4795698, 0.2689541], abs=5e-8)
    assert model_se(fit) == pytest.approx([0.10254534, 0.06058873, 0.07082997], abs=5e-9)


def test_baseball_home_advantage_as_r_bradleyterry2(run_r) -> None:
    text = run_r('data(baseball, package = "BradleyTerry2"); write.csv(baseball, row.names = FALSE)')
    table = pd.read_csv(io.StringIO(text))
    names = sorted({*table["home.team"], *table["away.team"]})
    home, away = (np.array([names.index(x) for x in table[f"{side}.team"]]) for side in ("home", "away"))
    votes = np.column_stack([table[["home.wins", "away.wins"]].to_numpy(float), np.zeros(len(table))])
    fit = plain_fit(Counts(home, away, votes, len(names)), names.index("Baltimore"), order=True)
    assert fit.parameters[-1] == pytest.approx(0.3022607, abs=5e-8)
    assert model_se(fit)[-1] == pytest.approx(0.1309436, rel=R_STOPS_EARLY)


@pytest.mark.data
def test_football_ties_and_home_advantage_as_r_gendavidson(stats_reference: Path) -> None:
    """R's tie.max is the logit of the chance of a tie between equals, log(nu / 2)."""
    expected = json.loads((stats_reference / "reference_results_R.json").read_text())["football_davidson"]
    table = pd.read_csv(stats_reference / "bt2_football.csv").query("season == '2008-9'")
    assert len(table) == expected["n"]
    names = sorted({*table["home"], *table["away"]})
    home, away = (np.array([names.index(x) for x in table[side]]) for side in ("home", "away"))
    votes = np.column_stack([table["result"] == r for r in (1, -1, 0)]).astype(float)
    fit = plain_fit(Counts(home, away, votes, len(names)), 0, order=True)
    coefficients = expected["coef_extra"]
    assert fit.parameters[-2] == pytest.approx(coefficients["home.adv"], rel=1e-4)
    assert fit.parameters[-1] - np.log(2) == pytest.approx(coefficients["tie.max"], rel=1e-4)
    differences = dict(zip(names[1:], fit.parameters, strict=False))
    arsenal = 0.0 if names[0] == "Ars" else differences["Ars"]
    assert arsenal - differences["Ast"] == pytest.approx(coefficients["Ars:s"] - coefficients["Ast:s"], rel=1e-4)
    # R fits the counts as Poisson: its deviance adds the saturated terms, which are 0 for one game a row
    assert -2 * fit.log_likelihood == pytest.approx(expected["deviance"], rel=1e-8)


@pytest.mark.data
def test_calista_published_scores(public_data: Path, stats_reference: Path) -> None:
    """Accepted sessions, first judgement of a pair, ties dropped, strengths rescaled to 1-10."""
    votes = pd.read_csv(public_data / "calista_pairs" / "votes.csv").query("accepted")
    pair = votes[["left", "right"]].apply(lambda row: "-".join(sorted(row)), axis=1)
    votes = votes[~pd.DataFrame({"user": votes["user_id"], "pair": pair}).duplicated()].query("choice != 'tie'")
    assert len(votes) == 5094
    names = sorted({*votes["left"], *votes["right"]})
    table = votes.rename(columns={"left": "left_condition", "right": "right_condition", "user_id": "participant_id"})
    data = comparisons(table.assign(prompt_id="page"))
    fit = plain_fit(data.counts, 0)
    strengths = pd.Series([0.0, *fit.parameters], index=names)
    published = pd.read_csv(public_data / "calista_pairs" / "published_bt_scores.csv").set_index("website")["score"]
    published.index = [f"w{int(name.removeprefix('image')):02d}" for name in published.index]
    scaled = 1 + 9 * (strengths - strengths.min()) / (strengths.max() - strengths.min())
    assert scaled.to_numpy() == pytest.approx(published[names].to_numpy(), abs=1e-6)
    from_r = json.loads((stats_reference / "reference_results_R.json").read_text())["calista_bt"]
    assert strengths.to_numpy() == pytest.approx([from_r["ability"][name] for name in names], abs=1e-7)
    assert [0, *model_se(fit)] == pytest.approx([from_r["se"][name] for name in names], rel=R_STOPS_EARLY)
    assert -2 * fit.log_likelihood == pytest.approx(from_r["deviance"], rel=1e-9)


@pytest.mark.data
def test_llmfao_as_r_psychotools(public_data: Path, stats_reference: Path) -> None:
    votes = pd.read_csv(public_data / "llmfao_pairs" / "votes.csv").rename(
        columns={"left": "left_condition", "right": "right_condition", "winner": "choice", "user_id": "participant_id"}
    )
    votes["prompt_id"] = votes["prompt"].astype(str)
    data = comparisons(votes)
    expected = json.loads((stats_reference / "reference_results_R.json").read_text())["llmfao_davidson"]
    assert (len(data.cell), int(data.counts.votes[:, 2].sum())) == (expected["n"], expected["ties"])
    fit = plain_fit(data.counts, data.names.index(expected["players"][0]), order=True)
    found = dict(zip([n for n in data.names if n != expected["players"][0]], fit.parameters, strict=False))
    for player, ability in zip(expected["players"][1:], expected["logability"][1:], strict=True):
        assert found[player] == pytest.approx(ability, abs=1e-6)
    assert fit.parameters[-2:] == pytest.approx([expected["left_bias"], expected["log_nu"]], abs=1e-7)
    assert model_se(fit)[-2:] == pytest.approx([expected["se_left"], expected["se_log_nu"]], rel=R_STOPS_EARLY)
    assert fit.log_likelihood == pytest.approx(expected["logLik"], abs=1e-6)


def negative_log_likelihood(theta: np.ndarray, counts: Counts, ties: Ties, order: bool) -> float:
    """The models as their papers write them, in strengths rather than logs; the first condition is the reference."""
    strength = np.exp(np.concatenate([[0], theta[: counts.n_conditions - 1]]))
    i, j = strength[counts.left], strength[counts.right]
    if order:
        i = i * np.exp(theta[counts.n_conditions - 1])
    tie = np.exp(theta[-1])
    if ties == "davidson":
        drawn = tie * np.sqrt(i * j)
        p = np.stack([i, j, drawn]) / (i + j + drawn)
    else:
        p = np.stack([i / (i + tie * j), j / (j + tie * i), (tie**2 - 1) * i * j / ((i + tie * j) * (tie * i + j))])
    return -float((counts.votes.T * np.log(p)).sum())


def berlin(public_data: Path) -> pd.DataFrame:
    votes = pd.read_csv(public_data / "berlin_cycling_pairs" / "votes.csv").rename(
        columns={"left": "left_condition", "right": "right_condition", "user_id": "participant_id"}
    )
    return votes.assign(prompt_id="street")


@pytest.mark.data
@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_berlin_groups_against_an_independent_optimiser(public_data: Path, ties: Ties) -> None:
    """All votes, with the photographs in ten groups by the last digit of their number; order effect fitted."""
    votes = berlin(public_data)
    for side in ("left", "right"):
        votes[f"{side}_condition"] = votes[f"{side}_condition"].str[-1]
    data = comparisons(votes)
    assert len(data.cell) + dict(data.exclusions.reasons)["the same condition twice"] == 7281
    fit = plain_fit(data.counts, 0, ties, order=True)
    start = np.concatenate([np.zeros(len(data.names)), [0.3]])
    found = optimize.minimize(negative_log_likelihood, start, (data.counts, ties, True), "BFGS", options={"gtol": 1e-5})
    assert fit.parameters == pytest.approx(found.x, abs=2e-5)  # the optimiser's gradients are numerical
    assert -fit.log_likelihood == pytest.approx(found.fun, abs=1e-7)


@pytest.mark.data
@pytest.mark.slow
def test_berlin_photographs_against_an_independent_optimiser(public_data: Path) -> None:
    """The 1,783 photographs that chains of wins link in both directions: sparse, with strengths far apart."""
    votes = berlin(public_data)
    names = sorted({*votes["left_condition"], *votes["right_condition"]})
    left, right = (votes[f"{side}_condition"].map(names.index).to_numpy() for side in ("left", "right"))
    kept = [votes["choice"].to_numpy() != lost for lost in ("right", "left")]
    edges = np.concatenate([left[kept[0]], right[kept[1]]]), np.concatenate([right[kept[0]], left[kept[1]]])
    _, group = connected_components(csr_array((np.ones(len(edges[0])), edges), (len(names),) * 2), connection="strong")
    core = group == np.bincount(group).argmax()
    counts = comparisons(votes[core[left] & core[right]]).counts
    assert unbeaten(counts, counts.n_conditions) is None
    fit = plain_fit(counts, 0, order=True)
    assert np.abs(fit.differences).max() > SUSPICIOUS_DIFFERENCE  # far, but finite
    require_finite(fit, counts)

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        k = counts.n_conditions
        utility = np.concatenate([[0], theta[: k - 1]])
        x, y = utility[counts.left] + theta[k - 1], utility[counts.right]
        eta = np.stack([x, y, theta[k] + (x + y) / 2], axis=1)
        log_p = eta - logsumexp(eta, axis=1, keepdims=True)
        rest = counts.votes - counts.votes.sum(axis=1, keepdims=True) * np.exp(log_p)
        to_left, to_right = rest[:, 0] + rest[:, 2] / 2, rest[:, 1] + rest[:, 2] / 2
        slope = np.bincount(counts.left, to_left, k) + np.bincount(counts.right, to_right, k)
        return -float((counts.votes * log_p).sum()), -np.concatenate([slope[1:], [to_left.sum(), rest[:, 2].sum()]])

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 50}
    found = optimize.minimize(value_and_gradient, np.zeros(1784), jac=True, method="L-BFGS-B", options=options)
    assert -fit.log_likelihood == pytest.approx(found.fun, abs=1e-7)
    assert fit.parameters == pytest.approx(found.x, abs=2e-4)  # flat far out: the optimiser stops 4e-5 away


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_gradients_and_hessians_are_derivatives(ties: Ties) -> None:
    d, tie, h = np.array([-1.3, 0.0, 0.4, 2.2]), np.array([0.7, 0.2, 0.5, 1.1]), 1e-5
    _, gradient, hessian = KERNELS[ties](d, tie)
    up_d, down_d, up_t, down_t = (KERNELS[ties](d + a, tie + b) for a, b in ((h, 0), (-h, 0), (0, h), (0, -h)))
    slope = np.stack([up_d[0] - down_d[0], up_t[0] - down_t[0]], axis=2) / (2 * h)
    curve = np.stack([up_d[1] - down_d[1], up_t[1] - down_t[1]], axis=3) / (2 * h)
    np.testing.assert_allclose(gradient, slope, atol=1e-9)
    np.testing.assert_allclose(hessian, curve, atol=1e-9)
    np.testing.assert_allclose(np.exp(choice_log_probabilities(d, 0.7, ties)).sum(axis=1), 1)


def test_an_infinite_side_effect_is_refused() -> None:
    """Each condition wins and loses, but only ever on the left: the side explains everything."""
    always_left = Counts(np.array([0, 1]), np.array([1, 0]), np.array([[9.0, 0, 0], [7, 0, 0]]), 2)
    with pytest.raises(EstimateError, match="infinite estimate"):
        require_finite(plain_fit(always_left, 0, order=True), always_left)
    overlap = Counts(always_left.left, always_left.right, always_left.votes + np.eye(3)[[1, 2]], 2)
    require_finite(plain_fit(overlap, 0, order=True), overlap)
    assert separable(always_left, strength_design(always_left, 0, True))
    assert not separable(overlap, strength_design(overlap, 0, True))
    assert plain_fit(always_left, 0).parameters[0] == pytest.approx(np.log(7 / 9))


def test_sandwich_is_the_sum_over_votes_that_share_a_cluster(draw_votes, rng: np.random.Generator) -> None:
    """Counting passes against matrices over all pairs of votes, on lopsided clusters with repeated cells."""
    votes = draw_votes(rng, {"a": 0.4, "b": 0, "c": -0.3}, n_people=7, n_prompts=5, per_person=20).iloc[:117]
    data = comparisons(votes)
    fit = plain_fit(data.counts, 0, order=True)
    scores = fit.scores.reshape(-1, fit.scores.shape[-1])
    found = two_way_sandwich(fit.information, scores, data.tables, Population())
    s, bread = scores[data.cell], np.linalg.inv(fit.information)
    people, items = votes["participant_id"].to_numpy(), votes["prompt_id"].to_numpy()
    share_people, share_items = people[:, None] == people, items[:, None] == items

    def term(share: np.ndarray, n_groups: int) -> np.ndarray:
        return n_groups / (n_groups - 1) * bread @ s.T @ share @ s @ bread

    n_cells = integer_codes(people + items)[1]
    by_people, by_items = term(share_people, 6), term(share_items, 5)
    by_cells = term(share_people & share_items, n_cells)
    assert n_cells < len(votes)
    np.testing.assert_allclose(found.by_people, by_people, rtol=1e-12)
    np.testing.assert_allclose(found.by_items, by_items, rtol=1e-12)
    np.testing.assert_allclose(found.by_cells, by_cells, rtol=1e-12)
    combined = by_people + by_items - by_cells
    if np.linalg.eigvalsh(combined).min() > 0:
        np.testing.assert_allclose(found.two_way, combined, rtol=1e-10)
    unit = np.eye(len(bread))[0]
    assert found.variance(unit) >= max(by_people[0, 0], by_items[0, 0]) * (1 - 1e-12)


def test_pairs_are_counted_or_sorted_alike(rng: np.random.Generator) -> None:
    """Few possible pairs are counted in a table, many are sorted: the same tables from the same votes."""
    n = 400
    people, items, cell = rng.integers(0, 12, n), rng.integers(0, 9, n), rng.integers(0, 6, n)
    counted = KindTables.of(cell, 6, people, items, 12, 9)
    listed = KindTables.of(cell, 6, people, items * 1000, 12, 9000)
    for name in ("alone", "repeated", "starts"):
        assert np.array_equal(getattr(counted, name), getattr(listed, name))
    assert counted.n_cells == listed.n_cells == len(set(zip(people.tolist(), items.tolist(), strict=True)))
    spread_out = KindTables.of(np.arange(6), 6, np.arange(6), np.zeros(6, dtype=int), 6, 1)
    assert (spread_out.alone.sum(), len(spread_out.repeated), len(spread_out.starts)) == (6, 0, 0)


def test_sandwich_of_many_conditions_goes_through_sparse_counts(rng: np.random.Generator) -> None:
    """The same sums whether the table of people x kinds of votes is dense or sparse."""
    n, kinds = 500, 30_000
    cell, people, items = rng.integers(0, kinds, n), rng.integers(0, 60, n), rng.integers(0, 10, n)
    scores = rng.normal(size=(kinds, 3))
    many = KindTables.of(cell, kinds, people, items, 60, 10)
    used, small = np.unique(cell, return_inverse=True)
    few = KindTables.of(small, len(used), people, items, 60, 10)
    assert not isinstance(many.by_people, np.ndarray)
    assert isinstance(few.by_people, np.ndarray)
    sparse = two_way_sandwich(np.eye(3), scores, many, Population())
    dense = two_way_sandwich(np.eye(3), scores[used], few, Population())
    np.testing.assert_allclose(sparse.by_people, dense.by_people, rtol=1e-12)
    np.testing.assert_allclose(sparse.by_cells, dense.by_cells, rtol=1e-12)
