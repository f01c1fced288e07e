"""For all tests: the caller's platform is not seen, and nothing is written outside the test's own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from lineage.settings import Settings
from tests.support.accounts import cheap_hashes
from tests.support.groups import is_slow

# The same examples in every run, however busy the machine; `--hypothesis-profile search` looks for new ones.
_UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
hypothesis_settings.register_profile("steady", derandomize=True, database=None, print_blob=True, **_UNHURRIED)
hypothesis_settings.register_profile("search", derandomize=False, **_UNHURRIED)
hypothesis_settings.load_profile("steady")

for _name in [name for name in os.environ if name.startswith(("PLIMSOLL_", "OPENLINEAGE_"))]:
    del os.environ[_name]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What `-m "not slow"` would deselect is not even imported."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _home_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Whoever forgets to pass settings writes here, never into ./var.
    os.environ["PLIMSOLL_HOME"] = str(tmp_path_factory.mktemp("home-of-nobody"))


@pytest.fixture(scope="session", autouse=True)
def _quick_hashes() -> Iterator[None]:
    """Password hashes with the least effort; only their own test makes real ones."""
    with cheap_hashes():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home folder of the test's own."""
    return Settings(home=tmp_path / "var")
