"""Spools and sealing: nothing lost, nothing sealed twice, whatever is interrupted where."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from lineage.errors import UnavailableError
from serve.sealing import Sealer, read_segments
from serve.spool import Spool, SpoolReader, remove_finished
from tests.serve.records import decision, outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def _sealer(folder: Path) -> tuple[Sealer, SpoolReader]:
    reader = SpoolReader(folder)
    return Sealer(folder.parent / "decisions", reader), reader


def test_a_line_is_in_the_file_when_write_returns(folder: Path) -> None:
    spool = Spool(folder, "r1")
    spool.write(decision(1))
    assert SpoolReader(folder).read().records == [decision(1)]


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


def test_a_batch_becomes_one_segment_with_decisions_and_outcomes(folder: Path) -> None:
    spool = Spool(folder, "r1")
    for record in (decision(1), decision(2, "champion"), outcome(1, 1)):
        spool.write(record)
    sealer, reader = _sealer(folder)
    batch = reader.read()
    sealer.plan(batch)
    (segment,) = sealer.segments(batch)
    assert segment.data["rows"] == 2
    assert segment.data["outcomes"] == 1
    assert segment.data["releases"] == {"credit-default@1": 1, "credit-default@2": 1}
    frame = pl.concat(read_segments(folder.parent / "decisions", "credit-default"))
    assert frame.filter(pl.col("type") == "decision")["features"].to_list() == [[1.0, 2.0], [1.0, 2.0]]


@pytest.mark.parametrize("reached", ["planned", "written", "committed"])
def test_a_restart_at_any_point_loses_nothing_and_seals_nothing_twice(folder: Path, reached: str) -> None:
    spool = Spool(folder, "r1")
    for number in range(5):
        spool.write(decision(number))
    sealer, reader = _sealer(folder)
    batch = reader.read()
    sealer.plan(batch)
    names = {segment.name for segment in sealer.segments(batch)} if reached != "planned" else set()
    if reached == "committed":
        sealer.commit(batch)
    spool.write(decision(5))

    again, reader = _sealer(folder)  # the controller was killed here
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
    frame = pl.concat(read_segments(folder.parent / "decisions", "credit-default"))
    assert sorted(frame["decision_id"].to_list()) == [f"d{number}" for number in range(6)]
    assert _sealer(folder)[0].unfinished() is None


def test_sealing_the_same_plan_again_gives_the_same_digest(folder: Path) -> None:
    spool = Spool(folder, "r1")
    spool.write(decision(1))
    sealer, reader = _sealer(folder)
    batch = reader.read()
    first = sealer.segments(batch)[0].data
    next((folder.parent / "decisions").rglob("*.parquet")).unlink()
    assert sealer.segments(batch)[0].data == first
