"""Does taste last? Accuracy of personal and of population predictions on ratings given on a later occasion.

People rate images once, models are trained on other images, and later the same people rate the same images again
without seeing their old answers. The gain of occasion k is G_k = personal less population accuracy on pairs of images
that are no ties on either occasion, the mean over users. If private taste were mood, G_2 would be 0; the share kept is
G_2/G_1, and it can fall below 0, because a personal model that is pure noise later does worse than the population's.

Intervals are two-way over users and images. For the share the influence is that of (K_2 - share K_1)/G_1, K_k the
difference of the two models' credits on a pair (delta method of a ratio); it is NaN when the interval of G_1 includes
0, for then nothing was there to be kept. In simulated studies it covered in 94 to 99 %, one over users alone in 78 to
97 %. Its standard error is about .11 with 30 users and 40 images, .08 with 60 users.

Assumes that users and images are drawn at random and that what changed between the occasions is taste, not the slider
or the screen. Wrong when images of the training fold are among those rated again, and when those who came back differ
from those who did not: compare their gains on the first occasion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from analysis import charts
from analysis.errors import EstimateError, UserError
from analysis.kept_gain import Credits, Estimator, credits_on_both, kept_gain
from analysis.results import Population, Provenance, Result, p_text, percent
from analysis.retest import Retest, repeated_pairs, retest_of
from analysis.returners import Returners, returners
from analysis.tables import Scale, check_ratings
from analysis.two_occasions import TwoOccasions, judged_twice, personal_and_population, same_for_all
from analysis.user_means import Interval, crossing, estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Items = Literal["image", "prompt"]


@dataclass(frozen=True)
class ModelStability:
    """One model; `ci_low`, `ci_high` are of the later accuracy, `first_low`, `first_high` of the first."""

    model: str
    accuracy_first: float
    first_low: float
    first_high: float
    accuracy_later: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Gain:
    """Personal less population accuracy, or a difference of such gains, with its test against 0."""

    estimate: float
    ci_low: float
    ci_high: float
    se: float
    df: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Stability(Result):
    """See `taste_stability`.

    Attributes
    ----------
    personal, population : str
        The two models compared.
    models : tuple of ModelStability
        Every model, on the same pairs.
    gain_first, gain_later : float
        G_1 and G_2.
    share_kept, ci_low, ci_high : float
        G_2/G_1; NaN when G_1 is not told from 0 (`share_reason`).
    p : float
        Of the hypothesis that nothing of the gain is left, G_2 = 0.
    first, later, change : Gain
        G_1, G_2 and G_2 - G_1 with intervals and tests.
    share_se : float
    retest : mapping
        How people agree with themselves on these images; see `analysis.retest.Retest`.
    returners : Returners or None
        First-occasion gain of those who came back and of the others; None when everybody did.
    n_users, n_images, n_pairs : int
    left_out : tuple of (str, int)
        Users left out, by reason.
    """

    personal: str
    population: str
    models: tuple[ModelStability, ...]
    gain_first: float
    gain_later: float
    share_kept: float
    ci_low: float
    ci_high: float
    p: float
    first: Gain
    later: Gain
    change: Gain
    share_se: float
    share_reason: str | None
    retest: Mapping[str, Any]
    returners: Returners | None
    train_occasion: int
    test_occasion: int
    confidence: float
    n_users: int
    n_images: int
    n_pairs: int
    left_out: tuple[tuple[str, int], ...]
    frames: Mapping[str, pd.DataFrame] = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        level = f"{100 * self.confidence:g} % CI"
        gains = (
            f"On pairs of images that {self.n_users} users rated on both occasions, {self.personal} orders "
            f"{self.gain_first:+.3f} more pairs right than {self.population} on occasion {self.train_occasion} "
            f"({level} {self.first.ci_low:+.3f} to {self.first.ci_high:+.3f}) and {self.gain_later:+.3f} on occasion "
            f"{self.test_occasion} ({self.later.ci_low:+.3f} to {self.later.ci_high:+.3f}, {p_text(self.p)}); change "
            f"{self.change.estimate:+.3f} ({p_text(self.change.p)})."
        )
        if math.isnan(self.share_kept):
            kept = f"The share kept is not given: {self.share_reason}."
        else:
            kept = (
                f"{percent(self.share_kept)} of the gain is kept ({level} {percent(self.ci_low)} to "
                f"{percent(self.ci_high)})."
            )
        return f"{gains} {kept} Estimand: {self.estimand.text}."

    def to_frame(self) -> pd.DataFrame:
        """Gains, their change and the share kept, one row each."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {"quantity": name, **vars(gain)}
            for name, gain in (("gain_first", self.first), ("gain_later", self.later), ("change", self.change))
        ]
        rows.append(
            {
                "quantity": "share_kept", "estimate": self.share_kept, "ci_low": self.ci_low, "ci_high": self.ci_high,
                "se": self.share_se, "df": self.first.df, "p": math.nan,
            }
        )  # fmt: skip
        return pd.DataFrame(rows)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Gains, models, users, and retest by time between."""
        import pandas as pd

        return {"result": self.to_frame(), "models": pd.DataFrame([vars(m) for m in self.models]), **self.frames}

    def plot(self) -> alt.LayerChart:
        """Accuracy of every model on both occasions."""
        import pandas as pd

        rows = []
        for m in self.models:
            rows.append((f"{m.model}, first", m.accuracy_first, m.first_low, m.first_high))
            rows.append((f"{m.model}, later", m.accuracy_later, m.ci_low, m.ci_high))
        frame = pd.DataFrame(rows, columns=["label", "estimate", "ci_low", "ci_high"])
        title = "Pairs ordered right on the first and on a later occasion"
        return charts.interval_chart(frame, "label", "accuracy", title, null=0.5, percent=True)


def taste_stability(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    *,
    train_occasion: int = 1,
    test_occasion: int = 2,
    personal: str | None = None,
    population_model: str | None = None,
    split: str | None = None,
    items: Items = "image",
    min_pairs: int = 30,
    min_images: int = 10,
    users: pd.DataFrame | None = None,
    confidence: float = 0.95,
    population: Population | None = None,
    scale: Scale | None = None,
    provenance: Provenance | None = None,
) -> Stability:
    """Whether the gain of personal over population predictions lasts.

    Parameters
    ----------
    predictions, ratings : DataFrame
        See `analysis.tables`; ratings need `occasion`. Predictions of the splits "train" and "warm" are left out.
    train_occasion, test_occasion : int
        First and later occasion.
    personal, population_model : str, optional
        The models compared. Without them: `population`, or the only model that gives everybody the same scores; and the
        only other one, or the first there is of stack, eb_slopes, fusion, mlp, user_ridge.
    split : str, optional
        Only predictions of this split.
    items : {"image", "prompt"}
        What is sampled beside users.
    min_pairs, min_images : int
        Users with fewer pairs or images rated on both occasions are left out and counted.
    users : DataFrame, optional
        To compare those who came back with the others; see `analysis.tables`.
    confidence : float
    population : Population, optional
    scale : Scale, optional
    provenance : Provenance, optional

    Raises
    ------
    TableError, EstimateError
        Malformed tables, nothing rated on both occasions, models that cannot be told apart, no user with enough pairs.
    """
    if items not in ("image", "prompt"):
        raise UserError(f"items {items!r}", "image or prompt")
    population = population or Population()
    data = judged_twice(predictions, ratings, (train_occasion, test_occasion), split, scale)
    if items == "prompt" and not data.has_prompts:
        raise EstimateError("items by prompt, but the ratings have no prompt_id", "a prompt_id column", "use images")
    own, shared = personal_and_population(data, personal, population_model)
    rows = crossing(data.user, data.image if items == "image" else data.prompt)
    credited = credits_on_both(data.user, data.first, data.later, data.scores)
    kept, left_out = _enough(credited, min_pairs, min_images)
    estimate = Estimator(credited, rows, kept, confidence, population)
    a, b = data.models.index(own), data.models.index(shared)
    gain = kept_gain(estimate, a, b)
    estimand, few = estimand_for(
        f"gain of {own} over {shared} in pairwise accuracy", population, gain.n_users, gain.n_items, f"{items}s"
    )
    back = _retest(ratings, (train_occasion, test_occasion), scale, confidence, population)
    came = returners(predictions, ratings, own, shared, (train_occasion, test_occasion), split, users, scale)
    return Stability(
        estimand=estimand,
        exclusions=data.exclusions,
        warnings=few + data.warnings + _warnings(data, own, personal, b, left_out, came),
        provenance=provenance or Provenance.of({"predictions": predictions, "ratings": ratings}),
        personal=own,
        population=shared,
        models=tuple(_model(estimate, data.models[m], m) for m in range(len(data.models))),
        gain_first=gain.first.estimate,
        gain_later=gain.later.estimate,
        share_kept=gain.share.estimate,
        ci_low=gain.share.ci_low,
        ci_high=gain.share.ci_high,
        p=gain.later.p,
        first=_gain(gain.first),
        later=_gain(gain.later),
        change=_gain(gain.change),
        share_se=gain.share.se,
        share_reason=gain.reason,
        retest=back.to_json(),
        returners=came,
        train_occasion=train_occasion,
        test_occasion=test_occasion,
        confidence=confidence,
        n_users=gain.n_users,
        n_images=len(np.unique(data.image[kept[data.user]])),
        n_pairs=int(credited.pairs[kept].sum()),
        left_out=left_out,
        frames=_frames(data, estimate, a, b, back, came),
    )


def _enough(
    credited: Credits, min_pairs: int, min_images: int
) -> tuple[npt.NDArray[np.bool_], tuple[tuple[str, int], ...]]:
    """Users who are kept, and how many are left out for which reason."""
    images = np.bincount(credited.user, minlength=len(credited.pairs))
    few_images = images < min_images
    few_pairs = ~few_images & (credited.pairs < max(min_pairs, 1))
    counted = (
        (f"fewer than {min_images} images rated on both occasions", int(few_images.sum())),
        (f"fewer than {min_pairs} pairs that are no ties", int(few_pairs.sum())),
    )
    kept = ~few_images & ~few_pairs
    if not kept.any():
        raise EstimateError(
            f"none of {len(kept)} users has {min_images} images and {min_pairs} pairs rated on both occasions",
            remedy="have more images rated again, or lower --min-images and --min-pairs",
        )
    return kept, tuple((why, n) for why, n in counted if n)


def _gain(found: Interval) -> Gain:
    return Gain(found.estimate, found.ci_low, found.ci_high, found.se, found.df, found.p)


def _model(estimate: Estimator, name: str, model: int) -> ModelStability:
    first, later = (estimate({(model, k): 1}, null=0.5) for k in (0, 1))
    return ModelStability(
        name, first.estimate, first.ci_low, first.ci_high, later.estimate, later.ci_low, later.ci_high
    )


def _retest(
    ratings: pd.DataFrame, occasions: tuple[int, int], scale: Scale | None, confidence: float, population: Population
) -> Retest:
    rated = check_ratings(ratings, scale)
    rated = rated[rated["occasion"].isin(occasions)]
    if occasions[0] > occasions[1]:  # the first of the two is the one for training, whatever its number
        rated = rated.assign(occasion=-rated["occasion"])
    found = retest_of(repeated_pairs(rated), confidence=confidence, population=population)
    if found is None:
        raise EstimateError("no image was rated on both occasions")
    return found


def _warnings(
    data: TwoOccasions, own: str, named: str | None, population: int,
    left_out: tuple[tuple[str, int], ...], came: Returners | None,
) -> tuple[str, ...]:  # fmt: skip
    found = [f"{n} users left out: {why}" for why, n in left_out]
    if named is None and len(data.models) > 2:
        found.append(f"{own} was taken as the personal model by its name; name another with --personal-model")
    if not same_for_all(data, population):
        found.append(f"{data.models[population]} gives one image different scores for different users")
    if came is not None and came.p < 0.05:
        found.append(
            f"those who came back gained {came.gain_returned:+.3f} on the first occasion, the others "
            f"{came.gain_left:+.3f} ({p_text(came.p)}): the result speaks for people like the former"
        )
    return tuple(found)


def _frames(
    data: TwoOccasions, estimate: Estimator, a: int, b: int, back: Retest, came: Returners | None
) -> dict[str, pd.DataFrame]:  # fmt: skip
    import pandas as pd

    credited = estimate.credited
    columns: dict[str, Any] = {"user_id": data.user_ids, "n_pairs": credited.pairs}
    for k, name in enumerate(("gain_first", "gain_later")):
        columns[name] = credited.mean(estimate.weights({(a, k): 1, (b, k): -1}))[0]
    found = {"users": pd.DataFrame(columns)[estimate.kept], "retest_users": back.users}
    if back.by_gap:
        found["retest_by_gap"] = pd.DataFrame([vars(gap) for gap in back.by_gap])
    if came is not None and came.compared is not None:
        found["returners"] = came.compared
    return found
