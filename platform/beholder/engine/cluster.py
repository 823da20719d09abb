"""Joining a Ray cluster, or starting a private one on this machine."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Any

from beholder.errors import EngineError

OBJECT_STORE_BYTES = 200 * 2**20
"""Of a private cluster: images never travel, so little is needed."""
KNOCK_SECONDS = 10.0
STARTS = 3
"""How often a private cluster is started: Ray gives itself up after half a minute, which a busy machine may need."""


def connect(address: str | None, workers: int | None) -> bool:
    """Join a Ray cluster, or start a private one. Returns whether Ray was started or joined here.

    A private cluster listens on all interfaces, and whoever reaches it may run code. So unless the user chose
    otherwise by `RAY_AUTH_MODE`, it asks for a token, which is made for this process and written nowhere.

    Raises
    ------
    EngineError
        If there is no cluster at the address, or a private one does not start.
    """
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    # Besides the workers' output, Ray prints a paragraph to standard output for every death; the engine reports those.
    ray._private.worker._worker_logs_enabled = False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None or address == "local":
        if "RAY_AUTH_MODE" not in os.environ:
            # Ray then turns tokens on itself (the mode cannot be set once it is loaded) and takes the one it finds.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _start(num_cpus=workers, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return True
    try:
        _knock(address)
        ray.init(address, runtime_env=_code(), **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"no Ray cluster at {address!r}: {one_line(error)}",
            remedy="start one with `ray start --head`, give another --address, or leave it out for a private one; "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN must be those of the cluster",
        ) from error
    return True


def _start(**settings: Any) -> None:
    """Start a private cluster, again where Ray did not wait for itself long enough."""
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            ray.init("local", **settings)
            return
        except Exception as error:  # Ray has no class for it
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == STARTS:
                raise EngineError(
                    f"a private Ray did not start in {STARTS} tries: {one_line(error)}",
                    remedy="try again when the machine is less busy, or with --in-process",
                ) from error


def _knock(address: str) -> None:
    """Raise OSError at once if nobody listens: Ray itself tries for minutes, then ends the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _code() -> dict[str, Any]:
    """Our packages for the workers, unless the job was submitted, with its own copy of them."""
    import analysis
    import beholder

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"py_modules": [str(Path(str(package.__file__)).parent) for package in (beholder, analysis)]}


def one_line(error: BaseException) -> str:
    """An error's text; of a death, Ray's account of it, which comes after its boilerplate. At most 200 characters."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail:", "The actor died because"):
        if mark in text:
            text = text[text.index(mark) + len(mark) :].strip()
    return text[:200]


def resources() -> str:
    """Cores and GPUs of the cluster, in words."""
    import ray

    return ", ".join(f"{value:g} {name}" for name, value in ray.cluster_resources().items() if name in ("CPU", "GPU"))
