"""A study small enough to be made in seconds, in this process, with the embedded models; made once for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Progress, Quiet
from beholder.engine.run import Engine
from beholder.models import weights
from beholder.plans import load_plan
from beholder.runs import Context
from beholder.store import Store

MODELS = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[2] / "models"))
TINY = """
name: tiny
seed: 4
generate: {size: 64, prompts: 12, seeds_per_prompt: 2, calibration_prompts: 18}
rate: {raters: 8, per_image: 6}
embed: {size: 64}
taste: {prompt_folds: 3, user_folds: 2, context: 5}
steer: {raters: 4, prompts: 3, rounds: 2, candidates: 4, parents: 2, rewriter: phrases}
study: {trials: 8, repeats: 0}
"""


@dataclass(frozen=True)
class TinyStudy:
    """A plan and a store in which people have rated."""

    plan: Path
    store: Path

    def context(self, *overrides: str, progress: Progress | None = None) -> Context:
        """A fresh context on the store, as a process that starts now has it."""
        store, said = Store(self.store), progress or Quiet()
        return Context(
            load_plan(self.plan, overrides), store, Engine(store, InProcess(store), said), said, str(MODELS.absolute())
        )

    def copy(self, to: Path) -> TinyStudy:
        """The same study in another place."""
        shutil.copytree(self.store, to)
        return TinyStudy(self.plan, to)


@pytest.fixture(scope="session")
def rated_study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """Images, ratings and features of the tiny plan."""
    missing = [name for name in ("minilm", "efficientnet_lite0") if not weights.present(name, MODELS)]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"{', '.join(missing)} not in {MODELS}: beholder models fetch embedded")
    import embed
    import generate
    import simulate_ratings

    folder = tmp_path_factory.mktemp("rated")
    (folder / "tiny.yaml").write_text(TINY)
    study = TinyStudy(folder / "tiny.yaml", folder / "store")
    context = study.context()
    with context.engine:
        for job in (generate, embed, simulate_ratings):
            job.run(context)
    return study


@pytest.fixture
def study_copy(rated_study: TinyStudy, tmp_path: Path) -> Callable[[], TinyStudy]:
    """Makes copies of the rated study, each with a life of its own."""
    made = 0

    def copy() -> TinyStudy:
        nonlocal made
        made += 1
        return rated_study.copy(tmp_path / f"store_{made}")

    return copy
