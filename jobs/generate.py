"""Generate the images of a plan: prompts x seeds on the workers, each once, ever.

    python jobs/generate.py --plan jobs/studies/demo.yaml --store store

The generator is the plan's: the procedural scenes, a pipeline of diffusers, or a hosted service. Writes the tables
`prompts` and `images`, and `refused` where a service would not draw something. Prompts have a role: `rated` ones are
shown to raters, `calibration` ones only teach what words look like.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from beholder.engine.inprocess import InProcess
from beholder.engine.run import StageRun
from beholder.engine.stage import Item
from beholder.models.entries import HostedEntry
from beholder.models.planned import generator_stage, hosted_stage
from beholder.plans import Plan
from beholder.prompts import compose, prompt_id
from beholder.records import seed_of
from beholder.runs import Context, run_job, start

IMAGE_COLUMNS = ["image_id", "prompt_id", "generator", "seed", "path", "width", "height", "sha256", "role", "scene"]
MORE_COLUMNS = ("flagged", "model_version", "cost")
"""What rows of pipelines and of hosted services say besides."""
REFUSED_COLUMNS = ["prompt_id", "seed", "role", "refused", "message", "model_version"]


def items_of(wanted: pd.DataFrame) -> list[Item]:
    """The generator's items for the rows (`prompt`, `seed`) of `wanted`."""
    return [{"prompt": p, "seed": int(s)} for p, s in zip(wanted["prompt"], wanted["seed"], strict=True)]


def draw(context: Context, wanted: pd.DataFrame, label: str) -> StageRun:
    """Draw the rows (`prompt`, `seed`) of `wanted` with the plan's generator."""
    settings = context.plan.generate
    if not isinstance(settings.generator, HostedEntry):
        stage = generator_stage(settings.generator, settings.size, settings.batch_size, context.models)
        return context.run_stage(stage, items_of(wanted), label)
    # One process asks for all pictures: rate limit and budget belong to the account, and the work is done elsewhere.
    stage = hosted_stage(settings.generator, spent_on(context, settings.generator))
    with replace(context.engine, backend=InProcess(context.store)) as engine:
        return replace(context, engine=engine).run_stage(stage, items_of(wanted), label)


def spent_on(context: Context, entry: HostedEntry) -> float:
    """What the store's pictures of a hosted model have cost so far."""
    rows = context.store.ledger_rows("generate")
    return sum(float(row.get("cost") or 0.0) for row in rows if row.get("generator") == entry.model)


def make_images(context: Context, wanted: pd.DataFrame, label: str) -> pd.DataFrame:
    """Images of the rows (`prompt`, `seed`, `role`) of `wanted`: the `images` table, one row an image made."""
    return image_table(draw(context, wanted, label), wanted)


def image_table(run: StageRun, wanted: pd.DataFrame) -> pd.DataFrame:
    """The `images` table from the rows of a run, without what failed or was refused."""
    made = [
        row | {"image_id": row["key"][:16], "prompt_id": prompt_id(row["prompt"]), "role": role}
        for row, role in zip(run.rows, wanted["role"], strict=True)
        if row["status"] == "ok" and row["path"] is not None
    ]
    more = [name for name in MORE_COLUMNS if any(name in row for row in made)]
    return pd.DataFrame(made, columns=IMAGE_COLUMNS + more)


def refused_table(run: StageRun, wanted: pd.DataFrame) -> pd.DataFrame:
    """What a hosted service would not draw, and its word for why."""
    rows = [
        row | {"prompt_id": prompt_id(row["prompt"]), "role": role}
        for row, role in zip(run.rows, wanted["role"], strict=True)
        if row["status"] == "ok" and row["path"] is None
    ]
    return pd.DataFrame(rows, columns=REFUSED_COLUMNS)


def plan_images(plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The `prompts` table, and the images wanted: one row (`prompt`, `seed`, `role`) each."""
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
    return prompts, wanted


def run(context: Context) -> None:
    """Compose the prompts, draw the images, write the tables."""
    prompts, wanted = plan_images(context.plan)
    context.save("prompts", prompts)
    made = draw(context, wanted, "Generate images")
    context.save("images", image_table(made, wanted), ["prompts"])
    if len(refused := refused_table(made, wanted)):
        context.save("refused", refused, ["prompts"])


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"images": plan.generate.prompts * plan.generate.seeds_per_prompt + plan.generate.calibration_prompts}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("generate", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
