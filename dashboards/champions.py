"""Which model served when, and why: from the store's own MLflow database, which is only read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pandas as pd

from beholder.errors import StoreError
from beholder.store import Store
from beholder.tracking import CHALLENGER, CHAMPION, REASON, SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient

COLUMNS = ["version", "model", "logged", "alias", "heldout_accuracy", "reason"]
DATABASE = "mlflow.db"


def tracking(store: Store) -> dict[str, Any]:
    """The record of the last decision: champion, challenger, criterion, name, uri, versions; empty without one."""
    record: dict[str, Any] = store.read_record("tracking") or {}
    return record


def history_version(store: Store) -> int | None:
    """When the database was last written to; None where the store has none."""
    path = store.path(DATABASE) if store.is_folder else None
    return path.stat().st_mtime_ns if path is not None and path.is_file() else None


def history(store: Store, name: str) -> pd.DataFrame:
    """Every version of the registered model `name`, the newest first.

    Returns
    -------
    DataFrame
        version, model, logged (UTC), alias ("champion", "challenger" or empty), heldout_accuracy, and `reason`: why it
        was given an alias, empty for those that never had one.

    Raises
    ------
    StoreError
        If MLflow is not installed here, or the database is of another version of it.
    """
    if history_version(store) is None:
        return pd.DataFrame(columns=COLUMNS)
    uri = f"{SQLITE}{store.path(DATABASE)}"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise StoreError("MLflow is not installed here", remedy="pip install 'beholder[platform]'") from error
    try:
        rows = _versions(MlflowClient(uri, uri), name)
    except MlflowException as error:
        raise StoreError(f"MLflow's database cannot be read: {str(error).splitlines()[0]}") from error
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("version", ascending=False, ignore_index=True)


def _versions(client: MlflowClient, name: str) -> list[list[Any]]:
    versions = client.search_model_versions(f"name = '{name}'")
    known = client.get_registered_model(name).aliases if versions else {}
    aliases = {str(number): alias for alias, number in known.items() if alias in (CHAMPION, CHALLENGER)}
    rows = []
    for found in versions:
        logged = pd.Timestamp(found.creation_timestamp, unit="ms")
        measured = client.get_run(found.run_id).data.metrics.get("heldout_accuracy") if found.run_id else None
        who = [int(found.version), found.tags.get("model", ""), logged, aliases.get(str(found.version), "")]
        rows.append([*who, float("nan") if measured is None else measured, found.tags.get(REASON, "")])
    return rows
