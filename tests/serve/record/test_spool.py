"""Spools and sealing: nothing lost or sealed twice at any interruption."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from lineage.errors import TamperedError, UnavailableError
from lineage.privacy.decisions import READABLE, unseal
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings
from serve.controller.replicas import process_alive
from serve.record.decision_log import DecisionLog
from serve.record.sealing import Sealer, read_segments
from serve.record.spool import Spool, SpoolReader, overwrite_sealed, remove_finished
from tests.support.decision_records import decision, outcome

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.spool


def _sealer(settings: Settings) -> tuple[Sealer, SpoolReader]:
    reader = SpoolReader(settings.spool)
    return Sealer(settings.decisions, reader, Vault(settings)), reader


def test_a_line_is_in_the_file_when_write_returns(folder: Path) -> None:
    spool = Spool(folder, "r1")
    spool.write(decision(1))
    assert SpoolReader(folder).read().records == [decision(1) | {"writer": spool.writer, "number": 1}]


def test_a_torn_last_line_waits_until_it_is_whole(folder: Path) -> None:
    spool, reader = Spool(folder, "r1"), SpoolReader(folder)
    spool.write(decision(1))
    with spool.path.open("ab") as file:
        file.write(b'{"type":"outcome","decision_id":"d1"')
    assert len(reader.read().records) == 1
    assert reader.read().records == []
    with spool.path.open("ab") as file:
        file.write(b',"outcome":1}\n')
    assert reader.read().records[0]["outcome"] == 1


def test_a_line_that_stays_torn_is_counted_and_does_not_stop_the_reader(folder: Path) -> None:
    spool, reader = Spool(folder, "r1"), SpoolReader(folder)
    os.write(spool._file, b'{"type":"deci\n')
    spool.write(decision(2))
    assert [record["decision_id"] for record in reader.read().records] == ["d2"]
    assert reader.torn == 1


def test_a_closed_file_refuses_the_decision(folder: Path) -> None:
    spool = Spool(folder, "r1")
    spool.close()
    with pytest.raises(UnavailableError, match="not given"):
        spool.write(decision(1))


def test_files_of_dead_replicas_are_read_and_removed_only_when_sealed(folder: Path) -> None:
    gone, alive = folder / "r0-1.jsonl", Spool(folder, "r1")
    Spool(folder, "r0").path.rename(gone)
    gone.write_bytes(b"")
    with gone.open("ab") as file:
        file.write(b'{"type":"outcome","decision_id":"d0","outcome":0}\n')
    alive.write(decision(1))
    reader = SpoolReader(folder)
    assert len(reader.read().records) == 2
    assert remove_finished(folder, {}, lambda process: process != 1) == []
    assert remove_finished(folder, reader.offsets, lambda process: process != 1) == [gone.name]
    assert alive.path.exists()


def test_a_batch_becomes_one_segment_with_decisions_and_outcomes(settings: Settings) -> None:
    spool = Spool(settings.spool, "r1")
    for record in (decision(1), decision(2, "champion"), outcome(1, 1)):
        spool.write(record)
    sealer, reader = _sealer(settings)
    batch = reader.read()
    sealer.plan(batch)
    (segment,) = sealer.segments(batch)
    assert segment.data["rows"] == 2
    assert segment.data["outcomes"] == 1
    assert segment.data["releases"] == {"credit-default@1": 1, "credit-default@2": 1}
    rows = unseal(pl.concat(read_segments(settings.decisions, "credit-default")).to_dicts(), Vault(settings))
    decisions = [row for row in rows if row["type"] == "decision"]
    assert [row["features"] for row in decisions] == [[1.0, 2.0], [1.0, 2.0]]
    assert [(row["key"], row["person"]) for row in decisions] == [(f"customer-{n}", READABLE) for n in (1, 2)]


@pytest.mark.parametrize("reached", ["planned", "written", "committed"])
def test_a_restart_at_any_point_loses_nothing_and_seals_nothing_twice(settings: Settings, reached: str) -> None:
    spool = Spool(settings.spool, "r1")
    for number in range(5):
        spool.write(decision(number))
    sealer, reader = _sealer(settings)
    batch = reader.read()
    sealer.plan(batch)
    names = {segment.name for segment in sealer.segments(batch)} if reached != "planned" else set()
    if reached == "committed":
        sealer.commit(batch)
    spool.write(decision(5))

    again, reader = _sealer(settings)  # the controller was killed here
    facts = {}
    unfinished = again.unfinished()
    if unfinished is not None:
        facts = {segment.name: segment for segment in again.segments(unfinished)}
        assert names <= facts.keys()
        again.commit(unfinished)
    rest = reader.read()
    assert [record["decision_id"] for record in rest.records] == ["d5"]
    again.plan(rest)
    again.segments(rest)
    again.commit(rest)
    frame = pl.concat(read_segments(settings.decisions, "credit-default"))
    assert sorted(frame["decision_id"].to_list()) == [f"d{number}" for number in range(6)]
    assert _sealer(settings)[0].unfinished() is None


def test_sealing_the_same_plan_again_gives_the_same_digest(settings: Settings) -> None:
    spool = Spool(settings.spool, "r1")
    spool.write(decision(1))
    sealer, reader = _sealer(settings)
    batch = reader.read()
    first = sealer.segments(batch)[0].data
    next((settings.decisions).rglob("*.parquet")).unlink()
    assert sealer.segments(batch)[0].data == first


def test_a_torn_line_never_takes_the_next_one_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, real = Spool(folder, "r1"), os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:20]))  # the disk is full
    with pytest.raises(UnavailableError, match="not given"):
        spool.write(decision(1))
    monkeypatch.setattr(os, "write", real)
    spool.write(decision(2))
    reader = SpoolReader(folder)
    assert [record["decision_id"] for record in reader.read().records] == ["d2"]
    assert reader.torn == 1


def test_a_spool_that_has_grown_begins_another_file(folder: Path) -> None:
    spool = Spool(folder, "r1", rotate_bytes=1_000)
    for number in range(10):
        spool.write(decision(number))
    files = sorted(folder.iterdir())
    assert len(files) > 2
    reader = SpoolReader(folder)
    assert sorted(record["decision_id"] for record in reader.read().records) == [f"d{n}" for n in range(10)]

    # what the replica no longer writes to goes once it is sealed, though the replica lives
    removed = remove_finished(folder, reader.offsets, lambda process: True)
    assert sorted(removed) == [file.name for file in files if file != spool.path]
    spool.write(decision(10))
    assert [record["decision_id"] for record in reader.read().records] == ["d10"]


def test_where_no_new_file_can_be_made_the_present_one_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, real = Spool(folder, "r1", rotate_bytes=100), os.open

    def full(path: Any, *how: Any) -> int:
        if str(path).startswith(str(folder)):
            raise OSError(24, "Too many open files")
        return real(path, *how)

    monkeypatch.setattr(os, "open", full)
    for number in range(3):
        spool.write(decision(number))
    monkeypatch.setattr(os, "open", real)
    assert len(SpoolReader(folder).read().records) == 3


def test_sealed_lines_of_a_living_replica_are_overwritten_and_later_ones_stay(folder: Path) -> None:
    spool, reader, blanked = Spool(folder, "r1"), SpoolReader(folder), dict[str, int]()
    spool.write(decision(1))
    reader.read()
    spool.write(decision(2))
    overwrite_sealed(folder, reader.offsets, blanked)
    spool.write(decision(3))
    assert b"customer-1" not in spool.path.read_bytes()
    assert [record["decision_id"] for record in reader.read().records] == ["d2", "d3"]
    overwrite_sealed(folder, reader.offsets, blanked)
    assert spool.path.read_bytes().strip() == b""
    again = SpoolReader(folder)  # one that has lost its cursor
    assert (again.read().records, again.torn) == ([], 0)


def test_a_torn_end_of_a_dead_replica_goes_with_its_file(folder: Path) -> None:
    spool, reader = Spool(folder, "r1"), SpoolReader(folder)
    spool.write(decision(1))
    os.write(spool._file, b'{"type":"decision","decision_id":"d2"')
    reader.read()
    assert remove_finished(folder, reader.offsets, lambda process: True) == []
    assert remove_finished(folder, reader.offsets, lambda process: False) == [spool.path.name]


def test_what_is_sealed_names_nobody_and_stays_with_its_decision(settings: Settings) -> None:
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    spool.write(decision(1, reasons=["R-debt"], error="InvalidError: feature 'debt' is 4177.0; expected less"))
    decision_log.take()
    (segment,) = decision_log.next_segments()
    decision_log.sealed(lambda process: True)
    (row,) = pl.read_parquet(settings.root / segment.data["uri"]).to_dicts()
    shown = repr(row)
    assert not [word for word in ("customer-1", "4177", "R-debt") if word in shown]
    assert (row["error"], row["score"], row["decision"]) == ("InvalidError", 0.2, "approve")
    assert b"customer-1" not in b"".join(path.read_bytes() for path in settings.spool.iterdir())
    (opened,) = unseal([row], Vault(settings))
    assert (opened["key"], opened["features"], opened["reasons"]) == ("customer-1", [1.0, 2.0], ["R-debt"])
    assert opened["error"].startswith("InvalidError: feature 'debt' is 4177.0")
    with pytest.raises(TamperedError, match="not sealed for this decision"):
        unseal([row | {"decision_id": "d2"}], Vault(settings))


WRITER = """
import os, sys
from itertools import count
from pathlib import Path
from serve.record.spool import Spool
from tests.support.decision_records import decision
spool = Spool(Path(sys.argv[1]), sys.argv[2], rotate_bytes=30_000)
for number in count():
    name = f"{sys.argv[2]}-{number}"
    spool.write(decision(number % 50, decision_id=name))
    os.write(1, f"{name}\\n".encode())
