"""All conditions in one crossed logistic model, each person and each prompt with strengths of their own.

logit P(left chosen, no tie) = gamma + sum over conditions c of (s_c + u_pc + w_ic) x_c, x_c = +1 where c stands left,
-1 right, 0 elsewhere; u_pc ~ N(0, sigma_c^2) of participant p and w_ic ~ N(0, tau_c^2) of prompt i, all independent.
These are the random slopes of every condition by participant and by prompt, the largest structure that a study in
which everybody meets every condition supports (Barr et al. 2013, doi:10.1016/j.jml.2012.11.001); a slope whose spread
is estimated as zero drops out of the likelihood by itself and is named. Fitted by maximum likelihood with Laplace's
approximation through mixedlm. Differences s_a - s_b are tested by t with the smaller number of clusters minus one.

Strengths are conditional (a median person and prompt), so their differences are larger than those of the ranking, which
are marginal; ties are left out and counted. With two conditions only the sum of their spreads can be told, which is
the model of `analysis.logistic`. Assumes normal effects that add on the logit and one spread a condition; wrong when
images of few source users face everybody, and when ties depend on the condition. A sensitivity model: claims rest on
the win rates.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import charts
from analysis.clusters import Floats, integer_codes, t_quantile, two_sided_p
from analysis.davidson import LEFT, RIGHT, Counts
from analysis.errors import EstimateError
from analysis.existence import require_connected, unbeaten
from analysis.logistic import SINGULAR, CrossedFit, fit_crossed, usable
from analysis.multiplicity import holm
from analysis.results import Exclusions, Population, Provenance, Result, p_text
from analysis.tables import check_votes
from analysis.trials import estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

FEWEST_CONDITIONS = 3


@dataclass(frozen=True)
class ConditionStrength:
    """One condition: conditional log strength against the reference, and its spread over people and over prompts."""

    condition: str
    log_strength: float
    se: float
    ci_low: float
    ci_high: float
    sd_participant: float
    sd_prompt: float


@dataclass(frozen=True)
class StrengthDifference:
    """Log strength of `first` less that of `second`; `p_holm` is corrected over the differences of the result."""

    first: str
    second: str
    estimate: float
    se: float
    ci_low: float
    ci_high: float
    t: float
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class CrossedStrengths(Result):
    """See `crossed_strengths`.

    Attributes
    ----------
    conditions : tuple of ConditionStrength
        Strongest first; the reference has strength 0 and no error.
    differences : tuple of StrengthDifference
    df : int
    side, side_se : float
        Log odds the left side gains.
    dropped : tuple of str
        Spreads that were estimated as zero, such as "own by prompt".
    log_likelihood : float
    """

    conditions: tuple[ConditionStrength, ...]
    differences: tuple[StrengthDifference, ...]
    reference: str
    df: int
    side: float
    side_se: float
    dropped: tuple[str, ...]
    log_likelihood: float
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float

    def summary(self) -> str:
        """One paragraph for a results section."""
        told = "; ".join(
            f"{d.first} over {d.second} {d.estimate:+.3f} [{d.ci_low:+.3f}, {d.ci_high:+.3f}], t = {d.t:.2f}, "
            f"Holm {p_text(d.p_holm)}"
            for d in self.differences
        )
        return (
            f"Crossed logistic model of {self.n_votes} votes without ties between {len(self.conditions)} conditions, "
            f"random slopes of conditions by {self.n_participants} participants and {self.n_prompts} prompts; "
            f"conditional log odds ({100 * self.confidence:g} % CI, t with {self.df} df): {told}. "
            f"Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a difference."""
        import pandas as pd

        return pd.DataFrame([vars(d) for d in self.differences])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Differences, and conditions with their spreads."""
        import pandas as pd

        return {"result": self.to_frame(), "conditions": pd.DataFrame([vars(c) for c in self.conditions])}

    def plot(self) -> alt.LayerChart:
        """Differences with their intervals."""
        frame = self.to_frame().assign(label=lambda d: d["first"] + " over " + d["second"])
        columns = ["label", "estimate", "ci_low", "ci_high"]
        return charts.interval_chart(frame[columns], "label", "conditional log odds", "Crossed logistic model", null=0)


def crossed_strengths(
    votes: pd.DataFrame,
    *,
    reference: str | None = None,
    contrasts: Sequence[tuple[str, str]] | None = None,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> CrossedStrengths:
    """Conditional log strengths of all conditions, with random slopes by participant and by prompt.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes between different conditions that are no ties are used.
    reference : str, optional
        The condition with strength 0; the first in alphabetical order unless given.
    contrasts : sequence of (str, str), optional
        Differences to test, corrected by Holm; all pairs unless given.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Unknown condition, fewer than three conditions, two participants or two prompts, conditions that no votes
        connect, an infinite estimate, or a fit that did not converge.
    """
    votes = check_votes(votes)
    data = _model_table(votes)
    names, n = data.names, len(data.names)
    reference = reference or names[0]
    pairs = list(contrasts) if contrasts is not None else list(itertools.combinations(names, 2))
    for name in (reference, *itertools.chain.from_iterable(pairs)):
        if name not in names:
            raise EstimateError(f"no condition {name!r} in the votes", ", ".join(names), "name one of these")
    columns = [f"x{k}" for k in range(n)]
    fixed = [c for k, c in enumerate(columns) if names[k] != reference]
    slopes = " + ".join(columns)
    formula = f"y ~ 0 + side + {' + '.join(fixed)} + (0 + {slopes} || participant) + (0 + {slopes} || prompt)"
    terms = [f"{name} by {group}" for group in ("participant", "prompt") for name in names]
    fit = usable(fit_crossed(data.frame, formula, terms))
    df = min(data.n_people, data.n_prompts) - 1
    reach = t_quantile(0.5 + confidence / 2, df)
    position = {name: k for k, name in enumerate(("side", *(m for m in names if m != reference)))}
    quantity = "conditional log strength of each condition against the others, given no tie"
    estimand, few = estimand_for(quantity, Population(), data.n_people, data.n_prompts)
    dropped = tuple(term for term, sd in fit.sds.items() if sd < SINGULAR)
    told = (f"spreads estimated as zero: {', '.join(dropped)}",) if dropped else ()
    return CrossedStrengths(
        estimand=estimand,
        exclusions=data.exclusions,
        warnings=few + told,
        provenance=provenance or Provenance.of({"votes": votes}),
        conditions=_conditions(fit, names, position, reach),
        differences=_differences(fit, pairs, position, df, reach),
        reference=reference,
        df=df,
        side=fit.coefficients["side"],
        side_se=fit.se["side"],
        dropped=dropped,
        log_likelihood=fit.log_likelihood,
        n_votes=len(data.frame),
        n_participants=data.n_people,
        n_prompts=data.n_prompts,
        confidence=confidence,
    )


@dataclass(frozen=True)
class _ModelTable:
    frame: pd.DataFrame
    names: tuple[str, ...]
    n_people: int
    n_prompts: int
    exclusions: Exclusions


def _model_table(votes: pd.DataFrame) -> _ModelTable:
    """Preferring main votes with a column x_c for each condition."""
    import pandas as pd

    left, right = (votes[f"{side}_condition"].astype("str").to_numpy(dtype=object) for side in ("left", "right"))
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else np.ones(len(votes), dtype=bool)
    tie = (votes["choice"] == "tie").to_numpy()
    kept = main & (left != right) & ~tie
    counted = (("kind is not main", ~main), ("a condition against itself", main & (left == right)))
    reasons = [(why, int(rows.sum())) for why, rows in (*counted, ("tie", main & (left != right) & tie)) if rows.any()]
    used = votes[kept]
    names = tuple(sorted({*left[kept], *right[kept]}))
    if len(names) < FEWEST_CONDITIONS:
        raise EstimateError(
            f"{len(names)} conditions in votes that are no ties", "3 or more", "name the two with --focal and --against"
        )
    codes = np.stack([np.searchsorted(np.array(names, dtype=object), side[kept]) for side in (left, right)])
    chosen_left = (used["choice"] == "left").to_numpy()
    _require_finite(codes, chosen_left, names)
    groups = {}
    for name, column in (("participant", "participant_id"), ("prompt", "prompt_id")):
        groups[name], count = integer_codes(used[column])
        if count < 2:
            raise EstimateError(f"{count} {name}s with votes that are no ties", "at least 2", f"collect more {name}s")
    frame: dict[str, Any] = {"y": chosen_left.astype(float), "side": np.ones(len(used))}
    for k in range(len(names)):
        frame[f"x{k}"] = (codes[0] == k).astype(float) - (codes[1] == k)
    for name, letter in (("participant", "u"), ("prompt", "p")):
        frame[name] = np.char.add(letter, groups[name].astype(str))
    sizes = [int(groups[name].max()) + 1 for name in ("participant", "prompt")]
    exclusions = Exclusions(len(votes), len(used), tuple(reasons), "votes")
    return _ModelTable(pd.DataFrame(frame), names, sizes[0], sizes[1], exclusions)


def _require_finite(codes: np.ndarray, chosen_left: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse conditions that nothing links, and groups that never lost to the others."""
    kinds, at = np.unique(codes, axis=1, return_inverse=True)
    table = np.zeros((kinds.shape[1], 3))
    np.add.at(table, (at.ravel(), np.where(chosen_left, LEFT, RIGHT)), 1)
    counts = Counts(kinds[0], kinds[1], table, len(names))
    require_connected(counts, names)
    groups = unbeaten(counts, len(names))
    if groups is not None:
        above, below = ([name for name, inside in zip(names, mask, strict=True) if inside] for mask in groups)
        raise EstimateError(
            f"an infinite estimate: {', '.join(above)} never lost to {', '.join(below)}",
            "wins and losses that link all conditions",
            "collect more votes, or leave a condition out (--where)",
        )


