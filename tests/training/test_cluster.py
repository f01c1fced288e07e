from __future__ import annotations

import pytest

from lineage.errors import UnavailableError
from lineage.settings import Settings
from training.cluster import connect_early


def test_a_cluster_that_is_not_there_is_the_worlds_fault(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(UnavailableError, match="Ray is not available"):
        connect_early(settings).result(timeout=60)
