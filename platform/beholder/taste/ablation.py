"""What each thing a model may use adds: other data sets, text, demographics, people's own ratings; seen and unseen.

Every variant leaves one thing out of the full model. Its loss is taken on identical pairs, and so is the gap between
known and new people, who are the same people and images under cross-validation; where a release keeps different people
apart, the images they share are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.taste.fold_stage import EVERYTHING, Allowed

if TYPE_CHECKING:
    import pandas as pd

    from analysis.levels import UserLevel
    from analysis.user_means import Interval

FULL = "full"
_WITHOUT = {
    "no_others": Allowed(others=False),
    "no_text": Allowed(text=False),
    "no_demographics": Allowed(demographics=False),
    "no_profiles": Allowed(profiles=False),
    "no_user": Allowed(user=False),
}


def variants(*, others: bool, text: bool, demographics: bool, profiles: bool = False) -> dict[str, Allowed]:
    """The full model and one variant for each thing that is there to be left out; own ratings always are."""
    there = {"no_others": others, "no_text": text, "no_demographics": demographics, "no_profiles": profiles}
    there["no_user"] = True
    return {FULL: EVERYTHING} | {name: allowed for name, allowed in _WITHOUT.items() if there[name]}


def ablation_tables(
    predictions: Mapping[str, pd.DataFrame], ratings: pd.DataFrame, confidence: float
) -> dict[str, pd.DataFrame]:
    """Accuracy of every variant, what each thing adds, and the gap between known and new people.

    Parameters
    ----------
    predictions : mapping of variant to DataFrame
        As `beholder.taste.evaluate.Evaluated.predictions`; `FULL` among them.
    ratings : DataFrame
    confidence : float

    Returns
    -------
    dict of DataFrame
        `ablation`: one row a model, variant and split, as in a ladder. `ablation_adds`: accuracy of the full model less
        that of the variant, with two-way intervals by images and by prompts (`prompt_...`), and `p_holm` over the
        variants of a model and split. `ablation_gap`: accuracy of known less that of new people.
    """
    import pandas as pd

    from analysis.accuracy import accuracy

    named = pd.concat(
        [frame.assign(model=frame["model"] + "/" + name) for name, frame in predictions.items()], ignore_index=True
    )
    measured = accuracy(named, ratings, confidence=confidence)
    columns = ["accuracy", "ci_low", "ci_high", "srocc", "plcc", "ceiling", "skill", "n_users", "n_images", "n_pairs"]
    frame = _apart(measured.to_frame())[["model", "variant", "split", *columns]]
    adds = pd.concat([_adds(named, ratings, model, confidence) for model in frame["model"].unique()], ignore_index=True)
    return {"ablation": _in_order(frame, predictions), "ablation_adds": _in_order(adds, predictions)} | {
        "ablation_gap": _in_order(_gaps(named, ratings, confidence), predictions)
    }


def token_table(predictions: pd.DataFrame, ratings: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """What a fusion predictor loses on held-out pairs when one of its tokens is masked, the network as it is.

    Parameters
    ----------
    predictions : DataFrame
        Of models named by `beholder.taste.evaluate.masked_name`; others are not looked at.
    ratings : DataFrame
    confidence : float

    Returns
    -------
    DataFrame
        One row a model, split and token: `estimate`, accuracy of the model as it is less that without the token, on
        identical pairs, with two-way intervals by images and by prompts and `p_holm` over tokens; `accuracy` without
        the token; `rmse` without it and `shift`, the root mean square change of predictions, in ticks.

    Notes
    -----
    A network that was trained with a token is not the one that would have been trained without it: what the token adds
    is `ablation_adds`, what predictions rest on is this.
    """
    import pandas as pd

    from analysis.accuracy import accuracy
    from beholder.taste.evaluate import MASKED

    mine = predictions[predictions["model"].str.contains(MASKED, regex=False)]
    columns = ["model", "split", "token", "accuracy", "estimate", "ci_low", "ci_high", "p", "p_holm"]
    columns += ["prompt_ci_low", "prompt_ci_high", "prompt_p", "rmse", "shift", "n_users", "n_images"]
    if mine.empty:
        return pd.DataFrame(columns=columns)
    parts = mine["model"].str.rsplit(MASKED, n=1)
    models = parts.str[0]
    mine = mine.assign(model=models + "/" + parts.str[1].replace("nothing", FULL))
    measured = _apart(accuracy(mine, ratings, confidence=confidence).to_frame())
    lost = pd.concat([_adds(mine, ratings, name, confidence) for name in models.unique()])
    key = ["model", "variant", "split"]
    found = lost.merge(measured[[*key, "accuracy"]], on=key).merge(_moved(mine, ratings), on=key)
    found = found.assign(token=found["variant"])
    return found.sort_values(["model", "split", "token"], kind="stable")[columns].reset_index(drop=True)


def _moved(mine: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Errors without each token, and how far predictions move; by `fold_score`, in ticks."""
    key = ["split", "user_id", "image_id"]
    once = ratings.assign(user_id=ratings["user_id"].astype(str), image_id=ratings["image_id"].astype(str))
    rated = once.assign(rating=once["score"]).groupby(["user_id", "image_id"], as_index=False)["rating"].mean()
    joined = _apart(mine).drop(columns="score").merge(rated, on=["user_id", "image_id"])
    whole = joined[joined["variant"] == FULL][["model", *key, "fold_score"]].rename(columns={"fold_score": "whole"})
    joined = joined.merge(whole, on=["model", *key])
    squares = joined.assign(
        rmse=(joined["fold_score"] - joined["rating"]) ** 2, shift=(joined["fold_score"] - joined["whole"]) ** 2
    )
    means = squares.groupby(["model", "variant", "split"])[["rmse", "shift"]].mean()
    return means.apply(np.sqrt).reset_index()


