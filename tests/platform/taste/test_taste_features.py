"""The design matrix and the text-aligned projection."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from beholder.errors import EstimateError, TableError
from beholder.taste.alignment import PENALTIES, Alignment, fit_alignment
from beholder.taste.features import ALIGNED, IMAGE, FeatureMap, Features, Group


def features(n: int, rng: np.random.Generator) -> Features:
    ids = np.array([f"i{i:03d}" for i in range(n)])
    hidden = rng.standard_normal((n, 6))
    wide = hidden @ rng.standard_normal((6, 300)) * rng.uniform(0.01, 10, 300) + rng.standard_normal((n, 300))
    return Features(ids, {"network": wide, "statistics": hidden @ rng.standard_normal((6, 9))})


def test_components_are_those_of_standardised_blocks_of_equal_variance() -> None:
    f = features(120, np.random.default_rng(0))
    design = FeatureMap.fit(f, (Group("c", ("network", "statistics"), 5, whitening=0.0),)).transform(f)
    blocks = []
    for block in f.blocks.values():
        z = (block - block.mean(axis=0)) / block.std(axis=0)
        blocks.append(z / np.sqrt(z.shape[1]))
    reference = PCA(5).fit_transform(np.hstack(blocks))
    reference *= np.sqrt(5 / np.sum(reference.var(axis=0)))
    np.testing.assert_allclose(np.abs(design.matrix), np.abs(reference), atol=1e-8)


def test_half_whitening_takes_the_root_of_the_sds() -> None:
    f = features(120, np.random.default_rng(1))
    plain, half, full = (
        FeatureMap.fit(f, (Group("c", ("network",), 8, whitening=w),)).transform(f).matrix.std(axis=0)
        for w in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(half / half[0], np.sqrt(plain / plain[0]), rtol=1e-8)
    np.testing.assert_allclose(full, 1.0, rtol=1e-8)


def test_a_map_learned_on_training_images_does_not_see_the_others() -> None:
    rng = np.random.default_rng(2)
    f = features(100, rng)
    train = f.take(f.image_ids[:80])
    spoilt = Features(
        f.image_ids, {k: np.r_[v[:80], 100 * rng.standard_normal(v[80:].shape)] for k, v in f.blocks.items()}
    )
    first, second = (FeatureMap.fit(x.take(f.image_ids[:80])) for x in (f, spoilt))
    np.testing.assert_array_equal(first.transform(train).matrix, second.transform(train).matrix)


def test_a_column_constant_in_training_cannot_explode() -> None:
    f = features(60, np.random.default_rng(3))
    dead = np.c_[f.blocks["network"], 1e-9 * np.arange(60)]
    f = f.with_block("network", dead)
    new = Features(
        np.array(["new"]), {"network": np.r_[dead[0, :-1], 1.0][None], "statistics": f.blocks["statistics"][:1]}
    )
    fitted = FeatureMap.fit(f)
    usual = fitted.transform(f).matrix
    assert np.abs(fitted.transform(new).matrix).max() < 10 * np.abs(usual).max()


def test_weights_scale_blocks() -> None:
    rng = np.random.default_rng(4)
    f = features(200, rng).with_block("aligned", rng.standard_normal((200, 40)))
    design = FeatureMap.fit(f, (IMAGE, ALIGNED)).transform(f)
    assert design.block_names == ("components", "aligned")
    first, second = (design.matrix[:, s].var(axis=0).sum() for s in design.slices())
    assert second / first == pytest.approx(0.5)
    assert first == pytest.approx(design.block_sizes[0])


def test_state_gives_the_same_map() -> None:
    f = features(50, np.random.default_rng(5))
    fitted = FeatureMap.fit(f)
    again = FeatureMap.from_state(fitted.state())
    np.testing.assert_array_equal(fitted.transform(f).matrix, again.transform(f).matrix)
    assert again.groups == fitted.groups


def test_bad_features_are_refused() -> None:
    ids = np.array(["a", "b", "a"])
    with pytest.raises(TableError, match="one row an image"):
        Features(ids, {"network": np.zeros((3, 2))})
    with pytest.raises(TableError, match="gaps"):
        Features(np.array(["a", "b"]), {"network": np.array([[1.0], [np.nan]])})
    f = features(20, np.random.default_rng(6))
    with pytest.raises(TableError, match="no features: zz"):
        f.take(["i000", "zz"])
    with pytest.raises(EstimateError, match="the same for all"):
        FeatureMap.fit(f.with_block("network", np.ones((20, 4))))
    with pytest.raises(TableError, match="aligned"):
        FeatureMap.fit(f, (IMAGE, ALIGNED))


def aligned_world(rng: np.random.Generator) -> tuple[Features, np.ndarray, np.ndarray]:
    prompts = np.repeat(np.arange(60), 3)
    meaning = rng.standard_normal((60, 4))
    text = (meaning @ rng.standard_normal((4, 50)))[prompts]
    look = meaning[prompts] @ rng.standard_normal((4, 80)) + rng.standard_normal((180, 80))
    ids = np.array([f"i{i:03d}" for i in range(180)])
    f = Features(ids, {"network": look, "statistics": rng.standard_normal((180, 10))})
    return f, text, np.array([f"p{p:02d}" for p in prompts])


def test_alignment_is_ridge_followed_by_principal_directions() -> None:
    f, text, groups = aligned_world(np.random.default_rng(7))
    fit = fit_alignment(f, text, groups, np.random.default_rng(0), components=4)
    z = np.hstack([(b - b.mean(axis=0)) / b.std(axis=0) / np.sqrt(b.shape[1]) for b in f.blocks.values()])
    reference = Ridge(alpha=fit.alignment.penalty * len(z)).fit(z, text).predict(z) - text.mean(axis=0)
    values = fit.alignment.transform(f)
    scores = PCA(4).fit(reference).transform(reference)
    np.testing.assert_allclose(np.abs(values), np.abs(scores), atol=1e-7)
    assert 0.5 < fit.alignment.explained < 1
    assert PENALTIES[0] < fit.alignment.penalty < PENALTIES[-1]


def test_crossfitted_values_do_not_see_their_own_prompt() -> None:
    """Give one prompt another text: its cross-fitted values follow only through the shared directions."""
    f, _, groups = aligned_world(np.random.default_rng(8))
    rng = np.random.default_rng(9)
    nonsense = rng.standard_normal((60, 50))[np.repeat(np.arange(60), 3)]
    fit = fit_alignment(f, nonsense, groups, np.random.default_rng(0), components=4)
    centred = nonsense - nonsense.mean(axis=0)
    # What is unrelated to the images cannot be predicted for prompts left out, however many columns there are.
    assert fit.alignment.explained < 0.05
    seen = np.corrcoef(fit.alignment.transform(f)[:, 0], centred @ _first_direction(fit.alignment, f, centred))[0, 1]
    crossed = np.corrcoef(fit.crossfitted[:, 0], centred @ _first_direction(fit.alignment, f, centred))[0, 1]
    assert crossed < seen


def _first_direction(alignment: Alignment, f: Features, centred: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(centred, alignment.transform(f)[:, 0], rcond=None)[0]
