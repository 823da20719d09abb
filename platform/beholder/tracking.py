"""MLflow: which model was trained from what, how good it is, where it lies, and which one is the champion.

Runs, models and versions carry the key of their content, so that logging the same thing again, or going on after a
kill, finds what is there and adds what is missing. Nothing is pickled: a logged model is code plus safetensors.

Without `MLFLOW_TRACKING_URI` everything is in the store, which must be a folder then: `mlflow.db` (SQLite) and
`mlflow/`. A new SQLite database that several processes open at once is left broken, and making its tables takes seconds
in which a kill leaves half of them: so it is made under a lock in a temporary file, which then gets its name. MLflow
keeps absolute paths: a store that is moved keeps its runs and metrics, but loads its models from `models/` only.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from beholder.errors import StoreError
from beholder.records import canonical_json, key_of
from beholder.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

KEY = "beholder.key"
"""Tag of runs, models and versions: the key of what they record."""
CHAMPION = "champion"
CHALLENGER = "challenger"
REASON = "beholder.reason"
"""Tag of the versions with an alias: why they have it."""
DIGEST_LENGTH = 36
"""What MLflow keeps of a data set's digest; the whole one is a tag."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Set before MLflow is loaded, unless the caller has set them."""
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class ServedModel:
    """A model to be logged as a pyfunc from code.

    Attributes
    ----------
    code : Path
        Python file that ends with `mlflow.models.set_model(...)`.
    folder : Path
        Its files, found again as `context.artifacts["model"]`.
    example : pd.DataFrame
        A few rows of input.
    answer : pd.DataFrame
        What it says to them: with `example` it makes the signature.
    requirements : tuple of str
        Packages it needs; MLflow's own search for them is slow and is not used.
    """

    code: Path
    folder: Path
    example: pd.DataFrame
    answer: pd.DataFrame
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class TrainingRun:
    """What is logged of one training.

    Attributes
    ----------
    name : str
        Of the run and the logged model, such as `eb_slopes`.
    params, tags : mapping of str to str
    metrics : mapping of str to float
        Finite numbers.
    data : mapping of str to str
        Digest (SHA-256) of every table it learned from.
    model : ServedModel
    model_digest : str
        SHA-256 of the model's files.
    curves : mapping of str to mapping of int to float
        Finite numbers by step, such as accuracy by tie margin.
    """

    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    data: Mapping[str, str]
    model: ServedModel
    model_digest: str
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key of what was learned from what: a plan that changes elsewhere does not make another run of it."""
        content = {
            "name": self.name,
            "params": dict(self.params),
            "metrics": {k: float(v) for k, v in self.metrics.items()},
            "data": dict(self.data),
            "model": self.model_digest,
        }
        if self.curves:
            content["curves"] = {k: {str(step): v for step, v in curve.items()} for k, curve in self.curves.items()}
        return key_of(content)


@dataclass(frozen=True)
class Logged:
    """Where MLflow keeps it. `version` is that of the registered model; a model lies at `models:/<model_id>` too."""

    run_id: str
    model_id: str
    version: str


def tracking_uri(store: Store) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file of the store.

    Raises
    ------
    StoreError
        If it is not set and the store is a bucket, where no database can lie.
    """
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    if not store.is_folder:
        raise StoreError(
            f"MLflow's database cannot lie in {store.url}",
            "a tracking server, or a database on a disk",
            "set MLFLOW_TRACKING_URI, such as http://HOST:5000 or sqlite:////shared/mlflow.db",
        )
    return f"{SQLITE}{store.root / 'mlflow.db'}"


