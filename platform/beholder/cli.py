"""The `beholder` command: thin, over library functions that are imported only when their command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beholder.cli_runs import runs
from beholder.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure and serve personal taste in images.")
models = typer.Typer(no_args_is_help=True, help="The small models that run without a GPU.")
app.add_typer(models, name="models")
app.add_typer(runs, name="runs")

Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of the model cache [default: $BEHOLDER_MODELS, else models/]", show_default=False),
]


@models.command("fetch")
def models_fetch(
    which: Annotated[str, typer.Argument(metavar="SET", help='"embedded" (all of them) or the id of one model')],
    cache: Cache = None,
) -> None:
    """Fetch model weights with pip, check their digests and store them. What is there already is left alone."""
    from rich.console import Console

    from beholder.models import weights

    console = Console(stderr=True)
    with console.status("looking at the cache") as status:
        report = status.update if console.is_terminal else console.print
        fetched = weights.fetch(weights.names_of(which), cache, report=report)
    for name in weights.names_of(which):
        typer.echo(f"{name}\t{'fetched' if name in fetched else 'there already'}\t{weights.folder(name, cache)}")


@models.command("list")
def models_list(
    cache: Cache = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash the stored files again (seconds).")] = False,
) -> None:
    """List the embedded models: what for, licence, source, and whether each is in the cache."""
    from rich.console import Console
    from rich.table import Table

    from beholder.models import weights

    table = Table(box=None, pad_edge=False)
    for title in ("model", "role", "licence", "source", "MB", "in the cache"):
        table.add_column(title, overflow="fold")
    bad = False
    for name, model in weights.locked().items():
        size, state = "", "no"
        if weights.present(name, cache):
            try:
                stored = weights.manifest(name, cache)
                if verify:
                    weights.verify(name, cache)
                size = f"{sum(file['bytes'] for file in stored['files'].values()) / 1e6:.0f}"
                state = "verified" if verify else "yes"
            except UserError as error:
                bad, state = True, f"damaged: {error}"
        table.add_row(name, model.role, model.licence, f"{model.package} {model.version}", size, state)
    Console().print(table)
    if bad:
        raise typer.Exit(2)


def main() -> None:
    """Run the command; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"beholder: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
