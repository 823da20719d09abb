"""Noise: a bank of tileable fields with falling spectra, and fractal lines for ridges and edges."""

from __future__ import annotations

import functools

import numpy as np

TILE = 512
SPECTRA = {  # name: (exponent of the falling power, lowest frequency in cycles per tile)
    "cloud": (1.75, 2.0),
    "land": (1.35, 3.0),
    "grain": (0.55, 24.0),
    "flow": (2.6, 2.0),
    "fibre": (0.9, 12.0),
    "blot": (2.1, 3.0),
}


@functools.cache
def tile(name: str) -> np.ndarray:
    """One tileable field with mean 0 and SD 1, repeated 2 x 2 so that any crop up to one tile fits; (1024, 1024)."""
    exponent, lowest = SPECTRA[name]
    rng = np.random.default_rng([512, list(SPECTRA).index(name)])
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) * TILE
    frequency[0, 0] = np.inf
    gain = np.where(frequency >= lowest, frequency**-exponent, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(TILE, TILE))) * gain, (TILE, TILE))
    doubled: np.ndarray = np.tile((field / field.std()).astype(np.float32), (2, 2))
    doubled.flags.writeable = False
    return doubled


def displaced(field: np.ndarray, right: int, down: int) -> np.ndarray:
    """The field moved by whole pixels; what comes in repeats the edge, so no seam appears as with a roll."""
    rows = np.clip(np.arange(field.shape[0]) - down, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - right, 0, field.shape[1] - 1)
    return field[rows[:, None], columns[None]]


def fractal_line(
    rng: np.random.Generator, x: np.ndarray, frequency: float, gain: float, roundness: float, octaves: int = 7
) -> np.ndarray:
    """Octaves of one-dimensional value noise at the places `x`, about in [-1, 1], float32.

    Parameters
    ----------
    frequency
        Lattice points per unit of x in the first octave.
    gain
        Height of each octave relative to the one before: larger is rougher.
    roundness
        0 joins lattice points by straight lines, 1 by smooth curves.
    """
    total, height, reach = np.zeros(x.shape), 1.0, 0.0
    for octave in range(octaves):
        lattice, phase = rng.uniform(-1, 1, 1024), rng.uniform(0, 300)
        place = (x + 4.0) * (frequency * 2**octave) + phase
        left = np.floor(place).astype(int)
        t = place - left
        t = t + (t * t * (3 - 2 * t) - t) * roundness
        a, b = lattice[left % 1024], lattice[(left + 1) % 1024]
        total += height * (a + (b - a) * t)
        reach, height = reach + height, height * gain
    return (total / reach).astype(np.float32)
