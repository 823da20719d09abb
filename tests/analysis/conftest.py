"""Shared by the tests of the statistics."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260407)


@pytest.fixture(scope="session")
def stats_reference() -> Path:
    """Folder of published reference data; tests that need it skip without."""
    folder = Path(os.environ.get("BEHOLDER_DATA", "../shared/data")) / "stats_reference"
    if not folder.is_dir():
        pytest.skip("set BEHOLDER_DATA to the folder of public data sets")
    return folder


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder of all public data sets; tests that need it skip without."""
    folder = Path(os.environ.get("BEHOLDER_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip("set BEHOLDER_DATA to the folder of public data sets")
    return folder


@pytest.fixture(scope="session")
def run_r() -> Callable[[str], str]:
    """Run R code and return what it prints; skip without R or a package it loads, but never in CI."""
    program = shutil.which("Rscript")

    def absent(reason: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: the checks against R must run in CI")
        pytest.skip(reason)

    def run(code: str) -> str:
        if program is None:
            absent("no Rscript")
        done = subprocess.run([program, "--vanilla", "-e", code], capture_output=True, text=True, check=False)
        if "there is no package called" in done.stderr:
            absent(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def draw_votes() -> Callable[..., pd.DataFrame]:
    """Votes of people on prompts whose preferences vary by person and by prompt around given log strengths."""

    def draw(
        rng: np.random.Generator,
        strengths: Mapping[str, float],
        *,
        n_people: int = 30,
        n_prompts: int = 20,
        per_person: int = 30,
        sd: float = 0.3,
        left: float = 0.0,
        log_nu: float = -1.0,
    ) -> pd.DataFrame:
        names, value = np.array(list(strengths)), np.array(list(strengths.values()))
        person, prompt = (rng.normal(0, sd, (n, len(names))) for n in (n_people, n_prompts))
        p, i = np.repeat(np.arange(n_people), per_person), rng.integers(0, n_prompts, n_people * per_person)
        a = rng.integers(0, len(names), len(p))
        b = (a + rng.integers(1, len(names), len(p))) % len(names)
        utility = value + person[p] + prompt[i]
        rows = np.arange(len(p))
        d = utility[rows, a] - utility[rows, b] + left
        weight = np.exp(np.stack([d / 2, -d / 2, np.full(len(p), log_nu)], axis=1))
        choice = (rng.random((len(p), 1)) * weight.sum(axis=1, keepdims=True) > weight.cumsum(axis=1)).sum(axis=1)
        return pd.DataFrame(
            {
                "participant_id": [f"u{k:03d}" for k in p],
                "prompt_id": [f"p{k:03d}" for k in i],
                "left_condition": names[a],
                "right_condition": names[b],
                "choice": np.array(["left", "right", "tie"])[choice],
                "order": np.tile(np.arange(per_person), n_people),
            }
        )

    return draw
