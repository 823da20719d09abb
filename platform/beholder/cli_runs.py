"""`beholder runs`: what the runs of a store are doing, from files alone; no cluster has to answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from beholder.engine.runlog import RunState, StageState

runs = typer.Typer(help="Runs of a store: list, show, pause, resume, cancel. Works while the cluster is down.")

StoreFolder = Annotated[str, typer.Option("--store", help="Folder of tables and images.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, as `beholder runs` lists it.")]


@runs.callback(invoke_without_command=True)
def runs_list(context: typer.Context, store: StoreFolder = "store") -> None:
    """List the runs of a store, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from beholder.engine.runlog import run_states, utc_now
    from beholder.store import Store

    table = Table(box=None, pad_edge=False)
    for title in ("run", "state", "attempt", "started", "now at"):
        table.add_column(title, overflow="fold")
    for state in run_states(Store.existing(store), utc_now()):
        table.add_row(state.run_id, state.state, str(state.attempt), state.started_at, _place(state))
    Console().print(table)


@runs.command("show")
def runs_show(run: RunId, store: StoreFolder = "store", json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show every stage of one run: items found, done, failed, rate, time left, idle workers, cost; and what stalled."""
    from rich.console import Console
    from rich.table import Table

    from beholder.engine.runlog import run_state, utc_now
    from beholder.store import Store

    state = run_state(Store.existing(store), run, utc_now())
    if json:
        typer.echo(state.to_json())
        return
    console = Console()
    console.print(
        f"{state.run_id}: {state.state}, attempt {state.attempt}, process {state.pid} on {state.host}, "
        f"last heard of {state.heartbeat}",
        highlight=False,
    )
    if state.error:
        console.print(state.error, style="red", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for title in ("items", "found", "done", "failed", "rate", "seconds", "left", "idle", "cost"):
        table.add_column(title, justify="right")
    for stage in state.stages:
        table.add_row(*_cells(stage))
    console.print(table)
    for stage in state.stages:
        if stage.stalled and not stage.ended:
            console.print(stage.stalled, style="yellow", highlight=False)


def _wish(run: str, store: str, wish: Literal["pause", "resume", "cancel"]) -> None:
    from beholder.engine.runlog import ask, utc_now
    from beholder.store import Store

    ask(Store.existing(store), run, wish, utc_now())
    typer.echo(f"{run}: asked to {wish}; it obeys after the batches under way")


@runs.command("pause")
def runs_pause(run: RunId, store: StoreFolder = "store") -> None:
    """Let a run wait after the batches under way."""
    _wish(run, store, "pause")


@runs.command("resume")
def runs_resume(run: RunId, store: StoreFolder = "store") -> None:
    """Let a paused run go on."""
    _wish(run, store, "resume")


@runs.command("cancel")
def runs_cancel(run: RunId, store: StoreFolder = "store") -> None:
    """Stop a run after the batches under way. What is done stays done."""
    _wish(run, store, "cancel")


def _place(state: RunState) -> str:
    if not state.stages:
        return ""
    stage = state.stages[-1]
    return stage.label if stage.total is None else f"{stage.label} {stage.done}/{stage.total}"


def _cells(stage: StageState) -> list[str]:
    if stage.total is None:
        return [stage.label, "", "", "done" if stage.ended else "at work", "", "", f"{stage.seconds:.0f}", "", "", ""]
    left = "" if stage.ended or math.isnan(stage.seconds_left) else f"{stage.seconds_left:.0f} s"
    rate = "" if math.isnan(stage.rate) else f"{stage.rate:.3g}/s"
    counts = [str(n) for n in (stage.total, stage.found, stage.done, stage.failed)]
    idle = "" if stage.idle is None else f"{stage.idle:.0%}"
    cost = "" if stage.cost is None else f"{stage.cost:.2f}"
    return [stage.label, *counts, rate, f"{stage.seconds:.0f}", left, idle, cost]