def _conditions(
    fit: CrossedFit, names: tuple[str, ...], position: dict[str, int], reach: float
) -> tuple[ConditionStrength, ...]:
    values, covariance = _arrays(fit)
    found = []
    for name in names:
        spreads = fit.sds[f"{name} by participant"], fit.sds[f"{name} by prompt"]
        if name not in position:
            found.append(ConditionStrength(name, 0.0, 0.0, 0.0, 0.0, *spreads))
            continue
        value, se = values[position[name]], float(np.sqrt(covariance[position[name], position[name]]))
        found.append(ConditionStrength(name, value, se, value - reach * se, value + reach * se, *spreads))
    return tuple(sorted(found, key=lambda c: -c.log_strength))


def _differences(
    fit: CrossedFit, pairs: Sequence[tuple[str, str]], position: dict[str, int], df: int, reach: float
) -> tuple[StrengthDifference, ...]:
    values, covariance = _arrays(fit)
    rows = []
    for pair in pairs:
        weight = np.zeros(len(values))
        for name, sign in zip(pair, (1.0, -1.0), strict=True):
            if name in position:
                weight[position[name]] = sign
        estimate, se = float(weight @ values), float(np.sqrt(weight @ covariance @ weight))
        rows.append((*pair, estimate, se, estimate - reach * se, estimate + reach * se, estimate / se))
    p = [two_sided_p(row[-1], df) for row in rows]
    return tuple(StrengthDifference(*row, raw, fixed) for row, raw, fixed in zip(rows, p, holm(p), strict=True))


def _arrays(fit: CrossedFit) -> tuple[Floats, Floats]:
    """Fixed effects (k,) in the order of the formula, and their covariance (k, k)."""
    return np.array(list(fit.coefficients.values())), fit.covariance
