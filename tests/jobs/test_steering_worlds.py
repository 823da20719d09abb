"""Does steering please the person it was done for? By true tastes that no model has seen, in several worlds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import embed
import generate
import simulate_ratings
import steer
import train_taste
from beholder.store import Store

if TYPE_CHECKING:
    from conftest import TinyStudy

WORLDS = (1, 2, 3, 4, 5)
SIZES = (
    "generate.size=96", "generate.prompts=36", "generate.seeds_per_prompt=3", "generate.calibration_prompts=60",
    "embed.size=96", "rate.raters=24", "rate.per_image=15", "steer.raters=10", "steer.prompts=5", "steer.candidates=8",
)  # fmt: skip


def true_gains(study: TinyStudy, seed: int) -> dict[str, float]:
    """Mean true utility beyond the bare prompt, in within-person SDs, of own images and of what others were shown."""
    context = study.context(*SIZES, f"seed={seed}")
    with context.engine:
        for job in (generate, embed, simulate_ratings):
            job.run(context)
        context.save("trained", train_taste.fit_all(context), train_taste.INPUTS)
        steer.run(context)
        images = context.load("steered_images")
        raters = simulate_ratings.raters_of(context.plan)
        utility = np.sum(list(simulate_ratings.true_parts(context, raters, images).values()), axis=0)
    people = sorted(images["source_user"].dropna().unique())
    liked = pd.DataFrame(utility[[raters.ids.index(u) for u in people]].T, columns=people)
    table = pd.concat([images[["condition", "source_user"]], liked], axis=1).melt(
        ["condition", "source_user"], var_name="user", value_name="utility"
    )
    own, mine = table["condition"] == "own", table["source_user"] == table["user"]
    means = {"own": table[own & mine]["utility"].mean(), "other": table[own & ~mine]["utility"].mean()}
    means |= {c: table[table["condition"] == c]["utility"].mean() for c in ("population", "statistics", "unoptimised")}
    return {name: float(value - means["unoptimised"]) for name, value in means.items()}


@pytest.mark.slow
@pytest.mark.models
def test_own_images_please_their_person_more_than_others_do(rated_study: TinyStudy, tmp_path: Path) -> None:
    gains = pd.DataFrame(
        [true_gains(type(rated_study)(rated_study.plan, Store(tmp_path / str(w)).root), w) for w in WORLDS],
        index=WORLDS,
    )
    for against in ("other", "unoptimised", "statistics"):
        difference = gains["own"] - gains[against]
        standard_error = difference.std(ddof=1) / np.sqrt(len(difference))
        # 2.8 is the 97.5 % quantile of t with 4 degrees of freedom
        assert difference.mean() > 2.8 * standard_error, f"own against {against}:\n{gains}"
