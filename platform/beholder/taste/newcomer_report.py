"""What a sweep over newcomers' ratings says: the accuracy of every setting, and of the settings that were chosen.

Choosing a setting and judging it on the same people flatters it. So for each fold of people the setting is chosen by
the people of the other folds, and the chosen settings are judged together. (The reward models of those other folds have
trained on ratings of the people judged; the choice has not seen a prediction for them.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from beholder.taste.fold_levels import on_one_level
from beholder.taste.neighbours import PUBLISHED_NEIGHBOURS, PUBLISHED_SHOWN
from beholder.taste.newcomers import POSTERIOR, POSTERIOR_CHOSEN, SETTING, Sweep
from beholder.taste.splits import Split

if TYPE_CHECKING:
    import pandas as pd

CENTRED, PUBLISHED = "neighbours", "neighbours_published"


def levelled(folds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Predictions of all folds on one level: `fold_score` as the fold gave it, `score` comparable between folds."""
    import pandas as pd

    every = pd.concat([f.assign(fold=k) for k, f in enumerate(folds)], ignore_index=True)
    key = SETTING
    settings = every[key].drop_duplicates().reset_index(drop=True)
    every = every.merge(settings.assign(model=settings.index.astype(str), split="unseen"), on=key)
    references = every[["split", "model", "user_id", "fold", "reference"]].drop_duplicates()
    found = on_one_level(every.drop(columns="reference"), references)
    columns = [*key, "user_id", "image_id", "fold", "fold_score", "sd", "score"]
    return found[columns].sort_values([*key, "user_id", "image_id"], ignore_index=True)


def label(method: str, shown: int, neighbours: int) -> str:
    """A setting in a word, as in result tables."""
    return f"{method} N={shown}" + (f" K={neighbours}" if neighbours else "")


