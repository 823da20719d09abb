"""One cell run small through the command line, and the pieces the table rests on against numbers from elsewhere."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from suite import (
    cells_accuracy,
    cells_models,
    cells_monitoring,
    cells_paired,
    cells_personal,
    cells_sources,
    draw_ratings,
    draw_votes,
)
from suite.core import Counted, Naive, Row, Tally, count, key_of, sources
from suite.table import COLUMNS, bound_text, judge, page

from analysis import rank_conditions, win_rate

ROOT = Path(__file__).parents[2]
LARGE = "200 x 40"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def run(out: Path, lines: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tests/validation/run.py", "--out", str(out), "--lines", str(lines), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def rows_of(text: str) -> list[list[str]]:
    """Cells of every row of the Markdown tables, heads and rules left out."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[c.strip() for c in line] for line in lines if line[0].strip() not in ("study", "---")]


def test_the_command_writes_the_table_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """The naive binomial rejects a true hypothesis far more often than the two-way test in the same 20 studies."""
    out, lines = tmp_path / "table.md", tmp_path / "lines.jsonl"
    arguments = ("--only", LARGE, "--replicates", "20")
    first = run(out, lines, *arguments)
    text = out.read_text()
    assert "| " + " | ".join(COLUMNS) + " |" in text
    assert "--replicates 20 --seed 1" in text
    (row,) = rows_of(text)
    assert len(row) == len(COLUMNS)
    tallies = Counted.from_json(json.loads(lines.read_text())).tallies
    assert tallies["binomial"].mean > 5 * tallies["rejected"].mean
    assert f"rejects {tallies['binomial'].mean:.3f}".replace("0.", ".") + ", **fails**" in row[-1]
    assert first.returncode == ("**missed**" in text)
    assert "20/20" in first.stderr

    with lines.open("a") as stream:
        stream.write('{"key": "cut off by a ki')
    again = run(out, lines, *arguments)
    assert again.returncode == first.returncode
    assert "stored" in again.stderr
    assert "20/20" not in again.stderr
    assert out.read_text() == text


def test_an_unknown_cell_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "table.md", tmp_path / "lines.jsonl", "--only", "nothing of this name")
    assert done.returncode
    assert "no cell is called nothing of this name" in done.stderr
    assert not (tmp_path / "table.md").exists()


def test_cells_do_not_depend_on_their_order_and_have_names_of_their_own() -> None:
    modules = (cells_paired, cells_sources, cells_monitoring, cells_accuracy, cells_models, cells_personal)
    every = [cell for module in modules for cell in module.CELLS]
    assert len({cell.name for cell in every}) == len(every) == len({key_of(cell, 10, 1) for cell in every})
    cell = cells_paired.CELLS[3]
    alone = count(cell, 3, 1, lambda: 0.0, lambda done: None)
    count(cells_paired.CELLS[4], 2, 1, lambda: 0.0, lambda done: None)
    assert count(cell, 3, 1, lambda: 0.0, lambda done: None) == alone
    assert key_of(cell, 3, 1) != key_of(cell, 4, 1)
    assert key_of(cell, 3, 1) != key_of(cell, 3, 2)


def test_a_result_is_redone_when_a_module_it_passes_through_changes() -> None:
    names = {path.stem for path in sources(("win_rates",))}
    assert {"win_rates", "trials", "clusters", "tables", "results", "errors", "charts"} <= names
    assert names.isdisjoint({"monitor", "stability", "report"})


@pytest.mark.parametrize(
    ("row", "missed"),
    [
        (Row("a", "found", 0.02, 0.07), ()),
        (Row("a", "found", 0.06, 0.07), ("rejects",)),
        (Row("a", "found", 0.0, 0.04), ("rejects",)),
        (Row("a", None, covers="held", covers_least=0.93), ("covers",)),
        (Row("a", "found", 0, 0.07, naive=(Naive("n", "wild", True),)), ()),
        (Row("a", "found", 0, 0.07, naive=(Naive("n", "found", True),)), ("n does not fail",)),
        (Row("a", None, naive=(Naive("n", "held", True, "covers"),)), ()),
        (Row("a", mean="e", high=1.0), ("mean",)),
        (Row("a", mean="wide", high=1.0), ()),
    ],
)
def test_bounds_are_applied_as_written(row: Row, missed: tuple[str, ...]) -> None:
    tallies = {
        "found": Tally(1000, 0.05, 0.218),
        "held": Tally(1000, 0.929, 0.257),
        "wild": Tally(1000, 0.4, 0.49),
        "e": Tally(100, 1.1, 0.3),
        "wide": Tally(100, 1.1, 0.4),
    }
    assert judge(row, tallies).missed == missed


