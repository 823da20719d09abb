"""Where a checkpoint comes from: a folder, or a model of the Hugging Face hub at one pinned commit.

Only safetensors are loaded: a pickle can run code. A hub model is named with the full commit it stands at, which fixes
every byte of it; a folder is named by the digest of its files, wherever it lies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beholder.errors import UserError, WeightsError
from beholder.models.weights import sha256_of

HUB = "https://huggingface.co"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
LOADED = (".safetensors", ".json", ".txt", ".model", ".jinja", ".py")
"""Endings of the files that loading a checkpoint may read; others (readme, pictures, pickles) do not name it."""
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""Files taken from the hub: never a pickle, and no code."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder, or a hub id at a commit.

    Parameters
    ----------
    model : str
        A folder, or an id of the hub such as `black-forest-labs/FLUX.1-schnell`. A folder of that name comes first.
    revision : str, optional
        The commit, 40 hex digits; needed for a hub id, not allowed for a folder. A branch or tag may move.

    Raises
    ------
    WeightsError
        Neither a folder nor a hub id.
    UserError
        A hub id without a full commit, or a folder with one.
    """

    model: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.is_folder:
            if self.revision is not None:
                raise UserError(f"revision {self.revision!r} for the folder {self.model}", "no revision for a folder")
        elif not _HUB_ID.fullmatch(self.model) or self.model.startswith("models/"):
            raise WeightsError(
                f"no folder {self.model}", "a folder, or owner/name of the hub", "check the path or the id"
            )
        elif self.revision is None or not _COMMIT.fullmatch(self.revision):
            raise UserError(
                f"revision {self.revision!r} of {self.model}",
                "the full commit, 40 hex digits: branches and tags can move",
                f"copy it from {HUB}/{self.model}/commits/main",
            )

    @property
    def is_folder(self) -> bool:
        """Whether the checkpoint lies in a folder of this machine."""
        return bool(self.model) and Path(self.model).is_dir()

    @property
    def name(self) -> str:
        """A short name for tables: the hub id, or the folder's last part."""
        return Path(self.model).resolve().name if self.is_folder else self.model

    def identity(self) -> dict[str, Any]:
        """What names the content in a key. Hashes all files of a folder, so keep the answer."""
        if self.is_folder:
            return {"weights": digest_of(Path(self.model))}
        return {"model": self.model, "revision": self.revision}

    def fetch(self, *, offline: bool, endpoint: str | None = None, remote_code: bool = False) -> Path:
        """The folder with the files, downloaded to the hub's own cache if they are not there yet.

        Parameters
        ----------
        offline : bool
            Use the cache only.
        endpoint : str, optional
            Address of another hub that speaks the same protocol.
        remote_code : bool
            Take Python files too. They run when the model is loaded.

        Raises
        ------
        WeightsError
            Not there, not allowed, not reachable, or without safetensors; the message says where to click.
        """
        if self.is_folder:
            return with_safetensors(Path(self.model))
        return with_safetensors(self.fetch_files([*PATTERNS, *(["*.py"] if remote_code else [])], offline, endpoint))

    def fetch_files(self, patterns: Sequence[str], offline: bool, endpoint: str | None = None) -> Path:
        """The cache folder of a hub model with the files that match; errors as `fetch`."""
        from huggingface_hub import snapshot_download

        with explained(self.model, self.revision):
            return Path(
                snapshot_download(
                    self.model,
                    revision=self.revision,
                    allow_patterns=list(patterns),
                    local_files_only=offline,
                    endpoint=endpoint,
                )
            )


def files_of(folder: Path) -> list[Path]:
    """Files of a checkpoint folder that loading may read, sorted by their path; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix in LOADED and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def digest_of(folder: Path) -> str:
    """SHA-256 over names and contents of a checkpoint's files; where the folder lies does not enter."""
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def with_safetensors(folder: Path) -> Path:
    """The folder, if it holds safetensors; WeightsError if not, naming the pickles that were found instead."""
    if any(path.suffix == ".safetensors" for path in files_of(folder)):
        return folder
    pickles = sorted({p.name for end in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.rglob(end)})
    found = f"only {', '.join(pickles)}" if pickles else "no weights"
    raise WeightsError(
        f"{folder} holds {found}", "safetensors: pickles can run code", "convert it, or take a revision that has them"
    )


def check_digest(folder: Path, expected: Mapping[str, Any]) -> None:
    """Refuse a folder that is not the one whose identity the plan was keyed with (another node may hold another)."""
    if "weights" in expected and (found := digest_of(folder)) != expected["weights"]:
        raise WeightsError(
            f"{folder} on this worker has digest {found}", str(expected["weights"]), "give all workers the same files"
        )


@contextmanager
def explained(model: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's errors into one line that says what to do."""
    from huggingface_hub import errors

    page = f"{HUB}/{model}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"the licence of {model} was not accepted by this account, or no token is set",
            remedy=f"accept it at {page} and set HF_TOKEN to a token from {HUB}/settings/tokens",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{model} has no revision {revision}", remedy=f"see {page}/commits/main") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"the hub shows no model {model}", remedy=f"check the id at {page}; a private one needs HF_TOKEN"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise WeightsError(
            f"{model} at {revision} is not in the cache and the hub was not reached",
            remedy="run once with a network and without --offline, or name a folder that holds it",
        ) from error
