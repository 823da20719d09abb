"""How long the empirical-Bayes model takes at the size of a large study, and how much memory.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_taste.py [--users 205] [--images 5077]

Simulates 69,904 ratings of that many images with 64 features, fits the full model (variances, everybody's posterior,
the check on prompts left out), and scores a million (user, image) pairs, mean and SD. Prints CPU seconds, the best of
some runs, and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from beholder.taste.base import Ratings
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design


def study(rng: np.random.Generator, users: int, images: int, ratings: int, columns: int = 64) -> tuple[Ratings, Design]:
    """Ratings with shared and own linear tastes, image effects and noise, in the shares of published ratings."""
    phi = rng.standard_normal((images, columns))
    which = np.repeat(np.arange(images), -(-ratings // images))
    each = -(-ratings // images)
    who = np.concatenate([rng.choice(users, each, replace=False) for _ in range(images)])
    kept = np.sort(rng.permutation(len(who))[:ratings])
    who, which = who[kept], which[kept]
    taste = np.sqrt(0.2 / columns) * rng.standard_normal(columns)
    own = np.sqrt(0.15 / columns) * rng.standard_normal((users, columns))
    level, effect = 0.4 * rng.standard_normal(users), np.sqrt(0.1) * rng.standard_normal(images)
    value = np.einsum("np,np->n", phi[which], taste + own[who]) + level[who] + effect[which]
    score = np.clip(np.round(500 + 120 * (value + np.sqrt(0.55) * rng.standard_normal(len(who)))), 0, 1000)
    names = np.array([f"i{i:05d}" for i in range(images)])
    table = Ratings(np.array([f"u{u:04d}" for u in who]), names[which], names[which], score)
    return table, Design(names, phi, ("components",), (columns,))


def best(what: str, repeats: int, work: Callable[[], Any]) -> Any:
    """Run it, print the fewest CPU seconds of some runs, and return what it gave."""
    seconds, found = [], None
    for _ in range(repeats):
        started = time.process_time()
        found = work()
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:<42} {min(seconds):6.2f} s CPU (worst of {repeats}: {max(seconds):.2f}); peak {peak:,.0f} MB")
    return found


def main() -> None:
    """Run from a command line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--users", type=int, default=205)
    arguments.add_argument("--images", type=int, default=5077)
    arguments.add_argument("--ratings", type=int, default=69_904)
    arguments.add_argument("--pairs", type=int, default=1_000_000)
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    ratings, design = study(np.random.default_rng(0), given.users, given.images, given.ratings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.users} users, {given.images:,} images, {len(ratings):,} ratings; {peak:,.0f} MB before")
    fitted = best("full fit", given.repeats, lambda: EBSlopes().fit(ratings, design, np.random.default_rng(1)))
    print("shares of variance:", {k: round(v, 3) for k, v in fitted.settings["shares"].items()})
    users = np.repeat(fitted.user_ids, -(-given.pairs // given.users))[: given.pairs]
    matrix = design.matrix[np.resize(np.arange(given.images), given.pairs)]
    best(f"{given.pairs:,} pairs, mean and SD", given.repeats, lambda: fitted.predict(users, matrix))
    best(f"{given.pairs:,} pairs, mean", given.repeats, lambda: fitted.predict_mean(users, matrix))


if __name__ == "__main__":
    main()
