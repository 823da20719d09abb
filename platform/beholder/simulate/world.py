"""A world with a known taste: scene parameters and rendered pixels in, true utility of every rater out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes.attributes import AXES, MEDIA, SEED_JITTER, SUBJECTS
from beholder.simulate.pixel_map import RENDERED
from beholder.simulate.pixels import PIXEL_MEASURES

PARTS = ("shared", "private_linear", "nonlinear", "pixel", "invisible")
"""The parts of a rater's utility; all but the first are private."""


@dataclass(frozen=True)
class Settings:
    """Every constant of the simulated world, with its reason. Lengths are in units of one rater's taste SD.

    Attributes
    ----------
    shared_share : float
        Share of a rater's utility variance that all raters have in common. Abstract art has about 25 %, faces 60 %
        (Leder et al. 2016); .35 leaves a population model something to learn and a personal one more.
    linear_share, nonlinear_share, pixel_share, invisible_share : float
        Shares of the private variance, sum 1. Most is what words can ask for (linear). The rest is there so that no
        model class is right by construction. `invisible` must be above .2: the promised part no encoder predicts.
    ideal_spread : float
        SD of the raters' ideal brightness and nearness, in SD of that axis: most ideals lie inside the drawn range.
    waves, wave_frequency : int, float
        Number of private wave functions cos(frequency * direction @ axes + phase) and their frequency. At SD 3 a linear
        predictor keeps exp(-9) of a wave, and one that knows the axes with R2 .7 at most exp(-9 * .3) = 7 %.
    axis_spread, plain_photo : float
        The reference scenes: axes are tanh of N(0, axis_spread) as a few phrases push them, then jittered by the seed;
        a share `plain_photo` names no medium.
    reference_scenes : int
        Size of the reference draw on which utilities are scaled; enough for an error of the SD below 1 %.
    pixel_clip : float
        Standardised pixel measures are cut here: one odd picture should not own a rater's taste.
    occasion_noise : float
        SD of what differs when the same rater meets the same image again; .6 gives a retest correlation of .74.
    offset_spread, scale_cv, ticks_per_sd : float
        Slider habits: SD of personal offsets, CV of personal scales, ticks a taste SD covers for the average rater (few
        answers beyond the ends).
    heaping, heap_reach : float, int
        An answer within `heap_reach` ticks of an anchor lands on it with this probability.
    repeat_share : float
        Share of a rater's images rated again in a second session, so that noise and private taste can be told apart.
    tie_width, left_bias : float
        A perceived difference below `tie_width` is called a tie; the left image gets a bonus of `left_bias`.
    rating_ms, vote_ms, time_spread : float
        Median answering times and the SD of their logarithm.
    """

    shared_share: float = 0.35
    linear_share: float = 0.45
    nonlinear_share: float = 0.15
    pixel_share: float = 0.18
    invisible_share: float = 0.22
    ideal_spread: float = 0.8
    waves: int = 16
    wave_frequency: float = 3.0
    axis_spread: float = 0.5
    plain_photo: float = 0.5
    reference_scenes: int = 20_000
    pixel_clip: float = 3.0
    occasion_noise: float = 0.6
    offset_spread: float = 0.5
    scale_cv: float = 0.3
    ticks_per_sd: float = 170.0
    heaping: float = 0.5
    heap_reach: int = 40
    repeat_share: float = 0.1
    tie_width: float = 0.15
    left_bias: float = 0.05
    rating_ms: float = 3_200.0
    vote_ms: float = 2_400.0
    time_spread: float = 0.45

    def __post_init__(self) -> None:
        total = sum(self.private_shares.values())
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the private shares must sum to 1, got {total}")

    @property
    def private_shares(self) -> dict[str, float]:
        """Share of the private variance by part."""
        shares = (self.linear_share, self.nonlinear_share, self.pixel_share, self.invisible_share)
        return dict(zip(PARTS[1:], shares, strict=True))


def scene_arrays(records: Iterable[Mapping[str, float | str]]) -> tuple[np.ndarray, np.ndarray]:
    """Scene parameters (n, 12) and subject codes (n,) from records of rendered `Attributes`."""
    rows = list(records)
    scene = np.array([[float(row[name]) for name in AXES + MEDIA] for row in rows]).reshape(len(rows), -1)
    return scene, np.array([SUBJECTS.index(str(row["subject"])) for row in rows], dtype=int)


