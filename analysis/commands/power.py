"""How likely a paired study is to find an effect, and how many participants, prompts or trials it needs."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from analysis.commands import Loaded, finished, generator_of, load_table, provenance_of, require_new_population
from analysis.errors import UserError
from analysis.pilot import Pilot, pilot_effects
from analysis.planning import Costs
from analysis.power import Power, power_by_simulation
from analysis.simulated_votes import Design, Effects

SPREADS = ("participant", "prompt", "interaction")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    design = parser.add_argument_group("design")
    design.add_argument("--participants", type=int, required=True)
    design.add_argument("--prompts", type=int, required=True)
    design.add_argument("--trials", type=int, required=True, help="of each participant for each planned contrast")
    design.add_argument(
        "--opponents",
        choices=("common", "balanced", "random", "few", "yoked"),
        default="common",
        help="whose images the focal one meets (default: one for everybody)",
    )
    design.add_argument("--sources", type=int, help="with few opponents: of how many persons")
    design.add_argument("--drop-out", type=float, default=0.0, help="share of participants who leave (default 0)")
    effect = parser.add_argument_group("effects")
    effect.add_argument("--win-rate", required=True, help="marginal win rate; several, with commas, for more contrasts")
    for name in SPREADS:
        effect.add_argument(f"--sd-{name}", type=float, help=f"spread of {name}s on the logit; or from --pilot")
    effect.add_argument("--sd-source", type=float, default=0.0, help="of image quality between source persons")
    effect.add_argument("--tie-rate", type=float, help="share of ties (default 0, or the pilot's)")
    effect.add_argument("--pilot", type=Path, metavar="VOTES", help="votes from which spreads are estimated")
    effect.add_argument("--focal", help="with --pilot: condition whose wins are counted")
    effect.add_argument("--against", help="with --pilot: the other condition")
    run_group = parser.add_argument_group("simulation")
    run_group.add_argument("--replicates", type=int, default=1000, help="simulated studies (default %(default)s)")
    run_group.add_argument("--test", choices=("two-way", "three-way", "dyadic"), help="default: as win-rates chooses")
    run_group.add_argument("--alpha", type=float, default=0.05, help="default %(default)s")
    inverse = parser.add_argument_group("how many")
    inverse.add_argument("--target", type=float, metavar="POWER", help="find the number that reaches it, say .8")
    inverse.add_argument("--solve", choices=("participants", "prompts", "trials"), default="participants")
    for name in ("participant", "vote", "prompt"):
        inverse.add_argument(f"--cost-{name}", type=float, help=f"cost of a {name}")


def run(args: argparse.Namespace) -> Power:
    """Simulate."""
    require_new_population(args)
    loaded, pilot = _pilot(args)
    effects = _effects(args, pilot)
    costs = {name: getattr(args, f"cost_{name}") for name in ("participant", "vote", "prompt")}
    given = {name: value for name, value in costs.items() if value is not None}
    result = power_by_simulation(
        Design(args.participants, args.prompts, args.trials, args.opponents, args.sources, args.drop_out),
        effects,
        rng=generator_of(args),
        replicates=args.replicates,
        test=args.test,
        alpha=args.alpha,
        target=args.target,
        dimension=args.solve,
        costs=Costs(**given) if given else None,
        provenance=provenance_of(loaded, args),
    )
    if pilot is not None:
        result = dataclasses.replace(result, warnings=(*result.warnings, *(f"pilot: {note}" for note in pilot.notes)))
    return finished(result, loaded, args)


def _pilot(args: argparse.Namespace) -> tuple[list[Loaded], Pilot | None]:
    if args.pilot is None:
        if args.focal or args.against or args.columns or args.where:
            raise UserError(
                "--focal, --against, --columns and --where concern a pilot", "--pilot VOTES", "name its file"
            )
        return [], None
    if args.focal is None:
        raise UserError("--pilot without --focal", "--focal CONDITION", "name the condition whose wins are counted")
    votes = load_table(args, "votes", args.pilot)
    return [votes], pilot_effects(votes.frame, args.focal, args.against)


def _effects(args: argparse.Namespace, pilot: Pilot | None) -> Effects:
    try:
        rates = tuple(float(part) for part in args.win_rate.split(","))
    except ValueError:
        raise UserError(f"--win-rate {args.win_rate!r}", "numbers between 0 and 1, with commas", "say .539") from None
    spreads = {}
    for name in SPREADS:
        value = getattr(args, f"sd_{name}")
        if value is None and pilot is None:
            raise UserError(f"--sd-{name} is missing", "a spread on the logit, or --pilot VOTES", "assume .2 to .6")
        spreads[f"sd_{name}"] = value if value is not None else getattr(pilot.effects, f"sd_{name}")  # type: ignore[union-attr]
    ties = args.tie_rate if args.tie_rate is not None else pilot.effects.tie_rate if pilot else 0.0
    return Effects(rates, **spreads, sd_source=args.sd_source, tie_rate=ties)
