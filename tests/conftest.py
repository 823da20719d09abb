"""Which tests stay together on one worker where `pytest -n` shares them out; no test is held to a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

RAY = "ray"
"""The group of all that starts a Ray: one worker runs it, so that there is one Ray at a time on a machine."""

settings.register_profile("patient", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put every test into a group, for `--dist loadgroup`; where one process runs all, leave them as they are.

    A file's tests stay together: what they share is made once. So do files whose tests share what a fixture of the
    session writes to disk. Ray's group comes first: it is the longest, and the other workers fill the time beside it.
    """
    if not hasattr(config, "workerinput"):
        return
    joined: dict[str, str] = {}

    def top(name: str) -> str:
        while (above := joined.setdefault(name, name)) != name:
            name = above
        return name

    for item in items:
        if not on_ray(item):
            for fixture in written(item):
                joined[top(item.location[0])] = top(fixture)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(RAY if on_ray(item) else top(item.location[0])))
    items.sort(key=lambda item: not on_ray(item))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest-xdist that does not see the groups: it would start several Rays at once, and say nothing."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist lost the groups of tests; see the range of pytest in pyproject.toml")


def on_ray(item: pytest.Item) -> bool:
    """Whether a test starts a Ray or asks for the one of the session."""
    return item.get_closest_marker("ray") is not None


def written(item: pytest.Item) -> Iterator[str]:
    """Fixtures of the session that a test asks for and that write files."""
    known = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    for name, definitions in known.items():
        for made in definitions:
            if made.scope == "session" and "tmp_path_factory" in made.argnames:
                yield f"{made.baseid}:{name}"
