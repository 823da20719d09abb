"""Generate the images of a plan: prompts x seeds on the workers, each once, ever.

    python jobs/generate.py --plan jobs/studies/demo.yaml --store store

Writes the tables `prompts` and `images`. Prompts have a role: `rated` ones are shown to raters, `calibration` ones only
teach what words look like.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from beholder.models.stages import GenerateScenes
from beholder.plans import Plan
from beholder.prompts import compose, prompt_id
from beholder.records import seed_of
from beholder.runs import Context, run_job, start

IMAGE_COLUMNS = ["image_id", "prompt_id", "generator", "seed", "path", "width", "height", "sha256", "role", "scene"]


def scene_stage(context: Context) -> GenerateScenes:
    """The generator as the plan sets it."""
    settings = context.plan.generate
    return GenerateScenes(settings.size, settings.batch_size, context.models)


def make_images(context: Context, wanted: pd.DataFrame, label: str) -> pd.DataFrame:
    """Images of the rows (`prompt`, `seed`, `role`) of `wanted`: the `images` table, one row an image made."""
    items = [{"prompt": p, "seed": int(s)} for p, s in zip(wanted["prompt"], wanted["seed"], strict=True)]
    run = context.run_stage(scene_stage(context), items, label)
    made = [
        row | {"image_id": row["key"][:16], "prompt_id": prompt_id(row["prompt"]), "role": role}
        for row, role in zip(run.rows, wanted["role"], strict=True)
        if row["status"] == "ok"
    ]
    return pd.DataFrame(made, columns=IMAGE_COLUMNS)


def run(context: Context) -> None:
    """Compose the prompts, draw the images, write both tables."""
    plan = context.plan
    settings = plan.generate
    composed = compose(settings.prompts + settings.calibration_prompts, np.random.default_rng([plan.seed, 1]))
    prompts = pd.DataFrame({"prompt_id": [prompt_id(p) for p in composed], "prompt": composed})
    prompts["role"] = np.where(np.arange(len(composed)) < settings.prompts, "rated", "calibration")
    seeds = {"rated": settings.seeds_per_prompt, "calibration": 1}
    wanted = pd.DataFrame(
        [
            {"prompt": row.prompt, "seed": seed_of("rated", plan.seed, row.prompt, k), "role": row.role}
            for row in prompts.itertuples()
            for k in range(seeds[str(row.role)])
        ]
    )
    context.save("prompts", prompts)
    context.save("images", make_images(context, wanted, "Generate images"), ["prompts"])


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"images": plan.generate.prompts * plan.generate.seeds_per_prompt + plan.generate.calibration_prompts}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("generate", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
