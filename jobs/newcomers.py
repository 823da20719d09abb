"""How many ratings of a newcomer are enough, and which: every method by ratings shown and neighbours, on new people.

    python jobs/newcomers.py --plan jobs/studies/demo.yaml --store store
    python jobs/newcomers.py --store store --shown 0,5,15 --neighbours 1,5 --dataset avt

Newcomers are predicted by the posterior of the plan's personal model after N random or N chosen ratings, and by the K
nearest neighbours of their profiles, centred and as published. Needs `ratings`, `images`, `features` and
`prompt_vectors`, with `--dataset NAME` those that evaluating the data set has left in the store. Folds are predicted
side by side and kept, so a run that was stopped goes on. Writes the tables `newcomers` (accuracy of each setting with
its two-way interval) and `newcomers_chosen` (settings chosen by the people of other folds, and the published one,
against the posterior on the same pairs), and the same as files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from beholder.errors import UserError
from beholder.evaluation import Question, fold_stage, folds_of, models_said
from beholder.plans import Plan
from beholder.runs import Context, require, run_job, start
from evaluate_taste import write_csv

if TYPE_CHECKING:
    from beholder.taste.newcomers import Sweep

STEP_VERSION = 1
"""Raised by hand when the same tables give other results."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    sweep: Sweep
    user_folds: int
    dataset: str

    @property
    def prefix(self) -> str:
        """Of the names of the data set's tables."""
        return f"{self.dataset}_" if self.dataset else ""

    @property
    def question(self) -> Question:
        """The tables it is asked of."""
        return Question(self.prefix, self.prefix, f"{self.prefix}ratings")


def run(context: Context, request: Request, out: str | None = None) -> None:
    """Predict, compare, print and write."""
    plan = context.plan
    inputs = [*request.question.inputs, *request.question.told(plan)]
    settings = {"sweep": asdict(request.sweep), "user_folds": request.user_folds, "seed": plan.seed}
    settings |= {"taste": plan.taste.model_dump(mode="json"), "confidence": plan.analysis.confidence}
    settings["models"] = models_said(plan.taste.models)

    def compute() -> dict[str, pd.DataFrame]:
        return {request.prefix + name: table for name, table in sweep_plan(context, request).items()}

    context.digests.update((name, context.digest(name)) for name in inputs)
    made = context.derive(
        "Sweep newcomers", compute, version=STEP_VERSION, inputs=inputs, settings=settings, shown=False
    )
    tables = {name.removeprefix(request.prefix): table for name, table in made.items()}
    write_csv(context.files(out, "evaluation" + (f"/{request.dataset}" if request.dataset else "")), tables)
    print(summary(tables))


def sweep_plan(context: Context, request: Request) -> dict[str, pd.DataFrame]:
    """Both tables of the job.

    Raises
    ------
    EngineError
        If a fold could not be predicted.
    """
    from beholder.taste.newcomer_report import choice_table, folds_of_users, levelled, sweep_table
    from beholder.taste.newcomer_stage import SweepFold, read_sweep

    plan, sweep, question = context.plan, request.sweep, request.question
    folds = replace(folds_of(plan), users=request.user_folds, context=max(sweep.shown), splits=("unseen",))
    stage = SweepFold(fold_stage(context, question, folds), sweep)
    stage.setup(context.store)
    run = context.run_stage(stage, stage.items(plan.steer.model), "Sweep newcomers")
    bad = [row for row in run.rows if row["status"] == "failed"]
    require(not bad, f"{len(bad)} of {len(run.rows)} folds failed: {bad[0]['error'] if bad else ''}", "mend the cause")
    predictions = levelled([read_sweep(context.store, row) for row in run.rows])
    ratings, confidence = context.load(question.ratings), plan.analysis.confidence
    users = folds_of_users(stage.folds.prepared().splits)
    with context.progress.step("Sweep newcomers: report"):
        return {
            "newcomers": sweep_table(predictions, ratings, confidence),
            "newcomers_chosen": choice_table(predictions, ratings, users, sweep, confidence),
        }


def summary(tables: Mapping[str, pd.DataFrame]) -> str:
    """Best setting of each method by ratings shown, then the comparisons."""
    sweep = tables["newcomers"]
    best = sweep.loc[sweep.groupby(["method", "shown"])["accuracy"].idxmax()]
    wide = best.pivot_table("accuracy", "method", "shown")
    lines = ["Pairs ordered right by ratings shown (neighbours: the best K, which flatters them a little)"]
    lines.append(wide.to_string(float_format=lambda v: f"{v:.3f}"))
    lines.append("\nOn the same pairs, with what was chosen by the people of other folds:")
    for row in tables["newcomers_chosen"].itertuples():
        gap = f"{row.estimate:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
        lines.append(f"  {row.a} against {row.b}, N={row.shown}: {gap}")
    return "\n".join(lines)


def forecast(plan: Plan, request: Request) -> Mapping[str, int]:
    """What the job would make."""
    sweep = request.sweep
    settings = len(sweep.shown) * (2 + 2 * len(sweep.neighbours))
    return {"newcomers": settings, "folds": plan.taste.prompt_folds * request.user_folds}


def numbers(text: str) -> tuple[int, ...]:
    """`0,5,15` as numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,5,15") from None


def options() -> argparse.ArgumentParser:
    """The job's own options."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--shown", type=numbers, default="0,1,2,5,10,15,20", help="ratings shown (%(default)s)")
    own.add_argument("--neighbours", type=numbers, default="1,3,5,10,20", help="neighbours (%(default)s)")
    own.add_argument("--temperature", type=float, default=0.1, help="of the softmax over similarities (%(default)s)")
    own.add_argument("--user-folds", type=int, default=5, help="folds of people (%(default)s)")
    own.add_argument("--dataset", default="", metavar="NAME", help="a data set in the store, such as avt")
    own.add_argument("--out", metavar="DIR", help="where files go (evaluation/ in the store)")
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    from beholder.taste.newcomers import Sweep

    own, _ = options().parse_known_args(argv)
    try:
        request = Request(Sweep(own.shown, own.neighbours, own.temperature), own.user_folds, own.dataset)
    except UserError as error:
        print(f"newcomers: {error}", file=sys.stderr)
        return 2
    body, expected = partial(run, request=request, out=own.out), partial(forecast, request=request)
    return run_job("newcomers", __doc__, argv, body, expected, [options()])


if __name__ == "__main__":
    sys.exit(start(main))
