"""Fit the reward models of a plan on all ratings, save them, and log them to MLflow.

    python jobs/train_taste.py --plan jobs/studies/demo.yaml --store store

Needs `ratings`, `images`, `features` and `prompt_vectors`; on a bucket, `MLFLOW_TRACKING_URI` too. Writes
`models/<name>/` (safetensors and JSON) and the table `trained`, one row a model, and `trained_differences`, their
paired differences on one held-out fold of prompts. The champion moves only to a model that surely orders new images
better for people it knows (`beholder.taste.champion`): by the cross-validated `differences` of the same ratings where
they are there, else by the held-out fold. One that only looks better becomes the challenger.

The engine trains networks, the members of an ensemble side by side; a training that was killed goes on with the members
that are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from beholder.evaluation import Question, models_said
from beholder.plans import Plan
from beholder.runs import Context, run_job, start

if TYPE_CHECKING:
    from beholder.steering.reward import Reward
    from beholder.taste.base import Ratings, TasteModel
    from beholder.taste.designs import Pictures
    from beholder.taste.people import People
    from beholder.tracking import TrainingRun

INPUTS = ("ratings", "images", "features", "prompt_vectors")
STEP_VERSION = 2
EXAMPLES = 4
"""Rows of the input example that goes with a logged model."""
REQUIREMENTS = ("beholder", "numpy", "pandas", "safetensors", "scipy")


def load_reward(context: Context, name: str) -> Reward:
    """A trained reward of the store.

    Raises
    ------
    StoreError
        If there is none, or its files are not those that the table `trained` tells of.
    """
    from beholder.errors import StoreError
    from beholder.steering.reward import Reward, folder_digest

    promised = context.load("trained").set_index("model")["digest"].get(name)
    with context.store.place(f"models/{name}").folder_to_read() as folder:
        if promised is None or not folder.is_dir() or folder_digest(folder) != promised:
            raise StoreError(
                f"{context.store.url}/models/{name} is not what table 'trained' says", remedy="run train_taste again"
            )
        return Reward.load(folder)


def are_there(context: Context) -> bool:
    """Whether the files of every model of the table `trained` are those it tells of."""
    from beholder.steering.reward import folder_digest

    trained = context.store.read_table("trained")
    with context.store.place("models").folder_to_read() as models:
        folders = [models / str(name) for name in trained["model"]]
        found = [folder_digest(folder) if folder.is_dir() else "" for folder in folders]
    return found == list(trained["digest"])


def run(context: Context) -> None:
    """Fit, save, log, and name the champion."""
    from beholder.tracking import tracking_uri

    tracking_uri(context.store)  # refused before anything is fitted
    settings = context.plan.taste.model_dump(mode="json") | {"seed": context.plan.seed}
    settings["fitted"] = models_said(context.plan.taste.models)
    # Of a run that finds its tables as of one that makes them.
    inputs = inputs_of(context.plan)
    context.digests.update((name, context.digest(name)) for name in inputs)
    made = context.derive(
        "Train reward models",
        lambda: fit_and_compare(context),
        version=STEP_VERSION,
        inputs=inputs,
        settings=settings,
        shown=not any(has_networks(name) for name in context.plan.taste.models),
        intact=lambda: are_there(context),
    )
    track(context, made["trained"])


def fit_all(context: Context) -> pd.DataFrame:
    """Fit every model of the plan; the `trained` table."""
    return fit_and_compare(context)["trained"]


def fit_and_compare(context: Context) -> dict[str, pd.DataFrame]:
    """Fit every model of the plan on all ratings, and compare them on a held-out fold: both tables."""
    from beholder.steering.reward import Reward, pictures_of
    from beholder.taste.base import Ratings
    from beholder.taste.designs import learn_design

    table, images, features, vectors = (context.load(name) for name in INPUTS)
    ratings, pictures = Ratings.from_frame(table), pictures_of(images, features, vectors)
    people = people_of(context)
    learned = learn_design(pictures, np.random.default_rng([context.plan.seed, 31]))
    models = [recipe(context, name, "without the held-out fold") for name in context.plan.taste.models]
    predictions = heldout_predictions(context.plan, ratings, pictures, people, models)
    heldout = heldout_accuracy(predictions)
    rows = []
    with context.store.place("models").folder_to_fill() as folder:
        for name in context.plan.taste.models:
            stream = np.random.default_rng([context.plan.seed, 32])
            model = recipe(context, name).fit(ratings, learned.training, stream, people)
            digest = Reward.of(model, learned).save(folder / name)
            noise = model.predict_population(learned.training.matrix[:1]).noise_sd
            counts = {"n_ratings": len(ratings), "n_users": len(model.user_ids), "n_images": len(ratings.images())}
            measured = {"heldout_accuracy": heldout[name], "noise_sd": noise}
            rows.append({"model": name, "digest": digest, **measured, **counts})
    differences = heldout_differences(predictions, context.plan.analysis.confidence)
    return {"trained": pd.DataFrame(rows).assign(mlflow_run_id=""), "trained_differences": differences}


def recipe(context: Context, name: str, note: str = "") -> TasteModel:
    """The model of this id, whose networks the engine trains."""
    from beholder.taste.member_stage import trained_by
    from beholder.taste.registry import taste_model
    from beholder.training import EngineTrainer

    trainer = EngineTrainer(context, f"Train {name} {note}".strip(), context.plan.taste.processes or 1)
    return trained_by(taste_model(name), trainer)


def has_networks(name: str) -> bool:
    """Whether there is something in the model that the engine trains."""
    from beholder.taste.member_stage import trained_by
    from beholder.taste.network_fit import in_turn
    from beholder.taste.registry import taste_model

    model = taste_model(name)
    return trained_by(model, in_turn) is not model


def inputs_of(plan: Plan) -> tuple[str, ...]:
    """The tables that models are fitted on."""
    return (*INPUTS, *Question().told(plan))


def people_of(context: Context) -> People | None:
    """What models are told of people, where the plan says so."""
    from beholder.taste.profiles import told_people

    taste = context.plan.taste
    users = context.load(Question().users) if taste.demographics else None
    return told_people(users, context.load(Question().profiles) if taste.profiles else None)


def heldout_predictions(
    plan: Plan, ratings: Ratings, pictures: Pictures, people: People | None, models: Sequence[TasteModel]
) -> pd.DataFrame:
    """What each model predicts on the first fold of prompts, when it has seen the other folds only.

    Columns `model, user_id, image_id, prompt_id, score` and `rating`, one row a model and test rating.
    """
    from beholder.taste.designs import learn_design
    from beholder.taste.evaluate import predict_fold
    from beholder.taste.splits import seen_splits

    stream = np.random.default_rng([plan.seed, 33])
    split = seen_splits(ratings, ratings.prompt_id, plan.taste.prompt_folds, stream)[0]
    seen = learn_design(
        pictures.take(~np.isin(pictures.prompt_ids, split.held_out)), np.random.default_rng([plan.seed, 34])
    )
    test, frames = split.test_ratings, []
    ids = {"user_id": test.user_id, "image_id": test.image_id, "prompt_id": test.prompt_id, "rating": test.score}
    for found in predict_fold(split, pictures, seen, models, [plan.seed, 35], people):
        row, column = (np.searchsorted(a, b) for a, b in ((found.users, test.user_id), (found.images, test.image_id)))
        frames.append(pd.DataFrame(ids).assign(model=found.model, score=found.score[row, column]))
    return pd.concat(frames, ignore_index=True)


def heldout_accuracy(predictions: pd.DataFrame) -> dict[str, float]:
    """User-level accuracy of each model."""
    from analysis.pairs import user_accuracy

    accuracies = {}
    for name, mine in predictions.groupby("model", sort=False):
        each = [user_accuracy(own["rating"], own["score"]).accuracy for _, own in mine.groupby("user_id")]
        accuracies[str(name)] = float(np.nanmean(each))
    return accuracies


def heldout_differences(predictions: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Paired differences of accuracy on the held-out fold, with intervals over users and prompts."""
    from analysis.accuracy import accuracy

    columns = ["a", "b", "estimate", "ci_low", "ci_high", "p", "n_users", "n_images"]
    key = ["user_id", "image_id"]
    ratings = predictions[[*key, "prompt_id", "rating"]].rename(columns={"rating": "score"}).drop_duplicates(key)
    once = predictions.drop_duplicates(["model", *key])[["model", *key, "score"]]
    found = accuracy(
        once, ratings.astype({"score": int}), items="prompt", min_pairs=1, min_images=2, confidence=confidence
    )
    return pd.DataFrame([vars(d) for d in found.differences], columns=columns)


