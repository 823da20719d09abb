"""Compute every number of a report again from its bundle, and compare. Exit 1 when anything differs."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.rerun import Rerun, rerun_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or zip file that `report` wrote")


def run(args: argparse.Namespace) -> Rerun:
    """Rerun and compare."""
    return rerun_bundle(args.bundle)