def reference_scenes(n: int, rng: np.random.Generator, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Scenes as prompts of a few phrases ask for them: parameters (n, 12) and subject codes (n,)."""
    axes = np.tanh(rng.normal(0.0, settings.axis_spread, (n, len(AXES))))
    axes = np.clip(axes + rng.normal(0.0, SEED_JITTER, axes.shape), -1.2, 1.2)
    media = np.zeros((n, len(MEDIA)))
    first, second = rng.integers(len(MEDIA), size=(2, n))
    weight = np.where(rng.random(n) < 0.75, 1.0, 0.55)
    np.add.at(media, (np.arange(n), first), weight)
    np.add.at(media, (np.arange(n), second), 1.0 - weight)
    media[rng.random(n) < settings.plain_photo] = np.eye(len(MEDIA))[0]
    return np.hstack([axes, media]), rng.integers(len(SUBJECTS), size=n)


class World:
    """Fixes what all raters of one world share: the reference scenes, the common taste and the forms of private taste.

    Parameters
    ----------
    seed : int
        Everything in the world follows from it.
    settings : Settings
        Constants of the world.

    Notes
    -----
    A rater's utility is linear in known functions of scene and pixels (`basis`), so its variance on the reference
    scenes is exact. Private functions are made uncorrelated with the shared taste there, hence the shares add up.
    """

    def __init__(self, seed: int, settings: Settings) -> None:
        self.seed, self.settings, self.pixel_map = seed, settings, RENDERED
        rng = np.random.default_rng([seed, 11])
        scene, subject = reference_scenes(settings.reference_scenes, rng, settings)
        pixels = self.pixel_map.draw(scene, subject, rng)
        self._centre, self._spread = scene.mean(0), scene.std(0)
        self._taste = rng.standard_normal(scene.shape[1])
        directions = rng.standard_normal((len(AXES), settings.waves))
        self._waves = settings.wave_frequency * directions / np.linalg.norm(directions, axis=0)
        self._phases = rng.uniform(0.0, 2 * np.pi, settings.waves)
        raw = self._functions(scene, subject, pixels)
        self._means = {part: columns.mean(0) for part, columns in raw.items()}
        self._taste /= raw["shared"].std()
        shared = self._functions(scene, subject, pixels)["shared"][:, 0]
        self._means["shared"] = np.array([shared.mean()])
        shared = shared - shared.mean()
        self._slopes = {p: shared @ (c - self._means[p]) / (shared @ shared) for p, c in raw.items() if p != "shared"}
        basis = self.basis(scene, subject, pixels)
        stacked = np.hstack([basis[part] for part in PARTS[1:]])
        self._covariance = stacked.T @ stacked / len(stacked)
        ends = np.cumsum([0] + [basis[part].shape[1] for part in PARTS[1:]])
        self._columns = {part: slice(ends[k], ends[k + 1]) for k, part in enumerate(PARTS[1:])}

    def _functions(self, scene: np.ndarray, subject: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
        x = (scene - self._centre) / self._spread
        bright, near = x[:, AXES.index("bright")], x[:, AXES.index("close")]
        mix = (np.eye(len(SUBJECTS))[subject][:, :, None] * scene[:, None, len(AXES) :]).reshape(len(scene), -1)
        seen = (pixels - self.pixel_map.centre) / self.pixel_map.spread
        return {
            "shared": (x @ self._taste)[:, None],
            "private_linear": x,
            "nonlinear": np.hstack([np.stack([bright, bright**2, near, near**2], axis=1), mix]),
            "pixel": np.clip(seen, -self.settings.pixel_clip, self.settings.pixel_clip),
            "invisible": np.sqrt(2) * np.cos(x[:, : len(AXES)] @ self._waves + self._phases),
        }

    def basis(self, scene: np.ndarray, subject: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The functions that tastes are made of, by part: centred, and the private ones uncorrelated with the shared.

        Parameters
        ----------
        scene : np.ndarray
            Rendered scene parameters in the order of AXES and MEDIA, shape (n_images, 12).
        subject : np.ndarray
            Codes into SUBJECTS, shape (n_images,).
        pixels : np.ndarray
            `pixel_measures` of every image, shape (n_images, 5).

        Raises
        ------
        ValueError
            If the shapes do not agree or a value is not finite.
        """
        n = len(scene)
        if scene.shape != (n, len(AXES + MEDIA)) or subject.shape != (n,) or pixels.shape != (n, len(PIXEL_MEASURES)):
            raise ValueError(f"scene {scene.shape}, subject {subject.shape} and pixels {pixels.shape} do not agree")
        if not (np.isfinite(scene).all() and np.isfinite(pixels).all()):
            raise ValueError("scene parameters and pixel measures must be finite")
        centred = {
            part: columns - self._means[part] for part, columns in self._functions(scene, subject, pixels).items()
        }
        return {p: c if p == "shared" else c - centred["shared"] * self._slopes[p] for p, c in centred.items()}

    def raters(self, n: int) -> Raters:
        """The first `n` raters of this world; rater k is the same whatever `n` is."""
        return self.draw_raters(n, np.random.default_rng([self.seed, 23]))

    def draw_raters(self, n: int, rng: np.random.Generator) -> Raters:
        """`n` fresh raters. Each takes one row of normal numbers, so fewer raters are the first of more.

        Raises
        ------
        ValueError
            If `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"a world needs at least one rater, got {n}")
        settings, width = self.settings, self._covariance.shape[0]
        normal = rng.standard_normal((n, width + 3))
        weights = normal[:, :width].copy()
        self._set_ideals(weights)
        for part, share in settings.private_shares.items():
            self._scale(weights, self._columns[part], np.sqrt(share))
        self._scale(weights, slice(0, width), np.sqrt(1.0 - settings.shared_share))
        log_sd = np.sqrt(np.log1p(settings.scale_cv**2))
        return Raters(
            ids=tuple(f"rater_{k:03d}" for k in range(n)),
            weights={part: weights[:, columns] for part, columns in self._columns.items()},
            offset=settings.offset_spread * normal[:, width],
            scale=np.exp(log_sd * normal[:, width + 1] - log_sd**2 / 2),
            pace=np.exp(settings.time_spread * normal[:, width + 2]),
            world=self,
        )

    def _set_ideals(self, weights: np.ndarray) -> None:
        """Turn the first four nonlinear weights into -(x - ideal)^2, and give ideals and subject x medium half each."""
        start = self._columns["nonlinear"].start
        ideal = slice(start, start + 4)
        for k in (start, start + 2):
            weights[:, k], weights[:, k + 1] = 2 * self.settings.ideal_spread * weights[:, k], -1.0
        self._scale(weights, ideal, np.sqrt(0.5))
        self._scale(weights, slice(start + 4, self._columns["nonlinear"].stop), np.sqrt(0.5))

    def _scale(self, weights: np.ndarray, columns: slice, target: float) -> None:
        """Give the utility made of these columns the SD `target` on the reference scenes, for every rater."""
        block = weights[:, columns]
        variance = np.einsum("ni,ij,nj->n", block, self._covariance[columns, columns], block, optimize=True)
        weights[:, columns] = block * (target / np.sqrt(variance))[:, None]


@dataclass(frozen=True, eq=False)
class Raters:
    """Simulated raters: private taste and slider habits.

    Attributes
    ----------
    ids : tuple of str
        "rater_000", "rater_001", ...
    weights : mapping of str to np.ndarray
        Weights on the private functions by part, each (n_raters, functions of the part).
    offset : np.ndarray
        Personal level on the slider in taste SDs, shape (n_raters,).
    scale : np.ndarray
        Personal stretch of the slider, mean 1, shape (n_raters,).
    pace : np.ndarray
        Personal factor on answering times, median 1, shape (n_raters,).
    world : World
        The world they live in.
    """

    ids: tuple[str, ...]
    weights: Mapping[str, np.ndarray]
    offset: np.ndarray
    scale: np.ndarray
    pace: np.ndarray
    world: World

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self, scene: np.ndarray, subject: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """True utility split by `PARTS`, each (n_raters, n_images). Parameters as in `World.basis`."""
        basis = self.world.basis(scene, subject, pixels)
        shared = np.sqrt(self.world.settings.shared_share) * basis["shared"].T
        parts = {"shared": np.repeat(shared, len(self), axis=0)}
        return parts | {part: weights @ basis[part].T for part, weights in self.weights.items()}

    def utility(self, scene: np.ndarray, subject: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """True utility, shape (n_raters, n_images); SD 1 within each rater over the reference scenes."""
        return np.sum(list(self.parts(scene, subject, pixels).values()), axis=0)
