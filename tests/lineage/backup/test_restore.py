"""A restore states what is lost, never goes behind the witness unasked, and keeps erased people erased."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from lineage.backup.create import create
from lineage.backup.restore import restore
from lineage.errors import InvalidError, RefusedError, TamperedError
from lineage.privacy.key_vault import Vault
from lineage.service.context import Context
from lineage.settings import Settings
from lineage.verify import verify_ledger
from lineage.witness.cosigner import Cosigner, OwnLog
from lineage.witness.server import create_app
from tests.support.backup_home import House, go_on, lines, other, tree
from tests.support.decision_records import NOW
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import serving


def test_a_segment_that_was_lost_before_the_backup_is_named_and_has_to_be_accepted(
    house: House, settings: Settings, dest: Path, clock: ManualClock
) -> None:
    (segment,) = settings.decisions.rglob("*.parquet")
    segment.unlink()
    create(settings, dest)
    with pytest.raises(RefusedError, match="--accept-loss") as refusal:
        restore(dest, other(settings))
    assert refusal.value.code == "loss"
    assert segment.stem in refusal.value.message
    assert not other(settings).root.exists()
    for reason in (" ", "x" * 1_001):
        with pytest.raises(InvalidError):
            restore(dest, other(settings), accept_loss=reason)
    done = restore(dest, other(settings), accept_loss="the disk of the segments burnt", clock=clock)
    assert (len(done.lost), done.continues) == (1, None)
    last = json.loads(lines(other(settings))[-1])
    assert (last["kind"], last["seq"]) == ("LedgerOpened", done.records)
    assert segment.stem in last["reason"]
    assert "Accepted: the disk of the segments burnt" in last["reason"]
    create(settings, dest / "keyless", keys=False)
    with pytest.raises(RefusedError, match="no keys"):
        restore(dest / "keyless", other(settings, "keyless"), accept_loss="it burnt")


def test_a_loss_that_is_accepted_but_is_none_is_not_told(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    done = restore(dest, other(settings), accept_loss="whatever may be")
    assert done.records == len(house.ledger.records)
    assert done.lost == []


def show(house: House, settings: Settings) -> int:
    ledger = house.ledger
    own = OwnLog(ledger.verifier, ledger.checkpoint, ledger.prove_consistency, ledger.root)
    cosigner = Cosigner(own, settings.witness_url, pin=settings.witness_pin, cosigned=settings.cosigned)
    assert cosigner.submit()
    cosigner.close()
    return len(ledger.records)


def test_a_backup_of_what_the_witness_saw_is_restored_without_a_word(
    house: House, watched: Settings, dest: Path, clock: ManualClock
) -> None:
    seen = show(house, watched)
    house.record(4)
    create(watched, dest)
    done = restore(dest, other(watched))
    assert (done.seen, done.records, done.lost) == (seen, seen + 4, [])
    context = Context(other(watched), clock=clock)
    context.close()


def test_an_older_backup_says_both_sizes_and_is_refused(house: House, watched: Settings, dest: Path) -> None:
    held = show(house, watched)
    create(watched, dest)
    house.record(9)
    seen = show(house, watched)
    with pytest.raises(RefusedError) as refusal:
        restore(dest, other(watched))
    assert (refusal.value.code, refusal.value.detail) == ("loss", {"seen": seen, "size": held})
    assert f"saw {seen} records" in refusal.value.message
    assert f"here are {held}" in refusal.value.message
    assert not other(watched).root.exists()


def test_a_witness_that_does_not_answer_is_believed_by_its_folder(house: House, settings: Settings, dest: Path) -> None:
    with serving(create_app(settings.witness_home, trust_first=True)) as url:
        watched = Settings(**settings.model_dump() | {"witness_url": url})
        show(house, watched)
        create(watched, dest)
        house.record(2)
        seen = show(house, watched)
    with pytest.raises(RefusedError) as refusal:
        restore(dest, other(settings))
    assert refusal.value.detail["seen"] == seen
    shutil.rmtree(settings.witness_home)
    assert restore(dest, other(settings)).seen is None


def test_an_accepted_loss_begins_a_log_that_names_the_old_one_and_leaves_the_witness_as_it_was(
    house: House, watched: Settings, dest: Path, clock: ManualClock
) -> None:
    old = house.ledger.verifier
    held = show(house, watched)
    create(watched, dest)
    house.record(9)
    seen = show(house, watched)
    house.ledger.close()
    remembered = tree(watched.witness_home / "seen")
    home = other(watched)
    done = restore(dest, home, accept_loss="both disks burnt", clock=clock)
    assert (done.continues, done.seen, done.records) == (old.name, seen, held + 1)
    assert done.log not in (old.name, None)
    assert tree(watched.witness_home / "seen") == remembered

    # the records are the same, the name and the key are others, and the newest record says why
    assert lines(home)[:held] == lines(watched)[:held]
    last = json.loads(lines(home)[-1])
    assert last["reason"].startswith(f"It continues {old.name}, which ended.")
    assert f"saw {seen} records" in last["reason"]
    assert last["reason"].endswith("Accepted: both disks burnt")
    ended = home.log_folder.parent / "ended" / old.name.removeprefix("plimsoll/")
    assert (ended / "vkey").read_text() == f"{old.vkey}\n"
    assert {path.name for path in ended.iterdir()} == {"checkpoint", "cosigned", "vkey"}
    private = tree(watched.root)["keys/ledger.key"]
    assert private not in tree(home.root).values()

    # the service starts and is cosigned as a new log; in the old name nothing is cosigned any more
    context = Context(home, clock=clock)
    assert context.cosigner is not None
    assert context.cosigner.submit()
    context.close()
    assert verify_ledger(home).records > held
    fork = other(watched, "fork")
    with pytest.raises(RefusedError):
        restore(dest, fork)
    assert (watched.witness_home / "seen").joinpath(f"{old.name.replace('/', '%2F')}.note").read_bytes() == (
        remembered[f"{old.name.replace('/', '%2F')}.note"]
    )


def test_another_history_is_refused_even_where_the_loss_is_accepted(
    house: House, watched: Settings, dest: Path, clock: ManualClock
) -> None:
    create(watched, dest / "old")
    house.record(3)
    show(house, watched)
    restore_into = other(watched, "fork")
    unwatched = Settings(**restore_into.model_dump() | {"witness_url": "", "witness_home": dest / "nowhere"})
    restore(dest / "old", unwatched)
    fork = go_on(unwatched, clock)
    fork.open()
    fork.record(30)
    fork.ledger.close()
    create(unwatched, dest / "fork")
    with pytest.raises(TamperedError, match="history was replaced"):
        restore(dest / "fork", other(watched), accept_loss="never mind")
    house.record(60)
    with pytest.raises(TamperedError, match="another history"):
        restore(dest / "fork", other(watched), log=watched.log_folder)


def test_who_was_erased_after_the_backup_cannot_be_opened_after_a_restore(
    house: House, settings: Settings, dest: Path
) -> None:
    create(settings, dest)
    with closing(Vault(settings)) as vault:
        name = vault.pseudonym("customer-2")
        kept = vault.pseudonym("customer-3")
    house.erase("customer-2")
    home = other(settings)
    done = restore(dest, home, log=settings.log_folder)
    assert (done.records, done.erased, done.lost) == (len(house.ledger.records), 1, [])
    with closing(Vault(home)) as vault:
        assert vault.key_states([name, kept]) == {name: "erased", kept: "kept"}
        assert vault.existing_pseudonym("customer-2") is None


def test_who_was_only_spooled_at_the_backup_and_erased_later_cannot_be_opened_either(
    house: House, settings: Settings, dest: Path, clock: ManualClock
) -> None:
    house.decide(1, key="late-comer", at=NOW.isoformat())
    create(settings, dest)
    house.seal()
    clock.later(seconds=5)
    house.erase("late-comer")
    home = other(settings)
    done = restore(dest, home, log=settings.log_folder, accept_loss="the newest segment is not in the backup")
    assert done.erased == 1
    go_on(home, clock)
    rows = pl.concat([pl.read_parquet(path) for path in home.decisions.rglob("*.parquet")])
    mine = rows.filter(pl.col("decision_id") == f"d{house.decided}")
    assert mine.height == 1
    with closing(Vault(home)) as vault:
        assert vault.existing_pseudonym("late-comer") is None
        assert vault.key_states(mine["subject"]) == {mine["subject"][0]: "erased"}
    assert mine["sealed"].to_list() == [None]


def test_without_a_newer_record_a_loss_says_that_erasures_may_be_among_it(
    house: House, watched: Settings, dest: Path
) -> None:
    create(watched, dest)
    house.erase("customer-2")
    show(house, watched)
    with pytest.raises(RefusedError, match="every erasure that they may hold"):
        restore(dest, other(watched))


# --- a newer copy of the log


def test_a_newer_copy_of_the_log_makes_good_what_the_backup_lacks(house: House, watched: Settings, dest: Path) -> None:
    create(watched, dest / "full")
    house.record(9)
    seen = show(house, watched)
    create(watched, dest / "second")
    home = other(watched)
    done = restore(dest / "full", home, log=dest / "second" / "log")
    assert (done.records, done.seen, done.lost) == (seen, seen, [])
    assert lines(home) == lines(watched)


def test_a_copy_that_is_older_or_no_log_is_refused(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest / "first")
    house.record(2)
    create(settings, dest / "second")
    with pytest.raises(RefusedError, match="the older one"):
        restore(dest / "second", other(settings), log=dest / "first" / "log")
    with pytest.raises(InvalidError, match="holds no log"):
        restore(dest / "second", other(settings), log=dest)
    assert not other(settings).root.exists()
