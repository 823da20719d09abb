"""Evaluate reward models on ratings they have not seen: of a plan's store, or of a public data set.

    python jobs/evaluate_taste.py --plan jobs/studies/demo.yaml --store store
    python jobs/evaluate_taste.py --data avt_ai_images --reader avt --store store
    python jobs/evaluate_taste.py --data FOLDER --reader csv --mapping mapping.yaml
    python jobs/evaluate_taste.py --data pamela --reader pamela --split release

Known people and new images (`seen`), and new people after a few ratings (`unseen`), each for single users and for
people on average. Needs `ratings`, `images`, `features` and `prompt_vectors`; with `--data` it reads and embeds them
first, under names that begin with the data set's. Where there is a table `scores`, each of its scorers is a rung
`score:<scorer>`. Folds are predicted side by side and kept, so a run that was stopped goes on. Writes the tables
`ladder`, `differences`, `tie_curve`, `disagreement`, `stability` (where people rated again), `personal_spread` (how far
models tell people apart), `predictions`, `predictions_dense`, `taste_fits`, `evaluation_counts` and `evaluation_notes`,
and the same as files in `--out` (default: `evaluation/` in the store, `evaluation/<data set>/` with `--data`, below it
`release/` with `--split release`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from beholder.errors import UserError
from beholder.evaluation import Question, evaluate_question, models_said, report_settings
from beholder.plans import Plan
from beholder.readers.pictures import within_reach
from beholder.readers.registry import RATING_READERS
from beholder.runs import Context, run_job, start
from beholder.taste.profiles import PROFILE
from embed import embed_images, embed_prompts, save_profiles

if TYPE_CHECKING:
    from rich.console import RenderableType

    from beholder.readers.base import Dataset
    from beholder.storage import Storage

CSV_TABLES = (
    "ladder",
    "differences",
    "tie_curve",
    "disagreement",
    "stability",
    "personal_spread",
    "taste_fits",
    "evaluation_counts",
    "evaluation_notes",
)
PARQUET_TABLES = ("predictions", "predictions_dense")
STEP_VERSION = 2
"""Raised by hand when the same tables give other results."""
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Source:
    """A public data set to evaluate on."""

    folder: Path
    reader: str
    mapping: Path | None


def run(context: Context, out: str | None = None, *, released: bool = False) -> Tables:
    """Evaluate on the ratings of the store, and write the files."""
    place = context.files(out, "evaluation/release" if released else "evaluation")
    if not released:
        made = evaluate_tables(context, Question())
    else:
        made = evaluate_tables(context, Question("release_", released=True, label="Evaluate taste, release's splits"))
    write_files(place, made)
    return made


def evaluate_tables(context: Context, question: Question) -> Tables:
    """The tables of one evaluation, computed once; stored as `<prefix><name>`, returned by name."""
    plan, prefix = context.plan, question.prefix
    settings = {"taste": plan.taste.model_dump(mode="json"), "seed": plan.seed}
    settings["analysis"] = {"confidence": plan.analysis.confidence, "permutations": plan.analysis.permutations}
    settings["report"] = asdict(report_settings(plan))
    settings["models"] = models_said(plan.taste.models)
    if question.released:
        settings["released"] = True
    inputs = [*question.inputs, *question.told(plan)]
    if context.store.has_table(question.scores):
        inputs.append(question.scores)

    def compute() -> Tables:
        return {prefix + name: table for name, table in evaluate_question(context, question).items()}

    # Of a run that finds its tables as of one that makes them.
    context.digests.update((name, context.digest(name)) for name in inputs)
    made = context.derive(question.label, compute, version=STEP_VERSION, inputs=inputs, settings=settings, shown=False)
    return {name.removeprefix(prefix): table for name, table in made.items()}


def run_data(context: Context, source: Source, out: str | None, *, released: bool = False) -> None:
    """Read, embed, evaluate and print; then the reader's other selections, as sensitivity."""
    from beholder.readers.registry import reader_of
    from beholder.taste.summary import dataset_summary, evaluation_summary

    reader = reader_of(source.reader, source.mapping)
    dataset = reader.read(source.folder)
    prefix = f"{dataset.name}_"
    embed_dataset(context, dataset, prefix)
    place = context.files(out, f"evaluation/{dataset.name}" + ("/release" if released else ""))
    tables = evaluate_dataset(context, dataset, prefix, prefix, place, released=released)
    show(dataset_summary(dataset, dataset.name))
    show(evaluation_summary(tables, dataset.ratings, context.plan.analysis.confidence))
    for name, variant in ({} if released else reader.variants()).items():
        other = variant.read(source.folder)
        again = evaluate_dataset(context, other, f"{prefix}{name}_", prefix, place.below(name))
        show(dataset_summary(other, f"Sensitivity, {name} of {other.name}"))
        show(evaluation_summary(again, other.ratings, context.plan.analysis.confidence, brief=True))
    print(f"\nFiles: {place.url}")
    if context.store.is_folder:
        stored = context.store.path(f"tables/{prefix}ratings.parquet")
        print(f"Again: python -m analysis accuracy {place.url}/predictions.parquet {stored}")