def sweep_table(predictions: pd.DataFrame, ratings: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Each setting's accuracy at the user level with its two-way interval, and its error.

    Returns
    -------
    DataFrame
        `method, shown, neighbours, accuracy, ci_low, ci_high, rmse, z_sd, n_users, n_images`.
    """
    import pandas as pd

    from analysis.accuracy import accuracy
    from beholder.taste.report import prediction_errors

    rows = []
    for setting, part in predictions.groupby(SETTING, sort=True):
        method, shown, neighbours = cast("tuple[str, int, int]", setting)
        named = part.assign(model=label(method, shown, neighbours), split="unseen")
        found = accuracy(named, ratings, level="user", confidence=confidence).models[0]
        error = prediction_errors(named, ratings).iloc[0]
        about = {"method": method, "shown": shown, "neighbours": neighbours}
        measured = {name: getattr(found, name) for name in ("accuracy", "ci_low", "ci_high", "n_users", "n_images")}
        rows.append({**about, **measured, "rmse": error["rmse"], "z_sd": error["z_sd"]})
    return pd.DataFrame(rows)


def user_scores(predictions: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """`method, shown, neighbours, user_id, accuracy`: each person's share of pairs ordered right."""
    from analysis.pairs import user_accuracy

    first = ratings
    if "occasion" in ratings.columns:
        first = ratings.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"])
    both = predictions.merge(first[["user_id", "image_id", "score"]], on=["user_id", "image_id"], suffixes=("", "_of"))
    key = [*SETTING, "user_id"]
    found = both.groupby(key)[["score_of", "score"]].apply(
        lambda one: user_accuracy(one["score_of"].to_numpy(), one["score"].to_numpy()).accuracy
    )
    return found.rename("accuracy").reset_index()


def choose(scores: pd.DataFrame, user_fold: Mapping[str, int], method: str) -> dict[int, tuple[int, int]]:
    """For each fold of people (shown, neighbours) with the best mean accuracy over the people of the other folds.

    Of equals the one with fewer ratings, then with fewer neighbours.
    """
    mine = scores[scores["method"] == method]
    fold = mine["user_id"].map(user_fold)
    chosen = {}
    for k in sorted(set(user_fold.values())):
        mean = mine[fold != k].groupby(["shown", "neighbours"])["accuracy"].mean()
        shown, neighbours = mean.index[int(np.nanargmax(mean.to_numpy()))]
        chosen[k] = (int(shown), int(neighbours))
    return chosen


def choice_table(
    predictions: pd.DataFrame, ratings: pd.DataFrame, user_fold: Mapping[str, int], sweep: Sweep, confidence: float
) -> pd.DataFrame:
    """The neighbours' setting chosen by cross-validation and as published, against the posterior at the same N.

    Returns
    -------
    DataFrame
        `a, b, shown, estimate, ci_low, ci_high, p, accuracy_a, accuracy_b, settings`: accuracy of `a` less that of `b`
        on identical pairs. `settings` says what was chosen in each fold of people, `shown` the ratings `a` saw
        (the largest, where folds differ).
    """
    import pandas as pd

    scores, rows = user_scores(predictions, ratings), []
    for method in (CENTRED, PUBLISHED):
        chosen = choose(scores, user_fold, method)
        rivals = [("chosen", chosen)]
        if PUBLISHED_SHOWN in sweep.shown and PUBLISHED_NEIGHBOURS in sweep.neighbours:
            rivals.append(("as published", dict.fromkeys(chosen, (PUBLISHED_SHOWN, PUBLISHED_NEIGHBOURS))))
        for name, setting in rivals:
            a = _by_fold(predictions, user_fold, method, setting)
            b = _by_fold(predictions, user_fold, POSTERIOR, {k: (n, 0) for k, (n, _) in setting.items()})
            about = {"a": f"{method}, {name}", "b": POSTERIOR, "shown": max(n for n, _ in setting.values())}
            words = "; ".join(f"fold {k}: N={n} K={m}" for k, (n, m) in setting.items())
            rows.append({**about, **_paired(a, b, ratings, confidence), "settings": words})
    for n in sweep.shown[1:]:
        a, b = (
            _by_fold(predictions, user_fold, m, dict.fromkeys(chosen, (n, 0))) for m in (POSTERIOR_CHOSEN, POSTERIOR)
        )
        if len(a):
            about = {"a": POSTERIOR_CHOSEN, "b": POSTERIOR, "shown": n}
            rows.append({**about, **_paired(a, b, ratings, confidence), "settings": f"N={n}"})
    return pd.DataFrame(rows)


def _by_fold(
    predictions: pd.DataFrame, user_fold: Mapping[str, int], method: str, setting: Mapping[int, tuple[int, int]]
) -> pd.DataFrame:
    """Each fold's people as the fold's setting predicts them."""
    fold = predictions["user_id"].map(user_fold)
    keep = np.zeros(len(predictions), dtype=bool)
    for k, (shown, neighbours) in setting.items():
        right = (predictions["shown"] == shown) & (predictions["neighbours"] == neighbours)
        keep |= (right & (fold == k) & (predictions["method"] == method)).to_numpy()
    return predictions[keep]


def _paired(a: pd.DataFrame, b: pd.DataFrame, ratings: pd.DataFrame, confidence: float) -> dict[str, float]:
    import pandas as pd

    from analysis.accuracy import accuracy

    both = pd.concat([a.assign(model="a"), b.assign(model="b")], ignore_index=True).assign(split="unseen")
    found = accuracy(both, ratings, level="user", confidence=confidence)
    one = next(d for d in found.differences)
    sign = 1.0 if one.a == "a" else -1.0
    low, high = sorted((sign * one.ci_low, sign * one.ci_high))
    level = {m.model: m.accuracy for m in found.models}
    return {
        "estimate": sign * one.estimate,
        "ci_low": low,
        "ci_high": high,
        "p": one.p,
        "accuracy_a": level["a"],
        "accuracy_b": level["b"],
    }


def folds_of_users(splits: Sequence[Split]) -> dict[str, int]:
    """The fold of people each newcomer is tested in: people who are ever tested together share one."""
    found: dict[str, int] = {}
    for split in splits:
        users = split.test_ratings.users().tolist()
        number = next((found[u] for u in users if u in found), len(set(found.values())))
        found.update((u, number) for u in users)
    return found
