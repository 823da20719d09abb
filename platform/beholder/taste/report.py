"""From predictions to the tables of a report: the ladder at both levels, paired differences, margins, disagreement.

The numbers are those of `analysis`, which anybody can run again on the same predictions and ratings; here they are only
asked for together and put into the tables that jobs write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.taste.fold_tables import SCORE_PREFIX

if TYPE_CHECKING:
    import pandas as pd

    from analysis.accuracy import Accuracy

POPULATION = "population"
"""The model that others are said to help users against."""
HONEST = (0.9, 1.1)
"""Where the SD of standardised errors of honest predictions lies."""
LADDER_FIRST = ("model", "split", "level", "srocc", "plcc", "accuracy", "ci_low", "ci_high", "n_users")
_TURNED = (
    ("estimate", "estimate"),
    ("ci_low", "ci_high"),
    ("ci_high", "ci_low"),
    ("prompt_ci_low", "prompt_ci_high"),
    ("prompt_ci_high", "prompt_ci_low"),
)
UNSEEN_DIVERGING = (
    "in the split unseen each fold of people is predicted by models that have learned from the other folds, and so "
    "from the very people they are compared with: a model that knows no persons comes out a little below one half "
    "there. Compare the other models with its row"
)
DIFFERENCES_FIRST = ("a", "b", "split", "level", "estimate", "ci_low", "ci_high", "p", "p_holm", "share_a_better")


@dataclass(frozen=True)
class ReportSettings:
    """What is computed.

    Attributes
    ----------
    ladder : tuple of str
        Models from the simplest up; of two, the later one is `a` in a difference.
    margins : tuple of int
        Ticks of the tie curve, rising.
    disagreement_margins : tuple of int
        Ticks by which both users must differ in a diverging pair.
    confidence : float
    permutations : int
        Of user identities, for diverging pairs.
    """

    ladder: tuple[str, ...]
    margins: tuple[int, ...] = tuple(range(0, 501, 25))
    disagreement_margins: tuple[int, ...] = (0, 250)
    confidence: float = 0.95
    permutations: int = 9999


@dataclass(frozen=True, eq=False)
class EvaluationTables:
    """The tables of a report.

    Attributes
    ----------
    ladder : DataFrame
        One row a model, split and level: correlations and accuracy with two-way intervals (users and images), ceiling
        and counts; at the user level also `prompt_ci_low`, `prompt_ci_high` (users and prompts: the wider claim where
        several images share a prompt), `rmse` (ticks), `z_sd` (SD of standardised errors, 1 where `sd` is honest) with
        `z_sd_low`, `z_sd_high` and `sd_honest` (whether it lies in `HONEST`), and `share_helped`, the share of users
        whose pairs the model orders better than the population head does, equality one half.
    differences : DataFrame
        One row a pair of models, split and level: accuracy of `a` less that of `b` on identical pairs; at the user
        level also `prompt_ci_low`, `prompt_ci_high` and `prompt_p`.
    tie_curve : DataFrame
        One row a model, split and margin, user level.
    disagreement : DataFrame
        One row a model, split and margin.
    counts : DataFrame
        See `rating_counts`.
    notes : DataFrame
        `about, note`: estimands, and what a reader must know before he believes a number.
    """

    ladder: pd.DataFrame
    differences: pd.DataFrame
    tie_curve: pd.DataFrame
    disagreement: pd.DataFrame
    counts: pd.DataFrame
    notes: pd.DataFrame


def report(
    predictions: pd.DataFrame,
    dense: pd.DataFrame,
    ratings: pd.DataFrame,
    settings: ReportSettings,
    rng: np.random.Generator,
) -> EvaluationTables:
    """Every table of a report.

    Parameters
    ----------
    predictions, dense : DataFrame
        As `beholder.taste.evaluate.Evaluated`.
    ratings : DataFrame
        Tidy ratings; with `occasion` the first of each pair is what is predicted.
    settings : ReportSettings
    rng : numpy.random.Generator
        For bands and permutations.
    """
    import pandas as pd

    from analysis.accuracy import accuracy
    from analysis.tie_curve import tie_curve

    users = accuracy(predictions, ratings, level="user", confidence=settings.confidence)
    images = accuracy(predictions, ratings, level="population", confidence=settings.confidence)
    prompts = users
    if "prompt_id" in ratings.columns:
        prompts = accuracy(predictions, ratings, level="user", items="prompt", confidence=settings.confidence)
    by_user = _with_prompts(users.to_frame(), prompts.to_frame(), ("model", "split"), ("ci_low", "ci_high"))
    for more in (prediction_errors(predictions, ratings), sd_calibration(predictions, ratings, settings.confidence)):
        by_user = by_user.merge(more, on=["model", "split"])
    by_user = by_user.assign(share_helped=share_helped(by_user, _differences(users)))
    ladder = pd.concat([by_user, images.to_frame()], ignore_index=True)
    gaps = _with_prompts(_differences(users), _differences(prompts), ("a", "b", "split"), ("ci_low", "ci_high", "p"))
    gaps = pd.concat([gaps, _differences(images)], ignore_index=True)
    curve = tie_curve(predictions, ratings, settings.margins, rng=rng, confidence=settings.confidence)
    diverging, diverging_notes = _disagreement(dense, ratings, settings, rng)
    notes = [
        *_notes("ladder, user level", users),
        *(("ladder, user level", note) for note in users_left_out(users)),
        *_notes("ladder, population level", images),
        *_notes("tie curve", curve),
        *diverging_notes,
    ]
    if (predictions["split"] == "unseen").any():
        notes.append(("diverging pairs", UNSEEN_DIVERGING))
    return EvaluationTables(
        in_ladder_order(_first(ladder, LADDER_FIRST), settings.ladder),
        upward(gaps, settings.ladder),
        in_ladder_order(_first(curve.to_frame(), ("model", "split", "margin")), settings.ladder),
        in_ladder_order(diverging, settings.ladder),
        rating_counts(predictions, ratings),
        pd.DataFrame(notes, columns=["about", "note"]).drop_duplicates(ignore_index=True),
    )


def prediction_errors(predictions: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Means over users: `rmse` in ticks and `z_sd`, the SD about 0 of errors divided by the predicted SD.

    Errors are those of `fold_score`, which knows nothing of the fold's ratings.

    A model whose `sd` is honest has a `z_sd` of about 1; NaN where a model gives no SD. A scorer's numbers are no
    ticks: it has neither.
    """
    both = _with_errors(predictions, ratings)
    squares = both[["model", "split", "user_id"]].assign(squared=both["error"] ** 2, standardised=both["z"] ** 2)
    each = squares.groupby(["model", "split", "user_id"]).mean()
    found = each.groupby(["model", "split"]).mean() ** 0.5
    return found.rename(columns={"squared": "rmse", "standardised": "z_sd"}).reset_index()