def embed_dataset(context: Context, dataset: Dataset, prefix: str) -> None:
    """Images and prompts of a data set in the store, with their features; images are named by their bytes."""
    images = context.save(f"{prefix}images", within_reach(context.store, dataset.images))
    by_content = images[["sha256", "path"]].drop_duplicates("sha256").rename(columns={"sha256": "image_id"})
    found = embed_images(context, by_content, "Embed images").rename(columns={"image_id": "sha256"})
    features = images[["image_id", "sha256"]].merge(found, on="sha256").drop(columns="sha256")
    context.save(f"{prefix}features", features, [f"{prefix}images"])
    vectors = pd.DataFrame({"prompt_id": pd.Series(dtype="str"), "vector": pd.Series(dtype="str")})
    if "text" in dataset.prompts.columns and dataset.prompts["text"].notna().all():
        prompts = dataset.prompts.rename(columns={"text": "prompt"})
        vectors = embed_prompts(context, prompts[prompts["prompt_id"].isin(images["prompt_id"])], "Embed prompts")
    context.save(f"{prefix}prompt_vectors", vectors, [f"{prefix}images"])
    context.save(f"{prefix}users", dataset.users)
    if PROFILE in dataset.users.columns:
        save_profiles(context, dataset.users, prefix)


def evaluate_dataset(
    context: Context, dataset: Dataset, prefix: str, shared: str, place: Storage, *, released: bool = False
) -> Tables:
    """One selection of a data set: its ratings in the store, its tables, its files."""
    embedded = dataset.ratings["image_id"].isin(context.load(f"{shared}features")["image_id"])
    notes = [f"{note.what}: {note.rows}" for note in dataset.notes]
    if not embedded.all():
        notes.append(f"{int((~embedded).sum())} ratings of images that could not be embedded are left out")
        print(notes[-1], file=sys.stderr)
    context.save(f"{prefix}ratings", dataset.ratings[embedded].reset_index(drop=True))
    label, into = f"Evaluate {prefix.rstrip('_')}", prefix
    if released:
        label, into = f"{label}, release's splits", f"{prefix}release_"
    made = evaluate_tables(context, Question(into, shared, f"{prefix}ratings", released, label, tuple(notes)))
    write_files(place, made)
    return made


def show(parts: Sequence[RenderableType | str]) -> None:
    """Print to standard output, wide enough for the tables where nobody says how wide it is."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=110)
    for part in parts:
        console.print(part)


def write_files(place: Storage, tables: Tables) -> None:
    """The tables as CSV and Parquet, each replaced whole."""
    write_csv(place, {name: tables[name] for name in CSV_TABLES})
    place.write_many((f"{name}.parquet", tables[name].to_parquet(index=False)) for name in PARQUET_TABLES)


def write_csv(place: Storage, tables: Tables) -> None:
    """Each table as `<name>.csv`, replaced whole."""
    place.write_many((f"{name}.csv", table.to_csv(index=False).encode()) for name, table in tables.items())


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make from a plan's store."""
    from beholder.taste.evaluate import rungs

    pairs = plan.generate.prompts * plan.generate.seeds_per_prompt * plan.rate.per_image
    return {"predictions": 2 * len(rungs(plan.taste.models)) * pairs}


def forecast_data(source: Source, plan: Plan) -> Mapping[str, int]:
    """What the job would make from a data set."""
    from beholder.readers.registry import reader_of
    from beholder.taste.evaluate import rungs

    reader = reader_of(source.reader, source.mapping)
    ratings = reader.read(source.folder).ratings
    pairs = len(ratings.drop_duplicates(["user_id", "image_id"]))
    return {"features": ratings["image_id"].nunique(), "predictions": 2 * len(rungs(plan.taste.models)) * pairs}


def options() -> argparse.ArgumentParser:
    """The job's own options."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--data", type=Path, metavar="DIR", help="evaluate on this public data set, not on the store's")
    own.add_argument(
        "--reader", default="avt", metavar="NAME", help=f"who reads --data: {', '.join(RATING_READERS)} (%(default)s)"
    )
    own.add_argument(
        "--split",
        choices=("folds", "release"),
        default="folds",
        help="cross-validate, or keep the release's own splits (%(default)s)",
    )
    own.add_argument("--mapping", type=Path, metavar="FILE", help="for --reader csv: which files and columns hold what")
    own.add_argument("--out", metavar="DIR", help="where files go (evaluation/ in the store)")
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    own, _ = options().parse_known_args(argv)
    if own.data is not None:
        source = Source(own.data, own.reader, own.mapping)
        body = partial(run_data, source=source, out=own.out, released=own.split == "release")
        expected = partial(forecast_data, source)
        return run_job("evaluate_taste", __doc__, argv, body, expected, [options()])

    def run_and_print(context: Context) -> None:
        from beholder.taste.summary import evaluation_summary

        if own.mapping is not None:
            raise UserError("--mapping without --data", remedy="give --data DIR --reader csv, or leave --mapping out")
        made = run(context, own.out, released=own.split == "release")
        show(evaluation_summary(made, context.load("ratings"), context.plan.analysis.confidence))

    return run_job("evaluate_taste", __doc__, argv, run_and_print, forecast, [options()])


if __name__ == "__main__":
    sys.exit(start(main))
