"""Shared by the tests of the statistics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
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
