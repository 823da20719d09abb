"""How much people differ in how often they choose a condition, with sampling noise taken out."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.heterogeneity import Heterogeneity, participant_spread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--focal", required=True, help="condition whose wins are counted")
    parser.add_argument("--against", help="the other condition (default: every other)")


def run(args: argparse.Namespace) -> Heterogeneity:
    """Compute the spread."""
    require_new_population(args)
    votes = load_table(args, "votes", args.votes)
    result = participant_spread(
        votes.frame,
        args.focal,
        args.against,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
