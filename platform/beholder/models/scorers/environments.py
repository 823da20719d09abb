"""Package environments of scorers: what each asks for, and the lock that says exactly what is installed.

Scorers' packages pin versions that fight with each other's and with the platform's own, so each set lives apart: in a
folder of the model cache, built once from its lock and found again by every later run. A worker of the scorer is
started with that folder's Python, which looks there first and in the platform's packages second, so only what the lock
names is stored again.

`environments/NAME.in` names what is wanted, `NAME.lock` every package with its version. To renew a lock:

    uv pip compile --python-version 3.11 --python-platform linux --no-emit-index-url --no-annotate --no-header \
        environments/NAME.in -o environments/NAME.lock
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from beholder.errors import EngineError, UserError

FOLDER = Path(__file__).with_name("environments")
PLATFORM = "platform"
"""The environment that Beholder itself runs in."""
STAMP = "beholder-lock"
"""File of a finished environment: the digest of the lock it was built from."""


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

    def folder(self, cache: Path) -> Path:
        """Where it lies in a model cache; another lock has another folder."""
        return cache.absolute() / "environments" / f"{self.name}-{self.digest[:16]}"

    def python(self, cache: Path) -> Path:
        """The Python that workers are started with; there once `build` has run."""
        return self.folder(cache) / "bin" / "python"

    def build(self, cache: Path, report: Callable[[str], None]) -> Path:
        """Install the locked packages, unless they are there, and return the environment's Python.

        The stamp is written last, so a killed build starts again from nothing; a second process waits for the first.

        Parameters
        ----------
        cache : Path
            The model cache, where all machines of a cluster see it.
        report : callable
            Told before anything is installed.

        Raises
        ------
        EngineError
            pip could not install a package; the message has its words.
        """
        folder = self.folder(cache)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".building").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.is_built(folder):
                report(f"installing {len(self.packages)} packages of environment {self.name} into {folder}")
                self._install(folder)
        return self.python(cache)

    def is_built(self, folder: Path) -> bool:
        """Whether the folder holds this environment, whole."""
        stamp = folder / STAMP
        return stamp.is_file() and stamp.read_text() == self.digest

    def require_here(self) -> None:
        """EngineError unless this process runs in the environment."""
        if not self.is_built(Path(sys.prefix)):
            raise EngineError(
                f"this process runs in {sys.prefix}, not in environment {self.name}",
                remedy="run the scorer on Ray (without --in-process), which starts its workers there",
            )

    def _install(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], self.name)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(self.packages) + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        _run([*pip, "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(requirements)], self.name)
        # Written after pip has run: what pip sees there it would not install here.
        packages = next(folder.glob("lib/python*/site-packages"))
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (packages / "zz_platform.pth").write_text(line)
        (folder / STAMP).write_text(self.digest)


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said[-1:] or ["no word"]
        raise EngineError(f"environment {name} cannot be built: {errors[-1]}", remedy="a network, and some GB of disk?")


def names() -> list[str]:
    """Environments there are, the platform's own left out."""
    return sorted(path.stem for path in FOLDER.glob("*.lock"))


def environment(name: str) -> Environment:
    """A locked environment by name, or by the path of a `.lock` file.

    Raises
    ------
    UserError
        An unknown one, or a lock with a line that pins nothing.
    """
    path = Path(name) if name.endswith(".lock") else FOLDER / f"{name}.lock"
    if not path.is_file():
        raise UserError(f"environment {name!r}", f"{', '.join(names())}, or the path of a .lock file")
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    packages = tuple(sorted(line for line in lines if line))
    if loose := [line for line in packages if "==" not in line]:
        raise UserError(f"{path} pins no version of {', '.join(loose)}", "name==version lines")
    return Environment(path.stem, packages)


def wanted(name: str) -> tuple[str, ...]:
    """What the environment's `.in` file asks for."""
    lines = [line.split("#")[0].strip() for line in (FOLDER / f"{name}.in").read_text().splitlines()]
    return tuple(line for line in lines if line)
