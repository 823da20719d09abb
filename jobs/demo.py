"""The whole loop on small embedded models and simulated raters whose taste is known.

    python jobs/demo.py --plan jobs/studies/demo.yaml --store store

Makes images, lets simulated people rate them, learns what each of them likes, searches prompts for them, shows the
results side by side in a blind study, and analyses it. Every step is a job of its own; what a step made before is
found in the store, so the same command goes on after a kill, and does nothing where all is done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import analyse
import embed
import evaluate_taste
import generate
import pairwise_study
import simulate_ratings
import steer
import train_taste
from beholder.engine.environment import instruction_set
from beholder.plans import Plan
from beholder.runs import Context, run_job, start
from beholder.tracking import tracking_uri

STEPS = {
    "Generate images": generate,
    "Rate": simulate_ratings,
    "Embed": embed,
    "Evaluate reward models": evaluate_taste,
    "Train reward models": train_taste,
    "Steer prompts": steer,
    "Blind study": pairwise_study,
    "Analyse": analyse,
}
"""Title and job, in the order they run."""
PUBLISHED = Path(__file__).parent / "studies" / "demo.digests.json"
"""Digests of the tables of the run that the documentation shows."""


def run(context: Context) -> None:
    """Every step in turn, then what was planted beside what was recovered."""
    tracking_uri(context.store)  # refused before the first step, not at the fifth
    made: dict[str, str] = {}
    for number, (title, job) in enumerate(STEPS.items(), start=1):
        print(f"[{number}/{len(STEPS)}] {title}", file=sys.stderr)
        job.run(context)
        for table in context.digests:
            made.setdefault(table, title)
    print(summary(context, made))


def summary(context: Context, made: Mapping[str, str]) -> str:
    """What was planted, what was recovered with its interval, and where to look further.

    `made` names the step that each table came from, in the order of making.
    """
    rows = context.load("recovered").to_dict("records")
    level = f"{100 * context.plan.analysis.confidence:g} %"
    lines = ["", f"What was planted, and what the study recovered ({level} intervals):"]
    for row in rows:
        inside = "inside" if row["ci_low"] <= row["planted"] <= row["ci_high"] else "OUTSIDE"
        interval = f"{row['estimate']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        lines.append(f"  {row['quantity']:<30} planted {row['planted']:.3f}   found {interval}   {inside}")
    lines += ["", reproduction(context, made), f"Report:    {context.store.url}/{analyse.PAGE}"]
    lines.append(f"Dashboard: make dashboard STORE={context.store.url}")
    return "\n".join(lines)


def reproduction(context: Context, made: Mapping[str, str]) -> str:
    """Whether the tables are those of the published run, and if not, which step differs first."""
    published: dict[str, Any] = json.loads(PUBLISHED.read_text()) if PUBLISHED.exists() else {}
    if published.get("plan_hash") != context.plan.hash:
        return f"These tables are from a plan without published digests (plan {context.plan.hash[:12]})."
    differing = [name for name in made if context.digests[name] != published["tables"].get(name)]
    if not differing:
        return "All tables are the same, to the last bit, as those of the published run."
    return (
        f"First difference from the published run: table {differing[0]!r} of step {made[differing[0]]!r}. That run was "
        f"on {published['instruction_set']}, this one is on {instruction_set()}; other processors and versions may "
        "differ in last digits."
    )


def forecast(plan: Plan) -> Mapping[str, int]:
    """What all steps together would make."""
    total: dict[str, int] = {}
    for job in STEPS.values():
        for name, count in job.forecast(plan).items():
            total[name] = max(total.get(name, 0), count)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("demo", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
