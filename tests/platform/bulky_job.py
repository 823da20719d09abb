"""A job of forty rows of 20 kB: python bulky_job.py --plan ... --store ... --in-process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from beholder.runs import Context, run_job
from beholder.store import Store

ROWS = 40


class Bulky:
    """Every second item also leaves a picture of 20 kB."""

    name, version, batch_size = "bulky", 1, 4

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        self.store = store

    def process(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        for item in items:
            if item["n"] % 2:
                self.store.put_image(item["_key"], b"x" * 20_000)
        return [{"text": "x" * 20_000} for _ in items]


def body(context: Context) -> None:
    """Run the stage, write a table, and do what the test asks for in between."""
    run = context.run_stage(Bulky(), [{"n": n} for n in range(ROWS)], "Bulky")
    context.save("lengths", pd.DataFrame({"length": [len(row["text"]) for row in run.iter_rows()]}))
    if "BULKY_WAIT" in os.environ:
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        sys.stdin.read()


if __name__ == "__main__":
    sys.exit(run_job("bulky", None, sys.argv[1:], body, lambda plan: {}))
