"""`python -m analysis COMMAND …`: read tables, compute, write. The commands themselves are in `analysis.commands`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from analysis.errors import EstimateError, UserError

if TYPE_CHECKING:
    from analysis.results import Result

COMMANDS = {
    "win-rates": ("win_rates", "how often one condition is chosen over the others"),
    "contrasts": ("contrasts", "planned comparisons with Holm's correction and simultaneous intervals"),
    "ranking": ("ranking", "strengths of all conditions from votes with ties"),
    "yoked": ("yoked", "personalisation effect of pairs that both people judged"),
    "heterogeneity": ("heterogeneity", "how much do people differ in what they choose?"),
    "order-effects": ("order_effects", "side bias, fatigue and carry-over"),
    "logistic": ("logistic", "the same comparison by a crossed logistic model, as a sensitivity analysis"),
    "consistency": ("consistency", "do steered images carry a personal style across prompts?"),
    "monitor": ("monitor", "may the study stop? evidence that holds however often one looks"),
    "power": ("power", "how likely a study is to find an effect, and how many people it needs"),
    "agreement": ("agreement", "how far people agree, with others and with themselves, and the ceilings of any model"),
    "accuracy": ("accuracy", "pairwise accuracy of reward models, by person and for the population"),
    "tie-curve": ("tie_curve", "accuracy against the tie margin, with the curve of constant skill"),
    "stability": ("stability", "does taste last? personal predictions on a later occasion's ratings"),
    "disagreement": ("disagreement", "who is right where two people disagree"),
    "report": ("report", "everything a plan asks for, on one page, with a bundle to compute it again"),
    "rerun": ("rerun", "compute every number of a report again from its bundle, and compare"),
}
"""Command -> (module in analysis.commands, what it answers). Modules are imported when their command is used."""


class _Parser(argparse.ArgumentParser):
    """Bad options are told in one line, like every other mistake of the user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}", remedy=f"see {self.prog} --help")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: python -m analysis COMMAND …\n\ncommands:\n" + "\n".join(lines) + "\n\nCOMMAND --help tells more.\n"


def _parsed(argv: Sequence[str]) -> tuple[str, argparse.Namespace]:
    from analysis.commands import add_common_arguments

    name = argv[0]
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}", ", ".join(COMMANDS), "choose one of these")
    module, text = COMMANDS[name]
    command = importlib.import_module(f"analysis.commands.{module}")
    parser = _Parser(prog=f"python -m analysis {name}", description=command.__doc__ or text, allow_abbrev=False)
    command.add_arguments(parser)
    add_common_arguments(parser)
    args = parser.parse_args(argv[1:])
    return module, args


def write_result(result: Result, folder: Path) -> list[Path]:
    """Write `result.json`, one CSV a table and `figure.svg` (where there is one); returns the paths.

    Rewrites what an earlier call left under the same names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "result.json"]
    written[0].write_text(result_text(result), encoding="utf-8")
    for stem, frame in result.tables().items():
        written.append(folder / f"{stem}.csv")
        frame.to_csv(written[-1], index=False, lineterminator="\n")
    chart = result.plot()
    if chart is not None:
        written.append(folder / "figure.svg")
        chart.save(str(written[-1]))
    return written


def result_text(result: Result) -> str:
    """The text of `result.json`."""
    return json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0 if argv else 2
    module, args = _parsed(argv)
    try:
        result: Result = importlib.import_module(f"analysis.commands.{module}").run(args)
    except EstimateError as error:
        files = ", ".join(str(v) for k, v in vars(args).items() if isinstance(v, Path) and k != "out")
        raise EstimateError(f"{files}: {error.found}" if files else error.found, error.allowed, error.remedy) from None
    if args.out is not None:
        write_result(result, args.out)
    if args.json:
        sys.stdout.write(result_text(result))
        return result.exit_status
    lines = [result.summary(), *(f"Warning: {text}" for text in result.warnings)]
    lines += [f"Rows: {result.exclusions.text}."]
    sys.stdout.write("\n".join(lines) + "\n")
    return result.exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 when a rerun differs, 2 with one line on standard error for bad input."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
