"""The ledger under concurrent writers, and after a group that the disk refused."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from lineage.errors import RefusedError, UnavailableError, UnknownError
from lineage.ledger import Ledger
from lineage.log.checkpoint import open_checkpoint
from lineage.log.disk import Disk
from lineage.log.merkle import check_consistency, check_inclusion, leaf_hash
from lineage.rules.draft import Draft
from tests.support.sample_facts import MODEL, TRAINER, FactWriter, ManualClock, digest, sample


class Full(Disk):
    """A disk that is full when it is told so."""

    full = False

    def append(self, descriptor: int, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(descriptor, data)


def trained(number: int) -> Draft:
    return Draft("ModelTrained", TRAINER, sample("ModelTrained", digest=digest(MODEL, number)), MODEL, key=str(number))


def test_what_the_disk_did_not_take_never_was(tmp_path: Path, quick: None) -> None:
    disk = Full()
    ledger = Ledger(tmp_path, disk=disk)
    writer = FactWriter(ledger)
    release = writer.train()
    writer.check(release)
    before = ledger.state.to_dict()
    disk.full = True
    for _ in range(2):
        for kind, about in (("CandidateValidated", release), ("CandidateRejected", release), ("AlertRaised", None)):
            with pytest.raises(UnavailableError, match="No space left"):
                writer.record(kind, about)
        with pytest.raises(UnavailableError):
            ledger.append(trained(7))
    assert ledger.state.to_dict() == before
    assert ledger.state.barred == set()
    disk.full = False
    writer.record("CandidateValidated", release)
    assert ledger.append(trained(7))["release"] == f"{MODEL}@2", "the key of what never was is free"
    ledger.close()
    again = Ledger(tmp_path)
    assert [record["kind"] for record in again.records][-2:] == ["CandidateValidated", "ModelTrained"]
    again.close()


def test_many_writers_get_what_one_after_the_other_would(tmp_path: Path, quick: None) -> None:
    ledger = Ledger(tmp_path)
    results: dict[int, Any] = {}

    def write(number: int) -> None:
        results[number] = ledger.append(trained(number % 40))  # each is sent twice

    threads = [threading.Thread(target=write, args=(number,)) for number in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ledger.records) == 40
    assert all(results[number] == results[number + 40] for number in range(40))
    assert {record["release"] for record in ledger.records} == {f"{MODEL}@{number}" for number in range(1, 41)}
    assert [record["seq"] for record in ledger.records] == list(range(1, 41))
    ledger.close()


def test_of_two_who_want_the_same_one_is_refused_also_within_a_group(writer: FactWriter) -> None:
    release = writer.train()
    writer.check(release)
    outcomes: list[str] = []

    def decide(kind: str) -> None:
        try:
            writer.record(kind, release)
            outcomes.append("done")
        except RefusedError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=decide, args=("CandidateValidated",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["done", *["order"] * 5]


def test_a_clock_that_is_put_back_does_not_put_time_back(tmp_path: Path, clock: ManualClock, quick: None) -> None:
    ledger = Ledger(tmp_path, clock=clock)
    writer = FactWriter(ledger)
    writer.train()
    clock.later(days=-1)
    writer.train()
    times = [record["at"] for record in ledger.records]
    assert times == sorted(times)
    ledger.close()


def test_a_record_is_proved_to_somebody_who_has_the_checkpoint_only(writer: FactWriter) -> None:
    ledger = writer.ledger
    for _ in range(9):
        writer.train()
    for seq in range(1, 10):
        line, proof, note = ledger.prove(seq)
        checkpoint = open_checkpoint(note, ledger.verifier)
        check_inclusion(leaf_hash(line), seq - 1, checkpoint.size, proof, checkpoint.root)
        earlier = open_checkpoint(ledger.prove(seq, seq)[2], ledger.verifier)
        path = ledger.prove_consistency(seq, checkpoint.size)
        check_consistency(seq, checkpoint.size, earlier.root, checkpoint.root, path)
    for seq, size in ((0, None), (10, None), (5, 4), (1, 11)):
        with pytest.raises(UnknownError):
            ledger.prove(seq, size)
    with pytest.raises(UnknownError):
        ledger.prove_consistency(3, 10)