"""


def test_no_answered_request_is_lost_when_replicas_are_killed(settings: Settings) -> None:
    """Twenty replicas answer while the controller seals, and each is killed in the middle of it."""
    chance, answered = Random(20), list[str]()
    decision_log = DecisionLog(settings)

    def seal() -> None:
        decision_log.take()
        decision_log.next_segments()
        decision_log.sealed(process_alive)

    for number in range(20):
        command = [sys.executable, "-c", WRITER, str(settings.spool), f"r{number}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as replica:
            assert replica.stdout is not None
            for _ in range(chance.randrange(3)):
                answered += [next(replica.stdout).decode().strip() for _ in range(chance.randrange(1, 300))]
                seal()
            answered += [next(replica.stdout).decode().strip() for _ in range(chance.randrange(1, 300))]
            replica.kill()
            answered += [line.decode().strip() for line in replica.stdout if line.endswith(b"\n")]
        if chance.random() < 0.5:
            decision_log = DecisionLog(settings)  # the controller begins again, too
    seal()

    frames = list(read_segments(settings.decisions, "credit-default"))
    sealed = Counter(name for frame in frames for name in frame["decision_id"])
    assert len(answered) > 2_000
    assert [name for name in answered if sealed[name] != 1] == []
    assert max(sealed.values()) == 1
    assert list(settings.spool.iterdir()) == []
