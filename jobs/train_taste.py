"""Fit the reward models of a plan on all ratings, save them, and log them to MLflow.

    python jobs/train_taste.py --plan jobs/studies/demo.yaml --store store

Needs `ratings`, `images`, `features` and `prompt_vectors`. Writes `models/<name>/` (safetensors and JSON) and the table
`trained`, one row a model. The champion is the model that orders new images best for people it knows: by the
cross-validated accuracy in `ladder` where that is there, else by the accuracy on one held-out fold of prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from beholder.plans import Plan
from beholder.runs import Context, run_job, start

if TYPE_CHECKING:
    from beholder.taste.base import Ratings
    from beholder.taste.designs import Pictures
    from beholder.tracking import TrainingRun

INPUTS = ("ratings", "images", "features", "prompt_vectors")
STEP_VERSION = 1
EXAMPLES = 4
"""Rows of the input example that goes with a logged model."""
REQUIREMENTS = ("beholder", "numpy", "pandas", "safetensors", "scipy")


def model_folder(context: Context, name: str) -> Path:
    """Where a trained reward lies in the store."""
    return context.store.path(f"models/{name}")


def run(context: Context) -> None:
    """Fit, save, log, and name the champion."""
    settings = context.plan.taste.model_dump(mode="json") | {"seed": context.plan.seed}
    # Of a run that finds its tables as of one that makes them.
    context.digests.update((name, context.digest(name)) for name in INPUTS)
    made = context.derive(
        "Train reward models",
        lambda: {"trained": fit_all(context)},
        version=STEP_VERSION,
        inputs=INPUTS,
        settings=settings,
    )
    track(context, made["trained"])


def fit_all(context: Context) -> pd.DataFrame:
    """Fit every model of the plan; the `trained` table."""
    from beholder.steering.reward import Reward, pictures_of
    from beholder.taste.base import Ratings
    from beholder.taste.designs import learn_design
    from beholder.taste.registry import taste_model

    table, images, features, vectors = (context.load(name) for name in INPUTS)
    ratings, pictures = Ratings.from_frame(table), pictures_of(images, features, vectors)
    learned = learn_design(pictures, np.random.default_rng([context.plan.seed, 31]))
    heldout = heldout_accuracy(context.plan, ratings, pictures)
    rows = []
    for name in context.plan.taste.models:
        model = taste_model(name).fit(ratings, learned.training, np.random.default_rng([context.plan.seed, 32]))
        digest = Reward.of(model, learned).save(model_folder(context, name))
        noise = model.predict_population(learned.training.matrix[:1]).noise_sd
        counts = {"n_ratings": len(ratings), "n_users": len(model.user_ids), "n_images": len(ratings.images())}
        rows.append({"model": name, "digest": digest, "heldout_accuracy": heldout[name], "noise_sd": noise, **counts})
    return pd.DataFrame(rows).assign(mlflow_run_id="")


def heldout_accuracy(plan: Plan, ratings: Ratings, pictures: Pictures) -> dict[str, float]:
    """User-level accuracy of each model on the first fold of prompts, when it has seen the other folds only."""
    from analysis.pairs import user_accuracy
    from beholder.taste.designs import learn_design
    from beholder.taste.evaluate import predict_fold
    from beholder.taste.registry import taste_model
    from beholder.taste.splits import seen_splits

    stream = np.random.default_rng([plan.seed, 33])
    split = seen_splits(ratings, ratings.prompt_id, plan.taste.prompt_folds, stream)[0]
    seen = learn_design(
        pictures.take(~np.isin(pictures.prompt_ids, split.held_out)), np.random.default_rng([plan.seed, 34])
    )
    models = [taste_model(name) for name in plan.taste.models]
    test, accuracies = split.test_ratings, {}
    for found in predict_fold(split, pictures, seen, models, [plan.seed, 35]):
        column = np.searchsorted(found.images, test.image_id)
        each = []
        for row, user in enumerate(found.users.tolist()):
            mine = test.user_id == user
            each.append(user_accuracy(test.score[mine], found.score[row, column[mine]]).accuracy)
        accuracies[found.model] = float(np.nanmean(each))
    return accuracies


def champion(context: Context, trained: pd.DataFrame) -> tuple[str, str]:
    """The best model and the criterion that chose it; of equals the one that stands first in the plan."""
    names = list(trained["model"])
    if context.store.has_table("ladder"):
        ladder = context.store.read_table("ladder")
        level = ladder[(ladder["split"] == "seen") & (ladder["level"] == "user") & ladder["model"].isin(names)]
        if set(level["model"]) == set(names):
            accuracy = level.set_index("model").loc[names, "accuracy"].to_numpy(float)
            return names[int(np.argmax(accuracy))], "cross-validated accuracy, user level, seen users"
    best = int(np.argmax(trained["heldout_accuracy"].to_numpy(float)))
    return names[best], "accuracy on one held-out fold of prompts, user level, seen users"


def track(context: Context, trained: pd.DataFrame) -> None:
    """Log what is not logged yet and point the alias at the champion; MLflow is loaded only if there is need."""
    from beholder.records import key_of
    from beholder.tracking import Tracker, tracking_uri

    best, criterion = champion(context, trained)
    name = f"beholder-{context.plan.name}"
    wanted = {"trained": context.digest("trained"), "name": name, "champion": best}
    key = key_of(wanted | {"criterion": criterion})
    where = tracking_uri(context.store).replace(str(context.store.root), "STORE")
    record = context.store.read_record("tracking")
    if record and record["key"] == key and record["uri"] == where and is_there(context):
        return
    with context.progress.step("Log to MLflow"):
        tracker = Tracker(context.store, name)
        rows = trained.to_dict("records")
        logged = {str(row["model"]): tracker.log(training_run(context, row)) for row in rows}
        tracker.promote(logged[best].version)
    runs = trained.assign(mlflow_run_id=[logged[model].run_id for model in trained["model"]])
    context.save("trained", runs, INPUTS)
    models = {model: {"run_id": found.run_id, "version": found.version} for model, found in logged.items()}
    context.store.write_record(
        "tracking", wanted | {"key": key, "uri": where, "criterion": criterion, "models": models}
    )


def is_there(context: Context) -> bool:
    """Whether the store's own database was not thrown away (a server is trusted)."""
    from beholder.tracking import database_of, tracking_uri

    database = database_of(tracking_uri(context.store))
    return database is None or database.exists()


