"""Did prompt search help, on images it did not choose? Gain, optimism and repeatability of searches.

Each search ends with one prompt. Its *gain* is the reward on held-out seeds less that of the prompt before the search
on the same seeds; its *optimism* is the score the search ended with less the held-out score. Means carry two-way
intervals over users and prompts. Never report the search's own score as the gain: with one seed and much noise it is
two to seven times too high.

The run ICC says how much of the gain is decided by user and prompt and would come again in another run:
1 - v_residual/(v_user + v_prompt + v_user:prompt + v_residual), variances by moments from two runs or more.

Wrong as a statement about people: a reward gained is no liking gained. Look at a reward that the search did not see
(`transfer`), at other people's rewards (`analysis.own_other`), and ask people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analysis import charts
from analysis.clusters import Floats, Ints, cluster_mean, integer_codes
from analysis.components import moment_components
from analysis.errors import EstimateError, TableError
from analysis.results import Exclusions, Population, Provenance, Result, p_text
from analysis.user_means import estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SCORES = ("search_score", "heldout_score", "base_score")

LOW_TRANSFER = 0.3
"""Share of a gain found by a second reward below which the search has found weaknesses of the first."""


@dataclass(frozen=True)
class Clustered:
    """A mean with its two-way t interval and the test against 0."""

    estimate: float
    ci_low: float
    ci_high: float
    se: float
    df: int
    p: float


@dataclass(frozen=True)
class RunIcc:
    """Repeatability of gains; NaN with the reason where there is a single run.

    Attributes
    ----------
    icc : float
        Share of the variance of gains that another run would show again.
    user, prompt, user_prompt, residual : float
        Shares of the variance.
    """

    icc: float
    user: float
    prompt: float
    user_prompt: float
    residual: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchGain(Result):
    """See `search_gain`.

    Attributes
    ----------
    condition : str or None
    gain, optimism : Clustered
        On held-out seeds; promised less held.
    inflation : float
        (search - base)/(held-out - base) of the means: how many times too high the search's own gain is; NaN where
        nothing was gained.
    run_icc : RunIcc
    share_gained : float
        Share of searches with a gain above 0.
    n_searches, n_users, n_prompts, n_runs : int
    """

    condition: str | None
    gain: Clustered
    optimism: Clustered
    inflation: float
    run_icc: RunIcc
    share_gained: float
    confidence: float
    n_searches: int
    n_users: int
    n_prompts: int
    n_runs: int

    def summary(self) -> str:
        """One paragraph for a results section."""
        level = f"{100 * self.confidence:g} % CI"
        g, o = self.gain, self.optimism
        text = (
            f"{self.n_searches} searches for {self.n_users} users on {self.n_prompts} prompts gained {g.estimate:+.3f} "
            f"on held-out seeds ({level} {g.ci_low:+.3f} to {g.ci_high:+.3f}, t({g.df}), {p_text(g.p)}); they had "
            f"promised {o.estimate:+.3f} more ({o.ci_low:+.3f} to {o.ci_high:+.3f})"
        )
        text += "." if math.isnan(self.inflation) else f", {self.inflation:.2f} times the gain."
        if not math.isnan(self.run_icc.icc):
            text += f" Another run would repeat {100 * self.run_icc.icc:.0f} % of the variance of gains."
        return f"{text} Estimand: {self.estimand.text}."

    def to_frame(self) -> pd.DataFrame:
        """Gain and optimism, one row each."""
        import pandas as pd

        return pd.DataFrame([{"quantity": "gain", **vars(self.gain)}, {"quantity": "optimism", **vars(self.optimism)}])

    def plot(self) -> alt.LayerChart:
        """Gain and optimism with their intervals."""
        frame = self.to_frame().rename(columns={"quantity": "label"})
        return charts.interval_chart(frame, "label", "reward", "Gain on held-out seeds, and optimism", null=0)


def search_gain(
    gains: pd.DataFrame,
    *,
    condition: str | None = None,
    confidence: float = 0.95,
    population: Population | None = None,
    provenance: Provenance | None = None,
) -> SearchGain:
    """Gain and optimism of the searches of one condition.

    Parameters
    ----------
    gains : DataFrame
        One row a search: prompt_id, search_score (that of its winner in the search), heldout_score and base_score
        (winner and prompt before the search, on held-out seeds), in one unit; and where there are any user_id, run,
        condition. Without users (a reward that knows nobody) only prompts are sampled.
    condition : str, optional
        Which, when the table has several.
    confidence : float
    population : Population, optional
        New users and new prompts unless given.
    provenance : Provenance, optional

    Raises
    ------
    TableError
        A missing column, scores that are no finite numbers, some searches with a user and some without, a search twice.
    EstimateError
        Unknown condition; fewer than two users or prompts; gains that do not vary.
    """
    population = population or Population()
    missing = [name for name in ("prompt_id", *SCORES) if name not in gains]
    if missing:
        raise TableError(f"gains: no column {', '.join(missing)}", ", ".join(map(str, gains.columns)), "add them")
    chosen, exclusions = of_condition(gains, condition, "searches")
    search, held, base = _scores(chosen)
    prompts, n_prompts = integer_codes(chosen["prompt_id"])
    users, n_users = _users(chosen)
    if n_users <= 1:
        population = Population("these", population.items)
    _require_one_row_a_search(chosen)
    gain, optimism = (
        _clustered(values, users, prompts, confidence, population) for values in (held - base, search - held)
    )
    quantity = "mean gain in reward on held-out seeds"
    estimand, few = estimand_for(quantity, population, n_users, n_prompts, "prompts")
    n_runs = int(chosen["run"].nunique()) if "run" in chosen else 1
    return SearchGain(
        estimand=estimand,
        exclusions=exclusions,
        warnings=few,
        provenance=provenance or Provenance.of({"gains": gains}),
        condition=condition,
        gain=gain,
        optimism=optimism,
        inflation=float((search - base).mean() / gain.estimate) if gain.ci_low > 0 else math.nan,
        run_icc=run_icc(held - base, users, prompts),
        share_gained=float((held > base).mean()),
        confidence=confidence,
        n_searches=len(chosen),
        n_users=n_users,
        n_prompts=n_prompts,
        n_runs=n_runs,
    )


def of_condition(table: pd.DataFrame, condition: str | None, unit: str) -> tuple[pd.DataFrame, Exclusions]:
    """Rows of one condition, and what was left out; without a column or a name there must be one condition only."""
    there = sorted(table["condition"].dropna().astype("str").unique()) if "condition" in table else []
    if condition is None and len(there) > 1:
        raise EstimateError("several conditions in the table", ", ".join(there), "name one")
    if condition is not None and condition not in there:
        raise EstimateError(f"no condition {condition!r}", ", ".join(there) or "a condition column", "name one of them")
    if condition is None:
        return table.reset_index(drop=True), Exclusions.none(len(table), unit)
    chosen = table[table["condition"].astype("str") == condition].reset_index(drop=True)
    n_out = len(table) - len(chosen)
    return chosen, Exclusions(len(table), len(chosen), (("another condition", n_out),) if n_out else (), unit)


def _scores(chosen: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    found = tuple(chosen[name].to_numpy(dtype=np.float64) for name in SCORES)
    bad = int((~np.isfinite(np.stack(found))).any(axis=0).sum())
    if bad:
        raise TableError(f"gains: {bad} searches with a score that is no finite number", "finite numbers")
    return found[0], found[1], found[2]


def _users(chosen: pd.DataFrame) -> tuple[Ints, int]:
    """Codes of users; one code where the reward knows nobody."""
    if "user_id" not in chosen or chosen["user_id"].isna().all():
        return np.zeros(len(chosen), dtype=np.int64), 1
    if chosen["user_id"].isna().any():
        raise TableError(f"gains: {int(chosen['user_id'].isna().sum())} searches without user_id", "all or none")
    return integer_codes(chosen["user_id"])


def _require_one_row_a_search(chosen: pd.DataFrame) -> None:
    key = [name for name in ("user_id", "prompt_id", "run") if name in chosen]
    twice = int(chosen.duplicated(key).sum())
    if twice:
        raise TableError(f"gains: {twice} searches twice", f"one row for each {', '.join(key)}", "number runs in `run`")


def _clustered(values: Floats, users: Ints, prompts: Ints, confidence: float, population: Population) -> Clustered:
    mean = cluster_mean(values, users, prompts, population)
    low, high = mean.interval(confidence)
    return Clustered(mean.estimate, low, high, mean.se, mean.df, mean.test(0.0)[1])


def run_icc(gain: npt.ArrayLike, user: npt.ArrayLike, prompt: npt.ArrayLike) -> RunIcc:
    """Share of the variance of gains that user and prompt decide; rows of one user and prompt are its runs.

    Variances by moments, those below 0 taken as 0.
    """
    nan = math.nan
    try:
        parts = moment_components(gain, np.asarray(user), np.asarray(prompt))
    except EstimateError as error:
        return RunIcc(nan, nan, nan, nan, nan, str(error))
    if not parts.separable:
        return RunIcc(nan, nan, nan, nan, nan, f"{parts.n_repeat_pairs} pairs of runs; repeatability needs 20 or more")
    shares = [max(v, 0.0) for v in (parts.v_user, parts.v_image, parts.v_user_image, parts.v_error)]
    total = sum(shares)
    if total == 0:
        return RunIcc(nan, nan, nan, nan, nan, "gains do not vary")
    by_user, by_prompt, both, residual = (v / total for v in shares)
    return RunIcc(1 - residual, by_user, by_prompt, both, residual)


def transfer(
    gain: npt.ArrayLike,
    other_gain: npt.ArrayLike,
    user: Any,
    prompt: Any,
    *,
    confidence: float = 0.95,
    population: Population | None = None,
) -> Clustered:
    """Share of the gain under the optimised reward that a second reward finds too, with its interval.

    Parameters
    ----------
    gain, other_gain : array_like, shape (n,)
        Gain of each search under the reward it optimised and under one fitted to other ratings of the same person, in
        one unit.
    user, prompt : array or Series, shape (n,)
    confidence : float
    population : Population, optional

    Notes
    -----
    Ratio of means; its influence is (other - ratio gain)/mean gain. Below `LOW_TRANSFER` the search has found
    weaknesses of the first reward rather than taste. `p` tests a ratio of 0.

    Raises
    ------
    EstimateError
        A gain that is not told from 0: there is nothing to transfer.
    """
    population = population or Population()
    own, other = np.asarray(gain, dtype=np.float64), np.asarray(other_gain, dtype=np.float64)
    users, prompts = integer_codes(user)[0], integer_codes(prompt)[0]
    if _clustered(own, users, prompts, confidence, population).ci_low <= 0:
        raise EstimateError("the interval of the gain includes 0", "a gain", "there is nothing that could transfer")
    ratio = float(other.mean() / own.mean())
    moved = cluster_mean((other - ratio * own) / own.mean() + ratio, users, prompts, population)
    low, high = moved.interval(confidence)
    return Clustered(ratio, low, high, moved.se, moved.df, moved.test(0.0)[1])
