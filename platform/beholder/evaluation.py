"""An evaluation of reward models on the engine: folds through the ledger, then the tables of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import EngineError, EstimateError, UserError
from beholder.plans import Plan
from beholder.runs import Context

if TYPE_CHECKING:
    import pandas as pd

    from beholder.taste.evaluate import FoldPrediction, Folds
    from beholder.taste.fold_stage import Allowed, PredictFold
    from beholder.taste.fold_tables import Evaluated
    from beholder.taste.report import ReportSettings

INPUTS = ("ratings", "images", "features", "prompt_vectors")
FEWEST_AGAIN = 10
"""Images a user must have rated again for his gain to be followed."""
STABILITY = (
    "personal",
    "population",
    "quantity",
    "estimate",
    "ci_low",
    "ci_high",
    "se",
    "df",
    "p",
    "n_users",
    "n_images",
)
PERSONAL = (
    "stack",
    "eb_slopes",
    "fusion",
    "fusion_light",
    "mlp",
    "mlp_single",
    "user_ridge",
    "factors",
    "lore",
    "ideal_points",
    "neighbours",
    "neighbours_published",
)
"""Models whose gain over the population head may or may not last."""


@dataclass(frozen=True)
class Question:
    """What is evaluated: names of tables, and what their results are called.

    Attributes
    ----------
    prefix : str
        Before the names of the tables that are written.
    shared : str
        Before the names of images, features, embeddings, scores and users; another one where selections share them.
    ratings : str
        Name of the ratings' table.
    released : bool
        On the release's own splits.
    label : str
    notes : tuple of str
        What was changed in or left out of the ratings before.
    """

    prefix: str = ""
    shared: str = ""
    ratings: str = "ratings"
    released: bool = False
    label: str = "Evaluate taste"
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of ratings, images, features and embeddings."""
        return (self.ratings, *(f"{self.shared}{name}" for name in INPUTS[1:]))

    @property
    def users(self) -> str:
        """Name of the table of people."""
        return f"{self.shared}users"

    @property
    def profiles(self) -> str:
        """Name of the embeddings of people's texts."""
        return f"{self.shared}profile_vectors"

    def told(self, plan: Plan) -> tuple[str, ...]:
        """Names of the tables of what the plan lets models be told of people."""
        wanted = ((self.users, plan.taste.demographics), (self.profiles, plan.taste.profiles))
        return tuple(name for name, asked in wanted if asked)

    @property
    def scores(self) -> str:
        """Name of the table of scorers' numbers."""
        return f"{self.shared}scores"


def evaluate_question(context: Context, question: Question) -> dict[str, pd.DataFrame]:
    """Predictions by cross-validation, then every table of the report."""
    import pandas as pd

    from beholder.taste.collapse import collapse, spread_frame
    from beholder.taste.fold_tables import score_rungs, with_scores
    from beholder.taste.report import report

    plan, ratings = context.plan, context.load(question.ratings)
    stage = fold_stage(context, question, folds_of(plan))
    found = predict_folds(context, stage, plan.taste.models, question.label)
    scorers: tuple[str, ...] = ()
    if context.store.has_table(question.scores):
        scores = context.load(question.scores)
        found, scorers = with_scores(found, scores), score_rungs(scores)
    with context.progress.step(f"{question.label}: report"):
        stream = np.random.default_rng([plan.seed, 3, 1])
        tables = report(found.predictions, found.dense, ratings, report_settings(plan, scorers), stream)
    stability, more = stability_of(context, question, ratings)
    personal = [name for name in plan.taste.models if name in PERSONAL]
    spread = spread_frame(collapse(found.predictions, ratings, personal, confidence=plan.analysis.confidence))
    notes = [("data", note) for note in question.notes]
    notes += [("splits", note) for note in found.notes] + [("stability", note) for note in more]
    return {
        "ladder": tables.ladder,
        "differences": tables.differences,
        "tie_curve": tables.tie_curve,
        "disagreement": tables.disagreement,
        "stability": stability,
        "personal_spread": spread,
        "predictions": found.predictions,
        "predictions_dense": found.dense,
        "taste_fits": found.fits,
        "evaluation_counts": tables.counts,
        "evaluation_notes": pd.concat(
            [pd.DataFrame(notes, columns=["about", "note"]), tables.notes], ignore_index=True
        ),
    }


def folds_of(plan: Plan) -> Folds:
    """How the plan splits ratings."""
    from beholder.taste.evaluate import Folds

    return Folds(plan.taste.prompt_folds, plan.taste.user_folds, plan.taste.context)


def folds_seed(plan: Plan) -> int:
    """What draws folds, designs and models."""
    return int(np.random.default_rng([plan.seed, 3, 0]).integers(2**62))


def models_said(names: Sequence[str]) -> dict[str, Any]:
    """Models as the key of a step names them: by all their settings, and by the version of the code that fits them."""
    from beholder.taste.fold_stage import PredictFold
    from beholder.taste.registry import taste_model

    return {"version": PredictFold.version, "models": {name: repr(taste_model(name)) for name in names}}


