"""Which pairs are shown to whom, on which side and when: the trials of a blind pairwise study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import PlanError
from beholder.records import key_of
from beholder.study.yoking import meetings

if TYPE_CHECKING:
    import pandas as pd

OTHER = "other"
"""The condition that shows a participant the focal image of somebody else."""

COLUMNS = (
    "trial_id", "participant_id", "prompt_id", "left_condition", "right_condition", "left_image_id", "right_image_id",
    "left_source_user", "right_source_user", "session", "order", "kind", "repeat_of",
)  # fmt: skip


@dataclass(frozen=True)
class StudyDesign:
    """The plan of a pairwise study.

    Attributes
    ----------
    trials : int
        Main trials of every participant.
    focal : str
        The condition every contrast is about; its images are made for one participant each.
    against : tuple of str
        What it is shown against, one planned contrast each. "other" is the focal image of another participant.
    other_share : float
        At least this share of everybody's trials is focal against other: it is the small effect and the claim. Unused
        when "other" is not in `against`.
    repeats : int
        Trials shown again with sides swapped, at the end. For reporting only, never a reason to exclude.
    sessions : int
        Trials are cut into this many sessions of nearly equal length.
    """

    trials: int = 40
    focal: str = "own"
    against: tuple[str, ...] = (OTHER, "population", "statistics", "unoptimised")
    other_share: float = 0.4
    repeats: int = 0
    sessions: int = 1

    def __post_init__(self) -> None:
        found = None
        if not self.against or len(set(self.against)) < len(self.against) or self.focal in self.against:
            found = f"contrasts of {self.focal!r} against {self.against!r}"
        elif self.focal == OTHER:
            found = "'other' as the focal condition"
        elif self.trials < len(self.against):
            found = f"{self.trials} trials for {len(self.against)} contrasts"
        elif not 0.0 < self.other_share <= 1.0:
            found = f"other_share {self.other_share}"
        elif self.sessions < 1 or not 0 <= self.repeats <= self.trials:
            found = f"{self.sessions} sessions and {self.repeats} repeats of {self.trials} trials"
        if found:
            raise PlanError(
                found,
                "different conditions besides the focal one, at least a trial a contrast, 0 < other_share <= 1, one or "
                "more sessions, and no more repeats than trials",
            )


def plan_trials(
    images: pd.DataFrame,
    participants: Sequence[str],
    prompts: Sequence[str],
    design: StudyDesign,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """All trials of a study.

    Own against other is yoked: whenever u judges his own image against v's, v judges the same two images, so what is
    good about one of them for everybody cancels. Pairs of people come from a round robin, so everybody is rater and
    source equally often, with as many different partners as there are rounds. The other contrasts are dealt in a
    circle, so that each prompt is shown equally often in each. The focal image is on the left in half of everybody's
    trials of a contrast. Neighbouring trials have different prompts wherever that can be done.

    Parameters
    ----------
    images : pd.DataFrame
        Columns condition, prompt_id, image_id, source_user: for whom the image was made, missing when for everybody.
        A participant is shown the one made for him, else the one for everybody.
    participants, prompts : sequence of str
        Who takes part and which prompts are used; without duplicates.
    design : StudyDesign
        The plan.
    rng : np.random.Generator
        Source of everything random in the plan.

    Returns
    -------
    pd.DataFrame
        One row a trial, columns `COLUMNS`, by participant and order. `trial_id` is a content key. `kind` is main or
        repeat; a repeat names its main trial in `repeat_of`.

    Raises
    ------
    PlanError
        For fewer than two participants with "other", duplicates, missing images, or more trials than there are
        different pairs.
    """
    import pandas as pd

    participants, prompts = list(participants), list(prompts)
    catalogue = _catalogue(images, participants, prompts, design)
    pairs = _yoked(len(participants), len(prompts), design, rng)
    pairs += _dealt(pairs, len(participants), len(prompts), design, rng)
    rows: list[dict[str, object]] = []
    for u, mine in enumerate(_with_sides(pairs, len(participants), rng)):
        trials = [_trial(participants, prompts, catalogue, design, pair) for pair in mine]
        trials = _spread([trials[k] for k in rng.permutation(len(trials))], rng)
        again = _spread([trials[k] for k in rng.permutation(len(trials))[: design.repeats]], rng, after=trials)
        rows += _numbered(participants[u], trials, again, design.sessions)
    return pd.DataFrame(rows, columns=list(COLUMNS))


@dataclass(frozen=True)
class _Pair:
    """What one participant is asked once: numbers of participant, prompt and (for other) source; the side of focal."""

    participant: int
    prompt: int
    against: str
    source: int | None = None
    focal_left: bool = True


Catalogue = Mapping[tuple[str, str, str | None], str]


def _catalogue(
    images: pd.DataFrame, participants: Sequence[str], prompts: Sequence[str], design: StudyDesign
) -> dict[tuple[str, str, str | None], str]:
    """Image by (condition, prompt, source user or None), after checking that everything asked for is there."""
    for name, values in (("participants", participants), ("prompts", prompts)):
        if not values or len(set(values)) < len(values):
            raise PlanError(f"{len(values)} {name}, {len(set(values))} of them different", "one or more, each once")
    if OTHER in design.against and len(participants) < 2:
        raise PlanError("one participant", "at least two for own against other", "add people or drop 'other'")
    wanted = {"condition", "prompt_id", "image_id", "source_user"}
    if wanted - set(images.columns):
        raise PlanError(f"images without column {', '.join(sorted(wanted - set(images.columns)))}", ", ".join(wanted))
    found: dict[tuple[str, str, str | None], str] = {}
    columns = (images[name].tolist() for name in ("condition", "prompt_id", "source_user", "image_id"))
    for condition, prompt, source, image in zip(*columns, strict=True):
        key = (condition, prompt, source if isinstance(source, str) else None)
        if key in found:
            raise PlanError(f"two images for {key}: {found[key]} and {image}", "one image each", "choose one of them")
        found[key] = image
    conditions = [design.focal, *(name for name in design.against if name != OTHER)]
    missing = [
        (c, p, u)
        for c in conditions
        for p in prompts
        for u in participants
        if not ((c, p, None) in found or (c, p, u) in found)
    ]
    if OTHER in design.against:
        shared = [(design.focal, p, None) for p in prompts if (design.focal, p, None) in found]
        if shared:
            raise PlanError(
                f"{len(shared)} focal images made for nobody, first {shared[0][:2]}",
                "one image per participant when 'other' is shown",
            )
    if missing:
        condition, prompt, user = missing[0]
        raise PlanError(
            f"no image of {condition!r} for prompt {prompt!r} and participant {user!r} ({len(missing)} such gaps)",
            "an image for every condition, prompt and participant",
            "generate them or drop the condition",
        )
    return found


def _yoked(n_people: int, n_prompts: int, design: StudyDesign, rng: np.random.Generator) -> list[_Pair]:
    """Own against other: both who meet on a prompt judge the same two images."""
    if OTHER not in design.against:
        return []
    wanted = design.trials if len(design.against) == 1 else ceil(round(design.other_share * design.trials, 9))
    met = meetings(n_people, n_prompts, wanted, rng)
    return [pair for u, v, i in met for pair in (_Pair(u, i, OTHER, v), _Pair(v, i, OTHER, u))]


def _dealt(
    yoked: Sequence[_Pair], n_people: int, n_prompts: int, design: StudyDesign, rng: np.random.Generator
) -> list[_Pair]:
    """The other contrasts: trials left over, shared out evenly, and prompts dealt in a circle within each contrast."""
    contrasts = [name for name in design.against if name != OTHER]
    if not contrasts:
        return []
    used = Counter(pair.participant for pair in yoked)
    # One deck for all contrasts, dealt from starts apart: a participant meets few prompts in more than one contrast.
    deck = rng.permutation(n_prompts)
    dealt = {name: k * n_prompts // len(contrasts) for k, name in enumerate(contrasts)}
    pairs, turn = [], 0
    for u in rng.permutation(n_people):
        left = design.trials - used[int(u)]
        if left < len(contrasts) or left > len(contrasts) * n_prompts:
            raise PlanError(
                f"{left} trials for {len(contrasts)} contrasts beside 'other' with {n_prompts} prompts",
                f"{len(contrasts)} to {len(contrasts) * n_prompts}",
                "change trials, other_share, the conditions or the prompts",
            )
        for k in range(left):
            name = contrasts[(turn + k) % len(contrasts)]
            pairs.append(_Pair(int(u), int(deck[dealt[name] % n_prompts]), name))
            dealt[name] += 1
        turn += left
    return pairs


def _with_sides(pairs: Sequence[_Pair], n_people: int, rng: np.random.Generator) -> list[list[_Pair]]:
    """Each participant's pairs, focal left in half of each contrast; odd ones out alternate between participants."""
    groups: dict[tuple[int, str], list[_Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.participant, pair.against), []).append(pair)
    extra = {against: bool(rng.integers(2)) for _, against in sorted(groups)}
    mine: list[list[_Pair]] = [[] for _ in range(n_people)]
    for (u, against), group in sorted(groups.items(), key=lambda item: item[0]):
        lefts = len(group) // 2 + (len(group) % 2 and extra[against])
        if len(group) % 2:
            extra[against] = not extra[against]
        sides = rng.permutation(len(group)) < lefts
        mine[u] += [
            _Pair(p.participant, p.prompt, p.against, p.source, bool(s)) for p, s in zip(group, sides, strict=True)
        ]
    return mine


