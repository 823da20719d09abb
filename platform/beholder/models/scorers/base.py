"""What all scorers share: settings, the checks on what comes in and out, and other packages' loading kept in hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.checkpoints import Checkpoint, check_digest
from beholder.models.computing import Computing


@dataclass(frozen=True)
class ScorerSettings:
    """Everything that decides a score besides picture and prompt.

    Parameters
    ----------
    scorer : str
        Its name in `scorers.SCORERS`.
    checkpoint : Checkpoint
    computing : Computing
    batch_size : int
        Pictures in every call of the network; tails are filled up.
    parts : mapping
        Further checkpoints by name, as the scorer's docstring says.
    options : mapping
        Further settings by name, plain JSON values.

    Raises
    ------
    UserError
        An impossible value.
    """

    scorer: str
    checkpoint: Checkpoint
    computing: Computing
    batch_size: int
    parts: Mapping[str, Checkpoint] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size}", "1 or more")

    def identity(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """Checkpoints, settings, device, and what tells the package environment apart. Hashes folders: keep it."""
        return {
            "scorer": self.scorer,
            **self.checkpoint.identity(),
            "parts": {name: part.identity() for name, part in sorted(self.parts.items())},
            "device": self.computing.device,
            "card": self.computing.card,
            "dtype": self.computing.dtype,
            "threads": 1,
            "batch_size": self.batch_size,
            "options": dict(self.options),
            "environment": dict(environment),
        }

    def folders(self, offline: bool, identity: Mapping[str, Any] | None) -> tuple[Path, dict[str, Path]]:
        """Folders of the checkpoint and of its parts, fetched and, where they are folders, checked."""
        known = identity or {}
        found = [(self.checkpoint, known)]
        found += [(part, known.get("parts", {}).get(name, {})) for name, part in self.parts.items()]
        folders = []
        for checkpoint, expected in found:
            folders.append(checkpoint.fetch(offline=offline))
            if checkpoint.is_folder:
                check_digest(folders[-1], expected)
        return folders[0], dict(zip(self.parts, folders[1:], strict=True))

    def option(self, name: str, default: Any, allowed: Sequence[Any] | None = None) -> Any:
        """An option's value; UserError if it is not among `allowed`."""
        value = self.options.get(name, default)
        if allowed is not None and value not in allowed:
            raise UserError(f"option {name} {value!r} of {self.scorer}", ", ".join(map(str, allowed)))
        return value

    def require(self, *, parts: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        """UserError if a part is missing, or a part or an option is not known to the scorer."""
        for what, given, known in (("part", self.parts, parts), ("option", self.options, options)):
            if unknown := sorted(given.keys() - set(known)):
                allowed = ", ".join(known) or "none"
                raise UserError(f"{what} {', '.join(unknown)} of scorer {self.scorer}", allowed)
        if missing := sorted(set(parts) - self.parts.keys()):
            raise UserError(f"scorer {self.scorer} without part {', '.join(missing)}", remedy="name its checkpoint")


def check_inputs(images: Sequence[np.ndarray], prompts: Sequence[str], needs_prompt: bool) -> None:
    """UserError for pictures that are none, or prompts that are missing."""
    if len(images) != len(prompts):
        raise UserError(f"{len(images)} pictures and {len(prompts)} prompts", "as many of both")
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"a picture of shape {image.shape} and type {image.dtype}", "(height, width, 3), uint8")
    if needs_prompt and any(not prompt for prompt in prompts):
        raise UserError("an empty prompt", "the prompt the picture was made from")


def finite(scores: Any, n: int) -> np.ndarray:
    """float64, shape (n,); ArithmeticError if a score is missing or not finite."""
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (n,) or not np.isfinite(found).all():
        raise ArithmeticError(f"scores of shape {found.shape} with {int((~np.isfinite(found)).sum())} not finite")
    return found


def one_weight_file(folder: Path) -> Path:
    """The only safetensors file at the top of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise UserError(f"{folder} has {len(files)} safetensors files", "one")
    return files[0]


_REDIRECTING = threading.Lock()


@contextmanager
def redirected(module: Any, **names: Any) -> Iterator[None]:
    """Replace names of another package's module while its model is built.

    Some packages fetch tokenizers by a hub name that can move; this hands them the plan's files instead.
    """
    with _REDIRECTING:
        before = {name: getattr(module, name) for name in names}
        for name, value in names.items():
            setattr(module, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(module, name, value)


class FromFolder:
    """Stands in for a class with `from_pretrained`: whatever name is asked for, the folder is loaded."""

    def __init__(self, real: Any, folder: Path) -> None:
        self._real, self._folder = real, folder

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """The real class from the folder; what the package asked for is ignored."""
        return self._real.from_pretrained(self._folder, local_files_only=True)
