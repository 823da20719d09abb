"""How well reward models order images as people do: for each user, and for people on average.

User level: each user's share of pairs ordered right (score ties one half), then the unweighted mean over users. Pairs
never cross users, or a model that knows only users' means would look skilled (.63 at 15 % user variance). Population
level: the order of the images by their mean rating. Differences of models are taken on identical pairs; their
interval is what decides between models, not the overlap of the models' own.

The number of pairs is no number of observations: intervals from it cover 18 to 42 % instead of 95 %.

Assumes users and images drawn at random, and predictions made without the ratings they are compared with. Wrong when
users were given images by taste, and when images share prompts but are taken for independent (`items="prompt"`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis import charts
from analysis.components import Components, accuracy_beyond, moment_components
from analysis.errors import EstimateError, UserError
from analysis.levels import Compared, ImageLevel, Items, Measured, Rules, UserLevel, compared
from analysis.matched import Matched, ModelRows, match, on_common_rows
from analysis.results import Estimand, Population, Provenance, Result, p_text
from analysis.tables import Scale, check_ratings
from analysis.user_means import estimand_for, require_two

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Level = Literal["user", "population"]


@dataclass(frozen=True)
class ModelAccuracy:
    """One model in one split.

    Attributes
    ----------
    model, level, split : str
    accuracy, ci_low, ci_high, se, df : float
    srocc, srocc_low, srocc_high, plcc, plcc_low, plcc_high : float
        Spearman and Pearson correlation, mean over users or over images at the population level.
    srocc_fisher, plcc_fisher : float
        The means through Fisher's z, a sensitivity; NaN at the population level.
    ceiling : float
        Accuracy of the best personal model, NaN with the reason in `ceiling_reason`; at the population level of the
        best model that does not know who rated, so that a personal model may pass it.
    skill : float
        (accuracy - 1/2) / (ceiling - 1/2).
    n_users, n_images, n_pairs : int
        What `accuracy` rests on.
    n_undefined : int
        Users whose correlation is undefined (constant ratings or scores).
    left_out : tuple of (str, int)
        Users left out of the accuracy, by reason.
    deciles : tuple of float
        10 %, …, 90 % quantiles of the users' accuracies; empty at the population level.
    """

    model: str
    level: Level
    split: str
    accuracy: float
    ci_low: float
    ci_high: float
    se: float
    df: float
    srocc: float
    srocc_low: float
    srocc_high: float
    srocc_fisher: float
    plcc: float
    plcc_low: float
    plcc_high: float
    plcc_fisher: float
    ceiling: float
    ceiling_reason: str | None
    skill: float
    n_users: int
    n_images: int
    n_pairs: int
    n_undefined: int
    left_out: tuple[tuple[str, int], ...]
    deciles: tuple[float, ...]


@dataclass(frozen=True)
class ModelDifference:
    """Accuracy of model `a` minus that of model `b` on identical pairs.

    Attributes
    ----------
    a, b, level, split : str
    estimate, ci_low, ci_high, se, df, p : float
    p_holm : float
        `p` after Holm's correction over all differences of the result.
    share_a_better : float
        Share of users whose pairs `a` orders better, equality one half; NaN at the population level.
    n_users, n_images : int
    """

    a: str
    b: str
    level: Level
    split: str
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    df: float
    p: float
    p_holm: float
    share_a_better: float
    n_users: int
    n_images: int


@dataclass(frozen=True, kw_only=True)
class Accuracy(Result):
    """Accuracies of models and their differences; see `accuracy`.

    Attributes
    ----------
    level : str
    margin : int
        Ticks by which two ratings must differ.
    models : tuple of ModelAccuracy
    differences : tuple of ModelDifference
    population_ceiling : float
        User level only: accuracy of the best model that gives everybody the same scores.
    components : Components or None
        Of the ratings; None where they cannot be estimated.
    users : DataFrame
        model, split, user_id, accuracy, n_pairs of every user with enough of both (not in the JSON).
    """

    level: Level
    margin: int
    confidence: float
    models: tuple[ModelAccuracy, ...]
    differences: tuple[ModelDifference, ...]
    population_ceiling: float
    components: Components | None
    users: pd.DataFrame = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One sentence a model and one a difference."""
        level = 100 * self.confidence
        lines = [
            f"{m.model} ({m.split}): accuracy {m.accuracy:.3f} ({level:g} % CI {m.ci_low:.3f} to {m.ci_high:.3f}), "
            f"Spearman {m.srocc:.3f}, Pearson {m.plcc:.3f}; {m.n_users} users, {m.n_images} images, {m.n_pairs} pairs."
            for m in self.models
        ]
        lines += [
            f"{d.a} - {d.b} ({d.split}): {d.estimate:+.3f} ({level:g} % CI {d.ci_low:+.3f} to {d.ci_high:+.3f}, "
            f"{p_text(d.p)}, Holm {p_text(d.p_holm)})."
            for d in self.differences
        ]
        return "\n".join([*lines, f"Estimand: {self.estimand.text}."])

    def to_frame(self) -> pd.DataFrame:
        """One row a model and split."""
        import pandas as pd

        hidden = ("deciles", "left_out")
        return pd.DataFrame([{k: v for k, v in vars(m).items() if k not in hidden} for m in self.models])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Models, differences, deciles over users, and the users' own accuracies."""
        import pandas as pd

        found = {"result": self.to_frame(), "differences": pd.DataFrame([vars(d) for d in self.differences])}
        if self.level == "user":
            deciles = [
                {"model": m.model, "split": m.split, "share": (k + 1) / 10, "accuracy": value}
                for m in self.models
                for k, value in enumerate(m.deciles)
            ]
            found |= {"deciles": pd.DataFrame(deciles), "users": self.users}
        return found

    def plot(self) -> alt.LayerChart:
        """Accuracy of each model with its interval."""
        frame = self.to_frame().rename(columns={"accuracy": "estimate"})
        frame["label"] = frame["model"] + " (" + frame["split"] + ")"
        columns = ["label", "estimate", "ci_low", "ci_high"]
        title = f"Pairs ordered right, {self.level} level, margin {self.margin}"
        return charts.interval_chart(frame[columns], "label", "accuracy", title, null=0.5, percent=True)


