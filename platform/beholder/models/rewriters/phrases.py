"""A rewriter without a network: 72 phrases that ask for a look, added, replaced and removed at random."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.rewriters.base import MOST_CLAUSES, MOVE_SHARES, Rewrites, choose_move, clauses_of, compose

LOOKS: Mapping[str, tuple[str, ...]] = {
    "bright": ("bright midday sun", "flooded with daylight", "a radiant clear sky", "gleaming highlights"),
    "dark": ("late at night", "deep shadows", "lit only by the moon", "dim light at dusk"),
    "warm": ("golden hour", "glowing amber light", "autumn reds and oranges", "the warmth of a fire"),
    "cold": ("cool blue light", "a frosty winter morning", "icy tones", "cold northern air"),
    "vivid": ("vivid saturated colours", "bold contrasting hues", "bursting with colour"),
    "muted": ("muted greys", "faded pastel colours", "almost monochrome"),
    "rough": ("a stormy wind", "weathered rough textures", "rugged and wild", "choppy and turbulent"),
    "smooth": ("perfectly calm", "smooth polished surfaces", "silky stillness"),
    "busy": ("full of small details", "crowded with life", "richly ornamented", "dense and lush"),
    "minimal": ("minimalist", "a lot of empty space", "simple and uncluttered"),
    "close": ("seen from close by", "a close-up view", "filling the frame"),
    "distant": ("far away in the distance", "a wide panoramic view", "vast open space", "seen from high above"),
    "soft": ("soft morning mist", "a dreamy haze", "gently blurred"),
    "crisp": ("sharp focus", "crisp clean edges", "every detail in clear air"),
    "organic": ("flowing curves", "swirling natural shapes", "rounded organic forms", "winding lines"),
    "geometric": ("geometric shapes", "strict straight lines", "angular facets"),
    "photo": ("a photograph", "shot on film"),
    "watercolour": ("watercolour on paper", "loose watercolour washes"),
    "oil": ("oil painting", "thick brush strokes on canvas"),
    "ink": ("ink drawing", "a fine pen etching"),
    "mood": (
        "peaceful and quiet", "mysterious mood", "joyful and playful", "melancholy",
        "a sense of wonder", "nostalgic", "romantic atmosphere", "dramatic tension",
    ),
}  # fmt: skip
"""What each phrase is for: three or four at each end of the eight axes of a look, eight media, eight moods."""
PHRASES: tuple[str, ...] = tuple(phrase for phrases in LOOKS.values() for phrase in phrases)
VERSION = 1
"""Raised when phrases or moves change, since the rewrites then change too."""
_TRIES = 200


def identity() -> dict[str, Any]:
    """Id, version and settings."""
    return {"rewriter": "phrases", "version": VERSION, "most_clauses": MOST_CLAUSES, "moves": list(MOVE_SHARES)}


class PhraseBank:
    """Rewrites prompts with phrases of `PHRASES`."""

    def identity(self) -> Mapping[str, Any]:
        """Id, version and settings."""
        return identity()

    def rewrite(self, prompt: str, *, base: str, n: int, seed: int) -> Rewrites:
        """`n` rewrites; see `base.Rewriter`."""
        return Rewrites(draw(prompt, base=base, n=n, seed=seed))


def draw(prompt: str, *, base: str, n: int, seed: int, taken: Collection[str] = ()) -> tuple[str, ...]:
    """`n` different rewrites from the phrase bank, none equal to `prompt` or among `taken`.

    Raises
    ------
    UserError
        As `base.Rewriter.rewrite`.
    """
    if n < 1:
        raise UserError(f"{n} rewrites asked for", "1 or more")
    clauses = clauses_of(prompt, base)
    rng = np.random.default_rng([seed, len(PHRASES)])
    seen = {prompt, *taken}
    found: list[str] = []
    for _ in range(_TRIES * n):
        move = choose_move(clauses, rng)
        free = [phrase for phrase in PHRASES if phrase not in clauses]
        new = [free[int(rng.integers(len(free)))]] if move.writes else []
        candidate = compose(base, [*move.kept, *new])
        if candidate not in seen:
            seen.add(candidate)
            found.append(candidate)
        if len(found) == n:
            return tuple(found)
    raise UserError(f"only {len(found)} different rewrites of {prompt!r} were found", f"{n}", "ask for fewer")
