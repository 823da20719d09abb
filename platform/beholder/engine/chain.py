"""Stages in a row, all at work at once: what one has finished the next takes up, and nobody runs far ahead.

`generate -> embed -> score` needs no wait between the stages: while pictures are drawn, those already there are
embedded. Between two stages lie at most a few batches of items (images never travel, so these are short rows); a stage
whose follower is full gets no new batch until it has room. Every row goes through the ledger, so a chain that was
killed goes on, and gives the same rows as its stages run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np

from beholder.engine.admission import admit
from beholder.engine.inprocess import InterruptedBatchError, Outcome
from beholder.engine.ledger import Keys, Row, short_key
from beholder.engine.progress import Advance
from beholder.engine.run import Engine, FailureGuard, StageRun
from beholder.engine.stage import Item, Keyed, KeyMaker, Stage
from beholder.errors import OutOfMemoryError

BACKLOG = 8
"""Batches that may wait for a stage before the one ahead of it is held back."""


@dataclass(frozen=True)
class Link:
    """One stage of a chain.

    Attributes
    ----------
    stage : Stage
    label : str
        The name shown.
    follow : callable
        Makes the next stage's item from a finished row of this one; None where nothing follows from it. Must depend on
        the row alone. Not asked at the last link.
    """

    stage: Stage
    label: str
    follow: Callable[[Row], Item | None] = lambda row: None


def run_chain(engine: Engine, links: Sequence[Link], items: Sequence[Item]) -> list[StageRun]:
    """Do what is missing of all stages, streaming from one to the next.

    Parameters
    ----------
    engine : Engine
    links : sequence of Link
        Stages with different names.
    items : sequence of dict
        Of the first stage; read once in order, and once more for the result's keys.

    Returns
    -------
    list of StageRun
        One a link. Rows of a later link come in the order of the first link's items. `done` counts items whose row was
        there when their turn came, doubles of this plan among them.

    Raises
    ------
    EngineError
        As `Engine.run`.
    ValueError
        If two links share a stage name: their rows would lie in one ledger twice open.
    """
    if len({link.stage.name for link in links}) != len(links):
        raise ValueError(f"stages of a chain need different names, got {[link.stage.name for link in links]}")
    started = engine.clock()
    with ExitStack() as stack:
        flows = [
            _Flow(engine, link, len(items), stack.enter_context(engine.progress.stage(link.label, len(items), 0, 0)))
            for link in links
        ]
        for flow, after in pairwise(flows):
            flow.after = after
        flows[0].feed = iter(items)
        stream = stack.enter_context(closing(engine.backend.stream([(f.link.stage, f) for f in flows])))
        try:
            for number, outcomes in stream:
                flows[number].receive(outcomes)
        except InterruptedBatchError as stop:
            stream.close()
            next(flow for flow in flows if stop.outcomes[0].key in flow.under_way).receive(stop.outcomes)
            raise stop.error from None
        except OutOfMemoryError as error:
            stream.close()
            (flow,) = (f for f in flows if error.found.startswith(f"stage {f.link.stage.name!r} "))
            tried = [*flow.under_way.values(), *(keyed.item for keyed in flow.waiting.values())]
            raise engine.naming_size(error, flow.link.stage, tried) from None
    seconds = (engine.clock() - started).total_seconds()
    return [flow.result(keys, seconds) for flow, keys in zip(flows, _keys(flows, items), strict=True)]


@dataclass(eq=False)
class _Flow:
    """One stage's part of a chain: its queue, what is under way, and whom to hand results to."""

    engine: Engine
    link: Link
    planned: int
    advance: Advance
    feed: Iterator[Item] | None = None
    """Of the first stage: the plan's items that were not looked at yet."""
    after: _Flow | None = None
    closed: bool = False
    """Nothing new will be pushed."""
    waiting: dict[str, Keyed] = field(default_factory=dict, init=False)
    under_way: dict[str, Item] = field(default_factory=dict, init=False)
    done: int = 0
    computed: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self.maker, self.ledger = KeyMaker(self.link.stage), self.engine.ledger(self.link.stage.name)
        self.guard = FailureGuard(self.engine, self.link.stage, self.planned)
        self.meter = self.engine.meter(self.link.stage)

    @property
    def full(self) -> bool:
        """Whether the stage ahead has to wait."""
        return len(self.waiting) >= BACKLOG * self.link.stage.batch_size

    def take(self) -> list[Keyed] | None:
        """The next batch, short only at the end; None if there is none now."""
        size = self.link.stage.batch_size
        if self.after is not None and self.after.full:
            return None
        self._read(size)
        if len(self.waiting) < size and not self.closed:
            return None
        batch = [self.waiting.pop(key) for key in list(islice(self.waiting, size))]
        self.under_way.update(batch)
        return batch or None

    def _read(self, size: int) -> None:
        """Look at the plan's items until a batch of missing ones is there, or the follower has enough."""
        while self.feed is not None and len(self.waiting) < size and not (self.after is not None and self.after.full):
            item = next(self.feed, None)
            if item is None:
                self.feed, self.closed = None, True
                self._tell_end()
            else:
                self.push(item)

    def push(self, item: Item) -> None:
        """One more item: handed on if its row is there, else to be done."""
        key = self.maker.key(item)
        if key in self.under_way or key in self.waiting:
            return
        state, short = self.ledger.state(key), short_key(key)
        if state is not None and not state.failed:
            self.done += 1
            self.advance(1, 0)
            self._hand_on([self.ledger.row(short)])
        elif state is not None and state.attempt > self.engine.retries:
            self.failures += 1
            self.advance(0, 1)
            if self.guard.exceeded(self.failures):
                self.guard.stop(self.failures, self.ledger.row(short))
        else:
            self.waiting[key] = Keyed(key, admit({**item, "_key": key}))

    def receive(self, outcomes: Sequence[Outcome]) -> None:
        """Write what came back, and hand it on."""
        rows = self.engine.record(self.ledger, outcomes, self.under_way)
        bad = [row for row in rows if row["status"] == "failed"]
        self.computed += len(rows) - len(bad)
        self.failures += len(bad)
        self.advance(len(rows) - len(bad), len(bad), self.meter.record(outcomes, len(self.under_way)))
        if bad and self.guard.exceeded(self.failures):
            self.guard.stop(self.failures, bad[0])
        self._hand_on([row for row in rows if row["status"] == "ok"])
        self._tell_end()

    def _hand_on(self, rows: Sequence[Row]) -> None:
        if self.after is not None:
            for row in rows:
                if (item := self.link.follow(row)) is not None:
                    self.after.push(item)

    def _tell_end(self) -> None:
        """Tell the follower once nothing can come from here any more."""
        if self.after is not None and self.closed and not self.waiting and not self.under_way:
            self.after.closed = True
            self.after._tell_end()

    def result(self, keys: Keys, seconds: float) -> StageRun:
        """Counts and rows of this link."""
        return StageRun(keys, self.done, self.computed, self.failures, seconds, self.ledger)


def _keys(flows: Sequence[_Flow], items: Sequence[Item]) -> Generator[Keys, None, None]:
    """Short keys of every link's rows, in the order of the first link's items."""
    wanted: Iterator[Item] = iter(items)
    for flow in flows:
        keys = np.array([short_key(flow.maker.key(item)) for item in wanted], dtype="S16")
        yield keys
        wanted = _followers(flow, keys)


def _followers(flow: _Flow, keys: Keys) -> Iterator[Item]:
    """The next stage's items, from the rows of this one."""
    for row in flow.ledger.rows(keys):
        if row["status"] == "ok" and (item := flow.link.follow(row)) is not None:
            yield item
