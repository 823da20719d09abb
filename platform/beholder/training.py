"""Training of ensembles on the engine: members through the ledger, side by side on its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beholder.errors import EngineError
from beholder.runs import Context

if TYPE_CHECKING:
    from beholder.taste.network_fit import Draw
    from beholder.taste.networks import Network, Training
    from beholder.taste.train_network import Member
    from beholder.taste.training_set import TrainingSet


@dataclass(frozen=True)
class EngineTrainer:
    """Trains members as items of a stage: a `beholder.taste.network_fit.Trainer`, with the bits of the plain one.

    Attributes
    ----------
    context : Context
    label : str
        What the run calls it.
    processes : int
        So many workers train each network together, in place of one.
    """

    context: Context
    label: str
    processes: int = 1

    def __call__(self, data: TrainingSet, network: Network, training: Training, draws: Sequence[Draw]) -> list[Member]:
        """The members, in the order of the draws.

        Raises
        ------
        EngineError
            If one could not be trained.
        """
        from beholder.taste.member_stage import TrainMember, read_member, write_training_set

        store, stage = self.context.store, TrainMember(training.device, self.processes)
        items = stage.items(write_training_set(store, data), network, training, draws)
        run = self.context.run_stage(stage, items, self.label)
        bad = [row for row in run.rows if row["status"] == "failed"]
        if bad:
            raise EngineError(
                f"{len(bad)} of {len(run.rows)} members of an ensemble could not be trained: {bad[0]['error']}",
                remedy="mend the cause, or leave the model out of taste.models",
            )
        return [read_member(store, row) for row in run.rows]
