"""Search prompts under each person's reward, draw what was found at unseen seeds, and say what it gained.

    python jobs/steer.py --plan jobs/studies/demo.yaml --store store

Needs `trained` (and `models/` in the store). Starting from bare prompts, every judge (some people, the mean person,
image statistics) has `steer.runs` independent searches; all go round by round together: rewrite, draw, embed, score,
keep.

Writes
* `search_trace`: every candidate of every round;
* `steered_images`: what the first run ended with, one image a condition, prompt and person, for a pairwise study;
* `steered`: the own images of both runs with an embedding the rewards have never seen, for `steering_consistency`: the
  parameters of scenes, or the vectors of the encoder `steer.embedding`; without it only scenes have this table;
* `steering_gains`: reward in the search, and gain over the bare prompt at held-out seeds, of every search;
* `steering_rewards`: what each person's reward says at held-out seeds of everybody's images.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from beholder.models.planned import image_encoder_stage, rewriter_stage
from beholder.plans import Plan
from beholder.prompts import bare, prompt_id
from beholder.records import unpack
from beholder.runs import Context, require, run_job, start
from beholder.steering import outcome
from beholder.steering.judges import POPULATION, STATISTICS, Judges, own
from beholder.steering.outcome import Heldout, Shot
from beholder.steering.reward import raw_features
from beholder.steering.search import (
    LOST,
    RewriteRequest,
    ScoreRequest,
    Search,
    Settings,
    image_seeds,
    run_searches,
    winners,
)
from embed import embed_images, image_item
from generate import make_images
from train_taste import load_reward

STEP_VERSION = 1
"""Raised by hand when the same models and settings give other tables."""


def run(context: Context) -> None:
    """Search, draw the results at held-out seeds, write the tables."""
    plan = context.plan
    sections = {name: getattr(plan, name).model_dump(mode="json") for name in ("steer", "generate", "embed")}
    settings = {"seed": plan.seed, **sections}
    context.digests["trained"] = context.digest("trained")
    context.derive(
        "Steer", lambda: steer(context), version=STEP_VERSION, inputs=["trained"], settings=settings, shown=False
    )


def steer(context: Context) -> dict[str, pd.DataFrame]:
    """All searches of the plan, and their tables."""
    plan = context.plan
    judges = Judges(load_reward(context, plan.steer.model), plan.steer.caution)
    people = people_of(plan, judges)
    searches, settings = searches_of(plan, people), search_settings(plan)
    rounds = Rounds(context, judges)
    trace = run_searches(searches, rounds.rewrite, rounds.score, settings)
    ends = winners(trace)
    heldout = draw_heldout(context, judges, ends, settings)
    embeddings = embeddings_of(context, list(outcome.own_images(ends, heldout).values()))
    return {
        "search_trace": outcome.trace_table(trace),
        "steered_images": outcome.images_table(ends, heldout),
        **({} if embeddings is None else {"steered": outcome.steered_table(ends, heldout, embeddings)}),
        "steering_gains": outcome.gains_table(trace, ends, heldout),
        "steering_rewards": outcome.rewards_table(ends, people, heldout),
    }


def people_of(plan: Plan, judges: Judges) -> list[str]:
    """Whom the study steers for: the first ones the reward knows, by id."""
    known = [str(user) for user in judges.reward.model.user_ids]
    require(
        len(known) >= plan.steer.raters,
        f"steer.raters is {plan.steer.raters}, but {plan.steer.model} knows only {len(known)} people",
        "lower steer.raters, or rate images by more people",
    )
    return known[: plan.steer.raters]


def search_settings(plan: Plan) -> Settings:
    """The size of the searches of a plan."""
    s = plan.steer
    return Settings(s.rounds, s.candidates, s.seeds, plan.seed, s.parents)


def searches_of(plan: Plan, people: Sequence[str]) -> list[Search]:
    """Every judge on every bare prompt in every run."""
    judges = [*map(own, people), POPULATION, STATISTICS]
    bases = {prompt_id(base): base for base in bare(plan.steer.prompts)}
    runs = range(1, plan.steer.runs + 1)
    return [Search(judge, name, base, number) for judge in judges for name, base in bases.items() for number in runs]


class Rounds:
    """Answers the requests of all searches round by round, through the ledger."""

    def __init__(self, context: Context, judges: Judges) -> None:
        self._context, self._judges, self._round = context, judges, 0

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[list[str]]:
        """The rewrites of each request; none where they failed, and the search goes on with what it has."""
        self._round += 1
        stage = rewriter_stage(self._context.plan.steer.rewriter, self._context.models)
        rows = self._context.run_stage(stage, [r._asdict() for r in requests], f"Round {self._round}: rewrite").rows
        return [row["prompts"] if row["status"] == "ok" else [] for row in rows]

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """The score of each request's image, `LOST` where it could not be made."""
        shots = list(dict.fromkeys(Shot(r.prompt, r.seed) for r in requests))
        names = list(dict.fromkeys(r.judge for r in requests))
        _, scores = draw(self._context, self._judges, names, shots, f"Round {self._round}")
        return np.array([scores[r.judge].get(Shot(r.prompt, r.seed), LOST) for r in requests])


