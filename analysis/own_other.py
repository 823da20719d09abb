"""Are images steered for a person liked more by *his* model than by other people's models?

G[u, v] is what v's reward model gives to images steered for u, a mean over prompts and runs. Rows and columns are
centred: images good for everybody and generous models drop out. The personal gain is the mean of the diagonal less the
mean of the rest. If steering served everybody alike, the labels of the models would not matter: the test permutes them.

Assumes users exchangeable under that hypothesis and all models asked about all images. Rewards of one model's own
training data make the diagonal look better than taste is: use a second model of each user, or ask the people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints, t_quantile
from analysis.consistency import label_permutations
from analysis.errors import EstimateError, TableError
from analysis.results import FEWEST_FOR_NEW, Estimand, Exclusions, Provenance, Result, p_text
from analysis.search_gain import of_condition

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class OwnOtherGap(Result):
    """See `own_other_gap`.

    Attributes
    ----------
    estimate, ci_low, ci_high, se : float
        Personal gain, in the unit of the rewards; interval from leaving out one user at a time, t(U - 1).
    p : float
        Permutation, one-sided (steering makes the diagonal large).
    share_own_best : float
        Share of users whose own model likes their images, both centred, more than any other model does.
    n_permutations : int
        Beside the labels observed; `exact` tells that these are all there are.
    matrix : array (U, U)
        G with rows and columns centred; rows images for u, columns model of v.
    """

    estimate: float
    ci_low: float
    ci_high: float
    se: float
    p: float
    share_own_best: float
    n_permutations: int
    exact: bool
    n_users: int
    n_prompts: int
    confidence: float
    users: tuple[str, ...]
    matrix: Floats = field(repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        return (
            f"Images steered for a person gain {self.estimate:+.3f} more under the person's own reward model than "
            f"under those of the {self.n_users - 1} others ({100 * self.confidence:g} % CI {self.ci_low:+.3f} to "
            f"{self.ci_high:+.3f}; {p_text(self.p)}, {self.n_permutations} other permutations of the models; "
            f"{self.n_prompts} prompts). The own model is the best one for {100 * self.share_own_best:.0f} % of users. "
            f"Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a pair of users: images for `user`, model of `judge_user`."""
        import pandas as pd

        rows, columns = np.indices(self.matrix.shape)
        names = np.array(self.users, dtype=object)
        return pd.DataFrame(
            {"user": names[rows.ravel()], "judge_user": names[columns.ravel()], "gain": self.matrix.ravel()}
        )

    def plot(self) -> alt.Chart:
        """The centred matrix: personal gain shows as a dark diagonal."""
        import altair as alt

        side = max(160, min(420, 22 * self.n_users))
        few = alt.Axis(labels=self.n_users <= 30)
        return (
            alt.Chart(self.to_frame())
            .mark_rect()
            .encode(
                x=alt.X("judge_user:N", title="reward model of", axis=few),
                y=alt.Y("user:N", title="images steered for", axis=few),
                color=alt.Color("gain:Q", title="gain", scale=alt.Scale(scheme="purpleorange", domainMid=0)),
            )
            .properties(width=side, height=side, title="Whose model likes whose images")
        )


