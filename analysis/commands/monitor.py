"""Look at a running study as often as you like: e-value and confidence sequence over participants."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import finished, load_table, population_of, provenance_of
from analysis.errors import UserError
from analysis.monitor import Monitoring, monitor_votes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--focal", required=True, help="condition whose wins are counted")
    parser.add_argument("--against", help="the other condition (default: every other)")
    parser.add_argument("--alpha", type=float, default=0.05, help="chance of a false stop (default %(default)s)")
    parser.add_argument("--planned", type=int, default=1, help="contrasts that share alpha (default %(default)s)")
    parser.add_argument("--arrival", metavar="COLUMN", help="time of each vote (default: the order of the rows)")
    parser.add_argument("--votes-each", type=int, metavar="N", help="votes of a complete participant; others wait")
    parser.add_argument("--t-opt", type=int, default=60, help="where the asymptotic sequence is sharpest (default 60)")


def run(args: argparse.Namespace) -> Monitoring:
    """Compute the e-process."""
    if population_of(args).people == "these":
        raise UserError(f"--population {args.population}", "new-people", "monitoring speaks for new people")
    if args.confidence != 0.95:  # set by hand, and at odds with --alpha
        raise UserError(f"--confidence {args.confidence}", "--alpha", "the level of the sequence is 1 - alpha/planned")
    votes = load_table(args, "votes", args.votes)
    result = monitor_votes(
        votes.frame,
        args.focal,
        args.against,
        alpha=args.alpha,
        planned=args.planned,
        arrival=args.arrival,
        votes_each=args.votes_each,
        t_opt=args.t_opt,
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)
