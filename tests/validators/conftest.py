from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lineage.settings import Settings
from lineage.signing import make_keys
from tests.support.small_release import customers, write


@pytest.fixture(scope="session")
def holdout() -> pl.DataFrame:
    return customers(3000, seed=2)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    make_keys(settings)
    return settings


@pytest.fixture(scope="session")
def folder(home: Settings) -> Path:
    """The bundle most tests only read."""
    return write(home, trees_of=customers(4000, seed=1))


@pytest.fixture
def copy_of(home: Settings, tmp_path: Path) -> Callable[[Path], tuple[Settings, Path]]:
    """A bundle in a home of its own, to be damaged."""

    def make(folder: Path) -> tuple[Settings, Path]:
        settings = Settings(home=tmp_path / "home")
        shutil.copytree(home.root / "keys", settings.root / "keys")
        target = settings.artefacts / folder.name
        shutil.copytree(folder, target)
        shutil.copy(folder.with_name(folder.name + ".sig"), target.with_name(target.name + ".sig"))
        return settings, target

    return make
