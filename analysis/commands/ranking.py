"""Strengths of all conditions from votes with ties (Davidson or Rao-Kupper), with clusters of people and prompts.

With --bootstrap the intervals are percentiles of resampled participants, and of prompts too unless --population holds
these: a check of the intervals that are given without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.coded_votes import CodedVotes, read_coded_votes
from analysis.commands import (
    Source,
    confidence_of,
    finished,
    generator_of,
    load_table,
    population_of,
    provenance_of,
)
from analysis.errors import UserError
from analysis.ranking import Ranking, rank_conditions
from analysis.results import Exclusions, file_digest

if TYPE_CHECKING:
    import pandas as pd

    from analysis.resampled_ranking import ResampledRanking

FEWEST_RESAMPLES = 200
"""Below this the ends of a 95 % interval rest on five resamples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("votes", type=Path, metavar="VOTES", help="table of votes (CSV or Parquet)")
    parser.add_argument("--ties", choices=("davidson", "rao-kupper"), default="davidson", help="model of ties")
    parser.add_argument("--reference", help="condition with strength 0 (default: first in alphabetical order)")
    parser.add_argument(
        "--order-effect",
        choices=("fit", "none"),
        help="what the left side gains (default: fit it where it can be told)",
    )
    parser.add_argument(
        "--pseudo-wins",
        type=float,
        default=0.0,
        metavar="WINS",
        help="added each way to every pair where a condition wins or loses all (default 0: refuse)",
    )

    parser.add_argument(
        "--bootstrap", type=int, metavar="N", help="percentile intervals of N resamples instead, from --seed"
    )


def run(args: argparse.Namespace) -> Ranking | ResampledRanking:
    """Fit the model."""
    if args.bootstrap is not None:
        return _resampled(args)
    votes, source = _votes(args)
    result = rank_conditions(
        votes,
        ties=args.ties,
        reference=args.reference,
        order_effect=None if args.order_effect is None else args.order_effect == "fit",
        pseudo_wins=args.pseudo_wins,
        confidence=confidence_of(args),
        population=population_of(args),
        provenance=provenance_of([source], args),
    )
    return finished(result, [source], args)


def _resampled(args: argparse.Namespace) -> ResampledRanking:
    from analysis.resampled_ranking import resample_ranking

    if args.bootstrap < FEWEST_RESAMPLES:
        raise UserError(f"--bootstrap {args.bootstrap}", f"{FEWEST_RESAMPLES} or more", "1000 are usual")
    if args.pseudo_wins or args.order_effect is not None:
        raise UserError(
            "--bootstrap with --pseudo-wins or --order-effect", "one of them", "leave the others out: side is fitted"
        )
    population = population_of(args)
    if population.people == "these":
        raise UserError(f"--population {args.population}", "new-people", "resampled participants speak for new people")
    votes = load_table(args, "votes", args.votes)
    result = resample_ranking(
        votes.frame,
        rng=generator_of(args),
        over="participants-and-prompts" if population.items == "new" else "participants",
        n_resamples=args.bootstrap,
        ties=args.ties,
        reference=args.reference,
        confidence=confidence_of(args),
        provenance=provenance_of([votes], args),
    )
    return finished(result, [votes], args)


def _votes(args: argparse.Namespace) -> tuple[pd.DataFrame | CodedVotes, Source]:
    """The votes, and where they are from; a whole Parquet file without faults is read in codes and needs no pandas."""
    whole = args.where is None and not args.columns
    coded = read_coded_votes(args.votes) if whole else None
    if coded is None:
        loaded = load_table(args, "votes", args.votes)
        return loaded.frame, loaded
    return coded, Source("votes", args.votes, file_digest(args.votes), Exclusions.none(len(coded), "votes"))
