"""Pictures of a study side by side, small enough to travel inside its report."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.plan import AnalysisPlan
from analysis.report_design import main_votes

if TYPE_CHECKING:
    import pandas as pd

SIDE = 256
"""Longer side of a thumbnail, pixels."""
QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery.

    Attributes
    ----------
    condition : str
    made_for : str or None
        The person it was made for.
    won, shown : float, int
        Its record in this study: main votes won (a tie one half) of those in which it was shown as this condition.
    uri : str
        The thumbnail as a data URI.
    drawn : str or None
        The prompt it was drawn from, where the table of images says so.
    """

    condition: str
    made_for: str | None
    won: float
    shown: int
    uri: str
    drawn: str | None = None


@dataclass(frozen=True)
class Row:
    """Pictures of one prompt as one participant met them."""

    prompt_id: str
    prompt: str
    participant_id: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures, or why there are none."""

    rows: tuple[Row, ...] = ()
    reason: str | None = None


def gallery(
    votes: pd.DataFrame,
    images: pd.DataFrame,
    read: Callable[[str], bytes],
    plan: AnalysisPlan,
    *,
    prompts: pd.DataFrame | None = None,
    n_rows: int = 4,
) -> Gallery:
    """Rows for prompts spread evenly over the study, each for the participant who met most conditions on it.

    Which rows are shown depends on ids and design alone, never on who won.

    Parameters
    ----------
    votes : DataFrame
        With `left_image_id` and `right_image_id`.
    images : DataFrame
        `image_id` and `path`; with `prompt`, what each was drawn from.
    read : callable
        The bytes of a path; an `OSError` where it is missing. `files_in` reads those of a folder.
    plan : AnalysisPlan
        Its conditions, in the order of its contrasts, are the columns.
    prompts : DataFrame, optional
        `prompt_id` and `prompt`, its text.
    n_rows : int
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return Gallery(reason="Pillow is not installed (pip install pillow)")
    if not {"left_image_id", "right_image_id"} <= set(votes.columns):
        return Gallery(reason="the votes name no images")
    seen = _seen(main_votes(votes))
    order = list(dict.fromkeys(name for pair in plan.contrasts for name in pair))
    paths = dict(zip(images["image_id"].astype("str"), images["path"].astype("str"), strict=True))
    seen = seen[seen["condition"].isin(order) & seen["image_id"].isin(paths)]
    names = sorted(seen["prompt_id"].unique())
    if not names:
        return Gallery(reason="no image of the votes is in the table of images")
    texts = _texts(prompts, "prompt_id")
    drawn = _texts(images, "image_id")
    chosen = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, min(n_rows, len(names))).round().astype(int))]
    rows = []
    for number, prompt in enumerate(chosen):
        shown = seen[seen["prompt_id"] == prompt]
        person = _participant(shown, number)
        pictures = [p for name in order if (p := _picture(shown, name, person, paths, read, drawn)) is not None]
        if pictures:
            rows.append(Row(prompt, texts.get(prompt, prompt), person, tuple(pictures)))
    return Gallery(tuple(rows), None if rows else "no picture could be read")


def _seen(main: pd.DataFrame) -> pd.DataFrame:
    """One row a picture shown: who saw it on which prompt, as what condition, and whether it won."""
    import pandas as pd

    sides = []
    for side in ("left", "right"):
        source = main.get(f"{side}_source_user")
        sides.append(
            pd.DataFrame(
                {
                    "participant_id": main["participant_id"].astype("str"),
                    "prompt_id": main["prompt_id"].astype("str"),
                    "condition": main[f"{side}_condition"].astype("str"),
                    "image_id": main[f"{side}_image_id"].astype("str"),
                    "made_for": None if source is None else source.astype("str").where(source.notna(), None),
                    "won": np.where(main["choice"] == "tie", 0.5, (main["choice"] == side).astype(float)),
                }
            )
        )
    return pd.concat(sides, ignore_index=True)


def _participant(shown: pd.DataFrame, number: int) -> str:
    """Of those who met most conditions on this prompt, another one in every row."""
    met = shown.groupby("participant_id")["condition"].nunique()
    most = sorted(met[met == met.max()].index)
    return str(most[number % len(most)])


def _picture(
    shown: pd.DataFrame,
    condition: str,
    person: str,
    paths: dict[str, str],
    read: Callable[[str], bytes],
    drawn: dict[str, str],
) -> Picture | None:
    """The picture of a condition that the person saw, else one that anybody saw; None where it cannot be read."""
    of_condition = shown[shown["condition"] == condition]
    mine = of_condition[of_condition["participant_id"] == person]
    candidates = mine if len(mine) else of_condition
    if not len(candidates):
        return None
    first = candidates.sort_values("image_id", kind="stable").iloc[0]
    name, made_for = str(first["image_id"]), first["made_for"]
    uri = _thumbnail_of(paths[name], read)
    if uri is None:
        return None
    record = of_condition[of_condition["image_id"] == name]["won"]
    source = made_for if isinstance(made_for, str) else None
    return Picture(condition, source, float(record.sum()), len(record), uri, drawn.get(name))


def files_in(folder: Path) -> Callable[[str], bytes]:
    """Reads paths relative to a folder."""
    return lambda path: (folder / path).read_bytes()


def _thumbnail_of(path: str, read: Callable[[str], bytes]) -> str | None:
    try:
        return thumbnail(read(path))
    except OSError:
        return None


def thumbnail(data: bytes, side: int = SIDE) -> str | None:
    """An encoded picture as a small JPEG in a data URI; None where it is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _texts(table: pd.DataFrame | None, key: str) -> dict[str, str]:
    """The column `prompt` by another one; empty where the table lacks either."""
    if table is None or not {key, "prompt"} <= set(table.columns):
        return {}
    return dict(zip(table[key].astype("str"), table["prompt"].astype("str"), strict=True))
