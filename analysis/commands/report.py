"""One page with everything a plan asks for, and a bundle from which it can be computed again."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands import (
    DEFAULT_SEED,
    confidence_of,
    finished,
    load_tables,
    population_of,
)
from analysis.errors import UserError
from analysis.plan import AnalysisPlan
from analysis.report import CHECKED, KNOWN, Report, make_report, write_report
from analysis.results import Population
from analysis.tables import Scale, TableName, read_table

if TYPE_CHECKING:
    import pandas as pd

    from analysis.commands import Loaded
    from analysis.report_gallery import Gallery

SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz", ".tsv", ".tsv.gz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "plan", type=Path, metavar="PLAN", help="analysis plan, or a study's plan that holds one (YAML)"
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA_DIR", help=f"folder with tables named {', '.join(KNOWN)} (.parquet, .csv, …)"
    )
    parser.add_argument("--registered", metavar="HASH", help="hash of the plan as registered before the data")
    parser.add_argument(
        "--deviation", action="append", default=[], metavar="TEXT", help="what was done otherwise than planned (repeat)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where paths of the table images start (DATA_DIR)")
    parser.add_argument("--zip", action="store_true", help="write bundle.zip instead of the folder bundle")


def run(args: argparse.Namespace) -> Report:
    """Compute, and write page and bundle to `--out`."""
    if args.out is None:
        raise UserError("report writes files and needs --out DIR", remedy="add --out report")
    plan = AnalysisPlan.load(args.plan)
    _refuse_other_settings(args, plan)
    loaded, tables = _tables(args)
    images, prompts = tables.pop("images", None), tables.get("prompts")
    deviations = list(args.deviation)
    if args.where is not None:
        deviations.append(f"rows were selected by {args.where}")
    report = make_report(plan, tables, scale=Scale.parse(args.scale), registered=args.registered, deviations=deviations)
    files = [table for table in loaded if table.name in tables]
    pictures: Gallery | None = None
    if images is not None and "votes" in tables:
        from analysis.report_gallery import files_in, gallery

        pictures = gallery(tables["votes"], images, files_in(args.images or args.data), plan, prompts=prompts)
    done = finished(report, files, args) if files else report
    done = dataclasses.replace(
        done, provenance=dataclasses.replace(report.provenance, settings=done.provenance.settings)
    )
    write_report(done, tables, args.out, pictures=pictures, zipped=args.zip)
    return done


def _refuse_other_settings(args: argparse.Namespace, plan: AnalysisPlan) -> None:
    """The plan fixes seed, confidence and population: another wish on the command line is an error, not a choice."""
    given = (
        ("--seed", args.seed, DEFAULT_SEED, plan.seed),
        ("--confidence", confidence_of(args), 0.95, plan.confidence),
        ("--population", population_of(args), Population(), plan.population),
    )
    for option, value, default, planned in given:
        if value not in (default, planned):
            raise UserError(
                f"{option} differs from the plan", f"the planned {planned}", "leave it out, or change the plan"
            )


def _tables(args: argparse.Namespace) -> tuple[list[Loaded], dict[str, pd.DataFrame]]:
    """Every known table of the folder: with a definition, checked, renamed and selected; the others as they are."""
    if not args.data.is_dir():
        raise UserError(f"{args.data}: no such folder", "a folder of tables", "check the path")
    found: dict[str, Path] = {}
    for name in KNOWN:
        paths = [path for suffix in SUFFIXES if (path := args.data / f"{name}{suffix}").is_file()]
        if len(paths) > 1:
            raise UserError(f"{args.data}: {' and '.join(p.name for p in paths)}", "one file a table", "remove one")
        if paths:
            found[name] = paths[0]
    if not found:
        raise UserError(f"{args.data}: no tables", ", ".join(f"{name}.csv" for name in KNOWN), "check the folder")
    wanted: list[tuple[TableName, Path]] = [(name, found[name]) for name in CHECKED if name in found]  # type: ignore[misc]
    loaded = load_tables(args, *wanted) if wanted else []
    tables: dict[str, pd.DataFrame] = {table.name: table.frame for table in loaded}
    return loaded, {**tables, **{name: read_table(path) for name, path in found.items() if name not in CHECKED}}
