"""Logs of the first format stay readable: opened, continued in the present format, and verified as a whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest

from lineage.digest import canonical
from lineage.errors import TamperedError
from lineage.examiner import verify
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.log.reader import CHECKPOINT, OLD_HEAD, segments
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.sample_facts import FactWriter, ManualClock


@pytest.fixture
def old(settings: Settings, quick: None) -> Settings:
    """A home whose log was written by the first version: links by plain SHA-256, a head, no checkpoint."""
    ledger = Ledger(settings.log_folder, clock=ManualClock())
    FactWriter(ledger).bring(State.REJECTED)
    ledger.close()
    prev, lines = "0" * 64, []
    for line in segments(settings.log_folder)[0].read_bytes().splitlines():
        record = orjson.loads(line)
        del record["v"]
        lines.append(canonical(record | {"prev": prev}))
        prev = hashlib.sha256(lines[-1]).hexdigest()
    for path in settings.log_folder.iterdir():
        path.unlink()
    (settings.log_folder / "000000000001.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (settings.log_folder / OLD_HEAD).write_bytes(b"%012d %s\n" % (len(lines), prev.encode()))
    return settings


def reopened(settings: Settings) -> Ledger:
    return Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))


def test_it_is_verified_as_it_is(old: Settings) -> None:
    assert verify_ledger(old).ok


def test_it_is_continued_and_verified_as_a_whole(old: Settings) -> None:
    before = len(segments(old.log_folder)[0].read_bytes().splitlines())
    ledger = reopened(old)
    FactWriter(ledger).record("AlertRaised")
    ledger.close()
    assert not (old.log_folder / OLD_HEAD).exists()
    assert (old.log_folder / CHECKPOINT).exists()
    told = verify_ledger(old)
    assert (told.ok, told.records, told.checkpoint) == (True, before + 1, before + 1)
    facts: dict[str, object] = {}
    verify.verify_log(facts, None, None, old.log_folder)
    assert facts["records"] == before + 1
    again = reopened(old)
    assert [("v" in record) for record in again.records] == [False] * before + [True]
    again.close()


@pytest.mark.parametrize("number", [1, 2, -1])
def test_a_record_that_was_changed_is_named_before_and_after(number: int, old: Settings) -> None:
    path = segments(old.log_folder)[0]
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    position = number - 1 if number > 0 else len(lines) - 1
    lines[position] = lines[position].replace(b"2026-", b"2025-", 1)
    path.write_bytes(b"".join(lines))
    assert verify_ledger(old).problems[0]["record"] == position + 1
    with pytest.raises(TamperedError):
        reopened(old)
    path.write_bytes(good)
    reopened(old).close()
    path.write_bytes(b"".join(lines))
    assert verify_ledger(old).problems[0]["record"] == position + 1


def test_a_cut_end_and_a_missing_head_are_told(old: Settings) -> None:
    path, head = segments(old.log_folder)[0], old.log_folder / OLD_HEAD
    good = path.read_bytes()
    path.write_bytes(b"".join(good.splitlines(keepends=True)[:-1]))
    assert not verify_ledger(old).ok
    path.write_bytes(good)
    head.unlink()
    assert not verify_ledger(old).ok
    with pytest.raises(TamperedError, match="checkpoint"):
        reopened(old)


def test_nobody_goes_back_to_the_first_format(old: Settings) -> None:
    ledger = reopened(old)
    FactWriter(ledger).record("AlertRaised")
    ledger.close()
    lines = segments(old.log_folder)[0].read_bytes().splitlines()
    (old.log_folder / CHECKPOINT).unlink()
    last = hashlib.sha256(lines[-1]).hexdigest()
    Path(old.log_folder / OLD_HEAD).write_bytes(b"%012d %s\n" % (len(lines), last.encode()))
    told = verify_ledger(old)
    assert not told.ok
    assert "needs a checkpoint" in told.problems[0]["problem"]
