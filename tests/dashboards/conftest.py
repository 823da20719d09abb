from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from beholder.store import Store

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from small_store import APP, Size, make_store  # noqa: E402  (found by the line above)

PATIENCE = 600.0
"""Seconds after which a page that hangs fails its test; nothing is measured."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small study with every table; only to be read."""
    return make_store(tmp_path_factory.mktemp("study") / "store", Size())


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Store:
    """The small study without its pictures, to be changed."""
    target = tmp_path / "copied"
    shutil.copytree(store.root, target, ignore=shutil.ignore_patterns("images"))
    return Store(target)


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "empty")


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens a page of the app on a store, as `streamlit run dashboards/app.py -- --store …` does."""

    def opened(store: Store, page: str, **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", [str(APP), "--store", store.url])
        app = AppTest.from_file(str(APP), default_timeout=PATIENCE)
        app.switch_page(f"views/{page}.py")
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    return opened


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium; where it is missing tests skip, and fail in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("CI needs Chromium (apt-get install chromium)")
    pytest.skip("no Chromium (apt-get install chromium)")
