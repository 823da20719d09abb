"""Who is right where two people disagree: the share of diverging pairs that reward models order right."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, generator_of, load_tables, population_of, provenance_of
from analysis.disagreement import Disagreement, disagreement
from analysis.tables import Scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help="predictions; every user and image for a permutation p"
    )
    parser.add_argument("ratings", type=Path, metavar="RATINGS", help="table of ratings (CSV or Parquet)")
    parser.add_argument(
        "--margin", type=int, default=0, metavar="TICKS", help="both users' ratings differ by more (default 0)"
    )
    parser.add_argument("--permutations", type=int, default=9999, help="of user identities (default %(default)s)")


def run(args: argparse.Namespace) -> Disagreement:
    """Count diverging pairs and test."""
    loaded = load_tables(args, ("predictions", args.predictions), ("ratings", args.ratings))
    result = disagreement(
        loaded[0].frame,
        loaded[1].frame,
        rng=generator_of(args),
        margin=args.margin,
        confidence=confidence_of(args),
        draws=args.permutations,
        population=population_of(args),
        scale=Scale.parse(args.scale),
        provenance=provenance_of(loaded, args),
    )
    return finished(result, loaded, args)
