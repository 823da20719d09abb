"""Prompts for studies on the embedded generator: a subject, and phrases that ask for a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beholder.errors import PlanError
from beholder.models.rewriters.phrases import PHRASES
from beholder.records import key_of

if TYPE_CHECKING:
    import numpy as np

SUBJECT_WORDINGS = (
    "a mountain lake", "snowy peaks above a valley", "an alpine summit at the water's edge",
    "a lighthouse on a cliff", "a lighthouse by the sea", "a beacon on a rocky headland",
    "an old oak tree in a meadow", "a lone tree on a hill", "a maple by a field path",
    "a city skyline by the river", "downtown skyscrapers", "a harbour city of towers",
    "a sailing boat on the sea", "a fishing boat in a bay", "a yacht under sail",
    "a cottage in the countryside", "a farmhouse with a garden", "a small house in the hills",
    "a still life with fruit and a vase", "a bowl of pears on a table", "a bouquet in a jug on a cloth",
    "a path through the forest", "a woodland clearing", "tall pines in a forest",
    "a windmill in tulip fields", "an old windmill on the plain", "a mill above rows of flowers",
    "a stone bridge over a river", "an arched bridge in a valley", "an aqueduct over still water",
    "desert dunes with a cactus", "a sandy desert under the sky", "cactuses in the badlands",
    "a hot air balloon over hills", "balloons drifting over the land", "a striped balloon in the morning",
)  # fmt: skip
"""Three wordings of each subject the embedded generator can draw."""
MOST_PHRASES = 4


def prompt_id(prompt: str) -> str:
    """A prompt's id: the first 12 characters of its content key."""
    return key_of(prompt)[:12]


def bare(count: int) -> list[str]:
    """`count` subjects without any phrase, as evenly over the subjects as can be: where a search starts.

    Raises
    ------
    PlanError
        If more are asked for than there are.
    """
    if count > len(SUBJECT_WORDINGS):
        raise PlanError(f"{count} bare prompts asked for", f"at most {len(SUBJECT_WORDINGS)}", "lower steer.prompts")
    by_wording = [SUBJECT_WORDINGS[i + k] for k in range(3) for i in range(0, len(SUBJECT_WORDINGS), 3)]
    return by_wording[:count]


def compose(count: int, rng: np.random.Generator) -> list[str]:
    """`count` different prompts: a subject and one to four phrases. None is bare, so no search starts on a rated one.

    Subjects come equally often (to within one), phrases at random without doubles within a prompt.
    """
    composed: dict[str, None] = {}
    order = list(rng.permutation(len(SUBJECT_WORDINGS)))
    while len(composed) < count:
        subject = SUBJECT_WORDINGS[order[len(composed) % len(order)]]
        phrases = rng.choice(len(PHRASES), size=rng.integers(1, MOST_PHRASES + 1), replace=False)
        composed[", ".join([subject, *(PHRASES[i] for i in phrases)])] = None
    return list(composed)