def evidence_of(context: Context, trained: pd.DataFrame) -> tuple[dict[str, float], pd.DataFrame, str]:
    """Accuracies, differences, and what they are: cross-validated on these ratings, or one held-out fold."""
    names = list(trained["model"])
    if is_fresh(context, "ladder") and is_fresh(context, "differences"):
        ladder, differences = (
            frame[(frame["split"] == "seen") & (frame["level"] == "user")]
            for frame in (context.store.read_table("ladder"), context.store.read_table("differences"))
        )
        measured = ladder[ladder["model"].isin(names)].set_index("model")["accuracy"].dropna()
        if set(measured.index) == set(names):
            return accuracies(measured), differences, "cross-validated accuracy, user level, known people"
    measured = trained.set_index("model")["heldout_accuracy"]
    differences = context.store.read_table("trained_differences")
    return accuracies(measured), differences, "accuracy on one held-out fold of prompts, user level, known people"


def accuracies(measured: pd.Series) -> dict[str, float]:
    """By model."""
    return {str(name): float(value) for name, value in measured.items()}


def is_fresh(context: Context, table: str) -> bool:
    """Whether a table is there and was made from the ratings as they are now."""
    record = context.store.read_record(f"table-{table}")
    if record is None or not context.store.has_table(table):
        return False
    return bool(record["inputs"].get("ratings") == context.digest("ratings"))