def database_of(uri: str) -> Path | None:
    """The file of an SQLite URI; None for a server."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


class Tracker:
    """Logs to one experiment and one registered model. Opening it imports MLflow: one to three seconds.

    Parameters
    ----------
    store : Store
        Holds database and models where no tracking server is named, and the lock that keeps writers apart.
    name : str
        Of the experiment and of the registered model. On a server shared with others it should be told apart from
        theirs.

    Raises
    ------
    StoreError
        If the database is of another MLflow version.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.uri, self.name = tracking_uri(store), name
        self._database = database_of(self.uri)
        self._artifacts = self._database.with_name("mlflow") if self._database else None
        self._lock = _lock_file(store, self._database)
        for variable, value in _QUIET.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            with _locked(self._lock):
                if self._database is not None and self._artifacts is not None:
                    _make_database(self._database, self._artifacts)
                self._client: MlflowClient = MlflowClient(self.uri, os.environ.get("MLFLOW_REGISTRY_URI") or self.uri)
                self._experiment = self._experiment_id()
        except MlflowException as error:
            raise StoreError(
                f"MLflow at {self.uri} cannot be used: {str(error).splitlines()[0]}",
                remedy=f"run `mlflow db upgrade {self.uri}`, or name another server in MLFLOW_TRACKING_URI",
            ) from error

    def log(self, run: TrainingRun) -> Logged:
        """Log run and model and register the model, each once: what is there with the same key is found again."""
        with _locked(self._lock):
            run_id = self._log_run(run)
            model_id = self._log_model(run, run_id)
            version = self._register(run, run_id, model_id)
            self._client.set_terminated(run_id, "FINISHED")
        return Logged(run_id, model_id, version)

    def promote(self, version: str, alias: str = CHAMPION, reason: str | None = None) -> None:
        """Move an alias of the registered model to a version, and say there why."""
        with _locked(self._lock):
            if self.aliased(alias) != version:
                self._client.set_registered_model_alias(self.name, alias, version)
            if reason is not None:
                self._client.set_model_version_tag(self.name, version, REASON, reason)

    def withdraw(self, alias: str) -> None:
        """Take an alias away, if it is there."""
        with _locked(self._lock):
            if self.aliased(alias) is not None:
                self._client.delete_registered_model_alias(self.name, alias)

    def model_of(self, alias: str = CHAMPION) -> str | None:
        """The name under which the version of an alias was logged, or None."""
        version = self.aliased(alias)
        return None if version is None else str(self._client.get_model_version(self.name, version).tags["model"])

    def aliased(self, alias: str = CHAMPION) -> str | None:
        """The version an alias points to, or None."""
        found = self._client.get_registered_model(self.name).aliases.get(alias)
        return None if found is None else str(found)

    def model_uri(self, alias: str = CHAMPION) -> str:
        """What `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.name}@{alias}"

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        # A server knows its own place for artifacts; on SQLite they would go to the current folder.
        place = self._artifacts.as_uri() if self._artifacts is not None else None
        return str(self._client.create_experiment(self.name, artifact_location=place))

    def _log_run(self, run: TrainingRun) -> str:
        from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

        found = self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{run.key}'")
        started = (
            found[0] if found else self._client.create_run(self._experiment, tags={KEY: run.key}, run_name=run.name)
        )
        run_id = str(started.info.run_id)
        if started.info.status == "FINISHED":
            return run_id
        at = int(started.info.start_time)  # the same when a killed run is gone on with, so no metric is there twice
        tags = {**run.tags, "model_digest": run.model_digest} | {f"digest.{t}": d for t, d in run.data.items()}
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), at, 0) for name, value in run.metrics.items()]
            + [Metric(name, float(v), at, step) for name, curve in run.curves.items() for step, v in curve.items()],
            params=[Param(name, value) for name, value in run.params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        data = [
            Dataset(name, digest[:DIGEST_LENGTH], "store", canonical_json({"table": name}))
            for name, digest in run.data.items()
        ]
        self._client.log_inputs(run_id, [DatasetInput(d, []) for d in data])
        return run_id

    def _log_model(self, run: TrainingRun, run_id: str) -> str:
        from mlflow.entities import LoggedModelOutput

        found = self._client.search_logged_models([self._experiment], f"tags.`{KEY}` = '{run.key}'")
        for model in found:
            if str(model.status) == "READY":
                return str(model.model_id)
            self._client.delete_logged_model(model.model_id)  # killed before all its files were there
        model = self._client.create_logged_model(
            self._experiment, name=run.name, source_run_id=run_id, tags={KEY: run.key}, model_type="pyfunc"
        )
        with tempfile.TemporaryDirectory() as folder:
            _save_pyfunc(run.model, Path(folder) / "model", str(model.model_id))
            self._client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _register(self, run: TrainingRun, run_id: str, model_id: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self._client.search_model_versions(f"name = '{self.name}'"):
            if version.tags.get(KEY) == run.key and version.status == "READY":
                return str(version.version)
        with _process_wide(self.uri):
            made = self._client.create_model_version(
                self.name, f"models:/{model_id}", run_id, tags={KEY: run.key, "model": run.name}, model_id=model_id
            )
        return str(made.version)


def _save_pyfunc(model: ServedModel, folder: Path, model_id: str) -> None:
    """Write MLflow's folder of a model: its code, its files, signature and input example."""
    import mlflow.pyfunc
    from mlflow.models import Model, infer_signature

    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(model.code),
        artifacts={"model": str(model.folder)},
        signature=infer_signature(model.example, model.answer),
        input_example=model.example,
        pip_requirements=list(model.requirements),
        mlflow_model=Model(model_id=model_id),
    )


@contextmanager
def _process_wide(uri: str) -> Generator[None, None, None]:
    """Make `uri` MLflow's own for a while: on SQLite its registry asks there for a model, whatever the client says."""
    import mlflow

    # MLflow writes what is set into the environment and reads it there: the variable alone holds the state before.
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _make_database(path: Path, artifacts: Path) -> None:
    """Make the SQLite database with all its tables, or nothing."""
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    made = SqlAlchemyStore(f"{SQLITE}{temporary}", artifacts.as_uri())
    made.engine.dispose()
    os.replace(temporary, path)


def _lock_file(store: Store, database: Path | None) -> Path:
    """Beside the database, else in the store. A bucket has no file locks, and one run at a time: this machine's do."""
    if database is not None:
        return database.with_name("mlflow.lock")
    if store.is_folder:
        return store.root / "mlflow.lock"
    return Path(tempfile.gettempdir()) / f"beholder-{os.getuid()}-{key_of(store.url)[:16]}.mlflow.lock"


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """One writer at a time; the system lets go of the lock of a process that dies."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
