"""The controller's memory: rebuilt from segments and spools after a restart, with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lineage.settings import Settings
from serve.keeper import Keeper
from serve.spool import Spool
from tests.serve.records import NOW, SALT, decision, outcome

RELEASE: dict[str, Any] = {
    "release": "credit-default@2",
    "model": "credit-default",
    "salt": SALT,
    "share": 0.25,
    "canary_started_at": NOW.isoformat(),
    "promoted_at": NOW.isoformat(),
    "policy": {"canary": {"slow": {"milliseconds": 75.0}}},
}


def _write(spool: Spool, numbers: range) -> None:
    for number in numbers:
        spool.write(decision(number, "challenger" if number % 4 == 0 else "champion"))
        spool.write(outcome(number, number % 2))


def _counts(keeper: Keeper) -> dict[str, Any]:
    return {share: dict(arms) for share, arms in keeper.evidence_of(RELEASE).tallies.items()}


def test_evidence_is_the_same_after_a_restart_wherever_it_lay(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, keeper = Spool(settings.spool, "r1"), Keeper(settings)
    keeper.evidence_of(RELEASE)
    _write(spool, range(40))
    keeper.take()
    assert len(keeper.next_segments()) == 1
    keeper.sealed(lambda process: True)
    _write(spool, range(40, 60))
    keeper.take()
    keeper.next_segments()  # planned and written, its fact not on record
    _write(spool, range(60, 80))
    keeper.take()
    before = _counts(keeper)
    assert before[0.25]["challenger"].subjects == 20

    again = Keeper(settings)
    again.take()
    assert _counts(again) == before
    assert [segment.name for segment in again.next_segments()] == [segment.name for segment in keeper.next_segments()]
    again.sealed(lambda process: True)
    (rest,) = again.next_segments()
    assert rest.data["rows"] == 20


def test_the_window_holds_the_champions_newest_decisions(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, keeper = Spool(settings.spool, "r1"), Keeper(settings)
    for number in range(30):
        at = NOW.replace(second=number).isoformat()
        spool.write(decision(number, "champion", at=at, release="credit-default@2"))
        spool.write(decision(100 + number, "champion", at=at, release="credit-default@2", purpose="verification"))
        if number % 10 == 9:
            keeper.take()
            if number < 20:
                keeper.next_segments()
                keeper.sealed(lambda process: True)
    window = keeper.latest(RELEASE, 15)
    assert [record["decision_id"] for record in window] == [f"d{number}" for number in range(15, 30)]


def test_evidence_of_ended_rollouts_is_dropped(tmp_path: Path) -> None:
    keeper = Keeper(Settings(home=tmp_path))
    keeper.evidence_of(RELEASE)
    keeper.forget_all_but(set())
    assert keeper.evidence == {}
