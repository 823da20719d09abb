"""The table: what each test did in the simulated studies, the bound it is held to, and the naive way beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from suite.core import COVERAGE, SIZE, Cell, Counted, Naive, Row, Tally

COLUMNS = ("study", "truth", "test", "rejects", "bound", "interval covers", "bound", "verdict", "naive way")


@dataclass(frozen=True)
class Judged:
    """One row against its bounds; `missed` lists what it did not hold."""

    row: Row
    missed: tuple[str, ...]
    bounded: bool

    @property
    def verdict(self) -> str:
        """For the table."""
        if self.missed:
            return "**missed**: " + "; ".join(self.missed)
        return "held" if self.bounded else "reported"


def judge(row: Row, tallies: Mapping[str, Tally]) -> Judged:
    """Hold the shares found to the row's bounds, without allowance for Monte Carlo error.

    The bounds are meant for 1,000 replicates; a test of exactly .05 passes .07 in all but two of a thousand runs.
    """
    missed = []
    bounded = row.covers_least is not None or (row.low, row.high) != (0.0, 1.0)
    if row.rejects and not row.low <= tallies[row.rejects].mean <= row.high:
        missed.append("rejects")
    if row.covers and row.covers_least is not None and not tallies[row.covers].mean >= row.covers_least:
        missed.append("covers")
    if row.mean:
        bounded = True
        if not tallies[row.mean].mean <= row.high + 3 * tallies[row.mean].se:
            missed.append("mean")
    missed += [f"{n.name} does not fail" for n in row.naive if n.must_fail and not fails(n, tallies)]
    return Judged(row, tuple(missed), bounded)


def fails(naive: Naive, tallies: Mapping[str, Tally]) -> bool:
    """Whether the naive way rejects too many true hypotheses, or covers too few true values."""
    share = tallies[naive.value].mean
    return share > SIZE if naive.kind == "rejects" else share < COVERAGE


def share_text(tally: Tally, replicates: int) -> str:
    """`.052 ± .007`, with the number of replicates where some had no value."""
    if not tally.n:
        return "none"
    few = f" (of {tally.n})" if tally.n < replicates else ""
    return f"{_decimal(tally.mean)} ± {_decimal(tally.se)}{few}"


def _decimal(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _bound(value: float) -> str:
    return f"{value:g}".replace("0.", ".", 1)


def bound_text(low: float, high: float) -> str:
    """The bounds of a share."""
    if low == high:
        return "in all"
    if high >= 1:
        return f"≥ {_bound(low)}" if low > 0 else "(power)"
    return f"{_bound(low)} to {_bound(high)}" if low > 0 else f"≤ {_bound(high)}"


def lines_of(cell: Cell, counted: Counted) -> list[str]:
    """Rows of the Markdown table."""
    found = []
    for at, row in enumerate(cell.rows):
        naive = "; ".join(_naive_text(n, counted.tallies) for n in row.naive)
        rejects = row.rejects or row.mean
        cells = (
            cell.design if at == 0 else "",
            cell.truth if at == 0 else "",
            row.test,
            share_text(counted.tallies[rejects], counted.replicates) if rejects else "",
            ("≤ 1 + 3 SE" if row.mean else bound_text(row.low, row.high)) if rejects else "",
            share_text(counted.tallies[row.covers], counted.replicates) if row.covers else "",
            f"≥ {_bound(row.covers_least)}" if row.covers and row.covers_least is not None else "",
            judge(row, counted.tallies).verdict,
            naive,
        )
        found.append("| " + " | ".join(cells) + " |")
    return found


def _naive_text(naive: Naive, tallies: Mapping[str, Tally]) -> str:
    wrong = ", **fails**" if fails(naive, tallies) else ""
    return f"{naive.name}: {naive.kind} {_decimal(tallies[naive.value].mean)}{wrong}"


def page(cells: Sequence[Cell], counted: Sequence[Counted], head: str) -> str:
    """The whole document; `head` says how it was made."""
    judged = [judge(row, c.tallies) for cell, c in zip(cells, counted, strict=True) for row in cell.rows]
    n_bounded = sum(j.bounded for j in judged)
    n_missed = sum(bool(j.missed) for j in judged)
    verdict = f"**{n_bounded - n_missed} of {n_bounded} rows with a bound hold it.**"
    parts = [head, verdict, ""]
    for section in dict.fromkeys(cell.section for cell in cells):
        parts += [f"## {section}", "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        chosen = [(cell, c) for cell, c in zip(cells, counted, strict=True) if cell.section == section]
        for cell, c in chosen:
            parts += lines_of(cell, c)
        refused = [f"{cell.design}: {c.refused}" for cell, c in chosen if c.refused]
        if refused:
            parts += ["", "Studies without an estimate, left out: " + "; ".join(refused) + "."]
        parts.append("")
    return "\n".join(parts)


def missed(cells: Sequence[Cell], counted: Sequence[Counted]) -> list[str]:
    """What did not hold, one line each."""
    found = []
    for cell, c in zip(cells, counted, strict=True):
        for row in cell.rows:
            wrong = judge(row, c.tallies).missed
            if wrong:
                found.append(f"{cell.name}, {row.test}: {'; '.join(wrong)}")
    return found


def minutes(counted: Sequence[Counted]) -> int:
    """Time over all cells, rounded up."""
    return math.ceil(sum(c.seconds for c in counted) / 60)
