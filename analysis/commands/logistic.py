"""Crossed logistic model of one comparison, with random effects of participants and prompts: a sensitivity analysis."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.logistic import CrossedLogistic, crossed_logistic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--focal", required=True, help="condition whose wins are counted")
    parser.add_argument("--against", required=True, help="the other condition")


def run(args: argparse.Namespace) -> CrossedLogistic:
    """Fit the model."""
    require_new_population(args)
    votes = load_table(args, "votes", args.votes)
    result = crossed_logistic(
        votes.frame,
        args.focal,
        args.against,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
