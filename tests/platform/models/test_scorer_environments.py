"""Scorers in their own environments, built from their locks: tiny random checkpoints of the packages' own classes.

Each environment takes one to two minutes and about 6 GB. BEHOLDER_ENVIRONMENTS names a folder where they are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.models.scorers import SCORERS
from beholder.models.scorers.environments import PLATFORM, environment

ROOT = Path(__file__).parents[3]
OWN = {name: spec.environment for name, spec in SCORERS.items() if spec.environment != PLATFORM}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = os.environ.get("BEHOLDER_ENVIRONMENTS")
    return Path(place) if place else tmp_path_factory.mktemp("environments")


@pytest.mark.slow
@pytest.mark.parametrize("scorer", OWN)
def test_a_tiny_checkpoint_in_the_real_environment(scorer: str, kept: Path, tmp_path: Path) -> None:
    python = environment(OWN[scorer]).build(kept, print)
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    script = Path(__file__).with_name("scorer_in_environment.py")
    done = subprocess.run(
        [str(python), str(script), scorer, str(tmp_path)], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    # float32 on both sides; what is worked out by hand adds up in another order.
    np.testing.assert_allclose(found["scores"], found["by_hand"], atol=2e-6)
    assert found["scores"] == found["backwards"] == found["alone"]
    assert len(set(found["scores"])) == 3
    assert (found["other_prompts"] != found["scores"]) == found["needs_prompt"]
    assert found["needs_prompt"] == SCORERS[scorer].needs_prompt
