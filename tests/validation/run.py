"""How often the tests of this package reject true and false hypotheses, and how often its intervals hold the truth.

    python tests/validation/run.py --out docs/validation.md [--replicates 1000] [--seed 1] [--only NAME ...]

Every cell draws studies whose truth is known, hands them to the public functions of `analysis`, and counts. Finished
cells are kept in `--lines`, keyed by settings, seed and source files: a killed run goes on where it was, and a change
of code redoes what it touches. Ends with 1 when a bound is missed; the table is written all the same.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from suite import cells_accuracy, cells_models, cells_monitoring, cells_paired, cells_personal, cells_sources
from suite.core import Cell, Counted, count, digest_of, key_of
from suite.table import minutes, missed, page

from analysis.results import package_versions

CELLS: tuple[Cell, ...] = (
    *cells_paired.CELLS,
    *cells_sources.CELLS,
    *cells_monitoring.CELLS,
    *cells_accuracy.CELLS,
    *cells_models.CELLS,
    *cells_personal.CELLS,
)

HEAD = """# Size, power and coverage in simulated studies

Every row: {replicates} studies drawn with a known truth and analysed by the public function named, at a level of 5 %
with intervals of 95 %. Shares are given with their Monte Carlo standard errors; bounds are applied to the shares as
found. They are: rejection of a true hypothesis ≤ .07 (≤ .09 for dyadic clusters, and for permutations of 20 people or
fewer); ≥ .02 for two-way clusters with 20 or more on either side and effects above 0, and for T2 (elsewhere a test may
be conservative); coverage ≥ .93 (.92 for accuracies, for the band of a margin curve and for T2's interval over
resampled users; .91 where the test's bound is .09; .88 for T2 with fewer than ten users, where the function itself says
that its interval is short). Bounds below a power were set before the run. Coverage without a bound, of the simultaneous
intervals (max-T), is reported only. "Fails" marks a naive way that rejects more than .07 or covers less than .93.

Spreads (SDs) of votes are on the logit, in the order participants, prompts, interaction. What was planted is a mean
over new people and new prompts (monitoring: these prompts), from quadrature or closed forms, so that no row is held to
an estimate of its own; only the accuracy where people disagree comes from 100 large studies drawn apart.

Made by

    {command}

in {minutes} min of processor time, with {versions};
digest of settings and source files {sources}.
"""


def chosen(only: Sequence[str] | None) -> list[Cell]:
    """Cells whose name contains one of the texts; all without any."""
    cells = [cell for cell in CELLS if only is None or any(text in cell.name for text in only)]
    if not cells:
        raise SystemExit(f"no cell is called {', '.join(only or ())}; there are: {'; '.join(c.name for c in CELLS)}")
    return cells


def stored(lines: Path) -> dict[str, Counted]:
    """Finished cells by key; a line cut off by a kill is passed over."""
    found = {}
    for text in lines.read_text(encoding="utf-8").splitlines() if lines.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found[line["key"]] = Counted.from_json(line)
    return found


def counted_cells(
    cells: Sequence[Cell], keys: Sequence[str], replicates: int, seed: int, lines: Path, tell: Callable[[str], None]
) -> list[Counted]:
    """Results in the order of the cells and their keys; what `lines` holds is not run again."""
    done = stored(lines)
    lines.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for at, (cell, key) in enumerate(zip(cells, keys, strict=True), start=1):
        label = f"{at}/{len(cells)} {cell.name}"
        if key in done:
            tell(f"{label}: stored")
        else:
            done[key] = count(cell, replicates, seed, time.process_time, tenths(label, replicates, tell))
            line = json.dumps({"key": key, "name": cell.name, **done[key].to_json()})
            with lines.open("a", encoding="utf-8") as stream:
                stream.write("\n" * needs_newline(lines) + line + "\n")
        found.append(done[key])
    return found


def needs_newline(lines: Path) -> bool:
    """Whether the file ends in the middle of a line."""
    return lines.stat().st_size > 0 and lines.read_bytes()[-1:] != b"\n"


def tenths(label: str, replicates: int, tell: Callable[[str], None]) -> Callable[[int], None]:
    """Say how far a cell is, ten times."""
    step = max(replicates // 10, 1)

    def heard(done: int) -> None:
        if done % step == 0:
            tell(f"{label}: {done}/{replicates}")

    return heard


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    options.add_argument("--replicates", type=int, default=1000, help="studies a cell (default 1000)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", nargs="+", metavar="NAME", help="cells whose names contain one of these texts")
    options.add_argument("--lines", type=Path, default=Path("store/validation.jsonl"), help="finished cells")
    given = options.parse_args(arguments)
    cells = chosen(given.only)
    keys = [key_of(cell, given.replicates, given.seed) for cell in cells]  # of the code as it was loaded
    counted = counted_cells(
        cells, keys, given.replicates, given.seed, given.lines, lambda text: print(text, file=sys.stderr, flush=True)
    )
    if keys != [key_of(cell, given.replicates, given.seed) for cell in cells]:
        raise SystemExit("source files changed during the run: run again, what they do not touch is stored")
    command = f"python tests/validation/run.py --out {given.out} --replicates {given.replicates} --seed {given.seed}"
    if given.only:
        command += " --only " + shlex.join(given.only)
    head = HEAD.format(
        replicates=f"{given.replicates:,}",
        command=command,
        minutes=minutes(counted),
        versions=", ".join(f"{name} {version}" for name, version in package_versions()),
        sources=digest_of(keys)[:12],
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(page(cells, counted, head), encoding="utf-8")
    wrong = missed(cells, counted)
    for line in wrong:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
