"""The canvas: an Oklab picture with a camera, and the few operations every element is painted with.

World coordinates run from 0 to 1 over the neutral view, y downwards, with the subject at x = .5. The camera zooms
towards the subject with `close`, so framing, horizon and the size of everything in front change together.
"""

from __future__ import annotations

import contextlib
import functools
import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from beholder.models.generators.scenes.attributes import AXES, Attributes
from beholder.models.generators.scenes.curves import Field, clip01, smoothstep
from beholder.models.generators.scenes.noise import TILE, displaced, fractal_line, tile
from beholder.models.generators.scenes.palette import nightfall, palette_for
from beholder.models.generators.scenes.raster import rasterised

Polygons = Sequence[np.ndarray] | np.ndarray
"""Polygons in world coordinates, each of shape (k, 2)."""
EDGE = 0.03
"""Longest edge, in world units, that a hand-drawn outline leaves straight."""


class Canvas:
    """One scene in the making.

    Parameters
    ----------
    attributes
        What to draw; every level is (axis + 1) / 2, never below 0.
    seed
        Elements draw from generators keyed by (seed, name): one bird more does not move the trees.
    size
        Pixels of the square picture.
    focus_y
        World height of the subject's middle: the camera zooms towards it.
    """

    def __init__(self, attributes: Attributes, seed: int, size: int, focus_y: float) -> None:
        self.attributes, self.seed, self.size = attributes, seed, size
        self.level = {axis: max(0.0, (getattr(attributes, axis) + 1) / 2) for axis in AXES}
        self.palette = palette_for(attributes, self.rng("palette"))
        self.night = nightfall(attributes.bright)
        self.texture = 0.002 + 0.036 * self.level["rough"] ** 2.3
        layout = self.rng("layout")
        self.side = 1 if layout.random() < 0.5 else -1
        offset = layout.uniform(0.07, 0.16)
        self.zoom = 2.0 ** (0.75 * attributes.close)
        self.density = self.zoom**0.9  # counts grow as the view narrows, so that near scenes can be busy too
        self._focus = np.array([0.5, focus_y])
        self._anchor = np.array(
            [0.5 + self.side * offset * (1 - 0.5 * self.level["close"]), 0.55 - 0.03 * attributes.close]
        )
        sun_on_screen = np.array([0.5 - self.side * layout.uniform(0.16, 0.32), layout.uniform(0.15, 0.32)])
        sun = self.world(sun_on_screen)
        self.sun = (float(sun[0]), float(sun[1]))
        pixel = (np.arange(size) + 0.5) / size
        self.x = ((pixel - self._anchor[0]) / self.zoom + 0.5).astype(np.float32)[None, :]
        self.y = ((pixel - self._anchor[1]) / self.zoom + focus_y).astype(np.float32)[:, None]
        self.screen_x, self.screen_y = pixel.astype(np.float32)[None, :], pixel.astype(np.float32)[:, None]
        self.lab = np.zeros((3, size, size), np.float32)
        self.subject = np.zeros((size, size), np.float32)
        self._marking = False

    # ------------------------------------------------------------ camera and chance
    def rng(self, name: str) -> np.random.Generator:
        """The element's own generator."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def world(self, screen: np.ndarray) -> np.ndarray:
        """World coordinates of places on the picture (both in units of the picture's side), shape (..., 2)."""
        return (screen - self._anchor) / self.zoom + self._focus

    def screen(self, world: np.ndarray) -> np.ndarray:
        """The inverse of `world`."""
        return (world - self._focus) * self.zoom + self._anchor

    def row(self, y: float) -> int:
        """Pixel row of a world height, within the picture."""
        return int(np.clip(round(((y - self._focus[1]) * self.zoom + self._anchor[1]) * self.size), 0, self.size))

    def spread(self, name: str, count: int, width: int = 1) -> np.ndarray:
        """Evenly scattered world x over all the camera can ever see, -.5 to 1.5, with `width` uniform numbers.

        Shape (count, 1 + width).
        """
        rng = self.rng(name)
        # A golden-ratio sequence keeps neighbours apart, so that few elements do not clump.
        places = (rng.random() + np.arange(count) * 0.6180339887) % 1.0 * 2.0 - 0.5
        return np.column_stack([places, rng.random((count, width))])

    # ------------------------------------------------------------ fields and lines
    def noise(self, name: str, share: float, share_y: float | None = None, key: str = "", fixed: bool = False) -> Field:
        """A noise field over the picture, (n, n); it zooms with the scene unless `fixed` to the paper.

        Parameters
        ----------
        share, share_y
            Parts of the tile that the neutral view spans; at most one tile is ever shown.
        """
        offset = self.rng(name + key).integers(0, TILE, 2)
        zoom = 1.0 if fixed else self.zoom
        origin = np.zeros(2) if fixed else self.world(np.zeros(2))
        spans = np.minimum(TILE, TILE * np.array([share, share_y or share]) / zoom)
        start = (offset + origin * spans * zoom) % TILE
        box = (float(start[0]), float(start[1]), float(start[0] + spans[0]), float(start[1] + spans[1]))
        picture = Image.fromarray(tile(name)).resize((self.size, self.size), Image.Resampling.BICUBIC, box)
        return np.asarray(picture)

    @functools.cached_property
    def relief(self) -> Field:
        """Rugged ground lit from the sun's side, mean 0, SD about 1: texture that reads as form, not as dirt."""
        height = self.noise("land", 0.45, key="relief") + 0.35 * self.noise("grain", 0.4, key="relief")
        step = max(1, self.size // 200)
        lit = self.side * (displaced(height, -step, 0) - displaced(height, step, 0))
        lit = lit + 0.8 * (displaced(height, 0, -step) - displaced(height, 0, step))
        return np.clip(lit / (lit.std() + 1e-6), -2.2, 2.2)

    def line(self, key: str, frequency: float, gain: float | None = None, at: np.ndarray | None = None) -> np.ndarray:
        """A fractal line over the world's x (or the places `at`): angular when geometric, curved when organic."""
        places = self.x[0] if at is None else at
        gain = 0.16 + 0.44 * self.level["rough"] if gain is None else gain
        octaves = 7 if places.ndim == 1 else 4
        roundness = min(1.0, 0.1 + 0.95 * self.level["organic"])
        return fractal_line(self.rng(key), places, frequency, gain, roundness, octaves)

    def height_at(self, line: np.ndarray, x: float | np.ndarray) -> np.ndarray:
        """Height of a line at world places."""
        return np.interp(x, self.x[0], line)

    def under(self, line: np.ndarray, blur: float = 0.0) -> Field:
        """Antialiased mask of everything below a line, (n, n)."""
        steep = self.size * self.zoom / (1 + blur * self.size)
        return clip01((self.y - line[None]) * np.float32(steep) + np.float32(0.5))

    # ------------------------------------------------------------ painting
    @contextlib.contextmanager
    def painting_subject(self, really: bool = True) -> Iterator[None]:
        """Within this block, matter counts as the subject: media keep it crisp and apart from its background."""
        before, self._marking = self._marking, really
        yield
        self._marking = before

    def _mark(self, area: tuple[slice, slice], cover: Field) -> None:
        region = self.subject[area]
        if self._marking:
            np.maximum(region, cover, out=region)
        else:
            region *= 1 - cover

    def fill(self, mask: Field, colour: np.ndarray, alpha: float = 1.0) -> None:
        """Paint matter: `colour` is one colour (3,) or planes (3, n, n)."""
        self.tint(mask, colour, alpha)
        self._mark((slice(None), slice(None)), np.broadcast_to(mask * np.float32(alpha), self.subject.shape))

    def tint(self, mask: Field, colour: np.ndarray, alpha: float = 1.0) -> None:
        """Paint light or haze: like `fill`, but what lies under it stays subject or background."""
        weight = mask * np.float32(alpha)
        for plane, value in zip(self.lab, colour, strict=True):
            plane += weight * (value - plane)

    def glow(self, x: float, y: float, radius: float, colour: np.ndarray, alpha: float, squash: float = 1.0) -> None:
        """A round patch of light."""
        if alpha <= 0:
            return
        rise = ((self.y - y) / (radius * squash)) ** 2
        self.tint(np.exp(-rise) * np.exp(-(((self.x - x) / radius) ** 2)), colour, alpha)

    def shade(self, x: float, y: float, width: float, height: float, alpha: float) -> None:
        """A soft shadow on the ground."""
        dark = self.palette.near + np.array([-0.06, 0, 0], np.float32)
        self.tint(np.exp(-(((self.x - x) / width) ** 2)) * np.exp(-(((self.y - y) / height) ** 2)), dark, alpha)

    def shapes(
        self,
        polygons: Polygons,
        colour: np.ndarray,
        alpha: float = 1.0,
        *,
        light: float = 0.0,
        hand: bool = True,
        texture: float = 1.0,
        blur: float = 0.0,
        mirror: float | None = None,
        tones: Sequence[float] | np.ndarray | None = None,
        other: np.ndarray | None = None,
        blends: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        """Paint filled polygons, later ones over earlier ones.

        Parameters
        ----------
        light
            Lightness added on the sun's side of the box and taken away on the other.
        hand
            Draw the outline by hand: corners rounded and edges wavering, more so when organic.
        blur
            Width of a soft edge, world units.
        mirror
            World height of a water line: also paint a faint reflection below it.
        tones
            Lightness of each polygon relative to `colour`, in [-.5, .5].
        other, blends
            A second colour and the share of it in each polygon.
        """
        if len(polygons) == 0 or alpha <= 0:
            return
        outlines = [np.asarray(p, float) for p in polygons]
        if hand and self.attributes.organic > -0.4:
            outlines = [self._hand_drawn(p) for p in outlines]
        if mirror is not None:
            flipped = [np.column_stack([p[:, 0], 2 * mirror - p[:, 1]]) for p in outlines]
            dim = colour + (self.palette.middle - colour) * np.float32(0.35)
            self.shapes(flipped, dim, 0.42 * alpha, light=light, hand=False, texture=0.3, blur=0.005)
        points = self.screen(np.concatenate(outlines)) * self.size
        pad = 2 + int(3 * blur * self.zoom * self.size)
        x0, y0 = np.maximum(0, np.floor(points.min(0)).astype(int) - pad)
        x1, y1 = np.minimum(self.size, np.ceil(points.max(0)).astype(int) + pad)
        if x1 <= x0 or y1 <= y0:
            return
        ends = np.cumsum([len(p) for p in outlines])[:-1]
        cover, tone, share = rasterised(np.split(points - (x0, y0), ends), (x1 - x0, y1 - y0), tones, blends)
        if blur:
            cover = ndimage.gaussian_filter(cover, blur * self.zoom * self.size, truncate=3)
        area = (slice(y0, y1), slice(x0, x1))
        lightness: Field = tone
        if light:
            low, high = points[:, 0].min(), points[:, 0].max()
            across = (np.arange(x0, x1, dtype=np.float32) - low) * np.float32(2 / max(high - low, 1e-3)) - 1
            lightness = lightness - np.float32(light * self.side) * across[None]
        if texture:
            lightness = lightness + np.float32(texture * self.texture) * self.relief[area]
        cover = cover * np.float32(alpha)
        for k, plane in enumerate(self.lab):
            value = colour[k] if other is None else colour[k] + (other[k] - colour[k]) * share
            region = plane[area]
            region += cover * (value + (lightness if k == 0 else 0) - region)
        self._mark(area, cover)

    def _hand_drawn(self, outline: np.ndarray) -> np.ndarray:
        """Cut corners, then let long edges waver along the flow noise."""
        organic = self.attributes.organic
        if organic > 0 and len(outline) < 24:
            ahead = np.roll(outline, -1, 0)
            cut = min(0.22, 0.24 * organic)
            outline = np.stack([outline + (ahead - outline) * cut, ahead + (outline - ahead) * cut], 1).reshape(-1, 2)
        ahead = np.roll(outline, -1, 0)
        pieces = np.maximum(1, np.ceil(np.hypot(*(ahead - outline).T) / EDGE)).astype(int)
        if pieces.max() > 1:
            start = np.repeat(np.arange(len(outline)), pieces)
            step = np.arange(len(start)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            outline = outline[start] + (ahead - outline)[start] * (step / pieces[start])[:, None]
        at = (outline * 420).astype(int) % TILE
        flow = tile("flow")
        wave = np.column_stack([flow[at[:, 0], at[:, 1]], flow[at[:, 1] + 200, at[:, 0]]])
        return outline + wave * (0.0040 * (organic + 0.4))

    def disc(self, x: float, y: float, radius: float, colour: np.ndarray, alpha: float = 1.0, *, squash: float = 1.0,
             texture: float = 1.0, blur: float = 0.0, light: float = 0.0) -> None:  # fmt: skip
        """A filled circle; with fewer corners the more geometric the scene."""
        outline = ellipse(x, y, radius, radius * squash, self.corners(28))
        self.shapes([outline], colour, alpha, hand=False, texture=texture, blur=blur, light=light)

    def corners(self, most: int) -> int:
        """Corners of a round shape: five at the geometric end, `most` from neutral on."""
        return int(np.clip(round(5 + (most - 5) * (self.attributes.organic + 1.0)), 5, most))

    def sphere(self, x: float, y: float, radius: float, colour: np.ndarray, *, squash: float = 1.0,
               gores: np.ndarray | None = None, gloss: float = 1.0, alpha: float = 1.0) -> None:  # fmt: skip
        """A lit ball: Lambert shading with a terminator and a highlight; `gores` colours vertical stripes."""
        (left, top), (right, bottom) = self.screen(
            np.array([[x - radius, y - radius * squash], [x + radius, y + radius * squash]])
        )
        x0, x1 = max(0, int(left * self.size) - 1), min(self.size, int(right * self.size) + 2)
        y0, y1 = max(0, int(top * self.size) - 1), min(self.size, int(bottom * self.size) + 2)
        if x1 <= x0 or y1 <= y0:
            return
        area = (slice(y0, y1), slice(x0, x1))
        u = (self.x[:, x0:x1] - x) / np.float32(radius)
        v = (self.y[y0:y1] - y) / np.float32(radius * squash)
        distance = np.sqrt(u * u + v * v)
        bulge = np.sqrt(clip01(1 - distance * distance))
        lit = -self.side * 0.55 * u - 0.50 * v + 0.66 * bulge
        lightness = 0.30 * smoothstep(-0.35, 1.0, lit) - 0.20 + 0.17 * gloss * smoothstep(0.90, 0.99, lit)
        lightness = lightness + np.float32(0.45 * self.texture) * self.relief[area]
        stripe: Field = np.zeros(1, np.float32)
        if gores is not None:
            meridian = np.arcsin(np.clip(u / np.sqrt(np.maximum(1 - v * v, 0.02)), -1, 1))
            stripe = smoothstep(-0.15, 0.15, np.sin(meridian * 7 + 0.8))
        cover = clip01((1 - distance) * np.float32(radius * self.zoom * self.size) + 0.5) * np.float32(alpha)
        for k, plane in enumerate(self.lab):
            value = colour[k] if gores is None else colour[k] + (gores[k] - colour[k]) * stripe
            region = plane[area]
            region += cover * (value + (lightness if k == 0 else 0) - region)
        self._mark(area, cover)


def ellipse(x: float, y: float, width: float, height: float, corners: int) -> np.ndarray:
    """Outline of an ellipse with half axes `width` and `height`, shape (corners, 2)."""
    t = np.arange(corners) * (2 * math.pi / corners) + 0.3
    return np.column_stack([x + width * np.cos(t), y + height * np.sin(t)])


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Outline of a rectangle, shape (4, 2)."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
