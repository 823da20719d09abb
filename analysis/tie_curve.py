"""Accuracy against the tie margin, beside the curve that a model of constant skill would show.

Every model with any skill gets more accurate when close pairs are left out: they are the noisy ones. So each curve
comes with the one expected from its own accuracy at margin 0 if its correlation with the ratings stays what it is, and
with the correlation implied at each margin. Only a rising implied correlation says that a model knows clear cases
better than its overall skill suggests.

The curve of constant skill takes ratings and scores as Gaussian inside a user; heaped or clipped answers bend it by
about .01. Users with few pairs beyond a margin drop out there, so the mean may move because of who is left: look at
`n_users`, or keep the same users throughout (`same_users`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analysis import charts
from analysis.clusters import Floats, Ints, group_sums
from analysis.components import accuracy_beyond, r_from_accuracy
from analysis.errors import EstimateError, TableError
from analysis.levels import Rules
from analysis.matched import ModelRows, match, on_common_rows
from analysis.pairs import accuracy_by_user
from analysis.results import Provenance, Result, p_text
from analysis.tables import Scale
from analysis.user_means import Crossing, MeanOverUsers, crossing, estimand_for, mean_over_users, require_two

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

ANCHOR_DISTANCE = 250
"""Ticks between two anchors of the slider, marked in the picture."""


@dataclass(frozen=True)
class ModelCurve:
    """One model's curve in one split; all tuples have one entry a margin.

    Attributes
    ----------
    model, split : str
    margins : tuple of int
    accuracy : tuple of float
        Mean over users; NaN where no user has enough pairs.
    band_low, band_high : tuple of float
        Simultaneous band over all margins.
    ci_low, ci_high : tuple of float
        Interval at this margin alone.
    constant_skill : tuple of float
        Expected accuracy at the correlation `r` for the same users.
    retained : tuple of float
        Mean over users of the share of pairs beyond the margin.
    implied_r : tuple of float
        Correlation at which a constant-skill model has this accuracy at this margin.
    n_users : tuple of int
    r : float
        sin(pi (A(0) - 1/2)).
    """

    model: str
    split: str
    margins: tuple[int, ...]
    accuracy: tuple[float, ...]
    band_low: tuple[float, ...]
    band_high: tuple[float, ...]
    ci_low: tuple[float, ...]
    ci_high: tuple[float, ...]
    constant_skill: tuple[float, ...]
    retained: tuple[float, ...]
    implied_r: tuple[float, ...]
    n_users: tuple[int, ...]
    r: float


@dataclass(frozen=True)
class CurveGap:
    """Mean over the margins of the accuracy of `a` minus that of `b`: the area between the curves over its width."""

    a: str
    b: str
    split: str
    estimate: float
    ci_low: float
    ci_high: float
    p: float
    n_users: int


@dataclass(frozen=True, kw_only=True)
class TieCurve(Result):
    """Curves of all models; see `tie_curve`.

    Attributes
    ----------
    models : tuple of ModelCurve
    differences : tuple of CurveGap
        Over the margins at which every user of both models has enough pairs.
    confidence : float
    """

    models: tuple[ModelCurve, ...]
    differences: tuple[CurveGap, ...]
    confidence: float

    def summary(self) -> str:
        """Accuracy at both ends of each curve, and the gaps."""
        lines = []
        for m in self.models:
            last = max((k for k, n in enumerate(m.n_users) if n), default=0)
            lines.append(
                f"{m.model} ({m.split}): accuracy {m.accuracy[0]:.3f} beyond {m.margins[0]} ticks, "
                f"{m.accuracy[last]:.3f} beyond {m.margins[last]} (constant skill {m.constant_skill[last]:.3f}); "
                f"implied correlation {m.implied_r[0]:.3f} and {m.implied_r[last]:.3f}."
            )
        lines += [
            f"{d.a} - {d.b} ({d.split}): mean gap {d.estimate:+.3f} ({100 * self.confidence:g} % CI {d.ci_low:+.3f} to "
            f"{d.ci_high:+.3f}, {p_text(d.p)})."
            for d in self.differences
        ]
        return "\n".join([*lines, f"Estimand: {self.estimand.text}."])

    def to_frame(self) -> pd.DataFrame:
        """One row a model, split and margin."""
        import pandas as pd

        frames = []
        for m in self.models:
            columns = {k: v for k, v in vars(m).items() if isinstance(v, tuple)}
            frames.append(pd.DataFrame(columns).assign(model=m.model, split=m.split))
        return pd.concat(frames, ignore_index=True).rename(columns={"margins": "margin"})

    def tables(self) -> dict[str, pd.DataFrame]:
        """Curves and gaps."""
        import pandas as pd

        return {"result": self.to_frame(), "differences": pd.DataFrame([vars(d) for d in self.differences])}

    def plot(self) -> alt.LayerChart:
        """Curves with bands; dashed: constant skill; dotted: pairs left; upright: distances of the slider's anchors."""
        import altair as alt
        import pandas as pd

        frame = self.to_frame()
        frame["label"] = frame["model"] + " (" + frame["split"] + ")"
        colour = alt.Color("label:N", title=None, sort=list(frame["label"].unique()))
        base = alt.Chart(frame).encode(x=alt.X("margin:Q", title="margin (ticks)"))
        share = alt.Y("accuracy:Q", title="share of pairs", axis=alt.Axis(format=".0%"))
        marks = [x for x in range(0, int(frame["margin"].max()) + 1, ANCHOR_DISTANCE) if x]
        layers = [
            base.mark_area(opacity=0.15).encode(y="band_low:Q", y2="band_high:Q", color=colour),
            base.mark_line(strokeDash=[1, 3]).encode(y="retained:Q", color=colour),
            base.mark_line(strokeDash=[6, 4]).encode(y="constant_skill:Q", color=colour),
            base.mark_line(strokeWidth=2).encode(y=share, color=colour),
            alt.Chart(pd.DataFrame({"at": marks})).mark_rule(color="#bbb").encode(x="at:Q"),
        ]
        return charts.finish(alt.layer(*layers), "Accuracy by tie margin", 320)