def track(context: Context, trained: pd.DataFrame) -> None:
    """Log what is not logged yet and let the paired test move the aliases; MLflow is loaded only if there is need."""
    from beholder.records import key_of, table_digest
    from beholder.taste.champion import choose
    from beholder.tracking import CHALLENGER, Tracker, tracking_uri

    accuracy, differences, evidence = evidence_of(context, trained)
    name = f"beholder-{context.plan.name}"
    curves = context.digest("tie_curve") if is_fresh(context, "tie_curve") else ""
    wanted = {"trained": context.digest("trained"), "name": name, "evidence": evidence}
    wanted |= {"differences": table_digest(differences), "curves": curves}
    key = key_of(wanted)
    where = tracking_uri(context.store).replace(context.store.url, "STORE")
    record = context.store.read_record("tracking")
    if record and record["key"] == key and record["uri"] == where and is_there(context):
        return
    with context.progress.step("Log to MLflow"):
        tracker = Tracker(context.store, name)
        with context.store.place("models").folder_to_read() as models:
            rows = {str(row["model"]): row for row in trained.to_dict("records")}
            logged = {model: tracker.log(training_run(context, row, models / model)) for model, row in rows.items()}
        choice = choose(list(logged), accuracy, differences, tracker.model_of(), evidence)
        if choice.champion in logged:  # retrained on these ratings, the same model takes its own place
            tracker.promote(logged[choice.champion].version, reason=choice.reason)
        if choice.challenger is None:
            tracker.withdraw(CHALLENGER)
        else:
            tracker.promote(logged[choice.challenger].version, CHALLENGER, choice.reason)
    runs = trained.assign(mlflow_run_id=[logged[model].run_id for model in trained["model"]])
    context.save("trained", runs, inputs_of(context.plan))
    known = {model: {"run_id": found.run_id, "version": found.version} for model, found in logged.items()}
    chosen = {"champion": choice.champion, "challenger": choice.challenger, "criterion": choice.reason}
    context.store.write_record("tracking", wanted | chosen | {"key": key, "uri": where, "models": known})


def is_there(context: Context) -> bool:
    """Whether the store's own database was not thrown away (a server is trusted)."""
    from beholder.tracking import database_of, tracking_uri

    database = database_of(tracking_uri(context.store))
    return database is None or database.exists()


def training_run(context: Context, row: Mapping[Hashable, object], folder: Path) -> TrainingRun:
    """What MLflow is told of one row of `trained`, whose model lies in `folder`."""
    from beholder.steering import reward
    from beholder.tracking import ServedModel, TrainingRun

    example = context.store.read_table("features").head(EXAMPLES)[list(reward.BLOCKS)]
    user = context.store.read_table("ratings")["user_id"].astype(str).min()
    example.insert(0, "user_id", [user, *[reward.EVERYBODY] * (len(example) - 1)])
    loaded = reward.Reward.load(folder)
    raw = reward.raw_features(example.assign(image_id=range(len(example))))
    found = loaded.predict(example["user_id"].to_numpy(str), loaded.design(raw))
    answer = pd.DataFrame({"mean": found.mean, "sd": found.sd})
    plan, metrics = context.plan, ("heldout_accuracy", "noise_sd")
    params = {"model": str(row["model"]), "seed": str(plan.seed), "encoder": plan.embed.encoder_name}
    params |= {name: str(row[name]) for name in ("n_ratings", "n_users", "n_images")}
    return TrainingRun(
        name=str(row["model"]),
        params=params,
        metrics={name: float(str(row[name])) for name in metrics} | ladder_metrics(context, str(row["model"])),
        tags={"plan": plan.name, "plan_hash": plan.hash},
        data={name: context.digest(name) for name in inputs_of(context.plan)},
        model=ServedModel(Path(reward.__file__).with_name("served_reward.py"), folder, example, answer, REQUIREMENTS),
        model_digest=str(row["digest"]),
        curves=tie_curves(context, str(row["model"])),
    )


def ladder_metrics(context: Context, model: str) -> dict[str, float]:
    """Cross-validated accuracies with their intervals, by split and level, where these ratings were evaluated."""
    if not is_fresh(context, "ladder"):
        return {}
    ladder = context.store.read_table("ladder")
    found = {
        f"{row['split']}.{row['level']}.{name}": float(row[name])
        for row in ladder[ladder["model"] == model].to_dict("records")
        for name in ("accuracy", "ci_low", "ci_high", "srocc", "plcc")
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def tie_curves(context: Context, model: str) -> dict[str, dict[int, float]]:
    """Accuracy by tie margin, by split, where these ratings were evaluated."""
    if not is_fresh(context, "tie_curve"):
        return {}
    curve = context.store.read_table("tie_curve")
    mine = curve[(curve["model"] == model) & np.isfinite(curve["accuracy"])]
    return {
        f"{split}.accuracy_beyond_margin": {int(m): float(a) for m, a in zip(rows.margin, rows.accuracy, strict=True)}
        for split, rows in mine.groupby("split")
    }


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"models": len(plan.taste.models)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("train_taste", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
