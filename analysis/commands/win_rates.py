"""How often one condition is chosen over another, for new people and new prompts."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, population_of, provenance_of
from analysis.win_rates import WinRate, win_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--focal", required=True, help="condition whose wins are counted")
    parser.add_argument("--against", help="the other condition (default: every other)")


def run(args: argparse.Namespace) -> WinRate:
    """Compute the win rate."""
    votes = load_table(args, "votes", args.votes)
    result = win_rate(
        votes.frame,
        args.focal,
        args.against,
        confidence=confidence_of(args),
        population=population_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
