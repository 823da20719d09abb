"""Accuracy of reward models against the tie margin, beside the curve of constant skill."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import confidence_of, finished, generator_of, load_tables, population_of, provenance_of
from analysis.errors import UserError
from analysis.levels import Rules
from analysis.tables import Scale
from analysis.tie_curve import TieCurve, tie_curve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="table of predictions (CSV or Parquet)")
    parser.add_argument("ratings", type=Path, metavar="RATINGS", help="table of ratings (CSV or Parquet)")
    parser.add_argument(
        "--margins", default="0:500:10", metavar="FIRST:LAST:STEP", help="ticks, last included (default %(default)s)"
    )
    parser.add_argument(
        "--items", choices=("image", "prompt"), default="image", help="what is sampled beside users (default image)"
    )
    parser.add_argument("--min-pairs", type=int, default=30, help="pairs a user needs (default %(default)s)")
    parser.add_argument("--min-images", type=int, default=10, help="images a user needs (default %(default)s)")
    parser.add_argument("--same-users", action="store_true", help="keep users with enough pairs at every margin only")


def margins_of(text: str) -> tuple[int, ...]:
    """Read `FIRST:LAST:STEP`, whole numbers, last included."""
    try:
        first, last, step = (int(part) for part in text.split(":"))
    except ValueError:
        raise UserError(
            f"--margins {text!r}", "FIRST:LAST:STEP in whole ticks", "write for instance 0:500:10"
        ) from None
    if first < 0 or last < first or step < 1:
        raise UserError(f"--margins {text!r}", "0 <= FIRST <= LAST, STEP of 1 or more")
    return tuple(range(first, last + 1, step))


def run(args: argparse.Namespace) -> TieCurve:
    """Compute the curves."""
    loaded = load_tables(args, ("predictions", args.predictions), ("ratings", args.ratings))
    rules = Rules(
        min_pairs=args.min_pairs, min_images=args.min_images, items=args.items, population=population_of(args)
    )
    result = tie_curve(
        loaded[0].frame,
        loaded[1].frame,
        margins_of(args.margins),
        rng=generator_of(args),
        confidence=confidence_of(args),
        rules=rules,
        same_users=args.same_users,
        scale=Scale.parse(args.scale),
        provenance=provenance_of(loaded, args),
    )
    return finished(result, loaded, args)
