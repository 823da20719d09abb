"""The planned test on simulated studies."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from analysis.clusters import ClusterMean, Floats, Ints, cluster_mean, dyadic_mean, integer_codes, three_way_mean
from analysis.errors import EstimateError
from analysis.multiplicity import holm
from analysis.simulated_votes import Design, Effects, Shown, allocate, draw_scores, staying

Test = Literal["two-way", "three-way", "dyadic"]


def test_for(design: Design, test: Test | None) -> Test:
    """The test asked for, or the one that a win rate would take; a wrong one for the design is refused."""
    if test in ("three-way", "dyadic") and design.opponents == "common":
        raise EstimateError(f"a {test} test with common opponents", "balanced, random, few or yoked opponents")
    if test == "two-way" and design.opponents == "few":
        raise EstimateError(
            f"a two-way test with {design.sources} source persons", "three-way", "it rejects true hypotheses too often"
        )
    if test not in (None, "two-way", "three-way", "dyadic"):
        raise EstimateError(f"test {test!r}", "two-way, three-way, dyadic")
    return test or ("three-way" if design.opponents == "few" else "two-way")


def analysed(y: Floats, shown: Shown, kept: np.ndarray, test: Test) -> ClusterMean:
    """Mean of the kept trials' scores `y` (n,) with the clusters of the test."""
    people, items = shown.people[kept], shown.items[kept]
    if shown.sources is None or test == "two-way":
        return cluster_mean(y[kept], integer_codes(people)[0], integer_codes(items)[0])
    sources = shown.sources[kept]
    if test == "dyadic":
        persons: Ints = integer_codes(np.concatenate([people, sources]))[0]
        return dyadic_mean(y[kept], persons[: len(people)], persons[len(people) :], integer_codes(items)[0])
    return three_way_mean(y[kept], *(integer_codes(codes)[0] for codes in (people, items, sources)))


def rejections(
    design: Design, effects: Effects, test: Test, alpha: float, replicates: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Which contrasts each simulated study finds after Holm, bool (replicates, k), and how often no test existed."""
    n_contrasts = len(effects.win_rates)
    rejected = np.zeros((replicates, n_contrasts), dtype=bool)
    n_degenerate = 0
    shown = allocate(design, rng)
    for r in range(replicates):
        if design.opponents in ("random", "few"):
            shown = allocate(design, rng)
        kept = staying(design, shown.people, rng)
        p = []
        for k, y in enumerate(draw_scores(design, effects, shown, rng)):
            try:
                part = shown if k == 0 else dataclasses.replace(shown, sources=None)
                p.append(analysed(y, part, kept, test).test(0.5)[1])
            except EstimateError:
                p.append(1.0)
                n_degenerate += 1
        rejected[r] = np.array(holm(p)) <= alpha
    return rejected, n_degenerate
