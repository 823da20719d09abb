"""Who is right where two people disagree? Diverging pairs: two users, two images, opposite strict preferences.

A model that gives everybody the same order is right about exactly one of the two users, whatever it knows: accuracy
one half, both right 0, none right 0. So accuracy beyond one half here is personal knowledge and nothing else. "Both
right" alone shows nothing: random private scores raise it together with "none right". The difference
delta = both - none = 2 accuracy - 1 is what to report.

A model's tie on a pair counts one half for the user; when it ties for both users, exactly one is taken as right.

Assumes that users are exchangeable for the permutation test; permute within strata where they saw different images or
differ by language. With fewer than 30 users the test rejects a little too often (.087 at U = 20). The ceiling takes
taste and noise as Gaussian. Leave-one-out means of the other raters are no population model here: each user's own
rating enters everybody else's mean, which pushes the accuracy below one half (.449 on ratings of 27 people). A
binomial test over pairs has 68 to 84 % false positives at nominal 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analysis import charts
from analysis.clusters import Floats, Ints, integer_codes
from analysis.components import Components, moment_components
from analysis.diverging import (
    Diverging,
    diverging_pairs,
    identity_table,
    oracle_accuracy,
    permutation_p,
    two_way_interval,
)
from analysis.errors import EstimateError, TableError
from analysis.matched import ModelRows, match
from analysis.results import Population, Provenance, Result, p_text, percent
from analysis.tables import Scale, check_ratings
from analysis.user_means import estimand_for, require_two

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

CHECK = "check the score column"
FEWEST_USERS = 30
"""Users below which the permutation test is somewhat liberal; a warning says so."""


@dataclass(frozen=True)
class ModelDisagreement:
    """One model on the diverging pairs of one split.

    Attributes
    ----------
    model, split : str
    both, one, none : float
        Shares of elements with both users, exactly one, neither ordered right.
    delta : float
        both - none = 2 accuracy - 1.
    accuracy, ci_low, ci_high, se, df : float
    p_permutation : float
        Permutation of user identities, one-sided; NaN with the reason in `p_reason`.
    ceiling : float
        Accuracy of a model that knows everybody's taste; NaN with the reason in `ceiling_reason`.
    n_elements, n_users, n_images : int
    """

    model: str
    split: str
    both: float
    one: float
    none: float
    delta: float
    accuracy: float
    ci_low: float
    ci_high: float
    se: float
    df: float
    p_permutation: float
    p_reason: str | None
    ceiling: float
    ceiling_reason: str | None
    n_elements: int
    n_users: int
    n_images: int


@dataclass(frozen=True, kw_only=True)
class Disagreement(Result):
    """All models on diverging pairs; see `disagreement`.

    Attributes
    ----------
    models : tuple of ModelDisagreement
    n_elements : int
        Over splits, the most elements any model covers.
    margin : int
    confidence : float
    """

    models: tuple[ModelDisagreement, ...]
    n_elements: int
    margin: int
    confidence: float

    def summary(self) -> str:
        """One sentence a model."""
        lines = []
        for m in self.models:
            p = m.p_reason if math.isnan(m.p_permutation) else f"permutation {p_text(m.p_permutation)}"
            lines.append(
                f"{m.model} ({m.split}): both right {percent(m.both)}, one {percent(m.one)}, none {percent(m.none)} of "
                f"{m.n_elements} diverging pairs; accuracy {m.accuracy:.3f} ({100 * self.confidence:g} % CI "
                f"{m.ci_low:.3f} to {m.ci_high:.3f}; {p})."
            )
        return "\n".join([*lines, f"Estimand: {self.estimand.text}."])

    def to_frame(self) -> pd.DataFrame:
        """One row a model and split."""
        import pandas as pd

        return pd.DataFrame([vars(m) for m in self.models])

    def plot(self) -> alt.LayerChart:
        """Accuracy on diverging pairs with its interval; a population model lies at one half."""
        frame = self.to_frame().rename(columns={"accuracy": "estimate"})
        frame["label"] = frame["model"] + " (" + frame["split"] + ")"
        columns = ["label", "estimate", "ci_low", "ci_high"]
        title = f"Right where two users disagree, margin {self.margin}"
        return charts.interval_chart(frame[columns], "label", "accuracy on diverging pairs", title, 0.5, percent=True)


def disagreement(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    *,
    rng: np.random.Generator,
    margin: int = 0,
    confidence: float = 0.95,
    draws: int = 9999,
    strata: Mapping[str, str] | None = None,
    population: Population | None = None,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> Disagreement:
    """Outcomes of every model where two users disagree about two images.

    Parameters
    ----------
    predictions, ratings : DataFrame
        As for `analysis.accuracy.accuracy`. The permutation test needs dense predictions: every user with a rating in
        the split times every image rated there.
    rng : numpy.random.Generator
    margin : int
        Ticks by which both users' ratings must differ, in opposite directions.
    confidence : float
    draws : int
        Permutations of user identities.
    strata : mapping of user id to label, optional
        Identities are permuted within these groups.
    population : Population, optional
        For the intervals: new users and new images unless given.

    Raises
    ------
    TableError, EstimateError
        Malformed tables; users without a stratum; fewer than two users or images; ratings that do not vary.
    """
    matched = match(predictions, ratings, scale)
    rated = check_ratings(ratings, scale)
    parts: Components | None
    try:
        parts = moment_components(rated["score"].to_numpy(), rated["user_id"], rated["image_id"])
        why = parts.why_not_separable
    except EstimateError as error:
        parts, why = None, str(error)
    if rated["score"].nunique() < 2:
        raise EstimateError(f"all {len(rated)} ratings are {rated['score'].iloc[0]}", "ratings that vary", CHECK)
    most_users, most_images = (max(len(np.unique(getattr(g, x))) for g in matched.groups) for x in ("user", "image"))
    require_two(most_users, most_images, population or Population(), "images")
    ceiling = (oracle_accuracy(parts, margin) if parts else math.nan, why)
    models = []
    for group in matched.groups:
        labels = _strata_of(group, matched.user_ids, strata)
        counted, rated_cells, p, reason = _tested(group, margin, rng, draws, labels)
        models.append(_model_row(group, counted, rated_cells, confidence, population, p, reason, *ceiling))
    most: dict[str, int] = {}
    for m in models:
        most[m.split] = max(most.get(m.split, 0), m.n_elements)
    n_users, n_images = min(m.n_users for m in models), min(m.n_images for m in models)
    quantity = f"accuracy on image pairs about which two users disagree by more than {margin} ticks each"
    estimand, few = estimand_for(quantity, population or Population(), n_users, n_images, "images")
    if n_users < FEWEST_USERS:
        few += (f"{n_users} users: with fewer than {FEWEST_USERS} the permutation test rejects a little too often",)
    return Disagreement(
        estimand=estimand,
        exclusions=matched.exclusions,
        warnings=few + matched.warnings,
        provenance=provenance or Provenance.of({"predictions": predictions, "ratings": ratings}),
        models=tuple(models),
        n_elements=sum(most.values()),
        margin=margin,
        confidence=confidence,
    )


def _strata_of(group: ModelRows, user_ids: tuple[str, ...], strata: Mapping[str, str] | None) -> Ints | None:
    if strata is None:
        return None
    users = [user_ids[code] for code in np.unique(group.user)]
    missing = [user for user in users if user not in strata]
    if missing:
        raise TableError(f"{len(missing)} users without a stratum, {missing[0]} among them", "one for every user")
    return integer_codes(np.array([strata[user] for user in users], dtype=object))[0]


def _tested(
    group: ModelRows, margin: int, rng: np.random.Generator, draws: int, strata: Ints | None
) -> tuple[Diverging, npt.NDArray[np.bool_], float, str | None]:
    """Counts, which cells are rated, permutation p and the reason where there is none."""
    users, u = np.unique(group.user, return_inverse=True)
    images, i = np.unique(group.image, return_inverse=True)
    truth = np.zeros((len(users), len(images)), dtype=np.int64)
    score = np.full(truth.shape, np.nan)
    truth[u, i] = group.truth
    score[u, i] = group.score
    rated = np.isfinite(score)
    found = diverging_pairs(truth, score, rated, margin)
    if not found.n_elements:
        return found, rated, math.nan, "no diverging pairs"
    dense, reason = _dense(group, users, images)
    if dense is None:
        return found, rated, math.nan, reason
    return found, rated, permutation_p(identity_table(truth, dense, rated, margin), rng, draws, strata), None


def _model_row(
    group: ModelRows,
    found: Diverging,
    rated: npt.NDArray[np.bool_],
    confidence: float,
    population: Population | None,
    p: float,
    p_reason: str | None,
    ceiling: float,
    ceiling_reason: str | None,
) -> ModelDisagreement:
    se, df, low, high, _ = two_way_interval(found, rated, confidence, population)
    return ModelDisagreement(
        model=group.model,
        split=group.split,
        both=found.both,
        one=found.one,
        none=found.none,
        delta=found.both - found.none,
        accuracy=found.accuracy,
        ci_low=low,
        ci_high=high,
        se=se,
        df=df,
        p_permutation=p,
        p_reason=p_reason,
        ceiling=ceiling,
        ceiling_reason=ceiling_reason,
        n_elements=found.n_elements,
        n_users=rated.shape[0],
        n_images=rated.shape[1],
    )


def _dense(group: ModelRows, users: Ints, images: Ints) -> tuple[Floats | None, str | None]:
    """Scores of every user for every image, or why there are not."""
    inside = np.isin(group.every_user, users) & np.isin(group.every_image, images)
    dense = np.full((len(users), len(images)), np.nan)
    rows, columns = (
        np.searchsorted(known, codes[inside])
        for known, codes in ((users, group.every_user), (images, group.every_image))
    )
    dense[rows, columns] = group.every_score[inside]
    missing = int(np.isnan(dense).sum())
    if missing:
        return None, f"{missing} of {dense.size} predictions missing; the permutation needs every user and image"
    return dense, None
