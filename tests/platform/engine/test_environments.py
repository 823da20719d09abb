"""Scorers whose packages fight, side by side in one job: each worker runs in the environment of its scorer's lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from beholder.cli import app
from beholder.engine.chain import Link, run_chain
from beholder.engine.environment import worker_environment
from beholder.errors import EngineError, UserError
from beholder.models.entries import PythonEntry, ScorerEntry
from beholder.models.planned import scorer_settings, scorer_stage
from beholder.models.scorers.environments import STAMP, environment
from beholder.store import Store

ROOT = Path(__file__).parents[3]
SCORER = """
from importlib.metadata import version

import krippendorff
import smallpin


def score(images, prompts):
    assert version("smallpin") == smallpin.VERSION
    return [float(smallpin.VERSION) + (version("krippendorff") == "0.0.1") / 4 for _ in images]
"""


def wheel(folder: Path, name: str, version: str) -> None:
    """A package with one module that knows its version, as pip takes it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, content)


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two locks that no single environment could satisfy; pip finds the packages on disk and nowhere else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("smallpin", "1.0"), ("smallpin", "2.0"), ("krippendorff", "0.0.1")):
        wheel(wheels, name, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (tmp_path / "one.lock").write_text("smallpin==1.0\nkrippendorff==0.0.1  # not the platform's\n")
    (tmp_path / "two.lock").write_text("smallpin==2.0\n")
    return {name: tmp_path / f"{name}.lock" for name in ("one", "two")}


def pictures(store: Store) -> list[dict[str, Any]]:
    items = []
    for i in range(6):
        path = store.path(f"images/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * i, dtype=np.uint8)).save(path)
        items.append({"image": str(i), "_path": f"images/{i}.png"})
    return items


@pytest.mark.ray
def test_two_scorers_with_conflicting_packages_run_in_one_job(
    ray_address: str, engine_of: Any, store: Store, locks: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    cache, said = tmp_path / "cache", []
    entries = {
        name: PythonEntry(file=str(tmp_path / "scorer.py"), name=name, environment=str(lock), batch_size=2)
        for name, lock in locks.items()
    }
    for lock in locks.values():
        for _ in range(2):
            environment(str(lock)).build(cache, said.append)
    assert len(said) == 2  # the second time each of them was there
    assert metadata.version("krippendorff") != "0.0.1"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("smallpin")
    items = pictures(store)
    links = [
        Link(scorer_stage(entries["one"], str(cache)), "one", lambda row: items[int(row["image"])]),
        Link(scorer_stage(entries["two"], str(cache)), "two"),
    ]
    one, two = run_chain(engine_of("ray"), links, items)
    assert [row["score"] for row in one.rows] == [1.25] * 6
    assert [row["score"] for row in two.rows] == [2.0] * 6
    assert len({row["worker"] for row in one.rows} & {row["worker"] for row in two.rows}) == 0


def test_the_wrong_environment_is_refused_before_a_row_is_written(
    engine_of: Any, store: Store, locks: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    entry = PythonEntry(file=str(tmp_path / "scorer.py"), environment=str(locks["one"]))
    with pytest.raises(EngineError, match="not in environment one; to do: run the scorer on Ray"):
        engine_of("inprocess").run(scorer_stage(entry, str(tmp_path)), pictures(store))
    assert not list(store.ledger_rows("score_scorer"))
    with pytest.raises(UserError, match="environment 'three'"):
        scorer_stage(PythonEntry(file="x.py", environment="three"), str(tmp_path))


def test_a_build_that_was_cut_short_starts_again(locks: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    lock = environment(str(locks["one"]))
    python = lock.build(tmp_path / "cache", said.append)
    (lock.folder(tmp_path / "cache") / STAMP).unlink()
    left = lock.folder(tmp_path / "cache") / "half a package"
    left.touch()
    assert lock.build(tmp_path / "cache", said.append) == python
    assert len(said) == 2
    assert not left.exists()
    found = subprocess.run(
        [python, "-c", "import smallpin, beholder, numpy; print(smallpin.VERSION, numpy.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["1.0", np.__version__]
    assert sys.executable != str(python)


def test_a_package_that_cannot_be_had_is_one_line(locks: dict[str, Path], tmp_path: Path) -> None:
    locks["two"].write_text("smallpin==3.0\n")
    with pytest.raises(EngineError, match=r"environment two cannot be built: ERROR: No matching .*smallpin==3\.0"):
        environment(str(locks["two"])).build(tmp_path / "cache", lambda text: None)
    assert not environment(str(locks["two"])).is_built(environment(str(locks["two"])).folder(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_scorers_real_environment_beside_the_platforms_own(
    ray_address: str, engine_of: Any, store: Store, tmp_path: Path
) -> None:
    """Q-Align's class with random weights, in pyiqa's locked environment with its own torch; about 6 GB the first time.

    What the worker says is what the environment's Python says by hand. BEHOLDER_ENVIRONMENTS names a folder to keep it.
    """
    cache = Path(os.environ.get("BEHOLDER_ENVIRONMENTS", tmp_path / "cache"))
    python = environment("pyiqa").build(cache, print)
    script = ROOT / "tests" / "platform" / "models" / "scorer_in_environment.py"
    variables = dict(os.environ) | {"PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    by_hand = subprocess.run(
        [python, script, "qalign", tmp_path], env=variables | worker_environment(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    expected = json.loads(by_hand.stdout.strip().splitlines()[-1])["scores"]
    items = []
    for i, picture in enumerate(golden()):
        path = store.path(f"images/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        items.append({"image": str(i), "_path": f"images/{i}.png"})
    network = ScorerEntry(
        model="qalign", checkpoint=str(tmp_path / "owl"), device="cpu", dtype="float32", batch_size=2,
        memory_gb=2,
    )  # fmt: skip
    (tmp_path / "qalign.yaml").write_text(json.dumps(scorer_settings(network)))
    recorded = CliRunner().invoke(
        app, ["models", "canary", str(tmp_path / "qalign.yaml"), "--record", "--offline", "--cache", str(cache)]
    )
    assert recorded.exit_code == 0, recorded.exception
    links = [
        Link(scorer_stage(network, str(cache)), "Q-Align", lambda row: items[int(row["image"])]),
        Link(scorer_stage("statistics", str(cache)), "Statistics"),
    ]
    scores, statistics = run_chain(engine_of("ray"), links, items)
    assert [row["score"] for row in scores.rows] == expected
    assert (scores.failed, statistics.computed) == (0, 3)


def golden() -> list[np.ndarray]:
    """The pictures that the script scores."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (60 + 9 * i, 80 - 7 * i, 3), dtype=np.uint8) for i in range(3)]
