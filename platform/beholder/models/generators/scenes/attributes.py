"""What a scene looks like, before it is drawn: eight axes, four media, one subject."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

AXES = ("bright", "warm", "vivid", "rough", "busy", "close", "soft", "organic")
MEDIA = ("photo", "watercolour", "oil", "ink")
SUBJECTS = (
    "mountain", "lighthouse", "tree", "skyline", "boat", "house",
    "still_life", "forest", "windmill", "bridge", "desert", "balloon",
)  # fmt: skip
SEED_JITTER = 0.16
"""SD by which a seed moves every axis, so that seeds differ in what taste sees."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """The look a prompt asks for. Axes lie in [-1, 1] (a jittered one in [-1.2, 1.2]); media weights sum to 1."""

    bright: float = 0.0
    warm: float = 0.0
    vivid: float = 0.0
    rough: float = 0.0
    busy: float = 0.0
    close: float = 0.0
    soft: float = 0.0
    organic: float = 0.0
    photo: float = 1.0
    watercolour: float = 0.0
    oil: float = 0.0
    ink: float = 0.0
    subject: str = "mountain"

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"subject {self.subject!r} is not one of {', '.join(SUBJECTS)}")

    def vector(self) -> np.ndarray:
        """The twelve numbers in the order of AXES and MEDIA, shape (12,)."""
        return np.array([getattr(self, name) for name in AXES + MEDIA], dtype=float)

    def jittered(self, seed: int) -> Attributes:
        """What is drawn for `seed`: every axis moved by N(0, SEED_JITTER), rounded to three decimals."""
        moves = np.random.default_rng([seed, 77]).normal(0.0, SEED_JITTER, len(AXES))
        moved = {a: round(float(np.clip(getattr(self, a) + m, -1.2, 1.2)), 3) for a, m in zip(AXES, moves, strict=True)}
        return replace(self, **moved)  # type: ignore[arg-type]  # the names are those of axes

    def to_record(self) -> dict[str, float | str]:
        """Plain values by name, for a results row."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
