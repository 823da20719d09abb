"""Charts as inline SVG: scalable, with an alternative text, without ids that another figure of the page uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

_SIZE = re.compile(r'<svg\b[^>]*?\bviewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')
_ID = re.compile(r'\bid="([^"]+)"')
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
"""Faces of equal widths, so that labels fit where they were measured."""


@dataclass(frozen=True)
class Figure:
    """A drawn chart: `svg` is markup that this module made; `caption` and `alt` are plain text."""

    svg: str
    caption: str
    alt: str
    width: int


def figure_of(chart: alt.Chart | alt.LayerChart, name: str, caption: str, alt: str) -> Figure:
    """Draw a chart without a browser or the network.

    Parameters
    ----------
    chart : altair chart
        Its title is left out: the caption says it.
    name : str
        Put before every id, so that figures of one page do not share any.
    caption, alt : str
        Text below the figure, and what it shows in words.
    """
    import vl_convert

    specification: dict[str, Any] = chart.to_dict()
    for part in (specification, *specification.get("layer", ())):
        part.pop("title", None)
    configuration = specification.setdefault("config", {})
    configuration |= {"aria": False, "font": FONT, "background": None}
    svg = str(vl_convert.vegalite_to_svg(specification))
    found = _SIZE.search(svg)
    if found is None:
        raise RuntimeError("the drawn chart has no size")
    width, height = (float(x) for x in found.groups())
    body = svg[found.end() : svg.rindex("</svg>")]
    return Figure(_own_ids(body, name, f"0 0 {width:g} {height:g}"), caption, alt, round(width))


def _own_ids(body: str, name: str, box: str) -> str:
    """The drawing as an image with ids `name-0`, `name-1`, … in the order in which they appear."""
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    for number, old in enumerate(dict.fromkeys(_ID.findall(body))):
        new = f"{prefix}-{number}"
        body = body.replace(f'id="{old}"', f'id="{new}"').replace(f"url(#{old})", f"url(#{new})")
        body = body.replace(f'href="#{old}"', f'href="#{new}"')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" aria-hidden="true" overflow="visible">'
    return f"{head}{body}</svg>"
