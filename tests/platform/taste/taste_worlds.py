"""Simulated people with a known taste, for the tests of the reward models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beholder.taste.base import Floats, Ratings
from beholder.taste.features import Features


@dataclass(frozen=True)
class World:
    """Ratings, raw features, and everybody's noise-free utility of every image (users x images)."""

    ratings: Ratings
    features: Features
    truth: Floats


def make_world(
    rng: np.random.Generator,
    *,
    n_users: int = 40,
    n_images: int = 240,
    n_rated: int = 45,
    images_per_prompt: int = 2,
    private: float = 0.35,
    shared: float = 0.25,
    image: float = 0.05,
    noise: float = 0.35,
    user: float = 0.2,
    dims: int = 8,
) -> World:
    """Utility = shared + own linear taste over `dims` hidden attributes; features see them through noise."""
    attributes = rng.standard_normal((n_images, dims))
    wide = attributes @ rng.standard_normal((dims, 200)) + 2.0 * rng.standard_normal((n_images, 200))
    narrow = attributes @ rng.standard_normal((dims, 20)) + rng.standard_normal((n_images, 20))
    features = Features(np.array([f"i{i:04d}" for i in range(n_images)]), {"network": wide, "statistics": narrow})
    common = _unit(attributes @ rng.standard_normal(dims)) * np.sqrt(shared)
    own = np.stack([_unit(attributes @ rng.standard_normal(dims)) for _ in range(n_users)]) * np.sqrt(private)
    effect = np.sqrt(image) * rng.standard_normal(n_images)
    truth = 500 + 200 * (common + effect + own + np.sqrt(user) * rng.standard_normal((n_users, 1)))
    rows = [(u, i) for u in range(n_users) for i in rng.choice(n_images, n_rated, replace=False)]
    who, which = np.array(rows).T
    score = np.clip(np.round(truth[who, which] + 200 * np.sqrt(noise) * rng.standard_normal(len(who))), 0, 1000)
    ratings = Ratings(
        np.array([f"u{u:03d}" for u in who]),
        features.image_ids[which],
        np.array([f"p{i // images_per_prompt:04d}" for i in which]),
        score.astype(float),
    )
    return World(ratings, features, truth)


def _unit(values: Floats) -> Floats:
    return (values - values.mean()) / values.std()