def fold_stage(context: Context, question: Question, folds: Folds, *, first_occasion: bool = False) -> PredictFold:
    """The stage that predicts this question's folds, ready in this process too."""
    from beholder.taste.fold_stage import PredictFold, SetTables

    told = question.told(context.plan)
    for name in told:
        if not context.store.has_table(name):
            option = "demographics" if name == question.users else "profiles"
            raise UserError(
                f"taste.{option} without a table {name!r}",
                remedy="leave it out: nothing is told of people; embed makes the one of profiles",
            )
    names = [*question.inputs, *told]
    ratings, images, features, vectors = question.inputs
    digests = tuple(context.digest(name) for name in names)
    users, profiles = (name if name in told else None for name in (question.users, question.profiles))
    tables = SetTables("", ratings, images, features, vectors, users, digests, profiles)
    stage = PredictFold((tables,), folds, folds_seed(context.plan), question.released, first_occasion)
    stage.setup(context.store)
    return stage


def predict_folds(context: Context, stage: PredictFold, models: Sequence[str], label: str) -> Evaluated:
    """Every fold by every model, through the ledger; the models in the order given.

    Raises
    ------
    EngineError
        If a fold could not be predicted.
    """
    from beholder.taste.fold_stage import EVERYTHING

    return predict_variants(context, stage, models, {"": EVERYTHING}, label)[""]


def predict_variants(
    context: Context,
    stage: PredictFold,
    models: Sequence[str],
    variants: Mapping[str, Allowed],
    label: str,
    *,
    tokens: str | None = None,
) -> dict[str, Evaluated]:
    """As `predict_folds`, for several sets of things that models may use; all their folds side by side.

    `tokens` names the variant in which fusion predictors are also asked without each of their tokens
    (`beholder.taste.evaluate.masked_name`).
    """
    from beholder.taste.fold_stage import read_predictions

    items: list[dict[str, Any]] = []
    found: dict[str, list[list[FoldPrediction]]] = {}
    for name, allowed in variants.items():
        folded = stage.prepared(allowed)
        folded.refuse_leaks()
        items += [item | {"_variant": name} for item in stage.items(models, allowed, tokens=name == tokens)]
        found[name] = [[] for _ in folded.splits]
    run = context.run_stage(stage, items, label)
    bad = [row for row in run.rows if row["status"] == "failed"]
    if bad:
        raise EngineError(
            f"{len(bad)} of {len(run.rows)} folds could not be predicted; model {bad[0]['item']['model']}, fold "
            f"{bad[0]['item']['fold']}: {bad[0]['error']}",
            remedy="mend the cause, or leave the model out of taste.models",
        )
    for item, row in zip(items, run.rows, strict=True):
        found[item["_variant"]][item["fold"]] += read_predictions(context.store, row)
    return {name: stage.prepared(allowed).tables(found[name]) for name, allowed in variants.items()}


def stability_of(context: Context, question: Question, ratings: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Whether taste lasts, where people rated again later; models learn from first occasions only."""
    import pandas as pd

    from analysis.stability import taste_stability

    models = [name for name in context.plan.taste.models if name in PERSONAL]
    nothing = pd.DataFrame({name: pd.Series(dtype="str" if k < 3 else "float") for k, name in enumerate(STABILITY)})
    if "occasion" not in ratings.columns or not (ratings["occasion"] > 1).any():
        return nothing, ["not computed: nobody rated an image on a later occasion"]
    if not models or "population" not in context.plan.taste.models:
        return nothing, [f"not computed: it compares the population head with one of {', '.join(PERSONAL)}"]
    twice = ratings[ratings["occasion"] == 2].groupby("user_id")["image_id"].nunique()
    if (twice >= FEWEST_AGAIN).sum() < 2:
        return nothing, [f"not computed: {int((twice >= FEWEST_AGAIN).sum())} users rated {FEWEST_AGAIN} images again"]
    stage = fold_stage(context, question, replace(folds_of(context.plan), splits=("seen",)), first_occasion=True)
    found = predict_folds(context, stage, ["population", *models], f"{question.label}: later occasions")
    frames, notes = [], []
    for name in models:
        two = found.predictions[found.predictions["model"].isin(["population", name])]
        try:
            lasting = taste_stability(
                two, ratings, personal=name, population_model="population", confidence=context.plan.analysis.confidence
            )
        except EstimateError as error:
            notes.append(f"{name}: {error}")
            continue
        frames.append(
            lasting.to_frame().assign(
                personal=name, population="population", n_users=lasting.n_users, n_images=lasting.n_images
            )
        )
        notes += [f"{name}: {text}" for text in (lasting.estimand.text, *lasting.warnings)]
    return pd.concat([nothing, *frames], ignore_index=True)[list(STABILITY)] if frames else nothing, notes


def report_settings(plan: Plan, scorers: Sequence[str] = ()) -> ReportSettings:
    """What the plan asks of the report; `scorers` are rungs below the population head."""
    from beholder.taste.evaluate import rungs
    from beholder.taste.report import POPULATION, ReportSettings

    first, last, step = plan.taste.margins
    ladder = rungs(plan.taste.models)
    at = ladder.index(POPULATION) if POPULATION in ladder else 0
    return ReportSettings(
        (*ladder[:at], *scorers, *ladder[at:]),
        tuple(range(first, last + 1, step)),
        confidence=plan.analysis.confidence,
        permutations=plan.analysis.permutations,
    )
