"""The controller's counts: equal after a rebuild from segments and spools."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lineage.privacy.decisions import ERASED, READABLE, unseal
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings
from serve.controller.measurements import counting_erased
from serve.record.decision_log import DecisionLog
from serve.record.sealing import SCHEMA, read_segments
from serve.record.spool import Spool
from tests.support.decision_records import NOW, SALT, decision, outcome
from tests.support.entries import a_release

RELEASE = a_release(
    "credit-default@2",
    salt=SALT,
    share=0.25,
    canary_started_at=NOW.isoformat(),
    promoted_at=NOW.isoformat(),
    policy={"canary": {"slow": {"milliseconds": 75.0, "absolute_limit": 0.1}}},
)


def _write(spool: Spool, numbers: range) -> None:
    for number in numbers:
        spool.write(decision(number, "challenger" if number % 4 == 0 else "champion"))
        spool.write(outcome(number, number % 2))


def _counts(decision_log: DecisionLog) -> dict[str, Any]:
    return {share: dict(arms) for share, arms in decision_log.evidence_of(RELEASE).tallies.items()}


def test_evidence_is_the_same_after_a_restart_wherever_it_lay(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    decision_log.evidence_of(RELEASE)
    _write(spool, range(40))
    decision_log.take()
    assert len(decision_log.next_segments()) == 1
    decision_log.sealed(lambda process: True)
    _write(spool, range(40, 60))
    decision_log.take()
    decision_log.next_segments()  # planned and written, its fact not on record
    _write(spool, range(60, 80))
    decision_log.take()
    before = _counts(decision_log)
    assert before[0.25]["challenger"].subjects == 20

    again = DecisionLog(settings)
    again.take()
    assert _counts(again) == before
    assert [segment.name for segment in again.next_segments()] == [
        segment.name for segment in decision_log.next_segments()
    ]
    again.sealed(lambda process: True)
    (rest,) = again.next_segments()
    assert rest.data["rows"] == 20


def test_the_window_holds_the_champions_newest_decisions(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    for number in range(30):
        at = NOW.replace(second=number).isoformat()
        spool.write(decision(number, "champion", at=at, release="credit-default@2"))
        spool.write(decision(100 + number, "champion", at=at, release="credit-default@2", purpose="verification"))
        if number % 10 == 9:
            decision_log.take()
            if number < 20:
                decision_log.next_segments()
                decision_log.sealed(lambda process: True)
    window = decision_log.latest(RELEASE, 15)
    assert [record["decision_id"] for record in window.records] == [f"d{number}" for number in range(15, 30)]
    assert {record["key"] for record in window.records} == {f"customer-{number}" for number in range(15, 30)}
    assert window.erased == 0


def test_evidence_of_ended_rollouts_is_dropped(tmp_path: Path) -> None:
    decision_log = DecisionLog(Settings(home=tmp_path))
    decision_log.evidence_of(RELEASE)
    decision_log.forget_all_but(set())
    assert decision_log.evidence == {}


def seal(decision_log: DecisionLog) -> None:
    decision_log.take()
    decision_log.next_segments()
    decision_log.sealed(lambda process: True)


def champions(spool: Spool, numbers: range) -> None:
    for number in numbers:
        at = NOW.replace(second=number).isoformat()
        spool.write(decision(number, "champion", at=at, release="credit-default@2"))


def test_who_is_erased_goes_on_to_count_but_is_measured_no_more(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log, vault = Spool(settings.spool, "r1"), DecisionLog(settings), Vault(settings)
    champions(spool, range(10))
    seal(decision_log)
    champions(spool, range(10, 14))
    decision_log.take()
    before = _counts(decision_log)
    for name in ("customer-3", "customer-8", "customer-12"):  # the last is not sealed yet
        assert vault.erase(vault.pseudonym(name), NOW + timedelta(minutes=5))

    window = decision_log.latest(RELEASE, 100)
    kept = [number for number in range(14) if number not in (3, 8, 12)]
    assert [record["decision_id"] for record in window.records] == [f"d{number}" for number in kept]
    assert window.erased == 3
    assert decision_log.latest(RELEASE, 4).erased == 1  # of those that were looked at
    again = DecisionLog(settings)
    again.take()
    assert _counts(again) == before


def test_what_was_decided_before_an_erasure_is_never_sealed_under_a_new_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log, vault = Spool(settings.spool, "r1"), DecisionLog(settings), Vault(settings)
    for number, minute in enumerate((0, 1, 2, 3)):  # the same customer four times, erased in between
        if number == 1:
            seal(decision_log)
        if number == 2:
            decision_log.take()  # the second is taken, not sealed
        spool.write(decision(number, key="ada", at=NOW.replace(minute=minute).isoformat()))
    first = vault.pseudonym("ada")
    vault.erase(first, NOW.replace(minute=2))
    seal(decision_log)

    frame = pl.concat(read_segments(settings.decisions, "credit-default")).sort("at")
    rows = unseal(frame.to_dicts(), vault)
    assert [row["person"] for row in rows] == [ERASED, ERASED, ERASED, READABLE]
    assert [row["subject"] == first for row in rows] == [True, True, True, False]
    assert [row["key"] for row in rows] == [None, None, None, "ada"]
    assert vault.existing_pseudonym("ada") == rows[-1]["subject"]

    # the mark that did this goes when everything of before is sealed
    assert vault.erased_pseudonym("ada", NOW.isoformat()) == first
    spool.write(decision(9, key="grace", at=NOW.replace(minute=9).isoformat()))
    seal(decision_log)
    assert vault.erased_pseudonym("ada", NOW.isoformat()) is None


def test_without_the_vault_nothing_is_taken_and_nothing_is_lost(tmp_path: Path, monkeypatch: Any) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    spool.write(decision(1))

    def broken(*asked: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("lineage.privacy.key_vault._kept", broken)
        assert decision_log.take() == 0
        assert decision_log.next_segments() == []
    assert decision_log.take() == 1
    assert len(decision_log.next_segments()) == 1


def test_segments_from_before_there_were_keys_stay_readable(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    plain = {"key": pl.String, "key_hash_share": pl.Float64, "features": pl.List(pl.Float64)}
    plain |= {"reasons": pl.List(pl.String)}
    schema = {name: kind for name, kind in SCHEMA.items() if name not in ("subject", "sealed")} | plain
    rows = [decision(number, "champion", release="credit-default@2") for number in range(3)]
    folder = settings.decisions / "credit-default"
    folder.mkdir(parents=True)
    pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema).write_parquet(
        folder / "20261123T100000-0123456789abcdef.parquet"
    )
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    spool.write(decision(2, "champion", release="credit-default@2", decision_id="again"))
    decision_log.take()
    assert _counts(decision_log)[0.25]["champion"].subjects == 3  # one of them came before and after
    window = decision_log.latest(RELEASE, 10)
    assert [record["key"] for record in window.records] == ["customer-2", "customer-1", "customer-0", "customer-2"]
    assert window.erased == 0


def test_a_measurement_says_how_many_it_passed_over_and_its_digest_covers_that() -> None:
    measured = {"release": "m@1", "window": {"rows": 9}, "verdict": "ok", "report_digest": "sha256:" + "0" * 64}
    told, other = counting_erased(measured, 2), counting_erased(measured, 3)
    assert told["window"] == {"rows": 9, "erased": 2}
    assert len({measured["report_digest"], told["report_digest"], other["report_digest"]}) == 3


def test_a_customers_first_decision_counts_also_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    for number, share in enumerate((0.25, 0.5, 1.0)):
        at = NOW.replace(minute=number).isoformat()
        spool.write(decision(number, key="ada", share=share, at=at))
        if number < 2:
            seal(decision_log)
    decision_log.take()
    assert {share: arms["challenger"].subjects for share, arms in _counts(decision_log).items()} == {0.25: 1}


def test_what_is_written_but_not_on_record_is_measured_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    champions(spool, range(5))
    decision_log.take()
    decision_log.next_segments()
    champions(spool, range(5, 8))
    decision_log.take()
    window = decision_log.latest(RELEASE, 100)
    assert [record["decision_id"] for record in window.records] == [f"d{number}" for number in range(8)]
