"""One function a chart: a frame in, an altair chart out. No Streamlit, no statistics: numbers are drawn as given.

Points carry the estimate, thick lines its interval; a dashed rule marks what no effect, or no skill, would give.
"""

from charts.estimates import intervals
from charts.look import ACCENT, GREY, INK, OCHRE, TEAL, Chart
from charts.models import curve_line, outcomes, tie_curve
from charts.newcomers import by_shown, sweep_grid
from charts.raters import agreement_matrix, histogram, rater_heatmap, scatter_repeats, stacked_share
from charts.runs import candidates, gain_by_round, stage_bars
from charts.study import pace, rates_strip, side_bars, time_histogram

__all__ = [
    "ACCENT",
    "GREY",
    "INK",
    "OCHRE",
    "TEAL",
    "Chart",
    "agreement_matrix",
    "by_shown",
    "candidates",
    "curve_line",
    "gain_by_round",
    "histogram",
    "intervals",
    "outcomes",
    "pace",
    "rater_heatmap",
    "rates_strip",
    "scatter_repeats",
    "side_bars",
    "stacked_share",
    "stage_bars",
    "sweep_grid",
    "tie_curve",
    "time_histogram",
]
