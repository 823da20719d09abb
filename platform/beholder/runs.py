"""What every job shares: its command line, its plan and store, and results that say how they were made."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.engine.environment import instruction_set, worker_environment
from beholder.engine.meter import Prices
from beholder.engine.probe import probe
from beholder.engine.progress import Progress, progress_for
from beholder.engine.run import Engine, StageRun
from beholder.engine.runlog import RunCancelledError, RunLog
from beholder.engine.stage import Item, Stage
from beholder.errors import EngineError, OutOfMemoryError, StoreError, UserError
from beholder.plan_field import batch_size_field, dotted, write_field
from beholder.plans import Plan, load_plan
from beholder.records import canonical_json, key_of, table_digest
from beholder.storage import Storage, storage_of
from beholder.store import Store
from beholder.storelock import StoreLock

if TYPE_CHECKING:
    import pandas as pd

QUARANTINED = 3
"""Exit status of a job that finished, but set some rows aside."""
STOPPED = 130
"""Exit status of a job that was cancelled, or stopped with Ctrl-C."""


MOST = 256
"""Where a probe for the largest batch size stops."""


class ProbedError(Exception):
    """Ends a job whose stage was probed, with the largest batch size that fits."""

    def __init__(self, size: int) -> None:
        self.size = size


@dataclass
class Context:
    """What a job works with. One context may serve several jobs, which then share a warm engine."""

    plan: Plan
    store: Store
    engine: Engine
    progress: Progress
    models: str
    """Folder of the model cache."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every table this run made or found."""
    counts: dict[str, int] = field(default_factory=dict)
    probed: str | None = None
    """Name of a stage whose batch size is to be found instead of running it."""

    def run_stage(self, stage: Stage, items: Sequence[Item], label: str) -> StageRun:
        """Run a stage through the ledger and count what was done, found and set aside."""
        if stage.name == self.probed:
            with self.progress.step(f"{label}: find the largest batch size"):
                raise ProbedError(probe(self.engine.backend, stage, items, MOST))
        run = self.engine.run(stage, items, label=label)
        for name, number in (("computed", run.computed), ("found", run.done), ("quarantined", run.failed)):
            self.counts[name] = self.counts.get(name, 0) + number
        return run

    def save(self, name: str, frame: pd.DataFrame, inputs: Sequence[str] = ()) -> pd.DataFrame:
        """Write a table and the record of how it was made. `inputs` name the tables it was made from."""
        digest = table_digest(frame)
        self.store.write_table(name, frame)
        self.store.write_record(f"table-{name}", self.provenance(inputs) | {"digest": digest, "rows": len(frame)})
        self.digests[name] = digest
        return frame

    def load(self, name: str) -> pd.DataFrame:
        """A table that an earlier job wrote.

        Raises
        ------
        StoreError
            If the table is missing, or its record was never finished.
        """
        self.digests[name] = self.digest(name)
        return self.store.read_table(name)

    def digest(self, name: str) -> str:
        """The recorded digest of a table."""
        record = self.store.read_record(f"table-{name}")
        if record is None:
            self.store.read_table(name)
            raise StoreError(f"table {name!r} has no record", remedy="run the job that writes it again")
        return str(record["digest"])

    def files(self, out: str | None, name: str) -> Storage:
        """Where a job's files go: `out` (a folder or a bucket's URL), or else a folder of the store."""
        return self.store.place(name) if out is None else storage_of(out)

    def derive(
        self,
        step: str,
        compute: Callable[[], Mapping[str, pd.DataFrame]],
        *,
        version: int,
        inputs: Sequence[str],
        settings: Any = None,
        shown: bool = True,
        intact: Callable[[], bool] | None = None,
    ) -> dict[str, pd.DataFrame]:
        """Tables computed from tables, once: found again if step, version, settings and inputs are the same.

        `version` is raised by hand when the code of the step gives other results. `shown` is off for a step that runs
        stages, which report themselves. `intact` says whether what it wrote besides its tables is still there.
        """
        made_from = {name: self.digest(name) for name in inputs}
        key = key_of({"step": step, "version": version, "settings": settings, "inputs": made_from})
        record = self.store.read_record(f"step-{step}")
        if record and self._is_made(record, key) and (intact is None or intact()):
            self.counts["found"] = self.counts.get("found", 0) + 1
            return {name: self.load(name) for name in record["outputs"]}
        with self.progress.step(step) if shown else nullcontext():
            tables = {name: self.save(name, frame, inputs) for name, frame in compute().items()}
        outputs = {name: self.digests[name] for name in tables}
        self.store.write_record(f"step-{step}", self.provenance(inputs) | {"key": key, "outputs": outputs})
        self.counts["computed"] = self.counts.get("computed", 0) + 1
        return tables

    def _is_made(self, record: Mapping[str, Any], key: str) -> bool:
        """Whether a step's record is of this key, and its tables are as it left them."""
        return record["key"] == key and all(self._unchanged(n, d) for n, d in record["outputs"].items())

    def _unchanged(self, name: str, digest: str) -> bool:
        record = self.store.read_record(f"table-{name}")
        return record is not None and record["digest"] == digest and self.store.has_table(name)

    def provenance(self, inputs: Sequence[str] = ()) -> dict[str, Any]:
        """Plan, seed, inputs, versions and instruction set: what a reader needs to make the same again."""
        return {
            "plan": self.plan.name,
            "plan_hash": self.plan.hash,
            "seed": self.plan.seed,
            "inputs": {name: self.digest(name) for name in inputs},
            "versions": versions(),
            "instruction_set": instruction_set(),
        }


