"""One platform, and so one Ray cluster, for every test of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_platform import Platform, end, run_demo


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the platform, and the story takes minutes; what needs it ended comes after the rest."""
    for item in items:
        if "tests/acceptance" in str(item.path):
            item.add_marker(pytest.mark.acceptance)
            item.add_marker(pytest.mark.timeout(1_000))
    items.sort(key=lambda item: "ended_platform" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def _told() -> Iterator[Platform]:
    folder = Path(tempfile.mkdtemp(prefix="pa-"))  # short: Unix sockets lie below it
    told: Platform | None = None
    try:
        told = run_demo(folder / "var")
        yield told
    finally:
        if told is not None:
            end(told)
            told.command("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def platform(_told: Platform) -> Platform:
    """The platform after its story, running."""
    assert _told.demo.poll() is None, "the platform was ended before a test that needs it running"
    return _told


@pytest.fixture
def ended_platform(_told: Platform) -> Platform:
    """The platform after Ctrl-C."""
    end(_told)
    return _told
