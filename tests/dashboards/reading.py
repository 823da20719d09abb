"""What a page that was run without a browser says."""

from __future__ import annotations

import pandas as pd
from streamlit.testing.v1 import AppTest


def text(app: AppTest) -> str:
    """All that a page says, blanks made alike."""
    parts = [*app.title, *app.subheader, *app.markdown, *app.caption, *app.info, *app.warning, *app.success, *app.error]
    return "\n".join(part.value for part in parts).replace("\u00a0", " ")


def metrics(app: AppTest) -> dict[str, str]:
    """The large numbers of a page by their titles."""
    return {metric.label: metric.value.replace("\u00a0", " ") for metric in app.metric}


def frames_with(app: AppTest, *columns: str) -> list[pd.DataFrame]:
    """Tables of a page that have these columns, in their order."""
    return [frame.value for frame in app.dataframe if set(columns) <= set(frame.value.columns)]
