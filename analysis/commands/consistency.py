"""Do steered images carry a personal style across prompts? (T2 with a permutation of users; T1 as description)."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import (
    confidence_of,
    finished,
    generator_of,
    load_table,
    provenance_of,
    require_new_population,
)
from analysis.consistency import Consistency, steering_consistency


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("steered", type=Path, metavar="STEERED", help="table of steered images (Parquet or CSV)")
    parser.add_argument("--condition", help="which condition, when the table has several")


def run(args: argparse.Namespace) -> Consistency:
    """Compute the statistics."""
    require_new_population(args)
    steered = load_table(args, "steered", args.steered)
    result = steering_consistency(
        steered.frame,
        rng=generator_of(args),
        condition=args.condition,
        confidence=confidence_of(args),
        provenance=provenance_of([steered], args),
    )
    return finished(result, [steered], args)
