"""For all tests: the caller's platform is not seen, and nothing is written outside the test's own folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineage.settings import Settings

for _name in [name for name in os.environ if name.startswith(("PLIMSOLL_", "OPENLINEAGE_"))]:
    del os.environ[_name]


@pytest.fixture(scope="session", autouse=True)
def _home_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Whoever forgets to pass settings writes here, never into ./var.
    os.environ["PLIMSOLL_HOME"] = str(tmp_path_factory.mktemp("home-of-nobody"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home folder of the test's own."""
    return Settings(home=tmp_path / "var")
