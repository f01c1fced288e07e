"""Numbers of answers: without a gap in every spool, and what a spool lacks of what its replica reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.record import spool as spool_module
from serve.record.decision_log import DecisionLog
from serve.record.series import Series, replica_of
from serve.record.spool import Spool, SpoolReader
from tests.support.decision_records import decision, outcome


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def numbers(folder: Path) -> list[tuple[str, int]]:
    read = SpoolReader(folder).read().records
    return [(one["model"], one["number"]) for one in read if one["type"] == "decision"]


def test_each_model_has_its_own_numbers_from_one(settings: Settings) -> None:
    spool = Spool(settings.spool, "r1", rotate_bytes=1_000)
    for number in range(12):
        spool.write(decision(number, model=("loans", "cards")[number % 2]))
        spool.write(outcome(number, 1))
    assert spool.counts == {"loans": 6, "cards": 6}
    assert sorted(numbers(settings.spool)) == [(model, n) for model in ("cards", "loans") for n in range(1, 7)]
    again = Spool(settings.spool, "r1")
    assert again.writer != spool.writer
    assert (replica_of(again.writer), replica_of(spool.writer)) == ("r1", "r1")


@pytest.mark.parametrize("lost", [1, 2, 20, 10_000])
def test_a_line_that_was_not_written_whole_has_no_number(
    settings: Settings, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, real = Spool(settings.spool, "r1"), os.write
    spool.write(decision(1))
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[: max(0, len(data) - lost)]))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="not given"):
            spool.write(decision(2))
    monkeypatch.setattr(os, "write", real)
    spool.write(decision(3))
    read = SpoolReader(settings.spool).read().records
    assert [(one["decision_id"], one["number"]) for one in read] == [("d1", 1), ("d3", 2)]


def test_a_batch_holds_no_file_before_the_one_before_it_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(settings.spool, "r1", rotate_bytes=2_000)
    for number in range(60):
        spool.write(decision(number))
    assert len(list(settings.spool.iterdir())) > 10, "so that the names are not in the order of their numbers"
    monkeypatch.setattr(spool_module, "_CHUNK", 1_500)
    reader, seen, batches = SpoolReader(settings.spool), list[int](), 0
    while batch := reader.read().records:
        seen += [one["number"] for one in batch]
        batches += 1
        assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 60
    assert batches > 5


def test_a_segment_states_the_ranges_that_it_holds(settings: Settings) -> None:
    decision_log, spools = DecisionLog(settings), [Spool(settings.spool, name) for name in ("r1", "r2")]
    for number in range(7):
        spools[number % 2].write(decision(number))
    decision_log.take()
    (segment,) = decision_log.next_segments()
    told = [(one["writer"], one["first"], one["last"], one["count"]) for one in segment.data["answers"]]
    assert told == sorted([(spools[0].writer, 1, 4, 4), (spools[1].writer, 1, 3, 3)])


def test_an_end_that_was_cut_off_is_noticed_while_the_replica_lives(settings: Settings) -> None:
    decision_log, spool = DecisionLog(settings), Spool(settings.spool, "r1")
    for number in range(5):
        spool.write(decision(number))
    reported = {spool.writer: dict(spool.counts)}
    lines = spool.path.read_bytes().splitlines(keepends=True)
    assert decision_log.cut_off({}) == []
    os.truncate(spool.path, 0)
    os.truncate(spool.path, len(b"".join(lines)))  # a reader that was here before reads on behind it
    assert decision_log.cut_off(reported) == []
    spool.path.write_bytes(b"")
    fresh = DecisionLog(settings)
    spool.path.write_bytes(b"".join(lines[:3]))
    assert fresh.cut_off(reported) == [(spool.writer, "credit-default", 4, 5)]


def test_what_a_replica_reported_outlives_replica_and_controller(settings: Settings) -> None:
    file = settings.run / "series.json"
    Series(file).report({"r1~a": {"loans": 3}, "r2~b": {"loans": 1}})
    series = Series(file)
    series.report({"r1~a": {"loans": 2, "cards": 1}})
    assert series.gone({"r2"}) == {"r1~a": {"loans": 3, "cards": 1}}, "a late report lowers no number"
    series.forget("r1~a")
    assert Series(file).gone(set()) == {"r2~b": {"loans": 1}}
    file.write_bytes(b'{"r1')
    assert Series(file).gone(set()) == {}


def test_a_replica_with_lines_in_a_spool_is_not_gone(settings: Settings) -> None:
    decision_log, spool = DecisionLog(settings), Spool(settings.spool, "r1")
    spool.write(decision(1))
    decision_log.series.report({spool.writer: spool.counts})
    assert decision_log.gone(set()) == {}
    decision_log.take()
    decision_log.next_segments()
    decision_log.sealed(lambda process: False)
    assert decision_log.gone({"r1"}) == {}
    assert decision_log.gone(set()) == {spool.writer: {"credit-default": 1}}
