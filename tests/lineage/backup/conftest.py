"""For the tests of backups: a furnished home, a folder for its backup, and a witness that saw its log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineage.settings import Settings
from lineage.witness.server import create_app
from tests.support.backup_home import House
from tests.support.ports import free_port
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import serving


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", witness_port=free_port())


@pytest.fixture(scope="session")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = House(Settings(home=tmp_path_factory.mktemp("furnished") / "var"), ManualClock())
    house.ledger.close()
    shutil.rmtree(house.settings.spool)  # each house opens one of its own
    return house.settings.root


@pytest.fixture
def house(settings: Settings, clock: ManualClock, quick: None, _furnished: Path) -> Iterator[House]:
    shutil.copytree(_furnished, settings.root)
    house = House(settings, clock)
    house.decide(3)
    house.seal()
    house.decide(2)
    yield house
    house.ledger.close()


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "backup"


@pytest.fixture
def watched(house: House, settings: Settings) -> Iterator[Settings]:
    """The home with a witness on a port; `show` has the newest checkpoint cosigned."""
    with serving(create_app(settings.witness_home, trust_first=True)) as url:
        yield Settings(**settings.model_dump() | {"witness_url": url})
