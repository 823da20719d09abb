"""Predictions that the ledger keeps stay what the code gives: if they move, `PredictFold.version` has to move too."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from beholder.taste.designs import Pictures
from beholder.taste.evaluate import CrossValidation, Folds
from beholder.taste.fold_stage import PredictFold
from beholder.taste.registry import known_models, taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world

GOLDEN_VERSION = 3
GOLDEN: dict[str, list[float]] = {
    "constant": [433.799, 0.0, 216.283, 415.664, 0.0, 217.865],
    "user_mean": [434.614, 44.273, 212.495, 456.463, 24.935, 215.812],
    "population": [492.567, 76.165, 197.261, 472.035, 73.08, 211.127],
    "population_bias": [492.536, 91.022, 189.729, 488.03, 78.687, 207.013],
    "user_ridge": [494.499, 98.717, 216.515, 488.305, 78.988, 208.296],
    "eb_slopes": [491.22, 138.594, 152.052, 511.104, 117.726, 178.167],
    "factors": [491.22, 138.594, 152.052, 511.104, 117.726, 178.167],
    "lore": [434.794, 9.372, 635.993, 425.24, 4.058, 640.057],
    "ideal_points": [1038.301, 272.176, 224.261, 995.863, 230.384, 160.68],
    "neighbours": [491.22, 138.594, 152.052, 530.956, 146.454, 183.77],
}
"""For each model, of the first fold of known and of new people: mean and SD over its cells of what it predicts, and
mean of the SDs it states; ticks."""
NOT_HERE = {"mlp", "mlp_single", "fusion", "fusion_light", "stack", "neighbours_published"}
"""Networks, not the same to the tick on every CPU, and what is built on `eb_slopes` and too slow to be fitted here."""
TOLERANCE = 0.05
"""Ticks, and .0002 of a number, of several hundred: other libraries of linear algebra stop optimisers elsewhere."""


@pytest.fixture(scope="module")
def folded() -> CrossValidation:
    """Fifteen people and thirty images of fifteen prompts, with prompts' embeddings."""
    world = make_world(np.random.default_rng(3), n_users=15, n_images=30, n_rated=20)
    return _cross_validation(world)


def _cross_validation(world) -> CrossValidation:  # type: ignore[no-untyped-def]
    prompts = np.array([f"p{k // 2:04d}" for k in range(30)])
    texts = np.random.default_rng(4).standard_normal((15, 6)).repeat(2, axis=0)
    pictures = Pictures(world.features, prompts, texts)
    return CrossValidation.of(world.ratings, pictures, Folds(3, 3, 6), 5)


def numbers(folded: CrossValidation, model: str) -> list[float]:
    """What `GOLDEN` holds."""
    kinds = [split.kind for split in folded.splits]
    found = []
    for kind in ("seen", "unseen"):
        prediction = folded.predict(kinds.index(kind), [taste_model(model)])[-1]
        found += [prediction.score.mean(), prediction.score.std(), prediction.sd.mean()]
    return [round(float(x), 3) for x in found]


def cheap_models() -> list[str]:
    return [name for name in known_models() if name not in NOT_HERE]


def test_every_model_has_golden_numbers_or_is_left_out() -> None:
    assert set(GOLDEN) | NOT_HERE >= set(known_models())


def test_the_version_is_that_of_the_golden_numbers() -> None:
    version = next(f.default for f in PredictFold.__dataclass_fields__.values() if f.name == "version")
    assert version == GOLDEN_VERSION, (
        f"PredictFold.version is {version}, the golden numbers are of {GOLDEN_VERSION}: put GOLDEN_VERSION here "
        "to it, and GOLDEN to the numbers that the failing tests below report"
    )


@pytest.mark.parametrize("model", cheap_models())
def test_predictions_are_what_they_were(folded: CrossValidation, model: str) -> None:
    found = numbers(folded, model)
    np.testing.assert_allclose(
        found,
        GOLDEN[model],
        atol=TOLERANCE,
        rtol=2e-4,
        err_msg=(
            f"{model} predicts otherwise than under PredictFold.version {GOLDEN_VERSION}: stores would mix old and new "
            "predictions. If this is meant, raise PredictFold.version in beholder/taste/fold_stage.py by one, and put "
            f"GOLDEN_VERSION here to it and GOLDEN[{model!r}] to {found}; if not, find what moved."
        ),
    )
