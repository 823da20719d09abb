"""Accuracy at 50 tie margins beside one pass over all pairs a margin, on the same rows in one run.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_tie_curve.py [--repeats 5]

205 users x 340 items x 50 margins: accuracy and the influence of every rating, ours against the definition in numpy (an
n x n table of differences for every user and margin), with the largest difference between the two; beside it the
leanest pass that gives accuracy and no influences. Then one user with more and more items. CPU seconds, least of the
repeats, after one call that loads the compiled code. Without numba the numpy version is timed; the goals are those of
the compiled one.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from analysis.pair_sweep import compiled, swept_curves
from analysis.pairs import UserCurves, accuracy_by_user, rows_by_group

MARGINS = np.arange(0, 500, 10)
RATIO, MILLISECONDS = 250, 20

Arrays = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def ratings(rng: np.random.Generator, users: int, items: int) -> Arrays:
    """User, rating in ticks and a score that correlates .45 with it."""
    user, taste = np.repeat(np.arange(users), items), rng.normal(size=users * items)
    truth = np.clip(np.rint(500 + 180 * taste), 0, 1000).astype(np.int64)
    return user, truth, 0.5 * taste + rng.normal(size=len(taste))


def by_definition(
    truth: npt.NDArray[np.int64], score: npt.NDArray[np.float64], margin: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """Accuracy and influences by one pass over all pairs."""
    difference = truth[:, None] - truth
    usable = np.abs(difference) > margin
    credit = usable * (np.sign(difference) * np.sign(score[:, None] - score) + 1) / 2
    pairs = usable.sum() / 2
    accuracy = credit.sum() / (2 * pairs)
    return float(accuracy), (credit - accuracy * usable).sum(axis=1) / pairs


def accuracy_alone(truth: npt.NDArray[np.int64], score: npt.NDArray[np.float64], margin: int) -> float:
    """The leanest pass that gives accuracy and no influences."""
    far = truth[:, None] - truth > margin
    difference = score[:, None] - score
    right, tied = np.count_nonzero(far & (difference > 0)), np.count_nonzero(far & (difference == 0))
    return (right + 0.5 * tied) / np.count_nonzero(far)


def cpu(work: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def curves(rows: Arrays) -> UserCurves:
    """Ours; compiled whatever the size, so that one table has one method."""
    user, truth, score = rows
    if importlib.util.find_spec("numba") is None:
        return accuracy_by_user(user, truth, score, MARGINS)
    n_users = int(user.max()) + 1
    accuracy, n_pairs, influence = swept_curves(compiled(), rows_by_group(user, n_users), truth, score, MARGINS)
    return UserCurves(accuracy, n_pairs, np.bincount(user), influence)


def bench_study(repeats: int, users: int = 205, items: int = 340) -> None:
    """Ours and the definition at the size of a study."""
    rows = ratings(np.random.default_rng(1), users, items)
    found, by_user = curves(rows), rows_by_group(rows[0], users)
    worst = np.zeros(3)

    def definition() -> None:
        for u, own in enumerate(by_user):
            for m, margin in enumerate(MARGINS.tolist()):
                accuracy, influence = by_definition(rows[1][own], rows[2][own], margin)
                worst[0] = max(worst[0], abs(accuracy - found.accuracy[u, m]))
                worst[1] = max(worst[1], np.abs(influence - found.influence[own, m]).max())

    def lean() -> None:
        for u, own in enumerate(by_user):
            for m, margin in enumerate(MARGINS.tolist()):
                worst[2] = max(worst[2], abs(accuracy_alone(rows[1][own], rows[2][own], margin) - found.accuracy[u, m]))

    theirs, less, ours = cpu(definition, 1), cpu(lean, 1), cpu(lambda: curves(rows), repeats)
    print(f"{users} users x {items} items x {len(MARGINS)} margins, accuracy and the influence of every rating")
    print(
        f"  largest differences: {worst[0]:.1e} in accuracy, {worst[1]:.1e} in influence; accuracy alone {worst[2]:.1e}"
    )
    verdict = f"goal {RATIO} x: {'reached' if theirs / ours >= RATIO else 'MISSED'}"
    print(f"  {'ours':<30} {ours:9.4f} s")
    print(f"  {'one pass over pairs a margin':<30} {theirs:9.4f} s   {theirs / ours:7.1f} x   ({verdict})")
    print(f"  {'leanest pass, accuracy alone':<30} {less:9.4f} s   {less / ours:7.1f} x")


def bench_items(repeats: int) -> None:
    """One user with many items."""
    print(f"one user, {len(MARGINS)} margins")
    sizes, seconds = (340, 1_000, 3_000, 10_000, 30_000), []
    for items in sizes:
        rows = ratings(np.random.default_rng(items), 1, items)
        seconds.append(cpu(lambda rows=rows: curves(rows), repeats))  # type: ignore[misc]
        goal = ""
        if items == 10_000:
            goal = f"   (goal {MILLISECONDS} ms: {'reached' if 1000 * seconds[-1] <= MILLISECONDS else 'MISSED'})"
        print(f"  {items:>7,} items {1000 * seconds[-1]:9.2f} ms{goal}")
    print(f"  slope on a log-log plot {np.polyfit(np.log(sizes), np.log(seconds), 1)[0]:.2f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    if importlib.util.find_spec("numba") is None:
        print("numba is not installed: the numpy version is timed")
    bench_study(args.repeats)
    bench_items(args.repeats)


if __name__ == "__main__":
    main()
