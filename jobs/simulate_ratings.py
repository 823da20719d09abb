"""Let simulated raters with a known taste move the slider, and store the truth beside.

    python jobs/simulate_ratings.py --plan jobs/studies/demo.yaml --store store

Writes `ratings` (tidy, as from people) and `truth_ratings` (each rater's true utility of each rated image, in parts).
Tastes are functions of scene parameters and rendered pixels, never of what the encoder sees.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from beholder.models.stages import read_image
from beholder.plans import Plan
from beholder.runs import Context, require, run_job, start
from beholder.simulate import Raters, Settings, World, assign, pixel_measures, rate, scene_arrays, taste_truth


def world_settings(plan: Plan) -> Settings:
    """The constants of the simulated world; only the share of repeats belongs to the plan."""
    return Settings(repeat_share=plan.rate.repeat_share)


def raters_of(plan: Plan) -> Raters:
    """The people of a plan: the same ones in every job."""
    return World(plan.seed, world_settings(plan)).raters(plan.rate.raters)


def true_parts(context: Context, raters: Raters, images: pd.DataFrame) -> dict[str, np.ndarray]:
    """True utility of `images` (`scene`, `path`) for every rater, in parts; each (raters, images)."""
    known = bool(images["scene"].notna().all())
    require(
        known, "simulated people know the taste of scenes only", "set generate.generator to scenes, or let people rate"
    )
    scene, subject = scene_arrays(images["scene"])
    pixels = np.stack([pixel_measures(read_image(context.store, path)) for path in images["path"]])
    return raters.parts(scene, subject, pixels)


def run(context: Context) -> None:
    """Rate every `rated` image by `rate.per_image` raters."""
    plan = context.plan

    def compute() -> dict[str, pd.DataFrame]:
        images = context.load("images")
        images = images[images["role"] == "rated"]
        raters, rng = raters_of(plan), np.random.default_rng([plan.seed, 2])
        parts = true_parts(context, raters, images)
        utility = np.sum(list(parts.values()), axis=0)
        shown = assign(len(raters), len(images), plan.rate.per_image, rng)
        ratings = rate(raters, utility, shown, list(images["image_id"]), list(images["prompt_id"]), rng)
        return {"ratings": ratings, "truth_ratings": taste_truth(raters, parts, list(images["image_id"]))}

    settings = {"rate": plan.rate.model_dump(), "world": asdict(world_settings(plan)), "seed": plan.seed}
    context.derive("Rate (simulated people)", compute, version=1, inputs=["images"], settings=settings)


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    return {"ratings": plan.generate.prompts * plan.generate.seeds_per_prompt * plan.rate.per_image}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("simulate_ratings", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