def own_other_gap(
    rewards: pd.DataFrame,
    *,
    rng: np.random.Generator,
    value: str = "gain",
    condition: str | None = None,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> OwnOtherGap:
    """Personal gain of steering from the rewards of all models for all users' images.

    Parameters
    ----------
    rewards : DataFrame
        One row a search and model: user_id (whose search), prompt_id, judge_user (whose model), the column `value`;
        and where there are any run, condition.
    rng : Generator
        For permutations when not all are tried.
    value : str
        Reward, or gain over the prompt before the search.
    condition : str, optional
        Which, when the table has several.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    TableError
        A missing column, values that are no finite numbers.
    EstimateError
        Fewer than three users, a pair of user and model that is missing, unknown condition.
    """
    table, exclusions = _selected(rewards, value, condition)
    matrix, users, n_prompts = _matrix(table, value)
    n_users = len(users)
    centred = double_centred(matrix)
    estimate = personal_gain(matrix)
    se = _jackknife(matrix)
    labels, exact = label_permutations(n_users, 2, rng)
    permuted = _trace(centred, labels[:, 1]) / (n_users - 1)
    beyond = int((permuted >= estimate - ROUNDING * max(1.0, float(np.abs(centred).max()))).sum())
    reach = t_quantile(0.5 + confidence / 2, n_users - 1) * se
    best = centred.diagonal() >= centred.max(axis=1) - ROUNDING
    few = f"only {n_users} users: p is at least {1 / math.factorial(n_users):.3g}"
    return OwnOtherGap(
        estimand=Estimand(
            "gain under the own reward model less that under other people's",
            "new" if n_users >= FEWEST_FOR_NEW else "these",
            "these",
        ),
        exclusions=exclusions,
        warnings=() if n_users >= FEWEST_FOR_NEW else (few,),
        provenance=provenance or Provenance.of({"rewards": rewards}),
        estimate=estimate,
        ci_low=estimate - reach,
        ci_high=estimate + reach,
        se=se,
        p=(1 + beyond) / (1 + len(labels)),
        share_own_best=float(best.mean()),
        n_permutations=len(labels),
        exact=exact,
        n_users=n_users,
        n_prompts=n_prompts,
        confidence=confidence,
        users=tuple(users),
        matrix=centred,
    )


def double_centred(matrix: Floats) -> Floats:
    """The matrix less its row and column means, plus the mean of all."""
    return np.asarray(matrix - matrix.mean(axis=1, keepdims=True) - matrix.mean(axis=0, keepdims=True) + matrix.mean())


def personal_gain(matrix: Floats) -> float:
    """Mean of the diagonal less the mean of the rest after centring: trace/(U - 1) of the centred matrix."""
    return float(np.trace(double_centred(matrix)) / (len(matrix) - 1))


def _trace(centred: Floats, labels: Ints) -> Floats:
    """Sum over users u of the entry under the model that label permutation gives them, shape (B,)."""
    return np.asarray(centred[np.arange(len(centred)), labels].sum(axis=1))


def _jackknife(matrix: Floats) -> float:
    """Standard error from the values without each user (his row and his column)."""
    n = len(matrix)
    if n < 4:
        return math.nan
    left = np.array([personal_gain(np.delete(np.delete(matrix, k, axis=0), k, axis=1)) for k in range(n)])
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def _selected(rewards: pd.DataFrame, value: str, condition: str | None) -> tuple[pd.DataFrame, Exclusions]:
    missing = [name for name in ("user_id", "prompt_id", "judge_user", value) if name not in rewards]
    if missing:
        raise TableError(f"rewards: no column {', '.join(missing)}", ", ".join(map(str, rewards.columns)), "add them")
    kept, exclusions = of_condition(rewards, condition, "rewards")
    owned = kept[kept["user_id"].notna()]
    n_out = len(kept) - len(owned)
    reasons = (("a search for nobody", n_out),) if n_out else ()
    return owned, Exclusions(len(kept), len(owned), reasons, "rewards").after(exclusions)


def _matrix(table: pd.DataFrame, value: str) -> tuple[Floats, list[str], int]:
    """G (U, U) in sorted order of users, who they are, and the number of prompts; each prompt weighs the same."""
    rows = table.assign(user=table["user_id"].astype("str"), judge=table["judge_user"].astype("str"))
    if not np.isfinite(rows[value].to_numpy(dtype=np.float64)).all():
        raise TableError(f"rewards: {value} holds values that are no finite numbers", "finite numbers")
    users = sorted(rows["user"].unique())
    rows = rows[rows["judge"].isin(users)]
    if len(users) < 3:
        raise EstimateError(f"{len(users)} users", "3 or more, 6 to speak for new ones", "steer for more users")
    cells = rows.groupby(["user", "judge", "prompt_id"], observed=True)[value].mean()
    complete = len(users) ** 2 * rows["prompt_id"].nunique()
    if len(cells) != complete:
        raise EstimateError(
            f"{complete - len(cells)} of {complete} combinations of user, model and prompt are missing",
            "every model asked about every user's images on every prompt",
            "select complete users and prompts",
        )
    wide = cells.reset_index().pivot_table(index="user", columns="judge", values=value).loc[users, users]
    return wide.to_numpy(dtype=np.float64), users, int(rows["prompt_id"].nunique())