def draw(
    context: Context, judges: Judges, names: Sequence[str], shots: Sequence[Shot], label: str
) -> tuple[dict[Shot, dict[str, Any]], dict[str, dict[Shot, float]]]:
    """Draw, embed and judge: the row of each image, and each judge's scores. What could not be made is missing."""
    wanted = pd.DataFrame(shots, columns=["prompt", "seed"]).assign(role="steered")
    images = make_images(context, wanted, f"{label}: draw")
    raw = raw_features(embed_images(context, images, f"{label}: embed"))
    texts = {prompt_id(shot.prompt): shot.prompt for shot in shots}
    rows = {
        str(row["image_id"]): {**{str(k): v for k, v in row.items()}, "prompt": texts[row["prompt_id"]]}
        for row in images.to_dict("records")
    }
    made = {Shot(rows[i]["prompt"], int(rows[i]["seed"])): rows[i] for i in raw.image_ids.tolist()}
    table = judges.table(names, raw)
    return made, {name: dict(zip(made, row.tolist(), strict=True)) for name, row in zip(names, table, strict=True)}


def draw_heldout(context: Context, judges: Judges, ends: Mapping[Search, str], settings: Settings) -> Heldout:
    """What all searches ended with and began with, at seeds that no search has seen.

    Raises
    ------
    EngineError
        If one of the images could not be made.
    """
    count = context.plan.steer.heldout_seeds
    seeds = {s.prompt_id: image_seeds(settings, s.prompt_id, "heldout", count) for s in ends}
    shots = outcome.heldout_shots(ends, seeds)
    names = list(dict.fromkeys(search.judge for search in ends))
    images, scores = draw(context, judges, names, shots, "Held out")
    outcome.require_all(shots, images)
    return Heldout(seeds, images, scores)


def embeddings_of(context: Context, images: Sequence[Mapping[str, Any]]) -> dict[str, list[float]] | None:
    """What images look like, in numbers that no reward reads, by image id; None if nothing here tells.

    Raises
    ------
    EngineError
        If the plan's encoder could not read one of the images.
    """
    encoder, embed = context.plan.steer.embedding, context.plan.embed
    if encoder is None:
        drawn = all(isinstance(image["scene"], Mapping) for image in images)
        return {image["image_id"]: outcome.scene_vector(image["scene"]) for image in images} if drawn else None
    items = [image_item(image["image_id"], image["path"]) for image in images]
    stage = image_encoder_stage(encoder, embed.size, embed.batch_size, context.models)
    run = context.run_stage(stage, items, "Held out: describe")
    require(not run.failed, f"{run.failed} held-out images could not be read", "see the failed rows of the ledger")
    vectors = unpack(row["network"] if "network" in row else row["vector"] for row in run.rows).tolist()
    return dict(zip([image["image_id"] for image in images], vectors, strict=True))


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make, at most."""
    s = plan.steer
    judges = s.raters + 2
    pools = s.prompts * s.runs
    drawn = s.candidates + judges if s.parents else judges * (s.candidates + 1)
    return {
        "searches": judges * pools,
        "rewrites": pools * s.rounds * s.candidates * (1 if s.parents else judges),
        "search_images": pools * s.rounds * drawn * s.seeds,
        "heldout_images": (pools * judges + s.prompts) * s.heldout_seeds,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("steer", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