def test_a_page_counts_what_is_missed_and_says_what_was_refused() -> None:
    cell = cells_paired.CELLS[3]
    tallies = {name: Tally(9, 0.5, 0.5) for name in ("rejected", "covered", "binomial", "people")}
    text = page([cell], [Counted(tallies, 10, 1, 0.0)], "head")
    assert text.startswith("head\n**0 of 1 rows with a bound hold it.**")
    assert "**missed**: rejects; covers" in text
    assert ".500 ± .167 (of 9)" in text
    assert f"left out: {cell.design}: 1." in text
    assert [bound_text(*b) for b in ((0, 0.07), (0.02, 0.07), (0, 1), (0.7, 1), (1, 1))] == [
        "≤ .07", ".02 to .07", "(power)", "≥ .7", "in all",
    ]  # fmt: skip


def test_planted_win_rates_are_marginal_ones(rng: np.random.Generator) -> None:
    """Against plain averages over a million draws."""
    z = rng.standard_normal(1_000_000)
    centre = draw_votes.logit_for(0.6, 0.7)
    assert np.mean(1 / (1 + np.exp(-centre - 0.7 * z))) == pytest.approx(0.6, abs=0.001)
    shifts = draw_votes.balanced_shifts(18, 0.6)
    assert shifts.std() == pytest.approx(0.6)
    assert draw_votes.logit_for(0.5, 0.5, tuple(shifts.tolist())) == pytest.approx(0, abs=1e-9)


def test_true_strengths_are_where_large_studies_end(rng: np.random.Generator) -> None:
    """A study of 90,000 votes, every participant and prompt with effects of its own; three of its standard errors."""
    strength = (0.0, 0.0, 0.4, 0.0, 0.0)
    utility = np.array(strength) + rng.standard_normal((300, 300, 5))
    votes = draw_votes.condition_votes(utility, 0.1, 0.35, cells_paired.CONDITIONS, rng)
    limits, rates = draw_votes.true_strengths(strength, 0.35, 1.0)
    found = {s.condition: s for s in rank_conditions(votes, reference="other").conditions}
    assert abs(found["own"].log_strength - limits[2]) < 3 * found["own"].se
    assert limits[2] < 0.4 - 3 * found["own"].se  # the spread of utilities shrinks it
    rate = win_rate(votes, "own", "other")
    assert abs(rate.estimate - rates[2, 0]) < 3 * rate.se


def test_true_accuracies_are_those_of_many_pairs(rng: np.random.Generator) -> None:
    """Counted on 300,000 pairs of images, each of a user of its own."""
    shared, private = rng.standard_normal((2, 300_000, 2))
    own = draw_ratings.SHARED * shared + draw_ratings.PRIVATE * private
    y = own + draw_ratings.NOISE * rng.standard_normal(private.shape)
    error = rng.standard_normal(private.shape)
    known = 0.25 + 0.15 * rng.standard_normal((300_000, 1))
    population = draw_ratings.SHARED * (shared + error)
    personal = population + known * private + draw_ratings.OWN_NOISE * rng.standard_normal(private.shape)
    for score, true in (
        (personal, draw_ratings.personal_accuracy(1.0, 0.15)),
        (population, draw_ratings.population_accuracy(1.0)),
    ):
        right = (np.diff(y) * np.diff(score) > 0).mean()
        assert right == pytest.approx(true, abs=3 * math.sqrt(0.25 / 300_000))


