"""Ranking of a million votes beside evalica, choix, statsmodels, arenakit and R, on the same rows in one run.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_ranking.py [--repeats 3] [--parts fit,file]

Parts: `fit` (strengths, and two-way covariance where there is one, from data as each tool wants them), `file` (Parquet
file to table, and peak memory of a fresh process), `command` (start, read, fit, JSON, against a short evalica script),
`bootstrap` (1,000 resamples of participants), `scaling` (10^4 to 10^7 votes from file to table, slope on a log-log
plot).

5 conditions, N/50 participants, 500 prompts, effects of both on conditions and on the left side, 14 % ties, text ids.
CPU seconds, least of the repeats (other work on the machine only adds). Tools that are not installed are named and left
out. Ratios are theirs / ours: above 1 ours is faster. At 10^7 votes the ids of 200,000 participants no longer fit
Parquet's dictionary page: the file is 19 times that of 10^6 votes, and every id is read as text and hashed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.batched_fits import fit_batch
from analysis.coded_votes import read_coded_votes
from analysis.comparisons import Comparisons, comparisons
from analysis.davidson import Counts, fit_counts, strength_design
from analysis.ranking import rank_conditions
from analysis.resampled_ranking import _resampled
from analysis.results import Population, Provenance
from analysis.sandwich import KindTables, Sandwich, two_way_sandwich
from analysis.tables import check_votes, read_table

CONDITIONS = ("own", "other", "unoptimised", "hpsv3", "qalign")
STRENGTHS = np.array([0.3, 0.15, 0.0, -0.1, -0.3])
GOALS = {
    "evalica": 8,
    "choix ilsr": 15,
    "statsmodels GLM": 40,
    "R glm + vcovCL": 300,
    "arenakit voter bootstrap": 15,
    "evalica script": 1,
}

EVALICA_SCRIPT = """
import sys, evalica, pandas as pd
v = pd.read_parquet(sys.argv[1])
w = v["choice"].map({"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw})
print(evalica.bradley_terry(v["left_condition"], v["right_condition"], w).scores)
"""

R_SCRIPT = """
suppressMessages(library(sandwich)); d <- read.csv("{path}")
seconds <- system.time({{ m <- glm(y ~ . - p - i, binomial, d); v <- vcovCL(m, ~ p + i) }})
cat(seconds["user.self"] + seconds["sys.self"])
"""

FILE_SCRIPT = """
import sys, time
from pathlib import Path
import pyarrow.compute, pyarrow.parquet, scipy.special
from analysis.coded_votes import read_coded_votes
from analysis.ranking import rank_conditions
from analysis.results import Provenance
rank_conditions(read_coded_votes(Path(sys.argv[2])), provenance=Provenance())
start = time.process_time()
rank_conditions(read_coded_votes(Path(sys.argv[1])), provenance=Provenance())
seconds = time.process_time() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, int(status["VmHWM"].split()[0]) / 1024)
"""


def write_votes(path: Path, n: int, seed: int = 1) -> Path:
    """Votes of n/50 participants as a Parquet file of text columns."""
    rng = np.random.default_rng(seed)
    n_people, n_prompts, k = max(n // 50, 2), 500, len(CONDITIONS)
    p, i = rng.integers(0, n_people, n), rng.integers(0, n_prompts, n)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    person, prompt = rng.normal(0, 0.3, (n_people, k)), rng.normal(0, 0.3, (n_prompts, k))
    side = rng.normal(0, 0.3, n_people)[p] + rng.normal(0, 0.3, n_prompts)[i]
    d = STRENGTHS[a] - STRENGTHS[b] + person[p, a] - person[p, b] + prompt[i, a] - prompt[i, b] + side
    left, right, tie = np.exp(d / 2), np.exp(-d / 2), np.exp(-1.0)
    u = rng.random(n) * (left + right + tie)
    choice = np.where(u < left, 0, np.where(u < left + right, 1, 2))
    columns = {
        "participant_id": (p, [f"u{x:07d}" for x in range(n_people)]),
        "prompt_id": (i, [f"p{x:04d}" for x in range(n_prompts)]),
        "left_condition": (a, CONDITIONS),
        "right_condition": (b, CONDITIONS),
        "choice": (choice, ("left", "right", "tie")),
    }
    arrays = {
        name: pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(labels)).cast(pa.string())
        for name, (codes, labels) in columns.items()
    }
    pq.write_table(pa.table(arrays), path)
    return path


def cpu(work: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def child(command: Sequence[str], repeats: int) -> float:
    """Least CPU seconds of a whole process."""
    seconds = []
    for _ in range(repeats):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:4]} ended with {process.returncode}")
        seconds.append(usage.ru_utime + usage.ru_stime)
    return min(seconds)


def tool(name: str) -> Any:
    """The module, or None with a line that says so."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"  {name} is not installed: left out")
        return None


def told(name: str, theirs: float, ours: float) -> None:
    """One comparison with its goal."""
    goal = GOALS[name]
    verdict = "reached" if theirs / ours >= goal else "MISSED"
    print(f"  {name:<26} {theirs:9.4f} s   {theirs / ours:7.1f} x   (goal {goal} x: {verdict})")


def own_fit(data: Comparisons) -> Sandwich:
    """Counts, Davidson with the order effect, and the two-way sandwich, from codes."""
    tables = KindTables.of(data.cell, 3 * len(data.counts.left), data.people, data.items, data.n_people, data.n_items)
    votes = tables.by_items.sum(axis=0).reshape(-1, 3)
    counts = Counts(data.counts.left, data.counts.right, votes, data.counts.n_conditions)
    fit = fit_counts(counts, strength_design(counts, 0, True), "davidson")
    return two_way_sandwich(fit.information, fit.scores.reshape(-1, fit.scores.shape[-1]), tables, Population())


def decided(data: Comparisons) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows without ties, whether the left won, and the design: difference of conditions and a constant for the left."""
    rows = np.flatnonzero(data.cell % 3 != 2)
    design = strength_design(data.counts, 0, True)
    return rows, (data.cell[rows] % 3 == 0).astype(float), design[data.cell[rows] // 3]


def bench_fit(path: Path, repeats: int, scratch: Path) -> None:
    """Strengths from data as each tool wants them."""
    votes = check_votes(read_table(path))
    data = comparisons(votes)
    ours = cpu(lambda: own_fit(data), repeats)
    print(f"fit with two-way covariance, {len(votes):,} votes\n  {'ours (Davidson, two-way)':<26} {ours:9.4f} s")
    text = {name: votes[name].astype("str").tolist() for name in ("left_condition", "right_condition", "choice")}
    if evalica := tool("evalica"):
        winner = {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}
        pairs = text["left_condition"], text["right_condition"], [winner[c] for c in text["choice"]]
        told("evalica", cpu(lambda: evalica.bradley_terry(*pairs, tolerance=1e-8), repeats), ours)
    rows, won, X = decided(data)
    if choix := tool("choix"):
        pair = data.cell[rows] // 3
        left, right = data.counts.left[pair], data.counts.right[pair]
        first, second = np.where(won == 1, left, right).tolist(), np.where(won == 1, right, left).tolist()
        wins = list(zip(first, second, strict=True))
        told("choix ilsr", cpu(lambda: choix.ilsr_pairwise(len(data.names), wins), repeats), ours)
    groups = np.column_stack([data.people[rows], data.items[rows]])
    if sm := tool("statsmodels.api"):
        clusters = {"groups": groups}
        model = sm.GLM(won, X, family=sm.families.Binomial())
        told("statsmodels GLM", cpu(lambda: model.fit(cov_type="cluster", cov_kwds=clusters), repeats), ours)
    if shutil.which("Rscript"):
        frame = pd.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])]).drop(columns=f"x{X.shape[1] - 1}")
        table = frame.assign(y=won.astype(int), p=groups[:, 0], i=groups[:, 1])
        table.to_csv(scratch / "decided.csv", index=False)
        code = R_SCRIPT.format(path=scratch / "decided.csv")
        done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            told("R glm + vcovCL", float(done.stdout), ours)
        else:
            print(f"  R: {done.stderr.strip().splitlines()[-1]}")


def bench_file(path: Path, repeats: int, small: Path) -> None:
    """File to table after imports, in a fresh process each time."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, "-c", FILE_SCRIPT, str(path), str(small)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append([float(x) for x in done.stdout.split()])
    seconds, memory = (min(column) for column in zip(*runs, strict=True))
    print("Parquet file to table with two-way intervals, fresh process, after imports")
    print(f"  {seconds:.3f} s (goal 0.2), peak {memory:.0f} MB (goal 400)")


def bench_command(path: Path, repeats: int) -> None:
    """The whole command against a short script."""
    ours = child([sys.executable, "-m", "analysis", "ranking", str(path), "--json"], repeats)
    print(f"whole command: start, read, fit, intervals, JSON\n  {'ours':<26} {ours:9.4f} s")
    if tool("evalica"):
        told("evalica script", child([sys.executable, "-c", EVALICA_SCRIPT, str(path)], repeats), ours)


def bench_bootstrap(path: Path, repeats: int) -> None:
    """1,000 resamples of participants; arenakit's time is scaled up from 50."""
    votes = check_votes(read_table(path))
    data = comparisons(votes)
    design = strength_design(data.counts, 0, True)

    def ours() -> np.ndarray:
        fit = fit_counts(data.counts, design, "davidson")
        tables = _resampled(data, "participants", 1000, np.random.default_rng(1))
        return fit_batch(tables, design, "davidson", fit.parameters)

    mine = cpu(ours, repeats)
    print(f"participant bootstrap, 1,000 resamples\n  {'ours (Davidson)':<26} {mine:9.4f} s")
    if arenakit := tool("arenakit"):
        names = ("left_condition", "right_condition", "choice", "participant_id")
        columns = [votes[name].astype("str").tolist() for name in names]
        winner = {"left": "a", "right": "b", "tie": "tie"}
        battles = [
            arenakit.Battle(model_a=a, model_b=b, winner=winner[c], voter_id=v)
            for a, b, c, v in zip(*columns, strict=True)
        ]
        arena = arenakit.Arena(battles)

        def theirs() -> object:
            return arenakit.bootstrap(arena, arenakit.fit_rao_kupper, n_resamples=50, seed=1, cluster="voter")

        told("arenakit voter bootstrap", 20 * cpu(theirs, 1), mine)


def bench_scaling(scratch: Path, repeats: int) -> None:
    """Cost against the number of votes, file to table."""
    print("file to table by number of votes")
    sizes, seconds = [10**k for k in (4, 5, 6, 7)], []
    for n in sizes:
        path = write_votes(scratch / f"scaling-{n}.parquet", n)

        def ours(path: Path = path) -> None:
            votes = read_coded_votes(path)
            if votes is None:
                raise SystemExit(f"{path} was not read in codes")
            rank_conditions(votes, provenance=Provenance())

        seconds.append(cpu(ours, repeats))
        print(f"  {n:>10,} {seconds[-1]:9.4f} s")
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    last = np.log(seconds[-1] / seconds[-2]) / np.log(10)
    print(f"  slope on a log-log plot {slope:.2f} (goal 1.05); between the last two sizes {last:.2f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--votes", type=int, default=1_000_000)
    parser.add_argument("--parts", default="fit,file,command,bootstrap,scaling")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        path, small = write_votes(scratch / "votes.parquet", args.votes), write_votes(scratch / "small.parquet", 10_000)
        for part in args.parts.split(","):
            if part == "fit":
                bench_fit(path, args.repeats, scratch)
            elif part == "file":
                bench_file(path, args.repeats, small)
            elif part == "command":
                bench_command(path, args.repeats)
            elif part == "bootstrap":
                bench_bootstrap(path, args.repeats)
            elif part == "scaling":
                bench_scaling(scratch, args.repeats)
            else:
                raise SystemExit(f"no part {part!r}: fit, file, command, bootstrap, scaling")


if __name__ == "__main__":
    main()
