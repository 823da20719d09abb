"""Crossed logistic model with random effects of participants and prompts, as a sensitivity analysis.

Of one comparison (--focal and --against), or of all conditions together with random slopes (--slopes).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands import confidence_of, finished, load_table, provenance_of, require_new_population
from analysis.errors import UserError
from analysis.results import Result

if TYPE_CHECKING:
    from analysis.commands import Loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--focal", help="condition whose wins are counted")
    parser.add_argument("--against", help="the other condition")
    parser.add_argument("--slopes", action="store_true", help="all conditions, with slopes by participant and prompt")
    parser.add_argument("--reference", help="with --slopes: condition with strength 0 (default: first by name)")
    parser.add_argument("--contrasts", metavar="A:B,…", help="with --slopes: differences to test (default: all pairs)")


def run(args: argparse.Namespace) -> Result:
    """Fit the model."""
    require_new_population(args)
    pair, several = (args.focal, args.against), (args.reference, args.contrasts)
    wrong = any(pair) if args.slopes else not all(pair) or any(several)
    if wrong:
        raise UserError(
            "which model?",
            "--focal A --against B for one comparison, or --slopes [--reference A] [--contrasts A:B,…] for all",
            "give one or the other",
        )
    votes = load_table(args, "votes", args.votes)
    return finished(_slopes(args, votes) if args.slopes else _pair(args, votes), [votes], args)


def _pair(args: argparse.Namespace, votes: Loaded) -> Result:
    from analysis.logistic import crossed_logistic

    confidence, provenance = confidence_of(args), provenance_of([votes], args)
    return crossed_logistic(votes.frame, args.focal, args.against, confidence=confidence, provenance=provenance)


def _slopes(args: argparse.Namespace, votes: Loaded) -> Result:
    from analysis.contrasts import parse_contrasts
    from analysis.logistic_slopes import crossed_strengths

    return crossed_strengths(
        votes.frame,
        reference=args.reference,
        contrasts=parse_contrasts(args.contrasts) if args.contrasts else None,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