@dataclass(frozen=True)
class _Curves:
    """Accuracy of every user at every margin; column 0 is margin 0, whether asked for or not."""

    rows: Crossing
    accuracy: Floats
    n_pairs: Ints
    n_items: Ints
    influence: Floats
    sd: Floats


def tie_curve(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    margins: Sequence[int] = tuple(range(0, 501, 10)),
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    rules: Rules | None = None,
    same_users: bool = False,
    draws: int = 9999,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> TieCurve:
    """Accuracy of every model at many tie margins, at the user level.

    Parameters
    ----------
    predictions, ratings : DataFrame
        As for `analysis.accuracy.accuracy`.
    margins : sequence of int
        Ticks, rising.
    rng : numpy.random.Generator
        For the band.
    confidence : float
        Of bands and intervals.
    rules : Rules, optional
        Fewest images and pairs a user needs (at each margin), items sampled, population; its margin and confidence
        are not used.
    same_users : bool
        Keep only users with enough pairs at every margin.
    draws : int
        Draws of the band's maximum.

    Notes
    -----
    Band: estimate ± q se(t), q the quantile of max over t |Z(t)|/sd, Z from the joint covariance over margins of the
    user parts and the item influences (a Gaussian multiplier bootstrap in closed form), spread as t with the smallest
    df. se(t) is the two-way one of `analysis.user_means.mean_over_users`.

    Raises
    ------
    TableError, EstimateError
        Malformed tables or margins; no user with enough pairs; fewer than two users or items.
    """
    cuts = np.asarray(margins)
    if cuts.ndim != 1 or not len(cuts) or cuts.dtype.kind not in "iu" or (cuts < 0).any() or (np.diff(cuts) <= 0).any():
        raise TableError(f"margins {list(margins)}", "rising whole numbers, 0 or more", "write for instance 0:500:10")
    rules = rules or Rules()
    matched = match(predictions, ratings, scale)
    found = [_curves(group, cuts, rules, same_users) for group in matched.groups]
    models = tuple(
        _model_curve(group, curves, cuts, rules, confidence, rng, draws)
        for group, curves in zip(matched.groups, found, strict=True)
    )
    gaps = []
    for i, a in enumerate(matched.groups):
        for j in range(i + 1, len(found)):
            b = matched.groups[j]
            if a.split == b.split:
                on_a, on_b = on_common_rows(a, b)
                first = found[i] if on_a is a else _curves(on_a, cuts, rules, same_users)
                second = found[j] if on_b is b else _curves(on_b, cuts, rules, same_users)
                gaps.append(_gap(a, b, first, second, rules, confidence))
    quantity = "mean over users of the share of image pairs that a model orders as the user does, by tie margin"
    n_users, n_items = (min(len(np.unique(getattr(g, name))) for g in matched.groups) for name in ("user", rules.items))
    require_two(n_users, n_items, rules.population, f"{rules.items}s")
    estimand, few = estimand_for(quantity, rules.population, n_users, n_items, f"{rules.items}s")
    return TieCurve(
        estimand=estimand,
        exclusions=matched.exclusions,
        warnings=few + matched.warnings + _dropping(models),
        provenance=provenance or Provenance.of({"predictions": predictions, "ratings": ratings}),
        models=models,
        differences=tuple(gaps),
        confidence=confidence,
    )


def _curves(group: ModelRows, cuts: Ints, rules: Rules, same_users: bool) -> _Curves:
    rows = crossing(group.user, group.image if rules.items == "image" else group.prompt)
    curves = accuracy_by_user(rows.user, group.truth, group.score, np.concatenate(([0], cuts)))
    enough = (curves.n_pairs >= max(rules.min_pairs, 1)) & (curves.n_items >= rules.min_images)[:, None]
    if same_users:
        enough &= enough.all(axis=1, keepdims=True)
    count = np.maximum(np.bincount(rows.user), 2)
    centred = group.truth - (np.bincount(rows.user, group.truth) / np.bincount(rows.user))[rows.user]
    sd = np.sqrt(np.bincount(rows.user, centred**2) / (count - 1))
    accuracy = np.where(enough, curves.accuracy, np.nan)
    return _Curves(rows, accuracy, curves.n_pairs, curves.n_items, curves.influence, sd)


def _model_curve(
    group: ModelRows,
    curves: _Curves,
    cuts: Ints,
    rules: Rules,
    confidence: float,
    rng: np.random.Generator,
    draws: int,
) -> ModelCurve:
    options = {"confidence": confidence, "null": 0.5, "population": rules.population}
    means = [
        mean_over_users(value, influence, curves.rows, **options)  # type: ignore[arg-type]
        for value, influence in zip(curves.accuracy.T, curves.influence.T, strict=True)
    ]
    if not means[0].n_users:
        raise EstimateError(
            f"{group.model} ({group.split}): no user with {rules.min_images} images and {rules.min_pairs} pairs",
            "at least one",
            "collect more ratings or ask for fewer",
        )
    reach = sup_t_quantile(
        curves.accuracy[:, 1:], curves.influence[:, 1:], curves.rows, means[1:], confidence, rng, draws
    )
    r = float(r_from_accuracy(means[0].estimate))
    kept = np.isfinite(curves.accuracy[:, 1:])
    spread = np.maximum(curves.sd, 1e-300)[:, None]  # a user without spread has no pairs and is never kept
    total = np.maximum(curves.n_items * (curves.n_items - 1) // 2, 1)
    used = curves.n_items >= max(rules.min_images, 2)
    share = (curves.n_pairs[:, 1:] / total[:, None])[used].mean(axis=0)
    accuracy = np.array([m.estimate for m in means[1:]])
    se = np.array([m.se for m in means[1:]])
    return ModelCurve(
        model=group.model,
        split=group.split,
        margins=tuple(int(t) for t in cuts),
        accuracy=_floats(accuracy),
        band_low=_floats(accuracy - reach * se),
        band_high=_floats(accuracy + reach * se),
        ci_low=tuple(m.ci_low for m in means[1:]),
        ci_high=tuple(m.ci_high for m in means[1:]),
        constant_skill=_floats(_mean_kept(accuracy_beyond(r, cuts / spread), kept)),
        retained=_floats(share),
        implied_r=_floats(implied_r(accuracy, cuts / spread, kept)),
        n_users=tuple(m.n_users for m in means[1:]),
        r=r,
    )


def _floats(values: npt.ArrayLike) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(values))


def _mean_kept(values: Floats, kept: npt.NDArray[np.bool_]) -> Floats:
    """Column means over the kept users; NaN for none."""
    n = kept.sum(axis=0)
    return np.where(n > 0, np.where(kept, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def implied_r(accuracy: Floats, margin_sd: Floats, kept: npt.NDArray[np.bool_]) -> Floats:
    """Correlation at which users of constant skill have this mean accuracy, by bisection; shape (margins,).

    Parameters
    ----------
    accuracy : Floats, shape (margins,)
        NaN gives NaN; an accuracy at or beyond what r = ±1 reaches gives ±1.
    margin_sd : Floats, shape (users, margins)
        Margins in each user's standard deviations.
    kept : bool array, shape (users, margins)
        Users that enter the mean at each margin.
    """
    low, high = np.full(len(accuracy), -1.0), np.full(len(accuracy), 1.0)
    for _ in range(40):
        middle = (low + high) / 2
        under = _mean_kept(accuracy_beyond(middle, margin_sd), kept) < accuracy
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(np.isfinite(accuracy), (low + high) / 2, np.nan)


def sup_t_quantile(
    value: Floats,
    influence: Floats,
    rows: Crossing,
    means: Sequence[MeanOverUsers],
    confidence: float,
    rng: np.random.Generator,
    draws: int,
) -> float:
    """Quantile of the largest |deviation|/sd over all margins; NaN without any margin that has an interval.

    Parameters
    ----------
    value : Floats, shape (users, margins)
    influence : Floats, shape (rows, margins)
    rows : Crossing
    means : sequence of MeanOverUsers, one a margin
    """
    live = np.array([np.isfinite(m.se) for m in means])
    if not live.any():
        return float("nan")
    n = np.array([m.n_users for m in means])[live]
    estimate = np.array([m.estimate for m in means])[live]
    kept = np.isfinite(value[:, live])
    of_user = np.where(kept, value[:, live] - estimate, 0.0) / n
    of_item = group_sums(np.where(kept[rows.user], influence[:, live], 0.0) / n, rows.item, rows.n_items)
    covariance = of_user.T @ of_user + of_item.T @ of_item
    sd = np.sqrt(np.diag(covariance))
    roots, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    largest = np.abs(rng.standard_normal((draws, len(sd))) @ (vectors * np.sqrt(np.maximum(roots, 0.0))).T).max(axis=1)
    df = min(m.df for m, usable in zip(means, live, strict=True) if usable)
    return float(np.quantile(largest * np.sqrt(df / rng.chisquare(df, draws)), confidence))


def _gap(a: ModelRows, b: ModelRows, first: _Curves, second: _Curves, rules: Rules, confidence: float) -> CurveGap:
    """Trapezoid mean of the difference over the margins that every kept user reaches."""
    gap, influence = first.accuracy - second.accuracy, first.influence - second.influence
    users = np.isfinite(gap[:, 0])
    reached = np.isfinite(gap[users, 1:]).all(axis=0)
    n = int(np.logical_and.accumulate(reached).sum()) if users.any() else 0
    weight = np.zeros(gap.shape[1])
    weight[1 : n + 1] = 1.0
    if n > 1:
        weight[[1, n]] = 0.5
    weight /= max(weight.sum(), 1e-300)
    value = np.where(users & (n > 0), np.where(weight > 0, gap, 0.0) @ weight, np.nan)
    mean = mean_over_users(value, influence @ weight, first.rows, confidence=confidence, population=rules.population)
    return CurveGap(a.model, b.model, a.split, mean.estimate, mean.ci_low, mean.ci_high, mean.p, mean.n_users)


def _dropping(models: tuple[ModelCurve, ...]) -> tuple[str, ...]:
    """A warning for each curve that rests on fewer users further out."""
    return tuple(
        f"{m.model} ({m.split}): {m.n_users[0]} users at margin {m.margins[0]}, {m.n_users[-1]} at {m.margins[-1]}"
        for m in models
        if m.n_users[-1] < m.n_users[0]
    )
