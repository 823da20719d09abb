"""The `beholder` command: thin, over library functions that are imported only when their command runs."""

from __future__ import annotations

import sys

import typer

from beholder.cli_import import import_data
from beholder.cli_models import models
from beholder.cli_runs import runs
from beholder.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure and serve personal taste in images.")
app.command("import")(import_data)
app.add_typer(models, name="models")
app.add_typer(runs, name="runs")


def main() -> None:
    """Run the command; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"beholder: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
