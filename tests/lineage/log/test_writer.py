"""The log: acknowledged records survive any crash, and records that were not stored are reported."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.ledger import Ledger
from lineage.log.merkle import leaf_hash
from lineage.log.reader import CHECKPOINT, ZERO, lines, segments
from lineage.log.writer import Log
from lineage.rules.draft import Draft
from tests.support.sample_facts import MODEL, TRAINER, FactWriter, sample


def envelope(data: dict[str, Any]) -> dict[str, Any]:
    actor = {"name": "trainer", "role": "service"}
    about = {"model": None, "release": None, "reason": None, "key": None}
    return {"at": "2026-11-23T10:00:00.000000Z", "kind": "AlertRaised", "actor": actor, "data": data, **about}


def opened(folder: Path, **options: Any) -> tuple[Log, list[dict[str, Any]]]:
    log = Log(folder, **options)
    return log, [entry.record for entry in log.replay()]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)
DATA = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4)


@settings(max_examples=20)
@given(st.lists(DATA, max_size=12), st.integers(1, 2_000))
def test_any_records_are_the_same_after_reopening(contents: list[dict[str, Any]], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log, _ = opened(folder, segment_bytes=segment_bytes)
        stored = [log.append(envelope(data)) for data in contents]
        note = log.note
        log.close()
        again, found = opened(folder, segment_bytes=segment_bytes)
        assert found == stored
        assert (again.note, again.torn_bytes) == (note, 0)
        again.close()


def test_a_torn_record_is_cut_at_any_byte_and_the_acknowledged_ones_stay(tmp_path: Path, quick: None) -> None:
    log, _ = opened(tmp_path / "log")
    stored = [log.append(envelope({"n": n})) for n in range(3)]
    keep = shutil.copytree(tmp_path / "log", tmp_path / "keep")
    log.append(envelope({"n": 3}))
    log.close()
    line = list(lines(tmp_path / "log"))[-1].data
    for size in range(len(line) + 1):
        folder = shutil.copytree(keep, tmp_path / f"torn-{size}")
        with segments(folder)[0].open("ab") as file:
            file.write(line[:size])
        torn, found = opened(folder)
        assert found == stored
        assert torn.torn_bytes == size
        assert torn.append(envelope({"n": "next"}))["seq"] == 4
        torn.close()
        reopened, found = opened(folder)
        assert len(found) == 4
        reopened.close()
        shutil.rmtree(folder)


def test_a_whole_record_that_was_not_acknowledged_yet_may_stay(tmp_path: Path, quick: None) -> None:
    log, _ = opened(tmp_path)
    log.append(envelope({"n": 0}))
    before = (tmp_path / CHECKPOINT).read_bytes()
    log.append(envelope({"n": 1}))
    log.close()
    (tmp_path / CHECKPOINT).write_bytes(before)  # as after a crash between the two writes
    again, found = opened(tmp_path)
    assert [record["data"]["n"] for record in found] == [0, 1]
    again.close()


def test_segments_are_named_by_their_first_record_and_never_written_again(tmp_path: Path, quick: None) -> None:
    log, _ = opened(tmp_path, segment_bytes=700)
    for n in range(12):
        log.append(envelope({"n": n}))
    names = [path.name for path in segments(tmp_path)]
    assert len(names) > 3
    first = segments(tmp_path)[0]
    assert first.name == "000000000001.jsonl"
    before = first.read_bytes()
    log.append(envelope({"n": "more"}))
    assert first.read_bytes() == before
    log.close()
    again, found = opened(tmp_path, segment_bytes=700)
    assert len(found) == 13
    again.append(envelope({"n": "after reopening"}))
    again.close()


def test_the_chain_is_what_it_says(tmp_path: Path, quick: None) -> None:
    log, _ = opened(tmp_path, segment_bytes=600)
    records = [log.append(envelope({"n": n})) for n in range(6)]
    leaves = [leaf_hash(line.data) for line in lines(tmp_path)]
    assert [record["prev"] for record in records] == [ZERO, *(leaf.hex() for leaf in leaves[:-1])]
    assert [log.tree.leaf(n) for n in range(6)] == leaves
    log.close()


def test_a_failed_flush_stops_all_acknowledging_until_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    writer = FactWriter(ledger)
    writer.train()
    real, calls = os.fdatasync, []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            writer.train()
    assert len(calls) == 1, "it is not tried again"
    assert len(ledger.records) == ledger.state.seq == 1
    ledger.close()
    again = Ledger(tmp_path)
    assert len(again.records) == 1
    assert FactWriter(again).train() == f"{MODEL}@2"
    again.close()


def test_a_full_disk_refuses_takes_back_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    log.append(envelope({"n": 0}))
    real, left = os.write, [40]

    def full(descriptor: int, data: Any) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, left[0] = real(descriptor, bytes(data)[: left[0]]), 0
        return taken

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnavailableError, match="No space left"):
        log.append(envelope({"n": 1}))
    monkeypatch.setattr(os, "write", real)
    assert log.append(envelope({"n": 2}))["seq"] == 2
    log.close()
    again, found = opened(tmp_path)
    assert [record["data"]["n"] for record in found] == [0, 2]
    assert again.torn_bytes == 0
    again.close()


def test_when_nothing_can_be_taken_back_the_log_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    log.append(envelope({"n": 0}))

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", broken)
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(UnavailableError):
            log.append(envelope({"n": 1}))
    with pytest.raises(UnavailableError, match="restart"):
        log.append(envelope({"n": 2}))
    log.close()


def test_no_room_for_a_new_segment_is_refused_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path, segment_bytes=10)
    log.append(envelope({"n": 0}))
    real = os.open

    def full(path: Any, *rest: Any) -> int:
        if str(path).endswith(".jsonl"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(UnavailableError, match="No space left"):
            log.append(envelope({"n": 1}))
    assert log.append(envelope({"n": 1}))["seq"] == 2
    log.close()


def test_a_closed_log_takes_nothing_and_closes_twice(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.close()
    log.close()
    with pytest.raises(UnavailableError):
        log.append(envelope({}))


def test_a_second_ledger_is_refused_here_and_from_another_process(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(RefusedError) as caught:
        Ledger(tmp_path)
    assert caught.value.code == "already_open"
    code = f"from pathlib import Path; from lineage.log.writer import Log; Log(Path({str(tmp_path)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "another ledger service has" in other.stderr
    ledger.close()
    Ledger(tmp_path).close()


def test_a_ledger_that_cannot_open_lets_the_folder_go(tmp_path: Path, quick: None) -> None:
    ledger = Ledger(tmp_path)
    FactWriter(ledger).train()
    ledger.close()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b"scientist", b"Scientist"))
    for _ in range(2):
        with pytest.raises(TamperedError):
            Ledger(tmp_path)


@pytest.mark.parametrize(
    "data",
    [{"x": float("nan")}, {"x": [1.0, float("inf")]}, {"x": {"y": 2**70}}, {"x": "\ud800"}, {"x": {1, 2}}],
)
def test_what_json_cannot_say_is_refused_and_nothing_is_written(data: dict[str, Any], ledger: Ledger) -> None:
    draft = Draft("RetrainRequested", TRAINER, sample("RetrainRequested", options=data), MODEL)
    with pytest.raises(InvalidError):
        ledger.append(draft)
    assert ledger.records == []
    assert FactWriter(ledger).train() == f"{MODEL}@1"


def test_the_same_key_gives_the_same_record_also_after_reopening(settings: Any, quick: None) -> None:
    ledger = Ledger(settings.log_folder)
    draft = Draft("ModelTrained", TRAINER, sample("ModelTrained"), MODEL, key="once")
    first = ledger.append(draft)
    assert ledger.append(draft) == first
    ledger.close()
    again = Ledger(settings.log_folder)
    assert again.append(draft) == first
    assert len(again.records) == 1
    other = Draft("ModelTrained", TRAINER, sample("ModelTrained", seed=8), MODEL, key="once")
    with pytest.raises(RefusedError) as caught:
        again.append(other)
    assert caught.value.code == "key_reused"
    again.close()


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a@1", "-a", "a" * 101, "ü", "a\n", "a b", "a\x00", "."])
def test_a_model_has_a_plain_name(name: str, ledger: Ledger) -> None:
    with pytest.raises(InvalidError) as caught:
        ledger.append(Draft("ModelTrained", TRAINER, sample("ModelTrained"), name))
    assert caught.value.field == "model"
    assert ledger.records == []
