"""Variance components of 74,631 ratings: moments and their intervals beside REML by mixedlm and by lme4.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_agreement.py [--repeats 3] [--scaling]

205 users, 5,077 images, 14 raters each, 5 % rated twice; the same rows on both sides, in memory before the clock
starts, one thread. Prints the least CPU seconds of the repeats, the ratio to lme4 (where Rscript has it) and to
mixedlm, and every estimate. `--scaling` times moments and intervals from 10^4 to 10^7 ratings and prints the slope on a
log-log plot.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.alpha import krippendorff_alpha
from analysis.component_spread import component_spread
from analysis.components import moment_components
from analysis.reml import reml_fit

TRUTH = (0.30, 0.15, 0.30, 0.25)

LMER = """
suppressMessages(library(lme4))
d <- read.csv("{path}")
d$user <- factor(d$user); d$image <- factor(d$image); d$cell <- factor(paste(d$user, d$image))
seconds <- replicate({repeats}, sum(system.time(
  m <<- lmer(y ~ 1 + (1 | image) + (1 | user) + (1 | cell), d))[c("user.self", "sys.self")]))
v <- as.data.frame(VarCorr(m)); v <- setNames(v$vcov, v$grp)
cat(min(seconds), v[c("image", "user", "cell", "Residual")])
"""


def ratings(rng: np.random.Generator, users: int = 205, images: int = 5077, raters: int = 14) -> pd.DataFrame:
    """Ratings with known variances, 5 % of them repeated."""
    image = np.repeat(np.arange(images), raters)
    user = np.concatenate([rng.choice(users, raters, replace=False) for _ in range(images)])
    sd = np.sqrt(TRUTH)
    base = rng.normal(0, sd[0], images)[image] + rng.normal(0, sd[1], users)[user] + rng.normal(0, sd[2], len(image))
    again = rng.choice(len(image), round(0.05 * len(image)), replace=False)
    rows = np.concatenate([np.arange(len(image)), again])
    return pd.DataFrame({"user": user[rows], "image": image[rows], "y": base[rows] + rng.normal(0, sd[3], len(rows))})


def timed(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Least CPU seconds, and the last result."""
    seconds, found = [], None
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def by_lme4(table: pd.DataFrame, repeats: int) -> tuple[float, list[float]] | None:
    """Least CPU seconds of `lmer` alone, and its four variances; None without R or lme4."""
    program = shutil.which("Rscript")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.csv"
        table.to_csv(path, index=False)
        code = LMER.format(path=path.as_posix(), repeats=repeats)
        done = subprocess.run([program, "--vanilla", "-e", code], capture_output=True, text=True, check=False)
    if done.returncode:
        print("lme4 did not run:", done.stderr.strip().splitlines()[-1])
        return None
    seconds, *variances = map(float, done.stdout.split())
    return seconds, variances


def compare(repeats: int) -> None:
    """Print the table."""
    table = ratings(np.random.default_rng(1))
    columns = table["y"].to_numpy(), table["user"].to_numpy(), table["image"].to_numpy()
    print(f"{len(table)} ratings, {repeats} repeats; variances of image, user, user x image, noise (truth {TRUTH})")
    moments, m = timed(lambda: moment_components(*columns), max(repeats, 7))
    intervals, _ = timed(lambda: component_spread(*columns), max(repeats, 7))
    alpha, _ = timed(lambda: krippendorff_alpha(columns[0], columns[2]), max(repeats, 7))
    reml, fit = timed(lambda: reml_fit(*columns), repeats)
    rows = [("moments", moments, _variances(m)), ("their covariance", intervals, None), ("alpha", alpha, None)]
    rows.append(("REML by mixedlm", reml, _variances(fit.components)))  # type: ignore[attr-defined]
    r = by_lme4(table, repeats)
    if r is not None:
        rows.append(("REML by lme4", *r))
    for name, seconds, variances in rows:
        against = f"{reml / seconds:8.1f}x mixedlm" + (f" {r[0] / seconds:8.1f}x lme4" if r else "")
        values = "" if variances is None else " ".join(f"{v:.3f}" for v in variances)
        print(f"{name:18s} {seconds:9.4f} s {against}   {values}")


def _variances(c: object) -> list[float]:
    return [getattr(c, name) for name in ("v_image", "v_user", "v_user_image", "v_error")]


def scaling(repeats: int) -> None:
    """Print seconds against the number of ratings, and the slope."""
    rng = np.random.default_rng(2)
    sizes, seconds = [], []
    for images in (680, 6_800, 68_000, 680_000):
        table = ratings(rng, images=images)
        columns = table["y"].to_numpy(), table["user"].to_numpy(), table["image"].to_numpy()
        cost, _ = timed(lambda columns=columns: (moment_components(*columns), component_spread(*columns)), repeats)  # type: ignore[misc]
        sizes.append(len(table))
        seconds.append(cost)
        print(f"{len(table):9d} ratings  {cost:8.4f} s")
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    last = np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])
    print(f"slope {slope:.2f}; between the last two sizes {last:.2f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scaling", action="store_true")
    args = parser.parse_args(argv)
    compare(args.repeats)
    if args.scaling:
        scaling(max(args.repeats, 5))
    return 0


if __name__ == "__main__":
    sys.exit(main())
