"""What the jobs about models write, for the small study: newcomers, ablation, checks, training and its decision.

Predictions are made up: the true taste through noise, less of it the more a model may use. All tables are made from
them by the functions of the jobs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.stability import taste_stability
from beholder.evaluation import STABILITY
from beholder.runs import Context
from beholder.taste.ablation import FULL, ablation_tables, token_table
from beholder.taste.champion import choose
from beholder.taste.collapse import collapse, spread_frame
from beholder.taste.evaluate import masked_name
from beholder.taste.newcomer_report import choice_table, sweep_table
from beholder.taste.newcomers import Sweep
from beholder.taste.report import rating_counts
from train_taste import heldout_accuracy, heldout_differences

SWEEP = Sweep((0, 5, 15), (1, 5))
CONFIDENCE = 0.95
VARIANTS = {FULL: 0.5, "no_text": 0.55, "no_user": 2.0}
"""Noise in what a model knows of a person, by what it does without."""
AGAIN = 12
"""Images that everybody rates on a second occasion, for the table on lasting taste only."""


def tables(context: Context) -> dict[str, pd.DataFrame]:
    """Every table by name."""
    truth, ratings = context.load("truth_ratings"), context.load("ratings")
    predictions, rng = context.load("predictions"), np.random.default_rng([context.plan.seed, 8])
    personal = spread_frame(collapse(predictions, ratings, ["population_bias", "eb_slopes"]))
    notes = pd.DataFrame({"about": ["splits"], "note": ["nothing was left out"]})
    made = {"personal_spread": personal, "evaluation_counts": rating_counts(predictions, ratings)}
    made |= {"evaluation_notes": notes, "stability": _stability(predictions, truth, ratings, rng)}
    made |= _newcomers(truth, ratings, rng) | _ablation(truth, ratings, rng)
    return made | _trained(predictions, ratings)


def decide(context: Context) -> None:
    """The record of which model serves."""
    trained, differences = context.load("trained"), context.load("trained_differences")
    names = list(trained["model"])
    accuracy = dict(zip(names, trained["heldout_accuracy"], strict=True))
    choice = choose(names, accuracy, differences, None, "accuracy on one held-out fold")
    models = {name: {"run_id": "", "version": str(k + 1)} for k, name in enumerate(names)}
    chosen = {"champion": choice.champion, "challenger": choice.challenger, "criterion": choice.reason}
    context.store.write_record("tracking", chosen | {"name": "beholder-small", "key": "", "uri": "", "models": models})


def _guess(truth: pd.DataFrame, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Expected ratings from the true utility seen through noise, shrunk as far as they deserve."""
    seen = truth["utility"] + noise * rng.standard_normal(len(truth))
    return (500 + 150 * seen / (1 + noise**2)).to_numpy()


def _newcomers(truth: pd.DataFrame, ratings: pd.DataFrame, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    rated = truth.merge(ratings[["user_id", "image_id"]].drop_duplicates(), on=["user_id", "image_id"])
    settings = [(method, n, 0) for method in ("posterior", "posterior_chosen") for n in SWEEP.shown]
    settings += [
        (method, n, k)
        for method in ("neighbours", "neighbours_published")
        for n in SWEEP.shown
        for k in SWEEP.neighbours
    ]
    better = {"posterior_chosen": 0.7, "neighbours_published": 1.6}
    parts = []
    for method, shown, neighbours in settings:
        score = _guess(rated, better.get(method, 1.0) * 2.5 / (1 + shown / 5), rng)
        about = {"method": method, "shown": shown, "neighbours": neighbours, "fold": 0, "sd": 180.0}
        parts.append(rated[["user_id", "image_id"]].assign(**about, fold_score=score, score=score))
    predictions, people = pd.concat(parts, ignore_index=True), sorted(rated["user_id"].unique())
    folds = {user: k % 2 for k, user in enumerate(people)}
    return {
        "newcomers": sweep_table(predictions, ratings, CONFIDENCE),
        "newcomers_chosen": choice_table(predictions, ratings, folds, SWEEP, CONFIDENCE),
    }


def _ablation(truth: pd.DataFrame, ratings: pd.DataFrame, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    rated = truth.merge(ratings[["user_id", "image_id"]].drop_duplicates(), on=["user_id", "image_id"])

    def predicted(model: str, noise: float) -> pd.DataFrame:
        parts = []
        for split, more in (("seen", 1.0), ("unseen", 1.3)):
            score = _guess(rated, more * noise, rng)
            about = {"model": model, "split": split, "sd": 180.0}
            parts.append(rated[["user_id", "image_id"]].assign(**about, score=score, fold_score=score))
        return pd.concat(parts, ignore_index=True)

    found: Mapping[str, pd.DataFrame] = {
        name: pd.concat([predicted("eb_slopes", noise), predicted("fusion", noise)], ignore_index=True)
        for name, noise in VARIANTS.items()
    }
    masked = [predicted(masked_name("fusion", t), n) for t, n in (("nothing", 0.5), ("user", 2.0), ("network", 0.9))]
    spread = spread_frame(collapse(found[FULL], ratings, ["eb_slopes", "fusion"])).assign(vector_spread=0.4)
    return {
        **ablation_tables(found, ratings, CONFIDENCE),
        "token_effects": token_table(pd.concat(masked, ignore_index=True), ratings, CONFIDENCE),
        "ablation_spread": spread,
    }


def _stability(
    predictions: pd.DataFrame, truth: pd.DataFrame, ratings: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    first = ratings[ratings["occasion"] == 1]
    later = first.groupby("user_id").head(AGAIN).merge(truth[["user_id", "image_id", "utility"]])
    score = 500 + 170 * later["utility"] + 60 * rng.standard_normal(len(later))
    later = later.drop(columns="utility").assign(occasion=2, score=score.clip(0, 1000).round().astype(int))
    both, seen = pd.concat([first, later], ignore_index=True), predictions[predictions["split"] == "seen"]
    two = seen[seen["model"].isin(["population", "eb_slopes"])]
    found = taste_stability(two, both, personal="eb_slopes", population_model="population", confidence=CONFIDENCE)
    about = {"personal": "eb_slopes", "population": "population", "n_users": found.n_users, "n_images": found.n_images}
    return found.to_frame().assign(**about)[list(STABILITY)]


def _trained(predictions: pd.DataFrame, ratings: pd.DataFrame) -> dict[str, pd.DataFrame]:
    first = ratings[ratings["occasion"] == 1].rename(columns={"score": "rating"})
    known = predictions[predictions["split"] == "seen"]
    heldout = known.merge(first[["user_id", "image_id", "prompt_id", "rating"]], on=["user_id", "image_id"])
    accuracy = heldout_accuracy(heldout)
    counts = {"n_ratings": len(ratings), "n_users": ratings["user_id"].nunique()}
    counts["n_images"] = ratings["image_id"].nunique()
    rows = [
        {"model": name, "digest": f"{k:064x}", "heldout_accuracy": accuracy[name], "noise_sd": 180.0, **counts}
        for k, name in enumerate(known["model"].unique())
    ]
    return {
        "trained": pd.DataFrame(rows).assign(mlflow_run_id=""),
        "trained_differences": heldout_differences(heldout, CONFIDENCE),
    }
