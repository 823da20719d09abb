"""Side bias, fatigue over the session, and carry-over from the last answer."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.order_effects import OrderEffects, session_effects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")


def run(args: argparse.Namespace) -> OrderEffects:
    """Compute the effects."""
    require_new_population(args)
    votes = load_table(args, "votes", args.votes)
    result = session_effects(
        votes.frame,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
