"""Rewriters by name. Nothing heavy is imported before a rewriter is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beholder.errors import UserError
from beholder.models.rewriters.base import Rewriter, Rewrites

NAMES = ("smollm2", "phrases")

__all__ = ["NAMES", "Rewriter", "Rewrites", "load_rewriter", "rewriter_identity"]


def rewriter_identity(name: str, models: Path | str | None = None) -> dict[str, Any]:
    """What `load_rewriter(name, models).identity()` says, without loading weights.

    Raises
    ------
    UserError
        For an unknown name; WeightsError if its weights are not in the cache `models`.
    """
    _require_known(name)
    if name == "phrases":
        from beholder.models.rewriters import phrases

        return phrases.identity()
    from beholder.models import weights
    from beholder.models.rewriters import smollm

    return smollm.identity(weights.digest("smollm2", models))


def load_rewriter(name: str, models: Path | str | None = None) -> Rewriter:
    """A rewriter ready for use; errors as `rewriter_identity`."""
    _require_known(name)
    if name == "phrases":
        from beholder.models.rewriters.phrases import PhraseBank

        return PhraseBank()
    from beholder.models import weights
    from beholder.models.rewriters.smollm import SmolLM

    return SmolLM(weights.folder("smollm2", models))


def _require_known(name: str) -> None:
    if name not in NAMES:
        raise UserError(f"rewriter {name!r}", ", ".join(NAMES))
