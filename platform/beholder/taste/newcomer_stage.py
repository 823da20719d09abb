"""The sweep over newcomers' ratings as a stage over keyed items: one fold, with every setting of the sweep."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from beholder.errors import StoreError
from beholder.store import Store
from beholder.taste.fold_stage import PredictFold
from beholder.taste.newcomers import Sweep, predict_newcomers
from beholder.taste.registry import taste_model

if TYPE_CHECKING:
    import pandas as pd

Item = Mapping[str, Any]


@dataclass(eq=False)
class SweepFold:
    """`{fold, model, settings}` -> a Parquet file with every setting's predictions for one fold of newcomers.

    Attributes
    ----------
    folds : PredictFold
        The tables and how they are split: only `unseen`, with the largest context of the sweep.
    sweep : Sweep
    """

    folds: PredictFold
    sweep: Sweep
    name: str = "newcomers"
    version: int = 2
    batch_size: int = 1
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """The folds' own, and what is tried."""
        return {"folds": self.folds.identity(), "sweep": asdict(self.sweep)}

    def setup(self, store: Store) -> None:
        """Check the tables, as the folds do."""
        self.folds.setup(store)
        self._store = store

    def items(self, model: str) -> list[dict[str, Any]]:
        """Every fold with the reward model of this name behind all methods."""
        folds = range(len(self.folds.prepared().splits))
        return [{"fold": fold, "model": model, "settings": repr(taste_model(model))} for fold in folds]

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Sweep each item's fold."""
        return [self._sweep(item) for item in items]

    def _sweep(self, item: Item) -> dict[str, Any]:
        if self._store is None:
            raise RuntimeError("setup was not called")
        folded, fold = self.folds.prepared(), item["fold"]
        found = predict_newcomers(
            folded.splits[fold],
            folded.pictures,
            folded.design(fold),
            self.sweep,
            [folded.seed, 2, fold],
            taste_model(item["model"]),
            folded.people,
        )
        buffer = io.BytesIO()
        found.to_parquet(buffer, index=False)
        path = f"newcomers/{item['_key'][:2]}/{item['_key']}.parquet"
        self._store.write_file(path, buffer.getvalue())
        return {"path": path, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}


def read_sweep(store: Store, row: Mapping[str, Any]) -> pd.DataFrame:
    """The predictions of a row of the stage.

    Raises
    ------
    StoreError
        If the file is gone, or not what was written.
    """
    import pandas as pd

    try:
        data = store.read(row["path"])
    except FileNotFoundError as error:
        raise StoreError(f"{row['path']} is gone", remedy="remove the folder ledger/newcomers and run again") from error
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise StoreError(f"{row['path']} is not what was written", remedy="remove it and ledger/newcomers, run again")
    return pd.read_parquet(io.BytesIO(data))
