"""Lets the tests import the suite that `run.py` finds beside itself."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
