"""Ask whether steered images carry their person's style, whatever the prompt and the run.

    python jobs/steering_consistency.py --plan jobs/studies/demo.yaml --store store

Needs `steered` with two runs or more. Writes the table `steering_consistency` (T2 with its permutation p, T1 as
description, and how often a person's run is recognised from another run on other prompts); see `analysis.consistency`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from beholder.plans import Plan
from beholder.runs import Context, run_job, start

STEP_VERSION = 1


def run(context: Context) -> None:
    """Compute the statistics and print their summary."""
    plan = context.plan

    def compute() -> dict[str, pd.DataFrame]:
        from analysis.consistency import steering_consistency

        stream = np.random.default_rng([plan.seed, 6])
        steered = context.load("steered")
        result = steering_consistency(steered, rng=stream, condition="own", confidence=plan.analysis.confidence)
        return {"steering_consistency": result.to_frame().assign(summary=result.summary())}

    context.digests["steered"] = context.digest("steered")
    settings = {"seed": plan.seed, "confidence": plan.analysis.confidence}
    made = context.derive("Consistency", compute, version=STEP_VERSION, inputs=["steered"], settings=settings)
    print(made["steering_consistency"]["summary"].iloc[0])


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"steering_consistency": 1}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("steering_consistency", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
