"""What a steering study hands on: tables of the search, of what is shown, and of what was gained at unseen seeds.

The reward of a search is too high: it was maximised over the images it is computed from. Gains are therefore taken on
held-out seeds, as the difference to the bare prompt at the same seeds; what the search itself reported stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from beholder.errors import EngineError
from beholder.steering.judges import condition_of, own, user_of
from beholder.steering.search import Scored, Search

if TYPE_CHECKING:
    import pandas as pd

UNOPTIMISED = "unoptimised"
SHOWN_RUN = 1
"""The run whose images are shown in a study; the others are there to see whether a search can be repeated."""
IMAGE_COLUMNS = ("image_id", "path", "prompt", "seed", "generator", "width", "height", "sha256", "scene")


class Shot(NamedTuple):
    """One image: what to draw, from which seed."""

    prompt: str
    seed: int


@dataclass(frozen=True, eq=False)
class Heldout:
    """Everything that was drawn at held-out seeds, and what everybody's reward says of it.

    Attributes
    ----------
    seeds : mapping of str to list of int
        Held-out seeds of each base prompt, by its id; the image of the first one is shown.
    images : mapping of Shot to mapping
        Row of the `images` table.
    scores : mapping of str to mapping of Shot to float
        By judge.
    """

    seeds: Mapping[str, Sequence[int]]
    images: Mapping[Shot, Mapping[str, Any]]
    scores: Mapping[str, Mapping[Shot, float]]

    def score(self, judge: str, prompt_id: str, prompt: str) -> float:
        """Mean of a judge's scores over the held-out seeds."""
        return float(np.mean([self.scores[judge][Shot(prompt, seed)] for seed in self.seeds[prompt_id]]))

    def shown(self, prompt_id: str, prompt: str) -> Mapping[str, Any]:
        """The image of a prompt that is shown."""
        row = self.images[Shot(prompt, self.seeds[prompt_id][0])]
        return {name: row[name] for name in IMAGE_COLUMNS}


def heldout_shots(ends: Mapping[Search, str], seeds: Mapping[str, Sequence[int]]) -> list[Shot]:
    """What has to be drawn: the end and the base of every search at all held-out seeds of its prompt, each once."""
    shots = [Shot(p, seed) for s, end in ends.items() for p in (s.base, end) for seed in seeds[s.prompt_id]]
    return list(dict.fromkeys(shots))


def require_all(shots: Sequence[Shot], images: Mapping[Shot, Mapping[str, Any]]) -> None:
    """Raise an `EngineError` if an image that must be shown could not be made."""
    lost = [shot for shot in shots if shot not in images]
    if lost:
        raise EngineError(
            f"{len(lost)} held-out images could not be made, first {lost[0].prompt!r} at seed {lost[0].seed}",
            "all of them",
            "see the failed rows of the ledger, mend the cause and run again",
        )


def trace_table(trace: Sequence[Scored]) -> pd.DataFrame:
    """`search_trace`: one row a candidate of a round, with its mean score over the seeds of that round."""
    import pandas as pd

    rows = [
        {**_who(row.search), "round": row.round + 1, "prompt": row.prompt, "score": row.score, "kept": row.kept}
        for row in trace
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(score=frame["score"].where(np.isfinite(frame["score"].to_numpy(float))))


def images_table(ends: Mapping[Search, str], heldout: Heldout) -> pd.DataFrame:
    """`steered_images`: one image a condition, prompt and (for own) person, of the run that is shown.

    `prompt_id` is that of the base prompt, `prompt` what was drawn; `source_user` is missing for images made for all.
    """
    import pandas as pd

    rows = [
        {**_who(s), "base": s.base, **heldout.shown(s.prompt_id, end)} for s, end in ends.items() if s.run == SHOWN_RUN
    ]
    for prompt_id, base in {s.prompt_id: s.base for s in ends}.items():
        everybody = {"condition": UNOPTIMISED, "user_id": None, "prompt_id": prompt_id, "run": SHOWN_RUN}
        rows.append({**everybody, "base": base, **heldout.shown(prompt_id, base)})
    return pd.DataFrame(rows).rename(columns={"user_id": "source_user"})


def steered_table(
    ends: Mapping[Search, str], heldout: Heldout, embeddings: Mapping[str, Sequence[float]]
) -> pd.DataFrame:
    """`steered`: the own image of every person, prompt and run.

    `embedding` says what an image looks like, in numbers of which the rewards know nothing; `reward` is the person's
    own, mean over the held-out seeds.

    Parameters
    ----------
    ends : mapping of Search to str
        What each search ended with.
    heldout : Heldout
    embeddings : mapping of str to sequence of float
        By image id, of all `own_images`.
    """
    import pandas as pd

    rows = []
    for s, image in own_images(ends, heldout).items():
        reward = heldout.score(s.judge, s.prompt_id, ends[s])
        told = {name: image[name] for name in ("image_id", "path", "prompt", "seed")}
        rows.append({**_who(s), **told, "embedding": list(embeddings[image["image_id"]]), "reward": reward})
    return pd.DataFrame(rows)


def own_images(ends: Mapping[Search, str], heldout: Heldout) -> dict[Search, Mapping[str, Any]]:
    """The image that is shown of every search for a person."""
    return {s: heldout.shown(s.prompt_id, end) for s, end in ends.items() if user_of(s.judge) is not None}


def gains_table(trace: Sequence[Scored], ends: Mapping[Search, str], heldout: Heldout) -> pd.DataFrame:
    """`steering_gains`: one row a search, in the units of its own judge.

    `search_score` is the mean of its last round, `heldout_score` and `base_score` are means over the held-out seeds,
    `gain` is their difference, and `optimism` what the search promised beyond what held.
    """
    import pandas as pd

    last = {row.search: row.score for row in trace if row.kept}
    rows = []
    for s, end in ends.items():
        held, base = (heldout.score(s.judge, s.prompt_id, prompt) for prompt in (end, s.base))
        scores = {"search_score": last[s], "heldout_score": held, "base_score": base}
        rows.append({**_who(s), "prompt": end, **scores, "gain": held - base, "optimism": last[s] - held})
    return pd.DataFrame(rows)


def rewards_table(ends: Mapping[Search, str], people: Sequence[str], heldout: Heldout) -> pd.DataFrame:
    """`steering_rewards`: what each of `people` (`judge_user`) would say, by his model, of every search's result.

    Rows with `user_id` = `judge_user` are the own ones: their gain less that of the others is the own-other gap.
    """
    import pandas as pd

    rows = []
    for s, end in ends.items():
        for user in people:
            reward, base = (heldout.score(own(user), s.prompt_id, prompt) for prompt in (end, s.base))
            rows.append({**_who(s), "judge_user": user, "reward": reward, "gain": reward - base})
    return pd.DataFrame(rows)


def scene_vector(scene: Mapping[str, Any]) -> list[float]:
    """The numbers of a scene record, by name."""
    return [float(scene[name]) for name in sorted(scene) if not isinstance(scene[name], str)]


def _who(search: Search) -> dict[str, Any]:
    return {
        "condition": condition_of(search.judge),
        "user_id": user_of(search.judge),
        "prompt_id": search.prompt_id,
        "run": search.run,
    }
