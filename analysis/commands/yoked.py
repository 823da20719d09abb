"""Personalisation effect P(u picks u's image) + P(v picks v's) - 1 of pairs that both people judged."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.yoked import YokedEffect, yoked_effect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--own", default="own", help="condition made for the participant (default %(default)s)")
    parser.add_argument("--other", default="other", help="condition made for somebody else (default %(default)s)")


def run(args: argparse.Namespace) -> YokedEffect:
    """Match the votes and compute the effect."""
    require_new_population(args)
    votes = load_table(args, "votes", args.votes)
    result = yoked_effect(
        votes.frame,
        args.own,
        args.other,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
