"""A stage whose items two processes share, and what can go wrong in one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beholder.store import Store


@dataclass(eq=False)
class AddUp:
    """`{x, do}` -> the sum of x over the processes, each of which has it times its number, from 1."""

    processes: int = 2
    name: str = "add_up"
    version: int = 1
    batch_size: int = 1
    _group: Any = field(default=None, repr=False)
    _store: Any = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        return {"processes": self.processes}

    def setup(self, store: Store) -> None:
        self._store = store

    def join(self, group: Any) -> None:
        self._group = group

    def process(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self._one(item) for item in items]

    def _one(self, item: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        rank, do = self._group.rank, item.get("do")
        if do == f"raise in {rank}":
            raise ValueError(f"nothing to add in process {rank}")
        if do == f"die in {rank}, once" and not self._store.exists("died"):
            self._store.write_file("died", b"")
            os._exit(1)
        if do == f"die in {rank}":
            os._exit(1)
        if do == "differ":
            return {"sum": rank}
        whole = [torch.full((2, 3), float(item["x"] * (rank + 1))), torch.tensor(float(rank))]
        self._group.add(whole)
        return {"sum": float(whole[0].sum()), "ranks": float(whole[1]), "pid": os.getpid() if item.get("pid") else 0}
