"""Who serves: only a whole interval above 0 moves the champion."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from beholder.taste.champion import choose

MODELS = ("constant", "population", "ridge", "slopes")
ACCURACY = {"constant": 0.5, "population": 0.62, "ridge": 0.63, "slopes": 0.66}


def table(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """`a` less `b` with its half width."""
    frame = pd.DataFrame(rows, columns=["a", "b", "estimate", "half"])
    return frame.assign(ci_low=frame["estimate"] - frame["half"], ci_high=frame["estimate"] + frame["half"])


@pytest.fixture
def differences() -> pd.DataFrame:
    return table(
        ("population", "constant", 0.12, 0.02), ("ridge", "constant", 0.13, 0.02), ("slopes", "constant", 0.16, 0.02),
        ("ridge", "population", 0.01, 0.02), ("population", "slopes", -0.04, 0.03), ("slopes", "ridge", 0.03, 0.04),
    )  # fmt: skip


def test_the_first_champion_is_climbed_to(differences: pd.DataFrame) -> None:
    """ridge does not surely beat population, slopes does: the simplest model that nobody beats."""
    found = choose(MODELS, ACCURACY, differences, None, "test")
    assert (found.champion, found.challenger) == ("slopes", None)
    assert "slopes beats population by +4.0 [+1.0, +7.0]" in found.reason


def test_an_incumbent_stays_until_it_is_surely_beaten(differences: pd.DataFrame) -> None:
    found = choose(MODELS, ACCURACY, differences, "ridge", "test")
    assert (found.champion, found.challenger) == ("ridge", "slopes")
    assert "not shown" in found.reason
    assert choose(MODELS, ACCURACY, differences, "slopes", "test").champion == "slopes"


def test_the_interval_over_prompts_counts_where_it_is_there(differences: pd.DataFrame) -> None:
    wide = differences.assign(prompt_ci_low=differences["ci_low"] - 0.05, prompt_ci_high=differences["ci_high"] + 0.05)
    found = choose(MODELS, ACCURACY, wide, None, "test")
    assert (found.champion, found.challenger) == ("population", "slopes")


def test_what_was_not_compared_moves_nothing(differences: pd.DataFrame) -> None:
    assert choose(MODELS, ACCURACY, differences[:0], "population", "test").champion == "population"
    nobody = differences.assign(ci_low=math.nan, ci_high=math.nan)
    assert choose(MODELS, ACCURACY, nobody, None, "test").champion == "constant"
    gone = choose(MODELS, ACCURACY, differences, "stack", "test")
    assert (gone.champion, gone.challenger) == ("stack", "slopes")
    assert "was not tested" in gone.reason