@cache
def versions() -> dict[str, str]:
    """Installed versions of what the numbers depend on."""
    names = ("beholder", "numpy", "scipy", "pandas", "pyarrow", "torch", "transformers", "ray", "mlflow", "pillow")
    found = {"python": sys.version.split()[0]}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def start(main: Callable[[], int]) -> int:
    """Run a job's `main` in a process with the workers' environment.

    Numerical libraries read their variables when they are loaded, which is before any job can set them: so a process
    that was started without them starts itself again, once, under the same id.
    """
    wanted = worker_environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    return main()


def parser(
    job: str, description: str | None, parents: Sequence[argparse.ArgumentParser] = ()
) -> argparse.ArgumentParser:
    """The command line all jobs share, and a job's own options (`parents`)."""
    shared = argparse.ArgumentParser(
        prog=f"jobs/{job}.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=list(parents),
    )
    shared.add_argument("--plan", type=Path, default=Path("jobs/studies/demo.yaml"), help="YAML plan (%(default)s)")
    shared.add_argument(
        "--store", default="store", help="folder of tables and images, or s3://BUCKET/PREFIX (%(default)s)"
    )
    shared.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as rate.raters=20"
    )
    shared.add_argument("--workers", type=int, default=None, help="Ray workers (all processors)")
    shared.add_argument("--address", default=None, help="Ray cluster to join (a local one is started)")
    shared.add_argument(
        "--gpu-memory-gb",
        type=_gigabytes,
        default=None,
        metavar="GB",
        help="memory of the smallest GPU that workers may get, by which stages share cards (one of them is asked): "
        "for clusters of unlike cards",
    )
    shared.add_argument("--in-process", action="store_true", help="no Ray: one process, for small work")
    shared.add_argument(
        "--probe",
        metavar="STAGE",
        help="find the largest batch size that fits a worker for this stage (as the ledger names it: generate, embed, "
        "score_NAME), write it into the plan, and end",
    )
    shared.add_argument("--force", action="store_true", help="take the store over from a run that is known to be gone")
    shared.add_argument("--dry-run", action="store_true", help="check the plan, say what would be done, do nothing")
    return shared