def _apart(frame: pd.DataFrame) -> pd.DataFrame:
    parts = frame["model"].str.rsplit("/", n=1)
    return frame.assign(model=parts.str[0], variant=parts.str[1])


def _in_order(frame: pd.DataFrame, predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    place = {name: k for k, name in enumerate(predictions)}
    keys = [c for c in ("model", "split", "_place") if c == "_place" or c in frame.columns]
    ordered = frame.assign(_place=frame["variant"].map(place)).sort_values(keys, kind="stable")
    return ordered.drop(columns="_place").reset_index(drop=True)


def _adds(named: pd.DataFrame, ratings: pd.DataFrame, model: str, confidence: float) -> pd.DataFrame:
    """Differences of one model's full form to its variants, in every split."""
    import pandas as pd

    from analysis.accuracy import accuracy, holm

    mine = named[_apart(named[["model"]])["model"] == model]
    full = f"{model}/{FULL}"
    columns = ["model", "variant", "split", "estimate", "ci_low", "ci_high", "p", "p_holm"]
    columns += ["prompt_ci_low", "prompt_ci_high", "prompt_p", "share_helped", "n_users", "n_images"]
    if mine["model"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    found = wide = accuracy(mine, ratings, baseline=full, confidence=confidence).differences
    if "prompt_id" in ratings.columns:
        wide = accuracy(mine, ratings, baseline=full, items="prompt", confidence=confidence).differences
    rows: list[dict[str, Any]] = []
    for d, w in zip(found, wide, strict=True):
        sign = 1.0 if d.a == full else -1.0
        other = d.b if d.a == full else d.a
        low, high = sorted((sign * d.ci_low, sign * d.ci_high))
        prompt_low, prompt_high = sorted((sign * w.ci_low, sign * w.ci_high))
        share = d.share_a_better if d.a == full else 1.0 - d.share_a_better
        rows.append(
            {"model": model, "variant": other.rsplit("/", 1)[1], "split": d.split, "estimate": sign * d.estimate}
            | {"ci_low": low, "ci_high": high, "p": d.p, "prompt_ci_low": prompt_low, "prompt_ci_high": prompt_high}
            | {"prompt_p": w.p, "share_helped": share, "n_users": d.n_users, "n_images": d.n_images}
        )
    frame = pd.DataFrame(rows)
    adjusted = frame.groupby("split")["p"].transform(lambda p: holm(p.fillna(1.0).tolist()))
    return frame.assign(p_holm=adjusted)[columns]


def _gaps(named: pd.DataFrame, ratings: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Seen less unseen, for every model and variant that has both."""
    import pandas as pd

    from analysis.levels import Rules, UserLevel
    from analysis.matched import match

    common = set.intersection(*(set(part["image_id"]) for _, part in named.groupby("split")))
    groups = match(named[named["image_id"].isin(common)], ratings).groups
    levels = {(g.model, g.split): UserLevel.of(g, Rules(confidence=confidence)) for g in groups}
    rows = []
    for model in sorted({name for name, _ in levels}):
        if (model, "seen") in levels and (model, "unseen") in levels:
            found = gap(levels[model, "seen"], levels[model, "unseen"], confidence)
            rows.append({"model": model, "estimate": found.estimate, "ci_low": found.ci_low, "ci_high": found.ci_high}
                        | {"p": found.p, "n_images": len(common)})  # fmt: skip
    return _apart(pd.DataFrame(rows, columns=["model", "estimate", "ci_low", "ci_high", "p", "n_images"]))[
        ["model", "variant", "estimate", "ci_low", "ci_high", "p", "n_images"]
    ]


def gap(seen: UserLevel, unseen: UserLevel, confidence: float) -> Interval:
    """Mean accuracy in one split less that in another, whether the users are the same, others, or partly the same.

    Notes
    -----
    The variance is that of `analysis.user_means.mean_over_users`, of influences that are subtracted wherever a user, an
    image or a cell is on both sides; with the same users and rows it is that of the paired difference.
    """
    from analysis.results import Population
    from analysis.user_means import Interval, chosen_variance, t_interval

    parts: dict[str, list[Any]] = {"user": [], "user_part": [], "row_user": [], "row_item": [], "row_part": []}
    estimate = 0.0
    for level, sign in ((seen, 1.0), (unseen, -1.0)):
        kept = np.isfinite(level.accuracy)
        n, mean = int(kept.sum()), float(np.mean(level.accuracy[kept])) if kept.any() else float("nan")
        estimate += sign * mean
        parts["user"].append(level.user_codes[kept])
        parts["user_part"].append(sign * (level.accuracy[kept] - mean) / max(n, 1))
        live = kept[level.rows.user]
        parts["row_user"].append(level.group.user[live])
        parts["row_item"].append(level.group.image[live])
        parts["row_part"].append(sign * level.influence[live] / max(n, 1))
    user, own, row_user, row_item, part = (np.concatenate(parts[name]) for name in parts)
    if np.isnan(estimate):
        return Interval(estimate, *(float("nan"),) * 5)
    sums = [_sums(own, user), _sums(part, row_item), _sums(part, row_user * (int(row_item.max()) + 1) + row_item)]
    n_users = len(sums[0])
    v_user = float(np.sum(sums[0] ** 2)) * n_users / max(n_users - 1, 1)
    squares = (v_user, float(np.sum(sums[1] ** 2)), float(np.sum(sums[2] ** 2)))
    variance, df = chosen_variance(Population(), squares, (n_users, len(sums[1]), len(sums[2])))
    se = float(np.sqrt(variance)) if df >= 1 and variance > 0 else float("nan")
    return Interval(estimate, se, df, *t_interval(estimate, se, df, confidence))


def _sums(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sum of the values of each distinct code."""
    return np.bincount(np.unique(codes, return_inverse=True)[1], values)
