"""Do images steered for a person carry that person's style, whatever the prompt?

With z the embedding of the final image of user u, prompt p and run r, let D be z less the mean over users (same prompt
and run), scaled to length one. T2 is the mean inner product of D over two runs and two *different* prompts for the
same user, less the same for different users. Only cross-prompt terms enter, so what a prompt shows cannot create it.
The test permutes the user labels of each run after the first, jointly over prompts. T1, the mean squared distance
between runs of one user less that between users on the same prompt, says whether runs reproduce; it is description,
not a claim of style.

Assumes users are exchangeable under the hypothesis of no personal style, the same prompts for all users, the same image
seed across users and runs within a prompt, and an encoder that the reward did not use. Wrong when users differ in what
they were shown. Needs six users for a p below .0014.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints, integer_codes
from analysis.errors import EstimateError
from analysis.results import FEWEST_FOR_NEW, Estimand, Exclusions, Provenance, Result, p_text, percent
from analysis.tables import check_steered

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

PERMUTATIONS = 9_999
BOOTSTRAPS = 2_000
ROUNDING = 1e-12

FEWEST_FOR_INTERVAL = 10
"""Users below whom resampling them understates the spread of T2."""


@dataclass(frozen=True, kw_only=True)
class Consistency(Result):
    """See `steering_consistency`.

    Attributes
    ----------
    t2, ci_low, ci_high : float
        Cross-prompt style statistic (difference of cosines) and its interval from resampled users.
    p : float
        Permutation p, one-sided (style makes T2 large).
    n_permutations : int
        Label permutations beside the one observed; `exact` tells that these are all there are.
    t1 : float
        Squared distance within users less between users; negative when runs reproduce. No test.
    identification_rate, chance : float
        How often a user's run is most like the same user's other run, over different prompts; 1 / users by chance.
    """

    t2: float
    ci_low: float
    ci_high: float
    p: float
    n_permutations: int
    exact: bool
    t1: float
    identification_rate: float
    chance: float
    n_users: int
    n_prompts: int
    n_runs: int
    confidence: float
    similarity: pd.DataFrame = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        kind = "all" if self.exact else "random"
        return (
            f"Images of {self.n_users} users on {self.n_prompts} prompts in {self.n_runs} runs share a personal style "
            f"across prompts with T2 = {self.t2:.3f} ({100 * self.confidence:g} % CI over users {self.ci_low:.3f} to "
            f"{self.ci_high:.3f}; {p_text(self.p)}, {kind} {self.n_permutations} other permutations of user labels). A "
            f"user's run is recognised from another run on other prompts in {percent(self.identification_rate)} of "
            f"cases (chance {percent(self.chance)}); T1 = {self.t1:.3f}. Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        names = [
            "t2",
            "ci_low",
            "ci_high",
            "p",
            "t1",
            "identification_rate",
            "chance",
            "n_users",
            "n_prompts",
            "n_runs",
        ]
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

    def tables(self) -> dict[str, pd.DataFrame]:
        """The statistic, and the mean cross-prompt cosine of every pair of users."""
        return {"result": self.to_frame(), "similarity": self.similarity}

    def plot(self) -> alt.Chart:
        """User by user cross-prompt cosines: style shows as a dark diagonal."""
        import altair as alt

        side = max(160, min(420, 22 * self.n_users))
        return (
            alt.Chart(self.similarity)
            .mark_rect()
            .encode(
                x=alt.X("other:N", title="user, other run", axis=alt.Axis(labels=self.n_users <= 30)),
                y=alt.Y("user:N", title="user, one run", axis=alt.Axis(labels=self.n_users <= 30)),
                color=alt.Color("cosine:Q", title="cosine", scale=alt.Scale(scheme="purpleorange", domainMid=0)),
            )
            .properties(width=side, height=side, title="Style across different prompts")
        )


def style_directions(z: Floats) -> Floats:
    """Embeddings (U, P, R, d) less the mean over users, scaled to length one; a zero difference stays zero."""
    d = z - z.mean(axis=0, keepdims=True)
    length = np.linalg.norm(d, axis=-1, keepdims=True)
    tiny = ROUNDING * max(1.0, float(np.abs(z).max()))
    return np.divide(d, length, out=np.zeros_like(d), where=length > tiny)


def cross_prompt_cosines(directions: Floats) -> dict[tuple[int, int], Floats]:
    """For runs r < s the matrix (U, U) of mean inner products of user u in r with user v in s over prompts p != q."""
    _, n_prompts, n_runs, _ = directions.shape
    totals = directions.sum(axis=1)
    result = {}
    for r, s in itertools.combinations(range(n_runs), 2):
        same_prompt = np.einsum("upd,vpd->uv", directions[:, :, r], directions[:, :, s], optimize=True)
        result[r, s] = (totals[:, r] @ totals[:, s].T - same_prompt) / (n_prompts * (n_prompts - 1))
    return result


def _contrast(diagonal: Floats, total: float, n_users: int) -> Floats:
    """Mean of the diagonal less the mean of the rest, from the sum of the diagonal."""
    return diagonal / n_users - (total - diagonal) / (n_users * (n_users - 1))


def t2_statistic(cosines: dict[tuple[int, int], Floats], labels: Ints) -> Floats:
    """T2 under relabelled users, mean over run pairs.

    Parameters
    ----------
    cosines : mapping of run pairs to (U, U)
    labels : int array (B, R, U)
        Which user each label of each run is given to; the identity is the observed order.
    """
    n_users = labels.shape[2]
    values = np.zeros(len(labels))
    for (r, s), matrix in cosines.items():
        diagonal = matrix[labels[:, r], labels[:, s]].sum(axis=1)
        values += _contrast(diagonal, float(matrix.sum()), n_users)
    return values / len(cosines)


def label_permutations(n_users: int, n_runs: int, rng: np.random.Generator) -> tuple[Ints, bool]:
    """Relabellings (B, R, U) other than the observed: all when there are at most 9,999, else 9,999 draws.

    The first run keeps its labels; each later run is permuted on its own.
    """
    identity = np.arange(n_users)
    count = math.factorial(n_users) ** (n_runs - 1) - 1
    if count <= PERMUTATIONS:
        every = itertools.product(itertools.permutations(range(n_users)), repeat=n_runs - 1)
        next(every)  # the observed labelling comes first and is counted apart
        rows = [[tuple(identity.tolist()), *later] for later in every]
        return np.array(rows, dtype=np.int64).reshape(count, n_runs, n_users), True
    drawn = np.argsort(rng.random((PERMUTATIONS, n_runs, n_users)), axis=2)
    drawn[:, 0] = identity
    return drawn, False


def t1_statistic(z: Floats) -> float:
    """Mean squared distance between runs of one user less that of different users, same prompt, over run pairs."""
    n_users, n_prompts, n_runs, _ = z.shape
    squares = (z**2).sum(axis=-1)
    values = []
    for r, s in itertools.combinations(range(n_runs), 2):
        inner = np.einsum("upd,vpd->uv", z[:, :, r], z[:, :, s], optimize=True)
        distance = squares[:, :, r].sum(axis=1)[:, None] + squares[:, :, s].sum(axis=1)[None] - 2 * inner
        diagonal = np.array([np.trace(distance) / n_prompts])
        values.append(float(_contrast(diagonal, float(distance.sum()) / n_prompts, n_users)[0]))
    return float(np.mean(values))


def _identification(cosines: dict[tuple[int, int], Floats]) -> float:
    hits = []
    for matrix in cosines.values():
        for view in (matrix, matrix.T):  # recognise the later run from the earlier one, and the reverse
            best = view.max(axis=1)[:, None]
            at_best = view >= best - ROUNDING
            hits.append(np.mean(np.diag(at_best) / at_best.sum(axis=1)))
    return float(np.mean(hits))


def _bootstrap(
    cosines: dict[tuple[int, int], Floats], confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of T2 over resampled users; a user drawn twice is never compared with himself as another."""
    matrix = np.mean(list(cosines.values()), axis=0)
    n_users = len(matrix)
    weights = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=BOOTSTRAPS).astype(float)
    within = weights @ np.diag(matrix) / n_users
    between = np.einsum("bu,uv,bv->b", weights, matrix - np.diag(np.diag(matrix)), weights, optimize=True)
    pairs = n_users**2 - (weights**2).sum(axis=1)
    usable = pairs > 0
    values = within[usable] - between[usable] / pairs[usable]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def steering_consistency(
    steered: pd.DataFrame,
    *,
    rng: np.random.Generator,
    condition: str | None = None,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> Consistency:
    """Test whether steered images carry a personal style across prompts.

    Parameters
    ----------
    steered : DataFrame
        See `analysis.tables`: one embedding for every user, prompt and run, two runs or more.
    rng : Generator
        For permutations (when not all are tried) and resampled users.
    condition : str, optional
        Which condition, when the table has several.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Fewer than 2 users, prompts or runs; a combination without image; users whose images do not differ.
    """
    steered = check_steered(steered)
    chosen, exclusions = _of_condition(steered, condition)
    z, users = steered_array(chosen)
    n_users, n_prompts, n_runs, _ = z.shape
    directions = style_directions(z)
    n_zero = int((np.abs(directions).sum(axis=-1) == 0).sum())
    if n_zero == directions[..., 0].size:
        raise EstimateError(
            "all users have the same images", "images that differ between users", "check the embeddings"
        )
    cosines = cross_prompt_cosines(directions)
    observed = float(t2_statistic(cosines, np.tile(np.arange(n_users), (1, n_runs, 1)))[0])
    labels, exact = label_permutations(n_users, n_runs, rng)
    beyond = int((t2_statistic(cosines, labels) >= observed - ROUNDING).sum())
    low, high = _bootstrap(cosines, confidence, rng)
    warnings = []
    if n_users < FEWEST_FOR_NEW:
        smallest = 1 / math.factorial(n_users) ** (n_runs - 1)
        warnings.append(f"only {n_users} users: p cannot fall below {smallest:.3g}; read the result for these people")
    elif n_users < FEWEST_FOR_INTERVAL:
        warnings.append(
            f"{n_users} users: the interval of T2 over resampled users holds less often than it says (with six, a 95 % "
            "interval in .90 to .93 of studies); the permutation test is not affected"
        )
    if n_prompts < FEWEST_FOR_NEW:
        warnings.append(f"only {n_prompts} prompts: read the result for these prompts")
    if n_zero:
        warnings.append(f"{n_zero} images equal the mean over users and count as without style")
    matrix = np.mean(list(cosines.values()), axis=0)
    return Consistency(
        estimand=Estimand(
            "cross-prompt cosine of two runs of one user less that of two users",
            "new" if n_users >= FEWEST_FOR_NEW else "these",
            "these",
        ),
        exclusions=exclusions,
        warnings=tuple(warnings),
        provenance=provenance or Provenance.of({"steered": steered}),
        t2=observed,
        ci_low=low,
        ci_high=high,
        p=(1 + beyond) / (1 + len(labels)),
        n_permutations=len(labels),
        exact=exact,
        t1=t1_statistic(z),
        identification_rate=_identification(cosines),
        chance=1 / n_users,
        n_users=n_users,
        n_prompts=n_prompts,
        n_runs=n_runs,
        confidence=confidence,
        similarity=_similarity(matrix, users),
    )


def _similarity(matrix: Floats, users: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows, columns = np.indices(matrix.shape)
    names = np.array(users, dtype=object)
    return pd.DataFrame({"user": names[rows.ravel()], "other": names[columns.ravel()], "cosine": matrix.ravel()})


def _of_condition(steered: pd.DataFrame, condition: str | None) -> tuple[pd.DataFrame, Exclusions]:
    present = sorted(set(steered["condition"].astype("str"))) if "condition" in steered else []
    if condition is None and len(present) > 1:
        raise EstimateError("several conditions in the table", ", ".join(present), "name one (--condition)")
    if condition is not None and condition not in present:
        raise EstimateError(
            f"no condition {condition!r}", ", ".join(present) or "a condition column", "name one of these"
        )
    if condition is None:
        return steered, Exclusions.none(len(steered), "images")
    chosen = steered[steered["condition"].astype("str") == condition]
    n_out = len(steered) - len(chosen)
    reasons = (("another condition", n_out),) if n_out else ()
    return chosen, Exclusions(len(steered), len(chosen), reasons, "images")


def steered_array(steered: pd.DataFrame) -> tuple[Floats, list[str]]:
    """Embeddings as (users, prompts, runs, d) in the order of sorted ids; every combination must be there."""
    ordered = steered.sort_values(["user_id", "prompt_id", "run"], kind="stable")
    users, prompts, runs = (integer_codes(ordered[c].to_numpy())[1] for c in ("user_id", "prompt_id", "run"))
    for count, name in ((users, "users"), (prompts, "prompts"), (runs, "runs")):
        if count < 2:
            raise EstimateError(f"{count} {name}", "at least 2", f"steer again for more {name}")
    if len(ordered) != users * prompts * runs:
        missing = users * prompts * runs - len(ordered)
        raise EstimateError(
            f"{missing} of {users * prompts * runs} combinations of user, prompt and run have no image",
            "every user on every prompt in every run",
            "select complete users and prompts (--where)",
        )
    vectors = np.stack(ordered["embedding"].to_list()).astype(float)
    return vectors.reshape(users, prompts, runs, -1), sorted(set(ordered["user_id"].astype("str")))