def _trial(
    participants: Sequence[str], prompts: Sequence[str], catalogue: Catalogue, design: StudyDesign, pair: _Pair
) -> dict[str, object]:
    """The row of a pair: ids in place of numbers, images looked up, sides laid out."""
    person, prompt = participants[pair.participant], prompts[pair.prompt]
    source = person if pair.source is None else participants[pair.source]
    shown = []
    for label, condition, user in (
        (design.focal, design.focal, person),
        (pair.against, design.focal if pair.against == OTHER else pair.against, source),
    ):
        own = (condition, prompt, user) in catalogue
        shown.append((label, catalogue[condition, prompt, user if own else None], user if own else None))
    left, right = shown if pair.focal_left else reversed(shown)
    names = ("condition", "image_id", "source_user")
    sides = {
        f"{side}_{n}": v
        for side, values in (("left", left), ("right", right))
        for n, v in zip(names, values, strict=True)
    }
    return {"prompt_id": prompt, **sides}


def _spread(
    trials: list[dict[str, object]], rng: np.random.Generator, after: Sequence[dict[str, object]] = ()
) -> list[dict[str, object]]:
    """Random order without neighbours of one prompt where possible; the first one also differs from the last `after`.

    Each step draws at random among the trials that leave a possible order: no prompt may need more than every second
    of the remaining places.
    """
    waiting, placed = list(trials), list[dict[str, object]]()
    counts = Counter(t["prompt_id"] for t in waiting)
    last = after[-1]["prompt_id"] if after else None
    while waiting:
        places = len(waiting)
        urgent = [p for p, n in counts.items() if n > places // 2 and p != last]
        free = [k for k, t in enumerate(waiting) if t["prompt_id"] in urgent] if urgent else []
        free = free or [k for k, t in enumerate(waiting) if t["prompt_id"] != last] or list(range(places))
        chosen = waiting.pop(free[int(rng.integers(len(free)))])
        last = chosen["prompt_id"]
        counts[last] -= 1
        placed.append(chosen)
    return placed


def _numbered(
    participant: str, main: Sequence[dict[str, object]], again: Sequence[dict[str, object]], sessions: int
) -> list[dict[str, object]]:
    """Rows of one participant in order, with keys, sessions and kinds; repeats have their sides swapped."""
    rows = []
    total = len(main) + len(again)
    for k, trial in enumerate([*main, *again]):
        content = {"participant_id": participant, **trial, "kind": "main", "repeat_of": None}
        if k >= len(main):
            swapped = {_other_side(name): value for name, value in trial.items()}
            content |= swapped | {"kind": "repeat", "repeat_of": key_of(content)}
        session = 1 + k * sessions // total
        rows.append({"trial_id": key_of(content), **content, "session": session, "order": k + 1})
    return rows


def _other_side(column: str) -> str:
    swap = {"left": "right", "right": "left"}
    side, _, rest = column.partition("_")
    return f"{swap[side]}_{rest}" if side in swap else column
