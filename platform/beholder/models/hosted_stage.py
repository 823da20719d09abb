"""Pictures of hosted services as a stage over keyed items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beholder.errors import EngineError, StoppedError
from beholder.models.diffusers_stage import put_picture
from beholder.models.generators.hosted import Answer, Budget, HostedGenerator, HostedSettings
from beholder.models.interfaces import Needs
from beholder.store import Store

Item = Mapping[str, Any]


@dataclass
class GenerateHosted:
    """`{prompt, seed}` -> an image file of a hosted service and its row, or a row that says why it refused.

    A refusal is a result: `path`, `width`, `height` and `sha256` are None, `refused` holds the service's word. It is
    not asked again.

    Parameters
    ----------
    settings : HostedSettings
    budget : float
        Money that this worker may spend, earlier runs included.
    spent : float
        What the rows in the ledger cost so far.
    """

    settings: HostedSettings
    budget: float
    spent: float = 0.0
    name: str = "generate"
    version: int = 1
    batch_size: int = field(init=False)
    """Requests in flight at once; not part of the key, since each picture is asked for alone."""
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.5, network=True))
    _generator: HostedGenerator | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.batch_size = self.settings.concurrency

    def identity(self) -> Mapping[str, Any]:
        """Service, model and options."""
        return self.settings.identity()

    def setup(self, store: Store) -> None:
        """Look for the key; nothing is asked yet."""
        import numpy as np

        budget = Budget(self.budget, self.spent)
        # Waits decide no result, and workers that drew the same ones would come back all at once.
        self._generator = HostedGenerator(self.settings, budget=budget, rng=np.random.default_rng())
        self._store = store

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Ask for the pictures and store them.

        Raises
        ------
        StoppedError
            The budget is spent, or the service answers nobody; brings the rows of what was paid for before.
        """
        if self._generator is None:
            raise RuntimeError("setup was not called")
        prompts, seeds = [item["prompt"] for item in items], [item["seed"] for item in items]
        try:
            answers = self._generator.generate(prompts, seeds)
        except EngineError as error:
            paid = zip(items, self._generator.paid(prompts, seeds), strict=True)
            rows = [None if answer is None else self._row(item, answer) for item, answer in paid]
            raise StoppedError(error, rows) from error
        return [self._row(item, answer) for item, answer in zip(items, answers, strict=True)]

    def _row(self, item: Item, answer: Answer) -> dict[str, Any]:
        if self._store is None:
            raise RuntimeError("setup was not called")
        file: dict[str, Any] = dict.fromkeys(("path", "width", "height", "sha256"))
        if answer.pixels is not None:
            file = put_picture(self._store, item["_key"], answer.pixels)
        return {
            "prompt": item["prompt"],
            "seed": item["seed"],
            "generator": self.settings.model,
            **file,
            "refused": answer.refused,
            "message": answer.message,
            "model_version": answer.model_version,
            "tries": answer.tries,
            "cost": answer.cost,
        }
