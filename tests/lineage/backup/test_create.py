"""What a backup keeps, what it leaves out, and where it may be written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lineage.backup.create import create
from lineage.backup.manifest import backup_lock, read_manifest
from lineage.backup.restore import restore
from lineage.errors import InvalidError, RefusedError, UnknownError
from lineage.service.context import Context
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.backup_home import House, go_on, lines, other, rows, tree
from tests.support.sample_facts import MODEL, ManualClock

ROOT = Path(__file__).parents[3]


def test_a_home_comes_back_byte_for_byte_and_verifies(house: House, settings: Settings, dest: Path) -> None:
    made = create(settings, dest)
    house.ledger.close()
    before = tree(settings.root)
    done = restore(dest, other(settings))
    after = tree(other(settings).root)
    passed_over = {
        *("run/ledger.process", "logs/ledger.log", "ledger/lineage.duckdb", "secrets/session.json"),
        *("ledger/log/lock", "ledger/subjects.db.lock", "ledger/accounts.lock"),
        *(name for name in before if name.endswith(("-wal", "-shm", "-journal"))),
        *(name for name in before if name.startswith("datasets/") and name.endswith("_last_checkpoint")),
    }
    assert before.keys() - passed_over == after.keys()
    databases = {"mlflow/mlflow.db", "ledger/subjects.db"}
    assert [name for name in after.keys() - databases if after[name] != before[name]] == []
    for name in databases:
        assert rows(other(settings).root / name) == rows(settings.root / name)
    assert (done.records, done.segments, done.bundles, done.lost) == (made.records, 1, 1, [])
    assert verify_ledger(other(settings)).ok
    assert made.settled
    assert made.left_out == []


def test_keys_and_secrets_are_for_their_owner_only_there_and_back(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    assert "can sign and read as the platform" in (dest / "README.md").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (dest / "files").iterdir()} == {0o600}
    home = other(settings)
    restore(dest, home)
    for path in [*home.secrets.iterdir(), *home.root.glob("keys/*.key"), home.vault, home.accounts_file]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    bundle = home.artefacts / house.bundle.removeprefix("sha256:")
    assert (stat.S_IMODE(bundle.stat().st_mode), stat.S_IMODE((bundle / "model.ubj").stat().st_mode)) == (0o500, 0o400)


def test_the_witness_does_not_go_along_even_where_it_lies_in_the_home(
    house: House, settings: Settings, dest: Path
) -> None:
    inside = Settings(**settings.model_dump() | {"witness_home": settings.root / "witness"})
    inside.witness_home.mkdir()
    (inside.witness_home / "witness.key").write_bytes(b"the witness's own")
    create(inside, dest)
    assert b"the witness's own" not in tree(dest).values()
    assert not [name for name in read_manifest(dest)["folders"] if name.startswith("witness")]


def test_the_service_starts_on_what_was_put_back(
    house: House, settings: Settings, dest: Path, clock: ManualClock
) -> None:
    create(settings, dest)
    restore(dest, other(settings))
    context = Context(other(settings), clock=clock)
    assert context.ledger.verifier == house.ledger.verifier
    assert context.ledger.records[-1]["kind"] == "AccountAdded"  # and LedgerOpened before it
    assert context.store.count() == len(context.ledger.records)
    context.close()


def test_a_link_or_a_pipe_is_named_not_followed(house: House, settings: Settings, dest: Path) -> None:
    os.mkfifo(settings.root / "reports" / "pipe")
    (settings.root / "reports" / "link").symlink_to("/etc/hostname")
    (settings.root / "elsewhere").symlink_to(dest.parent)
    made = create(settings, dest)
    assert made.left_out == ["elsewhere", "reports/link", "reports/pipe"]


def test_the_copy_of_the_log_is_a_log_to_the_independent_verifier(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    verifier = ROOT / "lineage" / "examiner" / "verify.py"
    done = subprocess.run(
        [sys.executable, "-I", str(verifier), "log", str(dest / "log")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_later_backup_copies_only_what_is_new(house: House, settings: Settings, dest: Path) -> None:
    house.record(200)
    first = create(settings, dest)
    again = create(settings, dest)
    assert again.copied < first.copied / 4  # databases are taken anew, nothing else
    house.record(20)
    house.decide(1)
    house.seal()
    third = create(settings, dest)
    assert third.records == first.records + 21
    done = restore(dest, other(settings))
    assert done.records == third.records
    assert lines(other(settings)) == lines(settings)
    files = read_manifest(dest)["files"].items()
    named = {one["sha256"] for name, one in files if not name.endswith(".jsonl") or name.startswith("spool/")}
    assert {path.name for path in (dest / "files").iterdir()} == named


def test_what_is_gone_from_the_home_is_gone_from_the_next_backup(house: House, settings: Settings, dest: Path) -> None:
    report = settings.reports / f"{MODEL}@1.html"
    create(settings, dest)
    report.unlink()
    create(settings, dest)
    restore(dest, other(settings))
    assert not (other(settings).reports / report.name).exists()


@pytest.mark.parametrize("size", [1, 900, 100_000])
def test_the_log_is_followed_from_segment_to_segment(
    size: int, settings: Settings, dest: Path, clock: ManualClock, quick: None
) -> None:
    house = House(settings, clock, segment_bytes=size)
    for count in (1, 0, 7, 3, 2):
        house.record(count)
        assert create(settings, dest).records == len(house.ledger.records)
        home = other(settings, f"again-{len(house.ledger.records)}-{count}")
        restore(dest, home)
        assert lines(home) == lines(settings)
    house.ledger.close()


def test_another_log_or_an_older_one_is_not_written_over_a_backup(
    house: House, settings: Settings, dest: Path, tmp_path: Path, clock: ManualClock
) -> None:
    create(settings, dest / "first")
    house.record(5)
    create(settings, dest / "second")
    restore(dest / "first", other(settings))
    with pytest.raises(RefusedError) as refusal:
        create(other(settings), dest / "second")
    assert refusal.value.code == "older"
    fork = go_on(other(settings), clock)
    fork.open()
    fork.record(60)  # as long, but another history under the same key
    with pytest.raises(RefusedError) as refusal:
        create(other(settings), dest / "second")
    assert refusal.value.code == "other_history"
    stranger = House(Settings(home=tmp_path / "stranger"), clock)
    with pytest.raises(RefusedError) as refusal:
        create(stranger.settings, dest / "second")
    assert refusal.value.code == "other_log"
    assert restore(dest / "second", other(settings, "second")).records == len(house.ledger.records)
    fork.ledger.close()
    stranger.ledger.close()


def test_two_backups_into_one_folder_do_not_mix(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    with backup_lock(dest / "lock"), pytest.raises(RefusedError, match="under way"):
        create(settings, dest)


@pytest.mark.parametrize("where", ["var/backup", "var", ".", "elsewhere"])
def test_a_folder_that_cannot_hold_a_backup_is_refused(
    where: str, house: House, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "holidays.jpg").write_bytes(b"")
    with pytest.raises(InvalidError) as error:
        create(settings, tmp_path / where)
    assert error.value.field == "dest"


def test_without_a_log_there_is_nothing_to_back_up(settings: Settings, dest: Path) -> None:
    with pytest.raises(UnknownError, match="nothing to back up"):
        create(settings, dest)
