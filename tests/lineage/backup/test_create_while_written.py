"""Backups taken while everything is written: complete or taken again, never torn."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lineage.backup import create as backup_module
from lineage.backup.create import BackupSummary, create
from lineage.backup.restore import restore
from lineage.ledger import Draft
from lineage.settings import Settings
from lineage.verify import verify_ledger
from serve.record import decision_log as decision_log_module
from tests.support.backup_home import LEDGER, House, go_on, lines, on_record, other, tree
from tests.support.sample_facts import MODEL, ManualClock


def test_records_that_were_acknowledged_before_a_backup_are_in_it_however_many_write(
    house: House, settings: Settings, dest: Path
) -> None:
    stop, acknowledged = threading.Event(), [0] * 4

    def write(number: int) -> None:
        while not stop.is_set() and acknowledged[number] < 12_000:
            acknowledged[number] = max(acknowledged[number], house.ledger.append(_signed_in(number))["seq"])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    try:
        made: list[tuple[int, BackupSummary]] = []
        for number in range(6):
            here = min(acknowledged)
            made.append((here, create(settings, dest)))
            done = restore(dest, other(settings, f"again-{number}"))
            assert done.records == made[-1][1].records >= here
            assert done.lost == []
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [one.records for _, one in made] == sorted(one.records for _, one in made)
    assert made[-1][1].records > made[0][1].records
    whole = lines(settings)
    for number, (_, one) in enumerate(made):
        assert lines(other(settings, f"again-{number}")) == whole[: one.records]


def _signed_in(number: int) -> Draft:
    return Draft("SignedIn", LEDGER, {"account": f"writer-{number}"})


def test_each_decision_is_on_record_exactly_once_after_a_restore_whenever_it_was_sealed(
    house: House, settings: Settings, dest: Path, clock: ManualClock
) -> None:
    stop, given, backups = threading.Event(), [house.decided], 8

    def answer() -> None:
        while not stop.is_set() and house.decided < 4_000:
            house.decide(1)
            given[0] = house.decided

    def seal() -> None:
        while not stop.is_set():
            house.seal()

    threads = [threading.Thread(target=work) for work in (answer, seal)]
    for thread in threads:
        thread.start()
    try:
        for number in range(backups):
            before = given[0]
            made = create(settings, dest / str(number))
            restore(dest / str(number), other(settings, f"again-{number}"))
            go_on(other(settings, f"again-{number}"), clock)
            found = on_record(other(settings, f"again-{number}"))
            assert set(found) >= {f"d{one}" for one in range(1, before + 1)}
            if made.settled:
                assert set(found.values()) == {1}
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_sealing_that_ends_meanwhile_has_it_taken_again(
    house: House, settings: Settings, dest: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    taken, real = [0], backup_module._Backup._copy_vault

    def meanwhile(self: Any, spooled: Any) -> None:
        taken[0] += 1
        if taken[0] <= 2:
            house.decide(1)
            house.seal()
        real(self, spooled)

    monkeypatch.setattr(backup_module._Backup, "_copy_vault", meanwhile)
    assert create(settings, dest).settled
    assert taken == [3]
    restore(dest, other(settings))
    go_on(other(settings), clock)
    assert on_record(other(settings)) == {f"d{number}": 1 for number in range(1, 8)}


@pytest.mark.parametrize("step", ["_copy_spools", "_copy_log", "_copy_vault"])
def test_a_platform_that_never_stops_sealing_is_told_and_loses_nothing(
    step: str, house: House, settings: Settings, dest: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    real = getattr(backup_module._Backup, step)

    def meanwhile(self: Any, *given: Any) -> Any:
        taken = real(self, *given)
        house.decide(1)
        house.seal()
        return taken

    monkeypatch.setattr(backup_module._Backup, step, meanwhile)
    made = create(settings, dest)
    assert not made.settled
    restore(dest, other(settings))
    go_on(other(settings), clock)
    assert set(on_record(other(settings))) >= {f"d{number}" for number in range(1, house.decided)}


def test_what_is_sealed_between_log_and_spools_is_in_one_of_them(
    house: House, settings: Settings, dest: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    real, taken = backup_module._Backup._copy_log, [0]

    def meanwhile(self: Any) -> None:
        real(self)
        taken[0] += 1
        if taken[0] == 2:  # the one of the cut
            house.seal()

    monkeypatch.setattr(backup_module, "TRIES", 1)
    monkeypatch.setattr(backup_module._Backup, "_copy_log", meanwhile)
    assert not create(settings, dest).settled
    restore(dest, other(settings))
    go_on(other(settings), clock)
    assert set(on_record(other(settings))) == {f"d{number}" for number in range(1, house.decided + 1)}


def test_a_data_set_that_gets_a_version_meanwhile_can_be_read(
    house: House, settings: Settings, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, place = backup_module._Backup._copy_file, settings.datasets / MODEL
    written: list[str] = []

    def meanwhile(self: Any, name: str, path: Path) -> None:
        real(self, name, path)
        if name.startswith("datasets/") and len(written) < 3:
            written.append(name)
            pl.DataFrame({"ID": [len(written)], "default": [1]}).write_delta(str(place), mode="overwrite")

    monkeypatch.setattr(backup_module._Backup, "_copy_file", meanwhile)
    create(settings, dest)
    assert len(written) == 3
    restore(dest, other(settings))
    assert pl.read_delta(str(other(settings).datasets / MODEL)).height in (1, 2)


def test_what_is_sealed_is_not_taken_in_the_clear(
    house: House, settings: Settings, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log_module, "overwrite_sealed", lambda *given: None)  # killed just before
    house.seal()
    house.decide(1)
    create(settings, dest)
    assert b"customer-4" in tree(settings.spool)[house.spool.path.name]
    everything = b"".join(tree(dest).values())
    assert b"customer-6" in everything  # spooled, not yet sealed
    assert b"customer-4" not in everything


def test_behind_the_checkpoint_of_a_log_that_is_written_nothing_is_taken(
    house: House, settings: Settings, dest: Path
) -> None:
    last = sorted(settings.log_folder.glob("*.jsonl"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole + b'{"under":"way"}\n{"half')
    records = len(house.ledger.records)
    assert create(settings, dest).records == records
    assert restore(dest, other(settings)).records == records
    last.write_bytes(whole)


def test_behind_the_checkpoint_of_a_log_at_rest_whole_records_count(
    house: House, settings: Settings, dest: Path
) -> None:
    stale = (settings.log_folder / "checkpoint").read_bytes()
    house.record(3)
    records = len(house.ledger.records)
    house.ledger.close()
    (settings.log_folder / "checkpoint").write_bytes(stale)  # as after a loss of power
    assert create(settings, dest).records == records
    done = restore(dest, other(settings))
    assert done.records == records
    assert verify_ledger(other(settings)).beyond == 3
