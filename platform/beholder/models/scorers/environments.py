"""Package environments of scorers: what each asks for, and the lock that says exactly what is installed.

Scorers' packages pin versions that fight with each other's and with the platform's own, so each set lives apart.
`environments/NAME.in` names what is wanted, `NAME.lock` every package with its version. To renew a lock:

    uv pip compile --python-version 3.11 --python-platform linux --no-emit-index-url --no-annotate --no-header \
        environments/NAME.in -o environments/NAME.lock
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beholder.errors import UserError

FOLDER = Path(__file__).with_name("environments")
PLATFORM = "platform"
"""The environment that Beholder itself runs in."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A locked set of packages.

    `packages` are `name==version` lines, sorted; `digest` is their SHA-256.
    """

    name: str
    packages: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the locked packages: part of every key of a scorer that runs here."""
        return hashlib.sha256("\n".join(self.packages).encode()).hexdigest()

    def runtime_env(self) -> dict[str, Any]:
        """The environment as a cluster's worker asks for it (Ray's `runtime_env`), by uv."""
        return {"uv": {"packages": list(self.packages), "uv_check": False}}


def names() -> list[str]:
    """Environments there are, the platform's own left out."""
    return sorted(path.stem for path in FOLDER.glob("*.lock"))


def environment(name: str) -> Environment:
    """A locked environment; UserError for an unknown one, or a lock with a line that pins nothing."""
    path = FOLDER / f"{name}.lock"
    if not path.is_file():
        raise UserError(f"environment {name!r}", ", ".join(names()))
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    packages = tuple(sorted(line for line in lines if line))
    if loose := [line for line in packages if "==" not in line]:
        raise UserError(f"{path} pins no version of {', '.join(loose)}", "name==version lines")
    return Environment(name, packages)


def wanted(name: str) -> tuple[str, ...]:
    """What the environment's `.in` file asks for."""
    lines = [line.split("#")[0].strip() for line in (FOLDER / f"{name}.in").read_text().splitlines()]
    return tuple(line for line in lines if line)
