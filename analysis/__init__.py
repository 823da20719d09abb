"""Statistics for studies of personal taste in images: tables in, frozen results out.

Nothing heavy is loaded here. `analysis.win_rate(...)` and the other names below import their module, and with it pandas
and scipy, on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "UserError": "errors",
    "TableError": "errors",
    "EstimateError": "errors",
    "Estimand": "results",
    "Exclusions": "results",
    "Provenance": "results",
    "Result": "results",
    "Scale": "tables",
    "check_images": "tables",
    "check_predictions": "tables",
    "check_ratings": "tables",
    "check_split_disjoint": "tables",
    "check_steered": "tables",
    "check_users": "tables",
    "check_votes": "tables",
    "read_coded_votes": "coded_votes",
    "read_table": "tables",
    "cluster_mean": "clusters",
    "win_rate": "win_rates",
    "yoked_effect": "yoked",
    "planned_contrasts": "contrasts",
    "rank_conditions": "ranking",
    "resample_ranking": "resampled_ranking",
    "crossed_logistic": "logistic",
    "crossed_strengths": "logistic_slopes",
    "participant_spread": "heterogeneity",
    "session_effects": "order_effects",
    "steering_consistency": "consistency",
    "steering_distances": "distances",
    "permanova": "distances",
    "mantel": "distances",
    "monitor_votes": "monitor",
    "power_by_simulation": "power",
    "rating_agreement": "agreement",
    "taste_stability": "stability",
    "own_other_gap": "own_other",
    "expected_search": "optimism",
    "krippendorff_alpha": "alpha",
    "intraclass_table": "intraclass",
    "slider_use": "slider",
    "rating_effects": "mixed",
    "fit_ordinal": "ordinal",
    "pilot_effects": "pilot",
    "Population": "results",
    "AnalysisPlan": "plan",
    "Report": "report",
    "make_report": "report",
    "write_report": "report",
    "write_bundle": "bundle",
    "rerun_bundle": "rerun",
}
"""Public name -> module that defines it. No public name is a module's: importing the module would hide it."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(f"analysis.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
