from __future__ import annotations

import pytest

from lineage.settings import Settings
from tests.support.decider_bench import Bench


@pytest.fixture
def bench(settings: Settings) -> Bench:
    """A decider over two real bundles, made for this test."""
    return Bench(settings)
