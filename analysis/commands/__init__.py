"""One module a command: `add_arguments(parser)` and `run(args) -> Result`. Here is what they share.

A command reads its tables with `load_tables`, computes, and returns `finished(result, loaded tables, args)`; writing is
left to `analysis.cli`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from analysis.errors import TableError, UserError
from analysis.results import Exclusions, Population, Provenance, Result, file_digest, package_versions
from analysis.tables import Scale, TableName, check_table, read_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

R = TypeVar("R", bound=Result)

DEFAULT_SEED = 0
"""Used when `--seed` is not given; written into every result."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The file of a checked table and the rows that a selection left out."""

    name: TableName
    path: Path
    digest: str
    exclusions: Exclusions


@dataclasses.dataclass(frozen=True)
class Loaded(Source):
    """A checked table and where it came from."""

    frame: pd.DataFrame


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command has."""
    group = parser.add_argument_group("every command")
    group.add_argument("--out", type=Path, metavar="DIR", help="write result.json, CSV tables and figures here")
    group.add_argument("--json", action="store_true", help="print result.json to standard output and nothing else")
    group.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of everything random (default %(default)s)")
    group.add_argument("--confidence", type=float, default=0.95, help="level of intervals (default %(default)s)")
    group.add_argument("--columns", default="", metavar="OURS=THEIRS,…", help="rename columns of the files")
    group.add_argument("--where", metavar="EXPRESSION", help="keep rows for which it holds (counted); pandas query")
    group.add_argument(
        "--scale", default="0:1000", metavar="MIN:MAX", help="scale of the ratings (default %(default)s)"
    )
    group.add_argument(
        "--population",
        default="new-people,new-prompts",
        help="new-people|these-people,new-prompts|these-prompts: whom the result speaks for (default %(default)s)",
    )


def load_tables(args: argparse.Namespace, *wanted: tuple[TableName, Path]) -> list[Loaded]:
    """Read, rename (`--columns`), select (`--where`) and check tables; errors name the file.

    With several tables, `--columns` and `--where` act on each table that has the columns they name; a name or an
    expression that fits none of them is an error. `--columns ratings.score=beauty` renames in one table only.
    """
    frames = [read_table(path, name) for name, path in wanted]
    names = [name for name, _ in wanted]
    frames = _renamed(frames, names, args.columns)
    selections = _selected(frames, args.where)
    return [
        _loaded(name, path, frame, selected, args)
        for (name, path), frame, selected in zip(wanted, frames, selections, strict=True)
    ]


def load_table(args: argparse.Namespace, name: TableName, path: Path) -> Loaded:
    """`load_tables` for one table."""
    return load_tables(args, (name, path))[0]


def _loaded(
    name: TableName, path: Path, frame: pd.DataFrame, selected: pd.DataFrame, args: argparse.Namespace
) -> Loaded:
    try:
        checked = check_table(name, selected, Scale.parse(args.scale))
    except TableError as error:
        raise TableError(f"{path}: {error.found}", error.allowed, error.remedy) from None
    n_out = len(frame) - len(selected)
    reasons = ((f"not --where {args.where}", n_out),) if n_out else ()
    return Loaded(name, path, file_digest(path), Exclusions(len(frame), len(checked), reasons, name), checked)


def _renamed(frames: list[pd.DataFrame], names: Sequence[str], columns: str) -> list[pd.DataFrame]:
    for part in filter(None, (p.strip() for p in columns.split(","))):
        ours, equals, theirs = (x.strip() for x in part.partition("="))
        table, _, ours = ours.rpartition(".")
        if not (ours and equals and theirs) or (table and table not in names):
            raise TableError(
                f"--columns {part!r}", f"ours=theirs or {names[0]}.ours=theirs", "for instance --columns user_id=rater"
            )
        hits = [k for k, frame in enumerate(frames) if theirs in frame.columns and (names[k] == table or not table)]
        if not hits:
            here = sorted({str(c) for frame in frames for c in frame.columns})
            raise TableError(f"--columns names {theirs}", ", ".join(here), "name a column that the file has")
        for k in hits:
            kept = frames[k].drop(columns=[ours] if ours != theirs and ours in frames[k].columns else [])
            frames[k] = kept.rename(columns={theirs: ours})
    return frames


def _selected(frames: list[pd.DataFrame], where: str | None) -> list[pd.DataFrame]:
    if where is None:
        return frames
    selections, problems = [], []
    for frame in frames:
        try:
            selections.append(frame.query(where, engine="python"))
        except Exception as error:  # pandas raises many kinds here; all of them are about the user's expression
            selections.append(frame)
            problems.append(str(error))
    if len(problems) == len(frames):
        here = ", ".join(sorted({str(c) for frame in frames for c in frame.columns}))
        raise TableError(f"--where {where!r}: {problems[0]}", f"an expression over {here}", "see pandas query")
    for frame, selected in zip(frames, selections, strict=True):
        if len(frame) and not len(selected):
            raise TableError(f"--where {where!r} keeps 0 of {len(frame)} rows", remedy="loosen it")
    return selections


def population_of(args: argparse.Namespace) -> Population:
    """`--population` as a record."""
    return Population.parse(args.population)


def confidence_of(args: argparse.Namespace) -> float:
    """`--confidence`, checked to lie between one half and one."""
    if not 0.5 <= args.confidence < 1:
        raise UserError(f"--confidence {args.confidence}", ".5 to below 1", "write .95 for 95 %")
    return float(args.confidence)


def generator_of(args: argparse.Namespace) -> np.random.Generator:
    """The command's only generator, from `--seed`."""
    import numpy as np

    return np.random.default_rng(args.seed)


def provenance_of(loaded: Sequence[Source], args: argparse.Namespace) -> Provenance:
    """Digests of the files, seed, versions and every option as given.

    Files appear by name only: the same data in another folder give the same bytes.
    """
    hidden = {"out", "json", "seed", *(name for name in vars(args) if name.startswith("_"))}
    settings = {key: v.name if isinstance(v, Path) else v for key, v in vars(args).items() if key not in hidden}
    data = tuple((table.name, table.digest) for table in loaded)
    return Provenance(data, args.seed, package_versions(), tuple(sorted(settings.items())))


def finished(result: R, loaded: Sequence[Source], args: argparse.Namespace) -> R:
    """The result with the files' provenance and with the rows that `--where` left out.

    They are put in front of the result's own exclusions when it counts rows of the first table; for other tables, and
    for results that count something else, a warning says them.
    """
    exclusions, warnings = result.exclusions, result.warnings
    for k, table in enumerate(loaded):
        if k == 0 and exclusions.n_in == table.exclusions.n_used:
            exclusions = exclusions.after(table.exclusions)
        elif table.exclusions.reasons:
            warnings += (f"{table.name}: {table.exclusions.text}",)
    return dataclasses.replace(result, provenance=provenance_of(loaded, args), exclusions=exclusions, warnings=warnings)


def require_new_population(args: argparse.Namespace) -> None:
    """Refuse `--population` other than the default where a command has no other estimand, rather than ignore it."""
    if population_of(args) != Population():
        raise UserError(
            f"--population {args.population}: this command speaks for new people and new prompts only",
            "new-people,new-prompts",
            "leave the option out",
        )
