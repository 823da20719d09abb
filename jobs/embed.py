"""Embed images and prompts with the plan's frozen encoders.

    python jobs/embed.py --plan jobs/studies/demo.yaml --store store

Writes `features` (the encoder's vector, as `network`, and image statistics of every image, packed float32),
`prompt_vectors` (the mean text embedding of a prompt's clauses) and, where the plan has `taste.profiles: true`,
`profile_vectors` (the text embedding of what people wrote of themselves, `users.profile`; texts that would tell of
fewer than five people are left out).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from beholder.engine.stage import Item, Stage
from beholder.models.planned import image_encoder_stage, text_encoder_stage
from beholder.plans import Plan
from beholder.records import pack, unpack
from beholder.runs import Context, require, run_job, start
from beholder.taste.people import SMALLEST_GROUP

if TYPE_CHECKING:
    from beholder.taste.profiles import Tellable


def image_stage(context: Context) -> Stage:
    """The image encoder as the plan sets it."""
    settings = context.plan.embed
    return image_encoder_stage(settings.encoder, settings.size, settings.batch_size, context.models)


def image_item(image_id: str, path: str) -> Item:
    """An image as the encoder's item."""
    return {"image": image_id, "_path": path}


def embed_images(context: Context, images: pd.DataFrame, label: str) -> pd.DataFrame:
    """Features of `images` (`image_id`, `path`): `image_id`, `network`, `statistics` (packed), in their order."""
    items = [image_item(i, p) for i, p in zip(images["image_id"], images["path"], strict=True)]
    rows = context.run_stage(image_stage(context), items, label).ok_rows()
    vectors = [row["network"] if "network" in row else row["vector"] for row in rows]
    features = pd.DataFrame(rows, columns=["image", "statistics"]).rename(columns={"image": "image_id"})
    features.insert(1, "network", pd.Series(vectors, dtype="str"))
    return features


def embed_prompts(context: Context, prompts: pd.DataFrame, label: str) -> pd.DataFrame:
    """The mean embedding of each prompt's clauses: `prompt_id`, `vector` (packed)."""
    clauses = {row.prompt_id: [c.strip() for c in str(row.prompt).split(",")] for row in prompts.itertuples()}
    texts = list(dict.fromkeys(c for group in clauses.values() for c in group))
    stage = text_encoder_stage(context.plan.embed.text_encoder, context.models)
    rows = context.run_stage(stage, [{"text": t} for t in texts], label).ok_rows()
    vectors = dict(zip([r["text"] for r in rows], unpack(r["vector"] for r in rows), strict=True))
    means = [pack(np.mean([vectors[c] for c in group], axis=0)) for group in clauses.values()]
    return pd.DataFrame({"prompt_id": list(clauses), "vector": means})


def save_profiles(context: Context, users: pd.DataFrame, prefix: str) -> None:
    """Embeddings of people's texts, as `<prefix>profile_vectors`, where the plan asks for them; counts go to stderr."""
    from beholder.taste.profiles import tellable

    if not context.plan.taste.profiles:
        return
    told = tellable(users)
    if told.withheld or told.silent:
        print(
            f"profiles: {len(told.texts)} people told of; {told.withheld} withheld, of groups under {SMALLEST_GROUP}; "
            f"{told.silent} without a text",
            file=sys.stderr,
        )
    context.save(f"{prefix}profile_vectors", embed_profiles(context, told, "Embed profiles"), [f"{prefix}users"])


def embed_profiles(context: Context, told: Tellable, label: str) -> pd.DataFrame:
    """The embedding of everybody's text: `user_id`, `vector` (packed). The ledger knows texts by their digests."""
    from beholder.taste.profiles import EmbedProfiles, digest_of, profile_items

    require(bool(told.texts), "taste.profiles, and no text that may be told", "leave taste.profiles out")
    stage = EmbedProfiles(text_encoder_stage(context.plan.embed.text_encoder, context.models))
    items = profile_items(told)
    rows = context.run_stage(stage, items, label).ok_rows()
    vectors = {row["profile"]: row["vector"] for row in rows}
    found = [(user, vectors[key]) for user, text in told.texts.items() if (key := digest_of(text)) in vectors]
    return pd.DataFrame(found, columns=["user_id", "vector"])


def run(context: Context) -> None:
    """Embed all images and prompts of the store, and profiles where the plan asks for them."""
    images, prompts = context.load("images"), context.load("prompts")
    context.save("features", embed_images(context, images, "Embed images"), ["images"])
    context.save("prompt_vectors", embed_prompts(context, prompts, "Embed prompts"), ["prompts"])
    if context.plan.taste.profiles:
        save_profiles(context, context.load("users"), "")


def forecast(plan: Plan) -> Mapping[str, int]:
    """What the job would make."""
    images = plan.generate.prompts * plan.generate.seeds_per_prompt + plan.generate.calibration_prompts
    return {"features": images, "prompt_vectors": plan.generate.prompts + plan.generate.calibration_prompts}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("embed", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
