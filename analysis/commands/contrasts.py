"""Planned comparisons of conditions, corrected by Holm, with simultaneous intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, generator_of, load_table, population_of, provenance_of
from analysis.contrasts import Contrasts, parse_contrasts, planned_contrasts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--contrasts", required=True, metavar="FOCAL:AGAINST,…", help="every planned contrast")


def run(args: argparse.Namespace) -> Contrasts:
    """Compute the contrasts."""
    pairs = parse_contrasts(args.contrasts)
    votes = load_table(args, "votes", args.votes)
    result = planned_contrasts(
        votes.frame,
        pairs,
        rng=generator_of(args),
        confidence=confidence_of(args),
        population=population_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
