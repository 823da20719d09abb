"""Strengths of all conditions from votes with ties (Davidson or Rao-Kupper), with clusters of people and prompts."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.ranking import Ranking, rank_conditions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--ties", choices=("davidson", "rao-kupper"), default="davidson", help="model of ties")
    parser.add_argument("--reference", help="condition with strength 0 (default: first in alphabetical order)")


def run(args: argparse.Namespace) -> Ranking:
    """Fit the model."""
    require_new_population(args)
    votes = load_table(args, "votes", args.votes)
    result = rank_conditions(
        votes.frame,
        ties=args.ties,
        reference=args.reference,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
