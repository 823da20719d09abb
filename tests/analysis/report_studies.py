"""Small studies for the tests of reports: votes with repeats and source users, ratings, predictions, embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from analysis.plan import AnalysisPlan

CONDITIONS = ("own", "other", "population", "unoptimised")


def plan(**changes: object) -> AnalysisPlan:
    """Three planned contrasts."""
    content = {"title": "Taste", "focal": "own", "contrasts": [f"own:{c}" for c in CONDITIONS[1:]], "permutations": 199}
    return AnalysisPlan.of(content | changes)


def votes(rng: np.random.Generator, n_people: int = 12, n_prompts: int = 8, per_person: int = 18) -> pd.DataFrame:
    """Votes on own against each other condition, by people and prompts that differ; the last two trials repeat.

    `other` shows the own image of a partner, who judges the same two images.
    """
    person_effect, prompt_effect = rng.normal(0, 0.4, n_people), rng.normal(0, 0.4, n_prompts)
    strength = {"own": 0.0, "other": -0.3, "population": -0.5, "unoptimised": -0.8}
    rows: list[dict[str, object]] = []
    for u in range(n_people):
        mine = [
            (CONDITIONS[1 + k % 3], int((k // 3 + u // 2 + 3 * (k % 3)) % n_prompts), bool((k // 3 + u) % 2))
            for k in range(per_person - 2)
        ]
        for k, (against, prompt, left) in enumerate([*mine, *((a, p, not side) for a, p, side in mine[:2])]):
            d = person_effect[u] + prompt_effect[prompt] - strength[against] + rng.logistic()
            won = "tie" if abs(d) < 0.25 else "left" if (d > 0) == left else "right"
            own = {"condition": "own", "image_id": f"own/{u}/{prompt}", "source_user": f"u{u:02d}"}
            source = u ^ 1
            foe: dict[str, object] = {"condition": against, "image_id": f"{against}/{prompt}", "source_user": None}
            if against == "other":
                foe |= {"image_id": f"own/{source}/{prompt}", "source_user": f"u{source:02d}"}
            first, second = (own, foe) if left else (foe, own)
            repeat = k >= len(mine)
            rows.append(
                {
                    "trial_id": f"t{u}-{k}",
                    "participant_id": f"u{u:02d}",
                    "prompt_id": f"p{prompt}",
                    **{f"left_{name}": value for name, value in first.items()},
                    **{f"right_{name}": value for name, value in second.items()},
                    "choice": won,
                    "response_ms": int(rng.integers(600, 4000)),
                    "order": k + 1,
                    "kind": "repeat" if repeat else "main",
                    "repeat_of": f"t{u}-{k - len(mine)}" if repeat else None,
                }
            )
    return pd.DataFrame(rows)


def rated(rng: np.random.Generator, n_users: int = 12, n_images: int = 24) -> dict[str, pd.DataFrame]:
    """`ratings` and the `predictions` of a population model and of one that knows half of the private taste."""
    shared, private = rng.normal(size=n_images), rng.normal(size=(n_users, n_images))
    taste = shared + private + 0.5 * rng.normal(size=(n_users, n_images))
    score = np.clip(np.rint(500 + 130 * taste), 0, 1000).astype(int)
    u, i = (x.ravel() for x in np.indices(score.shape))
    users, images = [f"r{k:02d}" for k in u], [f"i{k:02d}" for k in i]
    ratings = pd.DataFrame({"user_id": users, "image_id": images, "score": score.ravel()})
    known = {"population": np.broadcast_to(shared, score.shape), "personal": shared + 0.5 * private}
    frames = [
        pd.DataFrame({"model": name, "user_id": users, "image_id": images, "score": value.ravel(), "split": "seen"})
        for name, value in known.items()
    ]
    return {"ratings": ratings, "predictions": pd.concat(frames, ignore_index=True)}


def steered(rng: np.random.Generator, n_users: int = 6, n_prompts: int = 4) -> pd.DataFrame:
    """Two runs of embeddings with a style of each user."""
    style, content = rng.normal(size=(n_users, 5)), rng.normal(size=(n_prompts, 5))
    rows = [
        (f"u{u:02d}", f"p{p}", run, list(style[u] + content[p] + rng.normal(size=5)))
        for u in range(n_users)
        for p in range(n_prompts)
        for run in (1, 2)
    ]
    return pd.DataFrame(rows, columns=["user_id", "prompt_id", "run", "embedding"])


def everything(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """All tables a report can be made from."""
    return {"votes": votes(rng), **rated(rng), "steered": steered(rng)}


def painted(votes: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A plain picture for every image of the votes, and the table of images."""
    ids = sorted({*votes["left_image_id"], *votes["right_image_id"]})
    rng = np.random.default_rng(0)
    rows = []
    for k, name in enumerate(ids):
        Image.fromarray(np.tile(rng.integers(0, 255, 3, dtype=np.uint8), (300, 400, 1))).save(folder / f"{k}.png")
        rows.append((name, f"{k}.png"))
    return pd.DataFrame(rows, columns=["image_id", "path"])
