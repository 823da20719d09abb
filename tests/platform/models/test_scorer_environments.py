"""Scorers in their own environments, built from their locks: tiny random checkpoints of the packages' own classes.

Each environment takes one to two minutes and about 6 GB. BEHOLDER_ENVIRONMENTS names a folder where they are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.utils import canonicalize_name

from beholder.models.scorers import SCORERS
from beholder.models.scorers.environments import FOLDER, PLATFORM, environment, names

ROOT = Path(__file__).parents[3]
OWN = {name: spec.environment for name, spec in SCORERS.items() if spec.environment != PLATFORM}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = os.environ.get("BEHOLDER_ENVIRONMENTS")
    return Path(place) if place else tmp_path_factory.mktemp("environments")


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_lock_resolves_to_itself(name: str, tmp_path: Path) -> None:
    """pip's resolver, which here follows requirements, finds no conflict and asks for no package besides."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    python, report = tmp_path / "empty" / "bin" / "python", tmp_path / "report.json"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--dry-run", "--quiet"]
    command = [*pip, "--report", str(report), "-r", str(FOLDER / f"{name}.lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    resolved = {f"{canonicalize_name(package['name'])}=={package['version']}" for package in found}
    locked = (line.split("==") for line in environment(name).packages)
    assert resolved == {f"{canonicalize_name(package)}=={version}" for package, version in locked}


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