def accuracy(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    *,
    level: Level = "user",
    margin: int = 0,
    confidence: float = 0.95,
    min_pairs: int = 30,
    min_images: int = 10,
    items: Items = "image",
    baseline: str | None = None,
    population: Population | None = None,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> Accuracy:
    """Pairwise accuracy, Spearman and Pearson correlation of every model and split, with differences of models.

    Parameters
    ----------
    predictions, ratings : DataFrame
        See `analysis.tables`. Only predictions with a rating count; of several occasions the first is predicted and
        the others inform the ceiling.
    level : {"user", "population"}
        Mean over users of the accuracy inside each, or accuracy on image means of centred ratings.
    margin : int
        Pairs count when ratings differ by more than this many ticks.
    confidence : float
    min_pairs, min_images : int
        Users with fewer usable pairs or images are left out and counted.
    items : {"image", "prompt"}
        User level: what is sampled beside users. Prompts are the safer choice where several images share one. The
        population level takes the larger variance of both.
    baseline : str, optional
        Differences only against this model; between all models without it.
    population : Population, optional
        New users and new items unless given; at the population level the raters are always these.
    scale : Scale, optional
    provenance : Provenance, optional

    Notes
    -----
    Intervals: `analysis.user_means.mean_over_users`. At the population level the images' target is the mean of ratings
    less shrunken user levels, the prediction is the model's mean over the same users treated alike. The ceiling of the
    user level is that of the best personal model and needs repeated ratings; the population level's comes from the
    reliability of image means and needs none. Both assume Gaussian taste and noise. Wrong for leave-one-out
    means of the same raters at the population level: averaged over users they are the target itself.

    Raises
    ------
    TableError, EstimateError
        Malformed tables; nothing to compare; unknown baseline; no model with a user who has enough ratings; fewer than
        two users or images.
    """
    if level not in ("user", "population") or items not in ("image", "prompt"):
        raise UserError(f"level {level!r}, items {items!r}", "level user|population, items image|prompt")
    rules = Rules(margin, confidence, min_pairs, min_images, items, population or Population())
    matched = match(predictions, ratings, scale)
    if items == "prompt" and not matched.has_prompts:
        raise EstimateError("items by prompt, but the ratings have no prompt_id", "a prompt_id column", "use images")
    measured = [_measure(group, level, rules) for group in matched.groups]
    parts, why = _components(ratings, scale)
    models = tuple(
        _model_row(group, found, level, *_ceiling_of(found, parts, why, margin))
        for group, found in zip(matched.groups, measured, strict=True)
    )
    _require_enough(models, rules)
    estimand, few = _estimand(level, rules, models)
    shared = parts.population_r if parts and level == "user" else math.nan
    return Accuracy(
        estimand=estimand,
        exclusions=matched.exclusions,
        warnings=few + matched.warnings + _left_out_text(models),
        provenance=provenance or Provenance.of({"predictions": predictions, "ratings": ratings}),
        level=level,
        margin=margin,
        confidence=confidence,
        models=models,
        differences=_differences(matched.groups, measured, level, rules, baseline),
        population_ceiling=_ceiling(shared, parts.within_user_sd if parts else math.nan, margin),
        components=parts,
        users=_users_frame(matched, measured),
    )


def _require_enough(models: tuple[ModelAccuracy, ...], rules: Rules) -> None:
    """A model or split may be without a number; not all of them."""
    n_users, n_images = (max(getattr(m, name) for m in models) for name in ("n_users", "n_images"))
    if not n_users:
        asked = f"{rules.min_images} images and {rules.min_pairs} pairs that differ by more than {rules.margin} ticks"
        raise EstimateError(f"no user with {asked}", "at least two", "collect more ratings or ask for fewer")
    require_two(n_users, n_images, rules.population, "images")


def _measure(group: ModelRows, level: Level, rules: Rules) -> Measured:
    return UserLevel.of(group, rules) if level == "user" else ImageLevel.of(group, rules)


def _components(ratings: pd.DataFrame, scale: Scale | None) -> tuple[Components | None, str | None]:
    """Variance components of all ratings, or why there are none."""
    rated = check_ratings(ratings, scale)
    try:
        return moment_components(rated["score"].to_numpy(), rated["user_id"], rated["image_id"]), None
    except EstimateError as error:
        return None, str(error)


def _ceiling(r: float, sd: float, margin: int) -> float:
    return math.nan if math.isnan(r) or not sd > 0 else float(accuracy_beyond(r, margin / sd))


def _ceiling_of(found: Measured, parts: Components | None, why: str | None, margin: int) -> tuple[float, str | None]:
    """Accuracy of the best model of the level, and the reason where it is unknown."""
    if parts is None:
        return math.nan, why
    if isinstance(found, UserLevel):
        return _ceiling(parts.personal_r, parts.within_user_sd, margin), parts.why_not_separable
    raters = 1 / float(np.mean(1 / found.n_raters))
    value = _ceiling(parts.image_mean_r(raters), float(np.std(found.target)), margin)
    return value, "no shared taste was found" if math.isnan(value) else None


def _model_row(group: ModelRows, found: Measured, level: Level, ceiling: float, reason: str | None) -> ModelAccuracy:
    s = found.scored()
    return ModelAccuracy(
        model=group.model,
        level=level,
        split=group.split,
        accuracy=s.accuracy.estimate,
        ci_low=s.accuracy.ci_low,
        ci_high=s.accuracy.ci_high,
        se=s.accuracy.se,
        df=s.accuracy.df,
        srocc=s.srocc.estimate,
        srocc_low=s.srocc.ci_low,
        srocc_high=s.srocc.ci_high,
        srocc_fisher=s.srocc_fisher,
        plcc=s.plcc.estimate,
        plcc_low=s.plcc.ci_low,
        plcc_high=s.plcc.ci_high,
        plcc_fisher=s.plcc_fisher,
        ceiling=ceiling,
        ceiling_reason=reason,
        skill=(s.accuracy.estimate - 0.5) / (ceiling - 0.5) if ceiling > 0.5 else math.nan,
        n_users=s.n_users,
        n_images=s.n_images,
        n_pairs=s.n_pairs,
        n_undefined=s.n_undefined,
        left_out=s.left_out,
        deciles=s.deciles,
    )


def _differences(
    groups: tuple[ModelRows, ...],
    measured: list[Measured],
    level: Level,
    rules: Rules,
    baseline: str | None,
) -> tuple[ModelDifference, ...]:
    """Models of the same split, pair by pair, on the rows they share; with a baseline it is always the second."""
    names = sorted({g.model for g in groups})
    if baseline is not None and baseline not in names:
        raise EstimateError(f"baseline {baseline!r}", ", ".join(names), "name one of the models")
    found: list[tuple[ModelRows, ModelRows, Compared]] = []
    for i, a in enumerate(groups):
        for j, b in enumerate(groups):
            wanted = i < j if baseline is None else (b.model == baseline and a.model != baseline)
            if not wanted or a.split != b.split:
                continue
            on_a, on_b = on_common_rows(a, b)
            mine = measured[i] if on_a is a else _measure(on_a, level, rules)
            theirs = measured[j] if on_b is b else _measure(on_b, level, rules)
            found.append((a, b, compared(mine, theirs)))
    adjusted = holm([c.difference.p for _, _, c in found])
    return tuple(
        ModelDifference(
            a=a.model, b=b.model, level=level, split=a.split,
            **{name: getattr(c.difference, name) for name in ("estimate", "ci_low", "ci_high", "se", "df", "p")},
            p_holm=p_holm, share_a_better=c.share_better, n_users=c.n_users, n_images=c.n_images,
        )
        for (a, b, c), p_holm in zip(found, adjusted, strict=True)
    )  # fmt: skip


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (Holm 1979); a NaN stays NaN and counts as no test."""
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    steps = values[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return [float(value) for value in adjusted]


def _users_frame(matched: Matched, measured: list[Measured]) -> pd.DataFrame:
    import pandas as pd

    frames = []
    for group, found in zip(matched.groups, measured, strict=True):
        if isinstance(found, UserLevel):
            kept = np.isfinite(found.accuracy)
            ids = [matched.user_ids[code] for code in found.user_codes[kept]]
            columns = {"user_id": ids, "accuracy": found.accuracy[kept], "n_pairs": found.n_pairs[kept]}
            frames.append(pd.DataFrame({"model": group.model, "split": group.split, **columns}))
    columns_of_none = ["model", "split", "user_id", "accuracy", "n_pairs"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns_of_none)


def _estimand(level: Level, rules: Rules, models: tuple[ModelAccuracy, ...]) -> tuple[Estimand, tuple[str, ...]]:
    """The quantity and whom it speaks for."""
    beyond = f" beyond {rules.margin} ticks" if rules.margin else ""
    quantity = {
        "user": f"mean over users of the share of image pairs{beyond} that a model orders as the user does",
        "population": f"share of image pairs{beyond} that a model orders as the mean of these users' ratings does",
    }[level]
    n_users = min(m.n_users for m in models)
    if level == "user":
        n_items = min(m.n_images for m in models)
        return estimand_for(quantity, rules.population, n_users, n_items, f"{rules.items}s")
    n_items = int(min(m.df for m in models if not math.isnan(m.df)) + 1)
    return estimand_for(quantity, Population("these", rules.population.items), n_users, n_items, "images and prompts")


def _left_out_text(models: tuple[ModelAccuracy, ...]) -> tuple[str, ...]:
    """One line a model and split that measures fewer users than it has."""
    found = []
    for m in models:
        reasons = [f"{n} with {why}" for why, n in m.left_out]
        if m.n_undefined:
            what = "users with constant ratings or scores" if m.level == "user" else "constant image means"
            reasons.append(f"correlation undefined for {m.n_undefined} {what}")
        if reasons:
            found.append(f"{m.model} ({m.split}): " + "; ".join(reasons))
    return tuple(found)