def sd_calibration(predictions: pd.DataFrame, ratings: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Whether stated errors are honest: `model, split, z_sd_low, z_sd_high, sd_honest`.

    The interval is two-way over users and images, of the mean square; its ends' roots are given. `sd_honest` says
    whether `z_sd` itself lies in `HONEST`; it is missing where a model gives no SD.
    """
    import pandas as pd

    from analysis.user_means import crossing, mean_over_users

    rows = []
    for (model, split), mine in _with_errors(predictions, ratings).groupby(["model", "split"], sort=False):
        row: dict[str, object] = {"model": model, "split": split, "z_sd_low": np.nan, "z_sd_high": np.nan}
        square = mine["z"].to_numpy(dtype=float) ** 2
        if np.isfinite(square).all():
            cells = crossing(mine["user_id"], mine["image_id"])
            n = np.bincount(cells.user)
            mean = np.bincount(cells.user, square) / n
            found = mean_over_users(mean, (square - mean[cells.user]) / n[cells.user], cells, confidence=confidence)
            low, high = (float(np.sqrt(max(end, 0.0))) for end in (found.ci_low, found.ci_high))
            row |= {"z_sd_low": low, "z_sd_high": high}
            row["sd_honest"] = "yes" if HONEST[0] <= np.sqrt(found.estimate) <= HONEST[1] else "no"
        rows.append(row)
    return pd.DataFrame(rows, columns=["model", "split", "z_sd_low", "z_sd_high", "sd_honest"])


def _with_errors(predictions: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Predictions with `error` and `z`, the error in units of the predicted SD; NaN where there is none."""
    first = ratings
    if "occasion" in ratings.columns:
        first = ratings.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"])
    both = predictions.merge(first[["user_id", "image_id", "score"]], on=["user_id", "image_id"], suffixes=("", "_of"))
    error = (both["score_of"] - both["fold_score"]).mask(both["model"].str.startswith(SCORE_PREFIX))
    return both.assign(error=error, z=error / both["sd"].where(both["sd"] > 0))


def share_helped(ladder: pd.DataFrame, differences: pd.DataFrame) -> pd.Series:
    """For each row of a user-level ladder, the share of users helped by its model; NaN for the head itself."""
    share = {}
    for row in differences.to_dict("records"):
        if row["b"] == POPULATION:
            share[row["a"], row["split"]] = row["share_a_better"]
        elif row["a"] == POPULATION:
            share[row["b"], row["split"]] = 1.0 - row["share_a_better"]
    return ladder.apply(lambda row: share.get((row["model"], row["split"]), np.nan), axis=1).astype(float)


def rating_counts(predictions: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """What the numbers rest on: one row for all ratings and one for the tested ones of each split.

    Returns
    -------
    DataFrame
        `split` ("all" first), `n_ratings`, `n_users`, `n_images`, `n_prompts`; ratings a user: `per_user_min`,
        `per_user_median`, `per_user_max`; `n_single`, users with one rating; `n_constant`, users with several ratings,
        all of them equal, whose taste cannot be seen.
    """
    import pandas as pd

    key = ["user_id", "image_id"]
    tested = predictions[["split", *key]].drop_duplicates()
    parts = {"all": ratings} | {
        str(split): ratings.merge(pairs[key], on=key) for split, pairs in tested.groupby("split")
    }
    rows = []
    for split, part in parts.items():
        each = part.groupby("user_id")["score"]
        size = each.size()
        row = {"split": split, "n_ratings": len(part), "n_users": len(size), "n_images": part["image_id"].nunique()}
        row["n_prompts"] = part["prompt_id" if "prompt_id" in part.columns else "image_id"].nunique()
        row |= {f"per_user_{name}": float(getattr(size, name)()) for name in ("min", "median", "max")}
        row |= {"n_single": int((size == 1).sum()), "n_constant": int(((size > 1) & (each.min() == each.max())).sum())}
        rows.append(row)
    return pd.DataFrame(rows)


def _with_prompts(
    frame: pd.DataFrame, prompts: pd.DataFrame, key: tuple[str, ...], columns: tuple[str, ...]
) -> pd.DataFrame:
    """The frame with the columns of the same analysis by prompt, named `prompt_...`."""
    beside = prompts[[*key, *columns]].rename(columns={c: f"prompt_{c}" for c in columns})
    return frame.merge(beside, on=list(key), validate="one_to_one")


def upward(differences: pd.DataFrame, ladder: Sequence[str]) -> pd.DataFrame:
    """Each difference as higher rung less lower rung, in the order of the ladder."""
    rung = {model: k for k, model in enumerate(ladder)}
    turned = differences["a"].map(rung) < differences["b"].map(rung)
    out = differences.copy()
    for mine, theirs in (("a", "b"), ("b", "a")):
        out.loc[turned, mine] = differences.loc[turned, theirs]
    for mine, theirs in _TURNED:
        if mine not in out.columns:
            continue
        out.loc[turned, mine] = 0.0 - differences.loc[turned, theirs]
    out.loc[turned, "share_a_better"] = 1.0 - differences.loc[turned, "share_a_better"]
    keys = out.assign(_a=out["a"].map(rung), _b=out["b"].map(rung))
    order = keys.sort_values(["level", "split", "_a", "_b"], ascending=[False, True, False, False], kind="stable").index
    return _first(out.loc[order].reset_index(drop=True), DIFFERENCES_FIRST)


def in_ladder_order(frame: pd.DataFrame, ladder: Sequence[str]) -> pd.DataFrame:
    """Rows by level (user first), split, rung and margin, as far as the table has them."""
    rung = {model: k for k, model in enumerate(ladder)}
    keys = [c for c in ("level", "split", "_rung", "margin") if c == "_rung" or c in frame.columns]
    ascending = [c != "level" for c in keys]
    ordered = frame.assign(_rung=frame["model"].map(rung)).sort_values(keys, ascending=ascending, kind="stable")
    return ordered.drop(columns="_rung").reset_index(drop=True)


def _first(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    return frame[[*names, *(c for c in frame.columns if c not in names)]]


def _differences(result: Accuracy) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([vars(d) for d in result.differences])


def _disagreement(
    dense: pd.DataFrame, ratings: pd.DataFrame, settings: ReportSettings, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Diverging pairs at every margin."""
    import pandas as pd

    from analysis.disagreement import disagreement

    frames, notes = [], []
    for margin in settings.disagreement_margins:
        found = disagreement(
            dense, ratings, rng=rng, margin=margin, confidence=settings.confidence, draws=settings.permutations
        )
        frames.append(found.to_frame().assign(margin=margin))
        notes += _notes("diverging pairs", found)
    return _first(pd.concat(frames, ignore_index=True), ("model", "split", "margin")), notes


def users_left_out(result: Accuracy) -> list[str]:
    """Who has no accuracy, such as constant raters, by split and reason; each said once, whatever the model."""
    left = [(model.split, why, n) for model in result.models for why, n in model.left_out]
    return [f"{split}: {n} users with {why} have no accuracy" for split, why, n in dict.fromkeys(left)]


def _notes(about: str, result: Any) -> list[tuple[str, str]]:
    """Estimand and warnings of a result."""
    return [(about, text) for text in (result.estimand.text, *result.warnings)]
