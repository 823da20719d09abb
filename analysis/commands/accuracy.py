"""How well reward models order images: for single users, or on the average over users."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.accuracy import Accuracy, accuracy
from analysis.commands import confidence_of, finished, load_tables, population_of, provenance_of
from analysis.tables import Scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="table of predictions (CSV or Parquet)")
    parser.add_argument("ratings", type=Path, metavar="RATINGS", help="table of ratings (CSV or Parquet)")
    parser.add_argument("--level", choices=("user", "population"), default="user", help="default %(default)s")
    parser.add_argument("--margin", type=int, default=0, metavar="TICKS", help="pairs differ by more (default 0)")
    parser.add_argument("--baseline", metavar="MODEL", help="differences against this model only (default: all pairs)")
    parser.add_argument(
        "--items", choices=("image", "prompt"), default="image", help="what is sampled beside users (default image)"
    )
    parser.add_argument("--min-pairs", type=int, default=30, help="pairs a user needs (default %(default)s)")
    parser.add_argument("--min-images", type=int, default=10, help="images a user needs (default %(default)s)")


def run(args: argparse.Namespace) -> Accuracy:
    """Compute accuracies and differences."""
    loaded = load_tables(args, ("predictions", args.predictions), ("ratings", args.ratings))
    result = accuracy(
        loaded[0].frame,
        loaded[1].frame,
        level=args.level,
        margin=args.margin,
        confidence=confidence_of(args),
        min_pairs=args.min_pairs,
        min_images=args.min_images,
        items=args.items,
        baseline=args.baseline,
        population=population_of(args),
        scale=Scale.parse(args.scale),
        provenance=provenance_of(loaded, args),
    )
    return finished(result, loaded, args)
