"""Give every image to the plan's scorers.

    python jobs/score.py --plan study.yaml --store store [--stream] [--dataset NAME]

Needs `images` and `prompts`, and in the plan a section `score` with the scorers. Writes `scores` (`image_id`,
`prompt_id`, `scorer`, `score`; one row an image and scorer, higher is better) and `image_statistics` (brightness,
contrast, saturation and the like; one row an image). Scores are the same whoever looks at the picture: they are what a
personal model is compared with.

With `--stream` nothing has to be there: pictures are drawn, and embedded and scored while the next ones are drawn. The
tables are those of `generate.py`, `embed.py` and this job one after the other.

With `--dataset NAME` the images of an imported data set are scored, from `NAME_images` and `NAME_prompts` into
`NAME_scores` and `NAME_image_statistics`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import embed
import generate
from beholder.engine.chain import Link, run_chain
from beholder.engine.inprocess import InProcess
from beholder.engine.ledger import Row
from beholder.engine.stage import Item, Stage
from beholder.models.entries import AnyScorer, HostedEntry
from beholder.models.interfaces import Needs
from beholder.models.named_statistics import NAMES, MeasureImages
from beholder.models.planned import generator_stage, reads_prompts, scorer_name, scorer_stage
from beholder.models.scorers.environments import PLATFORM, environment
from beholder.plans import Plan
from beholder.runs import Context, require, run_job, start

SCORE_COLUMNS = ["image_id", "prompt_id", "scorer", "score"]


def scorers_of(plan: Plan) -> tuple[AnyScorer, ...]:
    """The plan's scorers; EngineError where it names none."""
    require(plan.score is not None, "the plan has no section score", "name scorers: score: {scorers: [statistics]}")
    return plan.score.scorers if plan.score is not None else ()


def stage_of(context: Context, scorer: AnyScorer) -> Stage:
    """A scorer's stage, with its environment in place if it has one of its own."""
    stage = scorer_stage(scorer, context.models)
    needs: Needs = getattr(stage, "needs", Needs(memory_gb=0.0))
    if needs.environment != PLATFORM and not isinstance(context.engine.backend, InProcess):
        environment(needs.environment).build(Path(context.models), lambda text: print(text, file=sys.stderr))
    return stage


def item_of(scorer: AnyScorer, image: str, path: str, prompt: str | None) -> Item:
    """An image as a scorer's item; the prompt belongs to it only where it can change the score."""
    return {"image": image, "_path": path} | ({"prompt": prompt} if reads_prompts(scorer) else {})


def score_images(context: Context, images: pd.DataFrame, label: str) -> pd.DataFrame:
    """Scores of `images` (`content`, `path`, `prompt`): a column `scorer`, `score` and the rows' places, `row`.

    Raises
    ------
    EngineError
        An image has no prompt and a scorer needs one.
    """
    parts = []
    for scorer in scorers_of(context.plan):
        name = scorer_name(scorer)
        if reads_prompts(scorer):
            bare = int(images["prompt"].isna().sum())
            require(bare == 0, f"{bare} of {len(images)} images have no prompt", f"leave out scorer {name}")
        rows = zip(images["content"], images["path"], images["prompt"], strict=True)
        items = [item_of(scorer, *row) for row in rows]
        found = context.run_stage(stage_of(context, scorer), items, f"{label}: {name}").rows
        scores = [(i, row["score"]) for i, row in enumerate(found) if row["status"] == "ok"]
        parts.append(pd.DataFrame(scores, columns=["row", "score"]).assign(scorer=name))
    return pd.concat(parts, ignore_index=True)


def measure_images(context: Context, images: pd.DataFrame, label: str) -> pd.DataFrame:
    """The named statistics of `images` (`image_id`, `content`, `path`), one row an image that could be read."""
    items = [{"image": c, "_path": p} for c, p in zip(images["content"], images["path"], strict=True)]
    found = context.run_stage(MeasureImages(), items, label).rows
    made = [
        {"image_id": image_id, **{name: row[name] for name in NAMES}}
        for image_id, row in zip(images["image_id"], found, strict=True)
        if row["status"] == "ok"
    ]
    return pd.DataFrame(made, columns=["image_id", *NAMES]).astype(dict.fromkeys(NAMES, float))


