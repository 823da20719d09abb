"""The simulated taste on real pictures: the pixel map describes the renderer, and an encoder cannot see everything."""

import numpy as np
import pytest

from beholder.models.encoders.efficientnet import EfficientNetLite0
from beholder.models.encoders.statistics import image_statistics
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS, Attributes
from beholder.models.generators.scenes.render import paint_exact
from beholder.models.weights import cache_folder
from beholder.simulate import PARTS, PIXEL_MEASURES, Settings, World, pixel_measures, reference_scenes
from beholder.simulate.pixel_map import RENDERED

Pictures = tuple[np.ndarray, np.ndarray, list[np.ndarray]]


def reference_pictures(n: int, size: int) -> Pictures:
    scene, subject = reference_scenes(n, np.random.default_rng(17), Settings())
    looks = [
        Attributes(**dict(zip(AXES + MEDIA, map(float, row), strict=True)), subject=SUBJECTS[code])
        for row, code in zip(scene, subject, strict=True)
    ]
    return scene, subject, [paint_exact(look, 5_000 + k, size) for k, look in enumerate(looks)]


def test_the_pixel_map_describes_the_renderer():
    """New pictures: residuals as small as the map says, means unmoved. Fails when the renderer has changed too much."""
    scene, subject, pictures = reference_pictures(72, 256)
    found = np.array([pixel_measures(picture) for picture in pictures])
    left = (found - RENDERED.level[subject] - scene @ RENDERED.slope) / np.sqrt(np.diag(RENDERED.residual))
    assert np.abs(left.mean(axis=0)).max() < 0.5, dict(zip(PIXEL_MEASURES, left.mean(axis=0), strict=True))
    assert left.std(axis=0).max() < 1.6
    assert left.std(axis=0).min() > 0.6
    standard = (found - RENDERED.centre) / RENDERED.spread
    assert np.abs(standard.mean(axis=0)).max() < 0.5
    assert (np.abs(standard) > Settings().pixel_clip).mean() < 0.05


@pytest.mark.models
@pytest.mark.slow
def test_a_fifth_of_private_taste_is_beyond_the_features():
    """Held-out R2 of ridge from EfficientNet and image statistics, without rating noise, at the best of six penalties.

    With endless ratings the private utility of every picture is known exactly; what ridge then misses on new pictures
    no reward model on these features can learn from these pictures. The part built to be invisible must be missed
    whole, whatever their number: it alone is more than a fifth.
    """
    n = 500
    scene, subject, pictures = reference_pictures(n, 256)
    network = EfficientNetLite0(cache_folder() / "efficientnet_lite0", size=128).encode(pictures)
    blocks = [network, np.array([image_statistics(picture) for picture in pictures])]
    features = np.hstack([(b - b.mean(0)) / np.maximum(b.std(0), 1e-6) / np.sqrt(b.shape[1]) for b in blocks])
    measures = np.array([pixel_measures(picture) for picture in pictures])
    world = World(1, Settings())
    parts = world.raters(40).parts(scene, subject, measures)
    private = np.sum([parts[part] for part in PARTS[1:]], axis=0)
    r2 = {name: best_held_out_r2(features, values) for name, values in (parts | {"private": private}).items()}
    assert world.settings.invisible_share > 0.2
    assert r2["invisible"] < 0.05, r2
    assert 0.25 < r2["private"] < 0.8, r2
    assert r2["shared"] > r2["private"], r2


def best_held_out_r2(features: np.ndarray, values: np.ndarray) -> float:
    """Five-fold R2 of kernel ridge, mean over rows of `values` (n_raters, n_images), at the best penalty for all."""
    kernel = features @ features.T
    fold = np.arange(len(features)) % 5
    total = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    best = -np.inf
    for penalty in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        left = np.empty_like(values)
        for k in range(5):
            seen, new = fold != k, fold == k
            mean = values[:, seen].mean(axis=1, keepdims=True)
            inner = kernel[np.ix_(seen, seen)] + penalty * np.eye(seen.sum())
            weights = np.linalg.solve(inner, (values[:, seen] - mean).T)
            left[:, new] = values[:, new] - mean - (kernel[np.ix_(new, seen)] @ weights).T
        best = max(best, float((1 - (left**2).sum(axis=1) / total).mean()))
    return best
