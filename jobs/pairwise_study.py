"""A blind side-by-side study on steered images, answered by simulated participants from their known taste.

    python jobs/pairwise_study.py --plan jobs/studies/demo.yaml --store store

Needs `steered_images`. Writes `trials`, `votes` (tidy, as from people) and `truth_votes` (true utilities and the exact
probabilities of each answer).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from beholder.plans import Plan
from beholder.runs import Context, run_job, start
from beholder.simulate import answer
from beholder.study.design import StudyDesign, plan_trials
from simulate_ratings import raters_of, true_parts, world_settings


def design_of(plan: Plan) -> StudyDesign:
    """The trials the plan asks of everybody."""
    against = tuple(c for c in plan.study.conditions if c != plan.analysis.focal)
    return StudyDesign(plan.study.trials, plan.analysis.focal, against, repeats=plan.study.repeats)


def run(context: Context) -> None:
    """Plan the trials, then let the participants answer them."""
    plan = context.plan

    def compute() -> dict[str, pd.DataFrame]:
        images = context.load("steered_images")
        raters, rng = raters_of(plan), np.random.default_rng([plan.seed, 4])
        participants = sorted(images["source_user"].dropna().unique())
        trials = plan_trials(images, participants, sorted(images["prompt_id"].unique()), design_of(plan), rng)
        # Two searches may end with the same picture: it has one utility, whatever it was shown as.
        shown = images.drop_duplicates("image_id")
        utility = np.sum(list(true_parts(context, raters, shown).values()), axis=0)
        votes, truth = answer(trials, raters, utility, list(shown["image_id"]), rng)
        return {"trials": trials, "votes": votes, "truth_votes": truth}

    settings = {"study": plan.study.model_dump(mode="json"), "focal": plan.analysis.focal, "seed": plan.seed}
    settings["world"] = asdict(world_settings(plan))
    context.derive("Study (simulated people)", compute, version=1, inputs=["steered_images"], settings=settings)


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"votes": plan.steer.raters * (plan.study.trials + plan.study.repeats)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("pairwise_study", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
