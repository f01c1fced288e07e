"""Backups: taken during writes, complete or detected as torn, and never a way around the witness."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from console.terminal import backup as backup_terminal
from lineage.accounts import Accounts
from lineage.backup import create as backup_module
from lineage.backup.create import BackupSummary, create
from lineage.backup.manifest import MANIFEST, backup_lock, read_manifest
from lineage.backup.new_log import start_new_log
from lineage.backup.restore import rehearse, restore
from lineage.digest import canonical, digest_folder, digest_of
from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError, UnknownError
from lineage.ledger import Draft, Ledger
from lineage.log.disk import Disk
from lineage.log.reader import Chain
from lineage.log.signed_note import Signer
from lineage.log.signing_key import _pem, signer_at
from lineage.privacy.key_vault import Vault
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.secret_files import write_secret
from lineage.service.context import Context
from lineage.settings import Settings
from lineage.signing import make_keys, sign
from lineage.verify import verify_ledger
from lineage.witness.cosigner import Cosigner, OwnLog
from lineage.witness.server import Witness, create_app
from serve.record import decision_log as decision_log_module
from serve.record.decision_log import DecisionLog
from serve.record.spool import Spool
from tests.support.decision_records import NOW, decision
from tests.support.ports import free_port
from tests.support.sample_facts import MODEL, FactWriter, ManualClock
from tests.support.witnessed_log import key_of, serving

LEDGER = Actor("ledger", PLATFORM)
ROOT = Path(__file__).parents[3]


class House:
    """A home in which everything has something to lose."""

    def __init__(self, settings: Settings, clock: ManualClock, segment_bytes: int = 4_096) -> None:
        self.settings, self.clock, self.segment_bytes = settings, clock, segment_bytes
        self.open()
        if not settings.accounts_file.exists():
            self._furnish()
        self.bundle = self.ledger.state.releases[f"{MODEL}@1"].digest
        self.spool, self.decision_log, self.decided = Spool(settings.spool, "r1"), DecisionLog(settings), 0

    def _furnish(self) -> None:
        settings = self.settings
        self.record()
        Accounts(settings, clock=self.clock).first_start()
        make_keys(settings)
        bundle, writer = self._bundle(), FactWriter(self.ledger)
        release = writer.train(digest=bundle)
        writer.check(release)
        writer.record("CandidateValidated", release)
        writer.record("ReleaseRegistered", release, digest=bundle)
        settings.reports.mkdir()
        (settings.reports / f"{release}.html").write_text("<title>report</title>")
        pl.DataFrame({"ID": [1, 2], "default": [0, 1]}).write_delta(str(settings.datasets / MODEL))
        (settings.mlflow / "artifacts" / "run").mkdir(parents=True)
        (settings.mlflow / "artifacts" / "run" / "model.ubj").write_bytes(b"model")
        with closing(sqlite3.connect(settings.mlflow / "mlflow.db")) as db:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("CREATE TABLE runs (id TEXT)")
            db.execute("INSERT INTO runs VALUES ('4b1c')")
            db.commit()
        for name in ("run/ledger.process", "logs/ledger.log", "ledger/lineage.duckdb", "secrets/session.json"):
            (settings.root / name).parent.mkdir(exist_ok=True)
            (settings.root / name).write_bytes(b"not state: " + name.encode())

    def open(self) -> None:
        signer = signer_at(self.settings.log_key)
        self.ledger = Ledger(
            self.settings.log_folder, clock=self.clock, signer=signer, segment_bytes=self.segment_bytes
        )

    def record(self, count: int = 1) -> None:
        for number in range(count):
            self.ledger.append(Draft("SignedIn", LEDGER, {"account": f"auditor-{number}"}))

    def decide(self, count: int, **changes: Any) -> None:
        for _ in range(count):
            self.decided += 1
            self.spool.write(decision(self.decided, "champion", **changes))

    def seal(self) -> None:
        self.decision_log.take()
        for segment in self.decision_log.next_segments():
            self.ledger.append(
                Draft("DecisionsSealed", Actor("controller", "service"), segment.data, MODEL, key=segment.name)
            )
        self.decision_log.sealed(lambda process: True)

    def erase(self, subject: str) -> None:
        """What the ledger service does when somebody is erased."""
        with closing(Vault(self.settings)) as vault:
            name = vault.existing_pseudonym(subject) or ""
            counts = dict.fromkeys(("decisions", "segments", "plain", "datasets", "releases"), 0)
            data = {"commitment": vault.commitment(name), "ground": "GDPR Art. 17(1)", "by": "op", "role": "operator"}
            record = self.ledger.append(Draft("SubjectErased", LEDGER, data | counts, reason="asked in writing"))
            vault.erase(name, self.clock(), record["seq"])

    def _bundle(self) -> str:
        folder = self.settings.artefacts / "draft"
        folder.mkdir(parents=True)
        (folder / "model.ubj").write_bytes(b"model")
        digest = digest_folder(folder)
        folder = folder.rename(folder.with_name(digest.removeprefix("sha256:")))
        sign(folder, self.settings)
        (folder / "model.ubj").chmod(0o444)
        folder.chmod(0o555)
        return digest


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", witness_port=free_port())


@pytest.fixture(scope="module")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = House(Settings(home=tmp_path_factory.mktemp("furnished") / "var"), ManualClock())
    house.ledger.close()
    shutil.rmtree(house.settings.spool)  # each house opens one of its own
    return house.settings.root


@pytest.fixture
def house(settings: Settings, clock: ManualClock, quick: None, _furnished: Path) -> Iterator[House]:
    shutil.copytree(_furnished, settings.root)
    house = House(settings, clock)
    house.decide(3)
    house.seal()
    house.decide(2)
    yield house
    house.ledger.close()


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "backup"


def other(settings: Settings, name: str = "again") -> Settings:
    """A home beside, with the same witness."""
    return Settings(**settings.model_dump() | {"home": settings.root.with_name(name)})


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(settings: Settings) -> list[bytes]:
    return [entry.line.data for entry in Chain(settings.log_folder, signer_at(settings.log_key).verifier)]


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return list(db.iterdump())


def on_record(settings: Settings) -> Counter[str]:
    """How often each decision stands in the segments that the log names."""
    found: Counter[str] = Counter()
    for entry in Chain(settings.log_folder, signer_at(settings.log_key).verifier):
        if entry.record["kind"] == "DecisionsSealed":
            found.update(pl.read_parquet(settings.root / entry.record["data"]["uri"])["decision_id"].to_list())
    return found


def go_on(settings: Settings, clock: ManualClock) -> House:
    """A controller and a ledger that go on with a home that was put back."""
    house = House.__new__(House)
    house.settings, house.clock, house.segment_bytes = settings, clock, 4_096
    house.open()
    house.decision_log = DecisionLog(settings)
    for _ in range(2):  # what was under way, then the rest
        house.seal()
    house.ledger.close()
    return house


# --- what is kept


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
    assert (stat.S_IMODE(bundle.stat().st_mode), stat.S_IMODE((bundle / "model.ubj").stat().st_mode)) == (0o555, 0o444)


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


# --- while everything is written


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


def test_behind_the_checkpoint_of_a_log_that_nobody_writes_whole_records_count(
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


# --- again into the same folder


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


# --- keys


def test_without_keys_no_secret_is_anywhere_in_it(
    house: House, settings: Settings, dest: Path, tmp_path: Path, clock: ManualClock
) -> None:
    create(settings, dest, keys=False)
    secrets = [path.read_bytes().strip() for path in settings.secrets.glob("*") if path.name != "session.json"]
    secrets += [path.read_bytes().strip() for path in settings.root.glob("keys/*.key")]
    assert len(secrets) >= 6
    everything = b"".join(tree(dest).values())
    assert [secret for secret in secrets if secret in everything] == []
    assert "no private keys" in (dest / "README.md").read_text()
    home = other(settings)
    done = restore(dest, home)
    assert (done.keys, done.lost) == (False, [])
    assert verify_ledger(home).pinned

    # started without its keys, it refuses to go on under others; with them, it goes on
    with pytest.raises(TamperedError, match="restore the key"):
        Context(home, clock=clock)
    for name in ("keys", "secrets"):
        shutil.rmtree(home.root / name)
        shutil.copytree(settings.root / name, home.root / name)
    Context(home, clock=clock).close()


def test_a_backup_with_the_wrong_key_or_without_one_is_not_made(house: House, settings: Settings, dest: Path) -> None:
    right = settings.log_key.read_text()
    write_secret(settings.log_key, _pem(key_of("another")))
    with pytest.raises(UnavailableError, match="does not belong"):
        create(settings, dest)
    settings.log_key.unlink()
    with pytest.raises(UnavailableError, match="back up without keys"):
        create(settings, dest)
    write_secret(settings.log_key, right)
    (settings.secrets / "vault.key").rename(settings.root / "kept")
    with pytest.raises(UnavailableError, match=r"vault\.key is missing"):
        create(settings, dest)
    (settings.root / "kept").rename(settings.secrets / "vault.key")
    public = settings.log_key.with_suffix(".vkey")
    public.write_text(Signer("plimsoll/0123456789abcdef", key_of("another")).verifier.vkey + "\n")
    write_secret(settings.log_key, _pem(key_of("another")))
    with pytest.raises(TamperedError, match="cannot be relied on"):
        create(settings, dest)
    assert not (dest / MANIFEST).exists()


# --- a backup that is not whole


def test_every_byte_that_was_changed_is_found_and_its_file_named(house: House, settings: Settings, dest: Path) -> None:
    house.ledger.close()
    create(settings, dest)
    manifest = read_manifest(dest)
    whole = tree(dest)
    checked = 0
    for path in [dest / MANIFEST, *sorted((dest / "files").iterdir()), *sorted((dest / "log").glob("*.jsonl"))]:
        data = path.read_bytes()
        names = {name for name, one in manifest["files"].items() if one["sha256"] in (path.name, _digest(data))}
        for offset in {0, len(data) // 2, len(data) - 1} if data else ():
            path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
            with pytest.raises(TamperedError) as error:
                restore(dest, other(settings))
            assert error.value.field in names or path.name == MANIFEST, path
            checked += 1
        for spoilt in (data[:-1], None):
            if data:
                path.unlink() if spoilt is None else path.write_bytes(spoilt)
                with pytest.raises(TamperedError) as error:
                    restore(dest, other(settings))
                assert error.value.field in (names or {MANIFEST}), path
        path.write_bytes(data)
        assert not other(settings).root.exists()
    assert checked > 40
    assert tree(dest) == whole
    restore(dest, other(settings))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_backup_that_was_never_finished_is_known_for_one(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    (dest / MANIFEST).unlink()
    with pytest.raises(TamperedError, match="no backup was finished") as error:
        restore(dest, other(settings))
    assert error.value.field == MANIFEST
    create(settings, dest)
    restore(dest, other(settings))


def test_names_that_lead_out_of_the_home_are_refused(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    manifest = read_manifest(dest)
    for name in ("../escaped", "/escaped", "ledger/../../escaped"):
        bad = manifest | {"files": manifest["files"] | {name: manifest["files"]["ledger/accounts.json"]}}
        whole = bad | {"digest": digest_of(bad)}
        (dest / MANIFEST).write_bytes(canonical(whole))
        with pytest.raises(TamperedError):
            restore(dest, other(settings))


class Failing(Disk):
    """Fails at one operation, or from it on."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error

    def append(self, descriptor: int, data: bytes) -> None:
        if self.left == 0:
            super().append(descriptor, data[: len(data) // 2])  # a disk that is full takes a part
        self._count()
        super().append(descriptor, data)

    def flush(self, descriptor: int) -> None:
        self._count()
        super().flush(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def truncate(self, descriptor: int, size: int) -> None:
        self._count()
        super().truncate(descriptor, size)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        self._count()
        super().write_at(descriptor, data, offset)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)


class PowerCutError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PowerCutError()])
def test_wherever_the_disk_fills_or_the_power_goes_the_backup_before_can_be_restored(
    error: BaseException, house: House, settings: Settings, dest: Path
) -> None:
    raised = UnavailableError if isinstance(error, OSError) else PowerCutError
    with pytest.raises(raised):
        create(settings, dest, disk=Failing(9, error))
    with pytest.raises(TamperedError, match="no backup was finished"):
        restore(dest, other(settings))
    before = create(settings, dest).records
    expected = lines(settings)[:before]
    at, failed, renewed = 0, 0, False
    while not renewed:
        house.record(3)
        house.decide(1)
        house.seal()
        (settings.reports / "more.html").write_text(str(at))
        try:
            now = create(settings, dest, disk=Failing(at, error))
            renewed = True
        except raised:
            failed += 1
            done = restore(dest, other(settings, f"again-{at}"))
            if done.records != before:  # the manifest was in place already: only the sweep was cut short
                assert done.records == len(house.ledger.records)
                renewed = True
            else:
                assert lines(other(settings, f"again-{at}")) == expected
            assert done.lost == []
        at += 6
    assert failed > 8
    now = create(settings, dest)
    assert restore(dest, other(settings, "last")).records == now.records == len(house.ledger.records)