def run(context: Context, dataset: str | None = None) -> None:
    """Score all images of the store, or of one of its data sets."""
    scorers_of(context.plan)
    prefix = f"{dataset}_" if dataset else ""
    images = with_prompts(context, prefix)
    inputs = [f"{prefix}images"]
    context.save(f"{prefix}image_statistics", measure_images(context, images, "Measure images"), inputs)
    scores = score_images(context, images, "Score")
    named = images[["image_id", "prompt_id"]].iloc[scores["row"]].reset_index(drop=True)
    context.save(f"{prefix}scores", named.join(scores[["scorer", "score"]])[SCORE_COLUMNS], inputs)


def with_prompts(context: Context, prefix: str) -> pd.DataFrame:
    """The images with `prompt`, where there are texts, and `content`: what names the picture in a key."""
    images = context.load(f"{prefix}images").reset_index(drop=True)
    # Imported ids are the data set's own; the bytes say which picture it is.
    images["content"] = images["sha256"] if prefix else images["image_id"]
    if "prompt_id" not in images:
        images["prompt_id"] = None
    texts: dict[str, str] = {}
    if context.store.has_table(f"{prefix}prompts"):
        prompts = context.load(f"{prefix}prompts")
        column = next((name for name in ("prompt", "text") if name in prompts), None)
        texts = dict(zip(prompts["prompt_id"], prompts[column], strict=True)) if column else {}
    images["prompt"] = images["prompt_id"].map(texts)
    return images


def stream(context: Context) -> None:
    """Draw, embed and score side by side, then write what the three jobs write, which find all of it done."""
    plan, scorers = context.plan, scorers_of(context.plan)
    _, wanted = generate.plan_images(plan)
    pictures: dict[str, tuple[str, str]] = {}

    def drawn(row: Row) -> Item | None:
        if row["path"] is None:  # a service refused
            return None
        pictures[row["key"][:16]] = row["path"], row["prompt"]
        return embed.image_item(row["key"][:16], row["path"])

    def to(scorer: AnyScorer) -> Any:
        return lambda row: item_of(scorer, row["image"], *pictures[row["image"]])

    follow = [*map(to, scorers), lambda row: None]
    links = [Link(embed.image_stage(context), "Embed images", follow[0])]
    for scorer, after in zip(scorers, follow[1:], strict=True):
        links.append(Link(stage_of(context, scorer), f"Score: {scorer_name(scorer)}", after))
    settings = plan.generate
    if isinstance(settings.generator, HostedEntry):
        rows = generate.draw(context, wanted, "Generate images").ok_rows()
        items = [item for row in rows if (item := drawn(row)) is not None]
    else:
        stage = generator_stage(settings.generator, settings.size, settings.batch_size, context.models)
        links.insert(0, Link(stage, "Generate images", drawn))
        items = generate.items_of(wanted)
    computed = sum(flow.computed for flow in run_chain(context.engine, links, items))
    for job in (generate.run, embed.run, run):
        job(context)
    context.counts["computed"] += computed
    context.counts["found"] -= computed


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    images = generate.forecast(plan)["images"]
    return {"images": images, "scores": images * len(scorers_of(plan))}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    own = argparse.ArgumentParser(add_help=False)
    how = own.add_mutually_exclusive_group()
    how.add_argument("--stream", action="store_true", help="draw and embed too, all side by side")
    how.add_argument("--dataset", metavar="NAME", help="score the images of an imported data set")
    known, _ = own.parse_known_args(argv)
    body = stream if known.stream else lambda context: run(context, known.dataset)
    return run_job("score", __doc__, argv, body, forecast, parents=[own])


if __name__ == "__main__":
    sys.exit(start(main))
