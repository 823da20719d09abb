"""What other data sets, text, demographics and people's own ratings each add to a reward model.

    python jobs/ablation.py --plan jobs/studies/demo.yaml --store store
    python jobs/ablation.py --data pamela --reader pamela --data para --reader para --store store

The full model uses all there is; each variant leaves one thing out. With several data sets the first one is tested and
the others only train. All folds of all variants are predicted side by side and kept. Writes the tables `ablation`
(accuracy of every variant, seen and unseen), `ablation_adds` (what each thing adds, on identical pairs),
`ablation_gap` (known less new people, on the same images), `ablation_spread` (how far models tell people apart; with
several sets, joint training beside training on the first alone) and `token_effects` (what fusion predictors lose when
one of their tokens is masked), and the same as files in `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from beholder.errors import UserError
from beholder.evaluation import PERSONAL, Question, folds_of, folds_seed, models_said, predict_variants
from beholder.plans import Plan
from beholder.readers.registry import RATING_READERS, reader_of
from beholder.runs import Context, run_job, start
from evaluate_taste import Source, Tables, embed_dataset, show, write_csv

if TYPE_CHECKING:
    from beholder.taste.fold_stage import PredictFold, SetTables
    from beholder.taste.fold_tables import Evaluated

DEFAULT_MODELS = ("eb_slopes", "fusion")
TABLES = ("ablation", "ablation_adds", "ablation_gap", "ablation_spread", "token_effects")
STEP_VERSION = 2
FLAGS = {
    "drifted": "joint training has drawn people together",
    "average": "it hardly tells people apart",
    "shrunken": "it tells people apart by far less than they differ",
}
"""What is said of the findings of `beholder.taste.collapse`."""


def run(context: Context, sources: Sequence[Source], models: Sequence[str], out: str | None = None) -> None:
    """Predict every variant, compare, print and write the files."""
    sets = read_sets(context, sources) if sources else (set_tables(context, Question(), ""),)
    if context.plan.taste.profiles and not any(one.profiles for one in sets):
        raise UserError("taste.profiles, and no set has embeddings of people's texts", "users with a column profile")
    prefix = f"{sets[0].ratings.removesuffix('ratings')}"
    inputs = [name for one in sets for name in one.tables]
    context.digests.update((name, context.digest(name)) for name in inputs)

    def compute() -> Tables:
        return {prefix + name: table for name, table in compare(context, sets, models).items()}

    settings = {"taste": context.plan.taste.model_dump(mode="json"), "seed": context.plan.seed}
    settings["models"] = models_said(models)
    settings["sets"] = [one.name for one in sets]
    settings["confidence"] = context.plan.analysis.confidence
    made = context.derive("Ablation", compute, version=STEP_VERSION, inputs=inputs, settings=settings, shown=False)
    tables = {name.removeprefix(prefix): table for name, table in made.items()}
    place = context.files(out, "evaluation" if not sources else f"evaluation/{prefix.rstrip('_')}")
    write_csv(place, {name: tables[name] for name in TABLES})
    show(summary(tables))
    print(f"\nFiles: {place.url}")


def read_sets(context: Context, sources: Sequence[Source]) -> tuple[SetTables, ...]:
    """Read and embed every data set; their ids begin with their names where there are several."""
    read = [reader_of(source.reader, source.mapping).read(source.folder) for source in sources]
    names = [dataset.name for dataset in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two data sets are called {twice[0]!r}", "names that differ", "rename the folder of one")
    found = []
    for dataset in read:
        prefix = f"{dataset.name}_"
        embed_dataset(context, dataset, prefix)
        embedded = dataset.ratings["image_id"].isin(context.load(f"{prefix}features")["image_id"])
        context.save(f"{prefix}ratings", dataset.ratings[embedded].reset_index(drop=True))
        question = Question(prefix, prefix, f"{prefix}ratings")
        found.append(set_tables(context, question, dataset.name if len(read) > 1 else ""))
    return tuple(found)


def read_sources(folders: Sequence[Path], readers: Sequence[str], mappings: Sequence[Path]) -> list[Source]:
    """The data sets of the command line."""
    if len(folders) != len(readers):
        raise UserError(f"{len(folders)} --data and {len(readers)} --reader", "one reader for each data set")
    mapped = list(readers).count("csv")
    if len(mappings) > 1 and len(mappings) != mapped:
        raise UserError(f"{len(mappings)} --mapping and {mapped} --reader csv", "one mapping for all, or one for each")
    of_sets = iter(mappings if len(mappings) > 1 else [*mappings] * mapped)
    return [
        Source(folder, reader, next(of_sets, None) if reader == "csv" else None)
        for folder, reader in zip(folders, readers, strict=True)
    ]


def set_tables(context: Context, question: Question, name: str) -> SetTables:
    """The tables of one set, with its people where they are told of."""
    from beholder.taste.fold_stage import SetTables

    ratings, images, features, vectors = question.inputs
    users = question.users if context.store.has_table(question.users) else None
    wanted = context.plan.taste.profiles and context.store.has_table(question.profiles)
    profiles = question.profiles if wanted else None
    names = [*question.inputs, *(table for table in (users, profiles) if table is not None)]
    digests = tuple(context.digest(table) for table in names)
    return SetTables(name, ratings, images, features, vectors, users, digests, profiles)


def compare(context: Context, sets: tuple[SetTables, ...], models: Sequence[str]) -> Tables:
    """Predictions of every variant, and what they show."""
    from beholder.taste.ablation import FULL, ablation_tables, token_table, variants
    from beholder.taste.evaluate import MASKED
    from beholder.taste.fold_stage import PredictFold

    stage = PredictFold(sets, folds_of(context.plan), folds_seed(context.plan))
    stage.setup(context.store)
    full = stage.prepared()
    told, texts = full.people, full.pictures.texts is not None
    demographics = told is not None and bool(told.demographics)
    profiles = told is not None and told.profiles is not None
    chosen = variants(others=len(sets) > 1, text=texts, demographics=demographics, profiles=profiles)
    found = predict_variants(context, stage, models, chosen, "Ablation: folds", tokens=FULL)
    ratings, confidence = tested_ratings(stage, context), context.plan.analysis.confidence
    masked = found[FULL].predictions
    masked = masked[masked["model"].str.contains(MASKED, regex=False)]
    found[FULL] = replace(found[FULL], predictions=found[FULL].predictions.drop(masked.index))
    tables = ablation_tables({name: made.predictions for name, made in found.items()}, ratings, confidence)
    tables["token_effects"] = token_table(masked, ratings, confidence)
    return tables | {"ablation_spread": spread(found, ratings, models, confidence)}


def tested_ratings(stage: PredictFold, context: Context) -> pd.DataFrame:
    """The ratings of the set that is tested, under the ids its predictions have."""
    from beholder.taste.fold_stage import named_ids

    table = context.load(stage.sets[0].ratings)
    return named_ids(table, stage.sets[0].name) if stage.sets[0].name else table


def spread(
    found: Mapping[str, Evaluated], ratings: pd.DataFrame, models: Sequence[str], confidence: float
) -> pd.DataFrame:
    """The collapse check of the full models, against training on the first set alone where there are others."""
    from beholder.taste.ablation import FULL
    from beholder.taste.collapse import collapse, spread_frame

    personal = [name for name in models if name in PERSONAL]
    predictions, against, vectors = found[FULL].predictions, {}, {FULL: found[FULL].fits}
    if "no_others" in found:
        alone = found["no_others"].predictions
        predictions = pd.concat([predictions, alone.assign(model=alone["model"] + "/no_others")], ignore_index=True)
        against = {name: f"{name}/no_others" for name in personal}
        vectors["no_others"] = found["no_others"].fits
    frame = spread_frame(collapse(predictions, ratings, personal, against=against, confidence=confidence))
    for name, fits in vectors.items():
        mean = fits.groupby(["model", "split"])["vector_spread"].mean()
        column = "vector_spread" if name == FULL else "vector_spread_against"
        frame[column] = [mean.get((row.model, row.split)) for row in frame.itertuples()]
    return frame


def summary(tables: Tables) -> list[str]:
    """What each thing adds, and what is lost on new people, in lines of text."""
    lines = ["What each thing adds to the share of pairs ordered right (two-way intervals):"]
    for row in tables["ablation_adds"].to_dict("records"):
        what = str(row["variant"]).removeprefix("no_")
        lines.append(f"  {row['model']}, {row['split']}: {what} {points(row)}, p = {row['p_holm']:.3f} (Holm)")
    lines.append("Known people less new people, same images:")
    for row in tables["ablation_gap"].to_dict("records"):
        lines.append(f"  {row['model']}, {row['variant']}: {points(row)}")
    if len(tables["token_effects"]):
        lines.append("Accuracy lost when a token is masked:")
    for row in tables["token_effects"].to_dict("records"):
        lines.append(f"  {row['model']}, {row['split']}: {row['token']} {points(row)}, p = {row['p_holm']:.3f} (Holm)")
    flagged = tables["ablation_spread"]
    flagged = flagged[flagged["finding"] != "apart"]
    lines += [f"  {row['model']}, {row['split']}: {FLAGS[row['finding']]}" for row in flagged.to_dict("records")]
    return lines


def points(row: Mapping[Hashable, Any]) -> str:
    """An estimate with its interval, in points; what makes no difference to anybody has none."""
    if pd.isna(row["ci_low"]):
        return f"{100 * row['estimate']:+.1f} points (no interval)"
    return f"{100 * row['estimate']:+.1f} points [{100 * row['ci_low']:+.1f}, {100 * row['ci_high']:+.1f}]"


def forecast(plan: Plan, models: Sequence[str], sources: Sequence[Source]) -> Mapping[str, int]:
    """At most so many folds are predicted."""
    folds = plan.taste.prompt_folds * (1 + plan.taste.user_folds)
    return {"folds": folds * len(models) * (6 if len(sources) > 1 else 5)}


def options() -> argparse.ArgumentParser:
    """The job's own options."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    readers, models = ", ".join(RATING_READERS), ", ".join(DEFAULT_MODELS)
    own.add_argument(
        "--data", type=Path, action="append", default=[], metavar="DIR", help="a data set; may be repeated"
    )
    own.add_argument("--reader", action="append", default=[], metavar="NAME", help=f"who reads each of them: {readers}")
    own.add_argument(
        "--mapping",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="for --reader csv: which files and columns hold what; one for all sets, or one for each in their order",
    )
    own.add_argument("--model", action="append", metavar="NAME", help=f"a model to take apart ({models})")
    own.add_argument("--out", metavar="DIR", help="where files go (evaluation/ in the store)")
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    own, _ = options().parse_known_args(argv)
    models = tuple(own.model or DEFAULT_MODELS)

    def sources() -> list[Source]:
        return read_sources(own.data, own.reader, own.mapping)

    def body(context: Context) -> None:
        run(context, sources(), models, own.out)

    def expected(plan: Plan) -> Mapping[str, int]:
        return forecast(plan, models, sources())

    return run_job("ablation", __doc__, argv, body, expected, [options()])


if __name__ == "__main__":
    sys.exit(start(main))
