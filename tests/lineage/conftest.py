"""A ledger in the test's own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lineage.ledger import Ledger
from lineage.settings import Settings
from tests.support.sample_facts import FactWriter, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, where what is tested is not durability."""
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def ledger(settings: Settings, clock: ManualClock, quick: None) -> Iterator[Ledger]:
    opened = Ledger(settings.log_folder, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def writer(ledger: Ledger) -> FactWriter:
    return FactWriter(ledger)