def test_nothing_is_left_where_the_later_gain_is_nought() -> None:
    nothing = cells_accuracy.Stabilities("n", 30, 40, cells_accuracy.NOTHING_LEFT)
    assert nothing.gains[1] == pytest.approx(0, abs=1e-12)
    assert cells_accuracy.Stabilities("a", 30, 40, 1.0).gains[0] == cells_accuracy.Stabilities("a", 3, 4, 1.0).gains[1]


def test_the_naive_ways_are_what_they_are_called(rng: np.random.Generator) -> None:
    """Against scipy's t tests, and the binomial that a win rate prints beside its own test."""
    means = 0.55 + 0.2 * rng.standard_normal(60)
    looks = range(10, 61, 5)
    expected = any(stats.ttest_1samp(means[:n], 0.5).pvalue < 0.05 for n in looks)
    by_vote = any(stats.norm.sf(abs(means[:n].mean() - 0.5) / math.sqrt(0.25 / (18 * n))) < 0.025 for n in looks)
    assert cells_monitoring._peeking(means, 18) == (by_vote, expected)

    cell = cells_paired.Rankings("r", 12, 12, 0.5, (0.3, 0.3, 0.3))
    utility = rng.standard_normal((12, 12, 5))
    votes = draw_votes.condition_votes(utility, 0.5, cell.nu, cells_paired.CONDITIONS, rng)
    planned = cells_paired.planned_contrasts(votes, [("own", "other")], rng=rng).contrasts[0]
    assert planned.n_ties
    assert cells_paired._binomial_p(planned) == pytest.approx(win_rate(votes, "own", "other").naive["p"], rel=1e-9)

    z = rng.standard_normal((8, 3, 2, 5)) + 0.3 * rng.standard_normal((8, 1, 1, 5))
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    distance = {True: [], False: []}
    for p in range(3):
        for u in range(8):
            for v in range(8):
                distance[u == v].append(1 - unit[u, p, 0] @ unit[v, p, 1])
    test = stats.ttest_ind(distance[True], distance[False], alternative="less")
    assert cells_personal._distances_alike(z, rng)[0] == (test.pvalue < 0.05)


def test_true_curves_and_population_accuracies_are_those_of_many_pairs(rng: np.random.Generator) -> None:
    """Counted on 400,000 pairs of rounded ratings: accuracy beyond a margin, and against means of twelve raters."""
    n, cell = 400_000, cells_models.Curves("c", 25, 60, 60, 1.0)
    shared, error, private, own = rng.standard_normal((4, n, 2))
    y = draw_ratings.SHARED * shared + draw_ratings.PRIVATE * private + draw_ratings.NOISE * rng.standard_normal((n, 2))
    score = draw_ratings.SHARED * (shared + error) + 0.25 * private + draw_ratings.OWN_NOISE * own
    gap, order = np.diff(draw_ratings.as_ticks(y))[:, 0], np.diff(score)[:, 0]
    for margin, true in zip(cell.margins, cell.curve, strict=True):
        beyond = np.abs(gap) > margin
        right = (gap[beyond] * order[beyond] > 0).mean()
        assert right == pytest.approx(true, abs=3 * math.sqrt(0.25 / beyond.sum()))

    level = cells_models.PopulationAccuracies("p", 12, 40, 1.0)
    spread = math.sqrt((draw_ratings.PRIVATE**2 + draw_ratings.NOISE**2) / 12)
    mean = draw_ratings.SHARED * shared + spread * private
    right = (np.diff(mean) * np.diff(shared + error) > 0).mean()
    assert right == pytest.approx(level.accuracies[0], abs=3 * math.sqrt(0.25 / n))


def test_generalised_estimating_equations_are_the_mean_with_one_way_clusters(rng: np.random.Generator) -> None:
    """With one answer a cell and as many from everybody, their log odds and error follow from people's totals."""
    won = (rng.random((15, 12)) < 0.6 + 0.2 * rng.standard_normal((15, 1))).astype(float)
    estimate, se = cells_models.gee_by_participant(won.ravel(), np.repeat(np.arange(15), 12))
    share = won.mean()
    assert estimate == pytest.approx(math.log(share / (1 - share)), rel=1e-6)
    by_person = won.mean(axis=1) - share
    assert se == pytest.approx(math.sqrt((by_person**2).sum()) / 15 / (share * (1 - share)), rel=1e-6)
