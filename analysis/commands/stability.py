"""Does taste last? Gain of personal over population predictions on a later occasion, and the share that is kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, load_tables, population_of, provenance_of
from analysis.stability import Stability, taste_stability
from analysis.tables import Scale, TableName


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="table of predictions (CSV or Parquet)")
    parser.add_argument("ratings", type=Path, metavar="RATINGS", help="ratings with a column `occasion`")
    parser.add_argument("--train-occasion", type=int, default=1, help="the models learnt from it (default %(default)s)")
    parser.add_argument("--test-occasion", type=int, default=2, help="the later one (default %(default)s)")
    parser.add_argument("--personal-model", metavar="MODEL", help="default: the one there is, or the first by name")
    parser.add_argument("--population-model", metavar="MODEL", help="default: population, or the only such model")
    parser.add_argument("--split", help="only predictions of this split (never train or warm)")
    parser.add_argument(
        "--items", choices=("image", "prompt"), default="image", help="what is sampled beside users (default image)"
    )
    parser.add_argument("--users", type=Path, metavar="USERS", help="table of users, to compare who came back")
    parser.add_argument("--min-pairs", type=int, default=30, help="pairs a user needs (default %(default)s)")
    parser.add_argument("--min-images", type=int, default=10, help="images a user needs (default %(default)s)")


def run(args: argparse.Namespace) -> Stability:
    """Compare the occasions."""
    wanted: list[tuple[TableName, Path]] = [("predictions", args.predictions), ("ratings", args.ratings)]
    if args.users:
        wanted.append(("users", args.users))
    loaded = load_tables(args, *wanted)
    result = taste_stability(
        loaded[0].frame,
        loaded[1].frame,
        train_occasion=args.train_occasion,
        test_occasion=args.test_occasion,
        personal=args.personal_model,
        population_model=args.population_model,
        split=args.split,
        items=args.items,
        min_pairs=args.min_pairs,
        min_images=args.min_images,
        users=loaded[2].frame if args.users else None,
        confidence=confidence_of(args),
        population=population_of(args),
        scale=Scale.parse(args.scale),
        provenance=provenance_of(loaded, args),
    )
    return finished(result, loaded, args)
