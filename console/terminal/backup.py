"""`plimsoll backup`: create a backup, restore one, rehearse a restore."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from console.terminal.output import errors_reported, out, print_json
from lineage.backup.create import BackupSummary, create
from lineage.backup.new_log import start_new_log
from lineage.backup.restore import Restored, rehearse, remove, restore
from lineage.clock import Clock, now
from lineage.errors import UnavailableError
from lineage.ledger import Ledger
from lineage.log.reader import Chain
from lineage.log.signing_key import signer_at, verifier_at
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Backups of the platform's state: create, restore, rehearse.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FURTHER = 1_000  # records between a rehearsal's two backups
_LEDGER = Actor("ledger", PLATFORM)


@dataclass(frozen=True)
class Drill:
    """Measurements of a rehearsal.

    Attributes:
        lost: records acknowledged between the backup's checkpoint and the end of the rehearsal, which a loss of the
            home at that moment would have cost.
        further: records appended before a second backup.
        further_seconds: duration of that second backup.
    """

    records: int
    files: int
    bytes: int
    segments: int
    bundles: int
    backup_seconds: float
    restore_seconds: float
    lost: int
    further: int
    further_seconds: float


@app.command("create")
def create_command(
    dest: Annotated[Path, typer.Argument(help="A folder on another disk; the same one again copies only what is new.")],
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave private keys and secrets out; keep them elsewhere.")
    ] = False,
    json: Json = False,
) -> None:
    """Back up log, keys, vault, artefacts, decisions, data and runs, whether or not the platform runs."""
    with errors_reported():
        began = time.monotonic()
        made = create(Settings(), dest, keys=not without_keys)
        seconds = time.monotonic() - began
        if json:
            print_json(made.to_dict() | {"seconds": round(seconds, 3)})
        else:
            _print_backup(made, dest, seconds)


@app.command("restore")
def restore_command(
    src: Annotated[Path, typer.Argument(help="The folder of a backup.")],
    home: Annotated[
        Path | None, typer.Option(help="Where to, a folder with nothing in it; PLIMSOLL_HOME when absent.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="A newer copy of the log, e.g. of the damaged home.")] = None,
    accept_loss: Annotated[
        str | None, typer.Option(help="Why the loss is acceptable, in a sentence; it goes on record.")
    ] = None,
    json: Json = False,
) -> None:
    """Restore a backup, verify all of it and ask the witness. Exit status 3 when records would be lost."""
    with errors_reported():
        began = time.monotonic()
        settings = Settings() if home is None else Settings(home=home)
        done = restore(src, settings, log=log, accept_loss=accept_loss)
        seconds = time.monotonic() - began
        if json:
            print_json(done.to_dict() | {"seconds": round(seconds, 3)})
        else:
            _print_restored(done, settings, seconds)


@app.command("drill")
def drill_command(json: Json = False) -> None:
    """Back up, restore beside the home, verify, measure, and delete both. No key leaves the home."""
    with errors_reported():
        found = drill(Settings())
        if json:
            print_json(asdict(found))
        else:
            _print_drill(found)


def drill(settings: Settings, *, clock: Clock = now, further: int = FURTHER) -> Drill:
    """Back up the home, restore the backup beside it, and measure both.

    Raises:
        PlimsollError: as `create` and `restore`. The files of the rehearsal are deleted.
    """
    root = settings.root
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{root.name}-drill-", dir=root.parent))
    except OSError as error:
        raise UnavailableError(f"there is no room for a drill beside {root}: {error.strerror}", field="home") from error
    try:
        backup, home = folder / "backup", Settings(**settings.model_dump() | {"home": folder / "home"})
        began = time.monotonic()
        made = create(settings, backup, keys=False, clock=clock)
        backed_up = time.monotonic()
        restored = rehearse(backup, home)
        done = time.monotonic()
        lost = _acknowledged(settings) - made.records
        return Drill(
            records=restored.records,
            files=restored.files,
            bytes=restored.bytes,
            segments=restored.segments,
            bundles=restored.bundles,
            backup_seconds=round(backed_up - began, 3),
            restore_seconds=round(done - backed_up, 3),
            lost=lost,
            further=further,
            further_seconds=round(_later_backup(home, folder / "later", clock, further), 3),
        )
    finally:
        remove(folder)


def _acknowledged(settings: Settings) -> int:
    return Chain(settings.log_folder, verifier_at(settings.log_key)).acknowledged


def _later_backup(home: Settings, folder: Path, clock: Clock, further: int) -> float:
    """Seconds of a backup when `further` records came since the one before; on the copy, under a key of its own."""
    start_new_log(home)
    ledger = Ledger(home.log_folder, clock=clock, signer=signer_at(home.log_key))
    try:
        create(home, folder, keys=False, clock=clock)
        for _ in range(further):
            ledger.append(Draft("SignedIn", _LEDGER, {"account": "drill"}))
        began = time.monotonic()
        create(home, folder, keys=False, clock=clock)
        return time.monotonic() - began
    finally:
        ledger.close()


def _print_backup(made: BackupSummary, dest: Path, seconds: float) -> None:
    out.print(
        f"Backed up {made.records} records of {made.log}: {made.files} files, {_size(made.bytes)}, "
        f"{_size(made.copied)} of them new, {seconds:.1f} s → {dest}",
        soft_wrap=True,
    )
    if made.keys:
        out.print(
            "It holds the keys: with them anyone can sign and read as this platform. Protect it as you protect them."
        )
    else:
        out.print("It holds no private keys and secrets: without keys/ and secrets/ nothing can go on from it.")
    if not made.settled:
        out.print("Decisions were sealed all the while: after a restore some may be in two segments.")
    for name in made.left_out:
        out.print(f"  left out, no regular file: {name}", soft_wrap=True, markup=False)


def _print_restored(done: Restored, settings: Settings, seconds: float) -> None:
    out.print(
        f"Restored and verified: {done.records} records, {done.segments} decision segments, {done.bundles} bundles, "
        f"{_size(done.bytes)}, {seconds:.1f} s → {settings.root}",
        soft_wrap=True,
    )
    if done.seen is None:
        out.print("No witness could be reached: newer records than these may have existed.")
    elif not done.continues:
        out.print(f"The witness saw {done.seen} records; none of them is missing.")
    for line in done.lost:
        out.print(f"  lost: {line}", soft_wrap=True, markup=False)
    if done.continues:
        out.print(f"{done.continues} cannot go on: {done.log} was begun with its records and says so in the newest.")
    if done.erased:
        out.print(f"{done.erased} persons who were erased after the backup are erased again.")
    if not done.keys:
        out.print("Put keys/ and secrets/ back before you start the platform; it would make others, and be refused.")


def _print_drill(found: Drill) -> None:
    out.print(f"{found.records} records, {found.files} files, {_size(found.bytes)}")
    out.print(f"Backup            {found.backup_seconds:8.2f} s")
    out.print(f"Restore, verified {found.restore_seconds:8.2f} s  ({found.segments} segments, {found.bundles} bundles)")
    out.print(f"Would be lost     {found.lost:8d} records, acknowledged since the backup's checkpoint")
    out.print(f"A later backup    {found.further_seconds:8.2f} s  after {found.further} further records")
    out.print(
        "What is lost is what came since the last `plimsoll backup create`: run it every minute. For no loss at all "
        "the log has to lie on a disk that is mirrored to another machine before a write returns.",
        soft_wrap=True,
    )


def _size(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB" if count >= 1024**2 else f"{count / 1024:.0f} KiB"


def register(root: typer.Typer) -> None:
    """Add these commands to the application."""
    root.add_typer(app, name="backup")
