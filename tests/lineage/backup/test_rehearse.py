"""Rehearsal of a restore, and `plimsoll backup` on the terminal."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from console.terminal import backup as backup_terminal
from lineage.backup.create import create
from lineage.backup.new_log import start_new_log
from lineage.backup.restore import rehearse
from lineage.errors import RefusedError, TamperedError
from lineage.settings import Settings
from lineage.witness.server import Witness
from tests.support.backup_home import House, other, tree


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
