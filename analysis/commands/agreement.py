"""How far people agree on images, with others and with themselves, and the ceilings that follow for any model."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.agreement import Agreement, rating_agreement
from analysis.commands import confidence_of, finished, generator_of, load_table, population_of, provenance_of
from analysis.tables import Scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("ratings", type=Path, metavar="RATINGS", help="table of ratings (CSV or Parquet)")
    parser.add_argument("--method", choices=("reml", "moments"), default="reml", help="default %(default)s")
    parser.add_argument(
        "--metric", choices=("nominal", "ordinal", "interval", "ratio"), default="interval", help="of alpha"
    )
    parser.add_argument("--with-index-2", action="store_true", help="also the index that counts users' levels as taste")
    parser.add_argument(
        "--bootstraps", type=int, default=0, metavar="N", help="percentile intervals from N resamples (default: none)"
    )


def run(args: argparse.Namespace) -> Agreement:
    """Compute components, coefficients and ceilings."""
    ratings = load_table(args, "ratings", args.ratings)
    result = rating_agreement(
        ratings.frame,
        method=args.method,
        metric=args.metric,
        with_index_2=args.with_index_2,
        confidence=confidence_of(args),
        bootstraps=args.bootstraps,
        rng=generator_of(args),
        population=population_of(args),
        scale=Scale.parse(args.scale),
        provenance=provenance_of([ratings], args),
    )
    return finished(result, [ratings], args)