def test_a_restore_onto_a_full_disk_leaves_nothing(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    for at in range(0, 40, 7):
        with pytest.raises(UnavailableError, match=r"nothing was restored: .*No space"):
            restore(dest, other(settings), disk=Failing(at, OSError(28, "No space left on device")))
        assert not other(settings).root.exists()
    other(settings).root.mkdir()  # as where a volume is mounted
    with pytest.raises(UnavailableError):
        restore(dest, other(settings), disk=Failing(9, OSError(28, "No space left on device")))
    assert list(other(settings).root.iterdir()) == []
    restore(dest, other(settings))


def test_only_a_home_that_holds_nothing_is_restored_into(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    before = tree(settings.root)
    with pytest.raises(RefusedError, match="not empty"):
        restore(dest, settings)
    assert tree(settings.root) == before


def test_a_home_with_a_record_that_was_changed_is_not_restored(house: House, settings: Settings, dest: Path) -> None:
    path = sorted(settings.log_folder.glob("*.jsonl"))[0]
    path.write_bytes(path.read_bytes().replace(b"auditor-0", b"auditor-1"))
    create(settings, dest)  # a log that is written is copied, not judged
    with pytest.raises(TamperedError, match="record 1 was changed"):
        restore(dest, other(settings))
    house.ledger.close()
    with pytest.raises(TamperedError, match="record 1 was changed"):
        create(settings, dest)


# --- what is lost has to be accepted, and is on record


def test_a_segment_that_was_lost_before_the_backup_is_named_and_has_to_be_accepted(
    house: House, settings: Settings, dest: Path, clock: ManualClock
) -> None:
    (segment,) = settings.decisions.rglob("*.parquet")
    segment.unlink()
    create(settings, dest)
    with pytest.raises(RefusedError, match="--accept-loss") as refusal:
        restore(dest, other(settings))
    assert refusal.value.code == "loss"
    assert segment.name in refusal.value.message
    assert not other(settings).root.exists()
    for reason in (" ", "x" * 1_001):
        with pytest.raises(InvalidError):
            restore(dest, other(settings), accept_loss=reason)
    done = restore(dest, other(settings), accept_loss="the disk of the segments burnt", clock=clock)
    assert (len(done.lost), done.continues) == (1, None)
    last = json.loads(lines(other(settings))[-1])
    assert (last["kind"], last["seq"]) == ("LedgerOpened", done.records)
    assert segment.name in last["reason"]
    assert "Accepted: the disk of the segments burnt" in last["reason"]
    create(settings, dest / "keyless", keys=False)
    with pytest.raises(RefusedError, match="no keys"):
        restore(dest / "keyless", other(settings, "keyless"), accept_loss="it burnt")


def test_a_loss_that_is_accepted_but_is_none_is_not_told(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    done = restore(dest, other(settings), accept_loss="whatever may be")
    assert done.records == len(house.ledger.records)
    assert done.lost == []


@pytest.fixture
def watched(house: House, settings: Settings) -> Iterator[Settings]:
    """The home with a witness on a port; `show` has the newest checkpoint cosigned."""
    with serving(create_app(settings.witness_home, trust_first=True)) as url:
        yield Settings(**settings.model_dump() | {"witness_url": url})


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


def test_another_history_is_refused_whoever_accepts_it(
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


# --- erased people stay erased


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


# --- the drill and the terminal


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    app = typer.Typer()
    backup_terminal.register(app)
    monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
    monkeypatch.setenv("PLIMSOLL_WITNESS_PORT", str(settings.witness_port))
    return lambda *words: CliRunner().invoke(app, ["backup", *map(str, words)])


def test_a_drill_measures_and_leaves_neither_a_file_nor_a_key(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(settings.root)
    written: list[set[str]] = []
    real = backup_terminal.remove

    def removed(folder: Path) -> None:
        written.append({hashlib.sha256(data).hexdigest() for data in tree(folder).values()})
        real(folder)

    monkeypatch.setattr(backup_terminal, "remove", removed)
    found = backup_terminal.drill(settings, clock=house.clock, further=50)
    assert (found.records, found.segments, found.bundles) == (len(house.ledger.records), 1, 1)
    assert (found.lost, found.further) == (0, 50)
    assert min(found.backup_seconds, found.restore_seconds, found.further_seconds) > 0
    vault = {"ledger/subjects.db": tree(settings.root)["ledger/subjects.db"]}  # it knows now who was only spooled
    assert tree(settings.root) == before | vault
    assert [path.name for path in settings.root.parent.iterdir() if "drill" in path.name] == []
    private = [*settings.secrets.iterdir(), settings.log_key, settings.root / "keys" / "signing.key"]
    assert not written[0] & {hashlib.sha256(path.read_bytes()).hexdigest() for path in private}


def test_a_drill_counts_what_was_acknowledged_meanwhile(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backup_terminal.rehearse

    def meanwhile(source: Path, home: Settings) -> Any:
        house.record(4)
        return real(source, home)

    monkeypatch.setattr(backup_terminal, "rehearse", meanwhile)
    assert backup_terminal.drill(settings, clock=house.clock, further=1).lost == 4


def test_a_drill_that_fails_cleans_up_too(house: House, settings: Settings) -> None:
    (segment,) = settings.decisions.rglob("*.parquet")
    segment.write_bytes(b"another")
    found = backup_terminal.drill(settings, clock=house.clock, further=1)
    assert found.segments == 1
    (settings.log_folder / "checkpoint").write_bytes(b"x" * 512)
    with pytest.raises(TamperedError):
        backup_terminal.drill(settings, clock=house.clock, further=1)
    assert [path.name for path in settings.root.parent.iterdir() if "drill" in path.name] == []


def test_a_log_that_is_written_is_not_given_another_name(house: House, settings: Settings) -> None:
    with pytest.raises(RefusedError, match="stop it first"):
        start_new_log(settings)


def test_a_rehearsal_takes_no_backup_with_keys(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    with pytest.raises(RefusedError, match="without keys"):
        rehearse(dest, other(settings))


def test_the_terminal_backs_up_restores_and_drills(
    house: House, settings: Settings, dest: Path, run: Callable[..., Any]
) -> None:
    done = run("create", dest)
    assert done.exit_code == 0, done.output
    assert f"Backed up {len(house.ledger.records)} records" in done.output
    assert "with them anyone can sign" in done.output
    assert json.loads(run("create", dest, "--json").output)["records"] == len(house.ledger.records)
    done = run("restore", dest, "--home", other(settings).root)
    assert done.exit_code == 0, done.output
    assert "Restored and verified" in done.output
    assert "No witness could be reached" in done.output
    assert run("restore", dest, "--home", other(settings).root).exit_code == 3
    found = json.loads(run("drill", "--json").output)
    assert (found["records"], found["further"]) == (len(house.ledger.records), backup_terminal.FURTHER)
    assert "Would be lost" in run("drill").output
    assert run("create", settings.root / "backup").exit_code == 2
    done = run("create", dest.with_name("keyless"), "--without-keys")
    assert "no private keys" in done.output
    done = run("restore", dest.with_name("keyless"), "--home", other(settings, "keyless").root)
    assert "Put keys/ and secrets/ back" in done.output


def test_the_terminal_refuses_a_loss_and_says_how_to_go_on(
    house: House, settings: Settings, dest: Path, run: Callable[..., Any]
) -> None:
    witness = Witness(settings.witness_home, trust_first=True)
    witness.introduce(house.ledger.verifier.vkey)
    note = house.ledger.checkpoint()
    settings.witness_pin.write_text(witness.verifier.vkey + "\n")
    run("create", dest)
    house.record(3)
    note = house.ledger.checkpoint()
    body = b"old 0\n\n" + note
    witness.add_checkpoint(body)
    witness.close()
    again = other(settings).root
    os.environ["PLIMSOLL_WITNESS_HOME"] = str(settings.witness_home)
    try:
        done = run("restore", dest, "--home", again)
        assert done.exit_code == 3
        assert not again.exists()
        done = run("restore", dest, "--home", again, "--accept-loss", "it burnt")
    finally:
        del os.environ["PLIMSOLL_WITNESS_HOME"]
    assert done.exit_code == 0, done.output
    assert "lost: the witness saw" in done.output
    assert "cannot go on" in done.output
