"""Decisions that are removed before they are sealed are named by `audit verify`; erasures and restarts are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lineage.rules.draft import Draft
from lineage.settings import Settings
from lineage.verify import Verification, verify_ledger
from serve.record.decision_log import DecisionLog
from serve.record.spool import Spool
from tests.support.decision_archive import Archive, open_archive
from tests.support.sample_facts import MACHINE, MODEL, ManualClock


@pytest.fixture
def archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
    with open_archive(settings, clock) as archive:
        yield archive


def verified(archive: Archive) -> tuple[Verification, list[str]]:
    """The verification, and its problems but for bundles, which nobody made here."""
    result = verify_ledger(archive.settings)
    return result, [one["problem"] for one in result.problems if "folder" not in one["problem"]]


def remove_line(archive: Archive, number: int) -> None:
    lines = archive.spool.path.read_bytes().splitlines(keepends=True)
    archive.spool.path.write_bytes(b"".join(lines[: number - 1] + lines[number:]))


def test_a_decision_that_was_removed_is_named(archive: Archive) -> None:
    for number in range(1, 6):
        archive.decide(number)
    remove_line(archive, 3)
    archive.seal()
    result, problems = verified(archive)
    assert problems == [f"decision 3 of replica {archive.spool.writer} for model {MODEL} is missing"]
    assert (result.answers, result.ok) == (4, False)


def test_the_end_of_a_spool_is_missed_by_what_the_replica_had_reported(archive: Archive) -> None:
    for number in range(1, 6):
        archive.decide(number)
    reported = dict(archive.spool.counts)
    remove_line(archive, 5)
    archive.seal()
    assert verified(archive)[1] == [], "nothing shows yet"
    data = {"writer": archive.spool.writer, "answers": reported}
    archive.service.context.ledger.append(Draft("AnswersClosed", MACHINE, data))
    (problem,) = verified(archive)[1]
    assert problem.startswith(f"decision 5 of replica {archive.spool.writer} for model {MODEL} is missing")


def test_erasure_restart_and_torn_ends_are_no_alarm(archive: Archive, clock: ManualClock) -> None:
    archive.decide(1, key="ada")
    archive.decide(2, key="grace")
    archive.seal()
    archive.later(days=800)
    archive.decide(3, key="grace")
    wanted = {"reason": "asked by letter", "identity_verified": True}
    archive.ask("erase", "ada", "operator", 201, **wanted)
    with archive.spool.path.open("ab") as file:
        file.write(b'{"type":"decision","decision_id":"d4"')  # the replica was killed while it wrote
    archive.decision_log = DecisionLog(archive.settings)  # and the controller
    archive.spool = Spool(archive.settings.spool, "r1")
    archive.decide(5)
    archive.alive = False
    archive.seal()
    result, problems = verified(archive)
    assert (problems, result.answers) == ([], 4)
