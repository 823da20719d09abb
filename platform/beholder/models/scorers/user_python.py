"""A scorer of your own: one Python file with a function `score(images, prompts)`.

    def score(images, prompts):        # lists of (height, width, 3) uint8 arrays, and of str
        return [image.mean() for image in images]

The file's content is part of the key. Options of the plan come as keyword arguments. A function `load()` beside it is
called once in each worker, and what it returns comes as the argument `model`.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.scorers.base import check_inputs, finite
from beholder.models.weights import sha256_of

AGREE = 1e-6
"""How far a score may move, relative to its size or to 1, when its neighbours change."""


class UserScorer:
    """Calls the function of a file.

    With the first batch of two or more, the function is called once more on the pictures in reverse: a score that
    depends on its neighbours (normalised over the batch, say) is refused.

    Parameters
    ----------
    path : Path
    needs_prompt : bool
        Whether an empty prompt is an error.
    options : mapping
        Keyword arguments of the function.

    Raises
    ------
    UserError
        No such file, no function `score`, or one that does not take these arguments.
    """

    def __init__(self, path: Path, *, needs_prompt: bool, options: Mapping[str, Any]) -> None:
        self.needs_prompt, self.path, self._options = needs_prompt, Path(path), dict(options)
        if not self.path.is_file():
            raise UserError(f"no scorer file {self.path}", remedy="check the path")
        self._identity = {"scorer": "user", "code": sha256_of(self.path), "options": dict(options)}
        module = _load(self.path)
        score = getattr(module, "score", None)
        if not callable(score):
            raise UserError(f"{self.path} has no function score(images, prompts)")
        self._score: Callable[..., Any] = score
        loader = getattr(module, "load", None)
        if loader is not None:
            self._options["model"] = loader()
        try:
            inspect.signature(self._score).bind([], [], **self._options)
        except TypeError as error:
            raise UserError(
                f"{self.path}: score(images, prompts, ...): {error}", "arguments named in options"
            ) from None
        self._checked = False

    def identity(self) -> Mapping[str, Any]:
        """SHA-256 of the file, and options."""
        return self._identity

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,).

        Raises
        ------
        UserError
            A score that changes with its neighbours.
        """
        check_inputs(images, prompts, self.needs_prompt)
        if not images:
            return np.empty(0)
        found = self._call(images, prompts)
        if not self._checked and len(images) > 1:
            again = self._call(images[:0:-1], prompts[:0:-1])[::-1]
            if (np.abs(again - found[1:]) > AGREE * np.maximum(1, np.abs(found[1:]))).any():
                raise UserError(
                    f"{self.path}: scores change with the other pictures of the batch",
                    "a score that depends on its own picture and prompt",
                )
            self._checked = True
        return found

    def _call(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        return finite(self._score([image.copy() for image in images], list(prompts), **self._options), len(images))


def _load(path: Path) -> ModuleType:
    """Run a file as a module of its own, outside `sys.modules`."""
    spec = importlib.util.spec_from_file_location(f"beholder_user_scorer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file", "a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