def _gigabytes(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no memory of a GPU; allowed: above 0, in 10^9 bytes")
    return value


def open_context(arguments: argparse.Namespace) -> Context:
    """Plan, store, engine and progress from the command line. Nothing expensive starts here."""
    from beholder.engine.inprocess import InProcess
    from beholder.engine.raypool import RayPool

    plan, store, progress = load_plan(arguments.plan, arguments.set), Store(arguments.store), progress_for(sys.stderr)
    if arguments.in_process:
        backend: Any = InProcess(store)
    else:
        backend = RayPool(
            store, address=arguments.address, workers=arguments.workers, gpu_memory_gb=arguments.gpu_memory_gb
        )
    models = os.environ.get("BEHOLDER_MODELS", "models")
    hourly = {} if plan.prices is None else plan.prices.model_dump(exclude_none=True)
    engine = Engine(store, backend, progress, prices=Prices(**hourly))
    return Context(plan, store, engine, progress, str(Path(models).absolute()))


def run_job(
    job: str,
    description: str | None,
    argv: Sequence[str] | None,
    body: Callable[[Context], None],
    forecast: Callable[[Plan], Mapping[str, int]],
    parents: Sequence[argparse.ArgumentParser] = (),
) -> int:
    """Run one job from its command line. The last line of standard output is one JSON object.

    `parents` hold options of the job's own, which `body` knows by itself.

    Returns
    -------
    int
        0 when every item is done, 3 when some rows are quarantined, 2 for a user's mistake, 130 after Ctrl-C or
        `beholder runs cancel`.
    """
    arguments = parser(job, description, parents).parse_args(argv)
    started = time.monotonic()
    try:
        if arguments.dry_run:
            plan = load_plan(arguments.plan, arguments.set)
            print(canonical_json({"job": job, "plan_hash": plan.hash, "would_make": dict(forecast(plan))}))
            return 0
        context = open_context(arguments)
        plan, name = context.plan, f"probe-{job}" if arguments.probe else job
        run = run_id(name, plan)
        run_log = RunLog(context.store, run, name, plan.hash, context.progress)
        context.progress, context.engine = run_log, replace(context.engine, progress=run_log)
        with StoreLock(context.store, run, name, plan.hash, force=arguments.force), closing(context.engine), run_log:
            if arguments.probe:
                return probe_job(job, context, body, arguments.plan, arguments.probe)
            body(context)
        tell_changed_plan(job, plan, arguments.plan, arguments.set)
    except RunCancelledError as error:
        print(f"{job}: {error}", file=sys.stderr)
        return STOPPED
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{job}: stopped; the same command goes on from here", file=sys.stderr)
        return STOPPED
    print(last_line(job, context, time.monotonic() - started))
    return QUARANTINED if context.counts.get("quarantined") else 0


def probe_job(job: str, context: Context, body: Callable[[Context], None], plan: Path, stage: str) -> int:
    """Run a job up to one stage, find that stage's largest batch size, and write it into the plan's file.

    Raises
    ------
    OutOfMemoryError
        If not even one item fits.
    """
    place, size = batch_size_field(context.plan, stage), None
    context.probed = stage
    try:
        body(context)
    except ProbedError as found:
        size = found.size
    if size is None:
        raise EngineError(f"the job ran no stage {stage!r}", remedy="probe it with the job it belongs to")
    if not size:
        raise OutOfMemoryError(f"stage {stage!r} does not fit a worker, not even one item at a time")
    write_field(plan, place, size)
    print(canonical_json({"job": job, "plan": str(plan), dotted(place): size, "plan_hash": load_plan(plan).hash}))
    return 0


def tell_changed_plan(job: str, plan: Plan, path: Path, overrides: Sequence[str]) -> None:
    """Say so if the plan's file is not any more what it was when the run read it."""
    try:
        now = load_plan(path, overrides).hash[:12]
    except UserError:
        now = "no plan any more"
    if not plan.hash.startswith(now):
        print(
            f"{job}: {path} changed while this ran (hash {plan.hash[:12]}, now {now}): the results are of the plan as "
            "it was; the same command makes those of the new one",
            file=sys.stderr,
        )


def run_id(job: str, plan: Plan) -> str:
    """The id of a job under a plan: the same at every attempt."""
    return f"{job}-{plan.hash[:12]}"


def last_line(job: str, context: Context, seconds: float) -> str:
    """The JSON object other programs read: job, run, store, digest over the result tables, counts and seconds."""
    return json.dumps(
        {
            "job": job,
            "run_id": run_id(job, context.plan),
            "store": context.store.url,
            "digest": key_of(context.digests),
            "tables": context.digests,
            "counts": context.counts,
            "seconds": round(seconds, 2),
        }
    )


def require(condition: bool, found: str, remedy: str) -> None:
    """Raise an `EngineError` before anything expensive starts."""
    if not condition:
        raise EngineError(found, remedy=remedy)