def training_run(context: Context, row: Mapping[Hashable, object]) -> TrainingRun:
    """What MLflow is told of one row of `trained`."""
    from beholder.steering import reward
    from beholder.tracking import ServedModel, TrainingRun

    folder = model_folder(context, str(row["model"]))
    example = context.store.read_table("features").head(EXAMPLES)[list(reward.BLOCKS)]
    user = context.store.read_table("ratings")["user_id"].astype(str).min()
    example.insert(0, "user_id", [user, *[reward.EVERYBODY] * (len(example) - 1)])
    loaded = reward.Reward.load(folder)
    raw = reward.raw_features(example.assign(image_id=range(len(example))))
    found = loaded.predict(example["user_id"].to_numpy(str), loaded.design(raw))
    answer = pd.DataFrame({"mean": found.mean, "sd": found.sd})
    plan, metrics = context.plan, ("heldout_accuracy", "noise_sd")
    params = {"model": str(row["model"]), "seed": str(plan.seed), "encoder": plan.embed.encoder}
    params |= {name: str(row[name]) for name in ("n_ratings", "n_users", "n_images")}
    return TrainingRun(
        name=str(row["model"]),
        params=params,
        metrics={name: float(str(row[name])) for name in metrics},
        tags={"plan": plan.name, "plan_hash": plan.hash},
        data={name: context.digest(name) for name in INPUTS},
        model=ServedModel(Path(reward.__file__).with_name("served_reward.py"), folder, example, answer, REQUIREMENTS),
        model_digest=str(row["digest"]),
    )


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"models": len(plan.taste.models)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("train_taste", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
