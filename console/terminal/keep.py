"""`plimsoll dossier` and `plimsoll backup`: what is handed to an examiner, and what is kept for a bad day."""

from __future__ import annotations

import hashlib
import io
import json as json_module
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from console.terminal import session
from console.terminal.output import out, print_json, told
from lineage.backup import Made, Restored, begin_anew, create, rehearse, remove, restore
from lineage.chain import Chain
from lineage.clock import Clock, now
from lineage.dossier import MISSING, README, SUMS
from lineage.draft import Draft
from lineage.errors import RefusedError, TamperedError, UnavailableError
from lineage.guards import PLATFORM, Actor
from lineage.ledger import Ledger
from lineage.logkey import signer_at, verifier_at
from lineage.settings import Settings
from plimsoll.wire import Wire, part

app = typer.Typer(no_args_is_help=True, help="Backups of the platform's state: make one, put it back, rehearse that.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FURTHER = 1_000
_LEDGER = Actor("ledger", PLATFORM)
_ALWAYS = {SUMS, README, "facts.jsonl", "checkpoint", "vkey", "verify.py"}
#: Runs the verifier over many proofs in one isolated interpreter; prints the paths of those that it does not verify.
_RUN = """
import contextlib, io, sys
verifier, vkey, *paths = sys.stdin.read().split("\\n")
code = compile(open(verifier, "rb").read(), verifier, "exec")
for path in paths:
    sys.argv = [verifier, "record", path, "--vkey", vkey]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            exec(code, {"__name__": "__main__"})
        except SystemExit as end:
            status = end.code
        else:
            status = 0
    if status not in (0, None):
        print(path)
"""


@dataclass(frozen=True)
class Checked:
    """A dossier that was unpacked and verified; `ok` is false where `problems` names a file."""

    release: str
    folder: str
    record: int
    records: int
    files: int
    bytes: int
    problems: list[str]
    missing: list[str]
    seconds: float

    @property
    def ok(self) -> bool:
        return self.records > 0 and not self.problems


@dataclass(frozen=True)
class Drill:
    """What a rehearsal measured.

    `lost` records were acknowledged after the backup's checkpoint while the rehearsal went on: what the loss of the
    home at its end would have cost. `further_seconds` a later backup took once so many `further` records had come.
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


def register(root: typer.Typer) -> None:
    """Add these commands to the application."""
    root.command()(dossier)
    root.add_typer(app, name="backup")


def dossier(
    release: Annotated[str, typer.Argument(help="e.g. credit-default@7")],
    to: Annotated[Path | None, typer.Option(help="A new folder; dossier-RELEASE when absent.")] = None,
    upto: Annotated[int | None, typer.Option(min=1, help="The record it stands on; the newest when absent.")] = None,
    json: Json = False,
) -> None:
    """Everything about one release with its proofs, unpacked and verified. Exit status 1 when it does not verify."""
    settings = Settings()
    with told():
        began = time.monotonic()
        wire = Wire(settings.ledger_url, session.token(settings))
        path = f"/v1/releases/{part(release)}/dossier"
        content = wire.send("GET", path, params={"upto": upto}, timeout=120.0).content
        folder = unpack(content, to or Path(f"dossier-{release}"))
        checked = check(release, folder, began, vkey=_own_key(settings))
        if json:
            print_json(asdict(checked) | {"ok": checked.ok})
        else:
            _print_dossier(checked)
    raise typer.Exit(0 if checked.ok else 1)


def unpack(content: bytes, folder: Path) -> Path:
    """Write the files of a dossier into a folder that holds nothing.

    Raises:
        RefusedError: it holds something.
        TamperedError: what came is no dossier.
        UnavailableError: it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RefusedError(f"{folder} is not empty; choose another with --to", code="not_empty")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if not set(names) >= _ALWAYS:
                raise TamperedError(f"what came is no dossier: {min(_ALWAYS - set(names))} is missing")
            if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names):
                raise TamperedError("the dossier names files outside its folder; nothing was written")
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(archive.read(name))
    except zipfile.BadZipFile as error:
        raise TamperedError(f"what the ledger service sent is no dossier: {error}") from error
    except OSError as error:
        raise UnavailableError(f"the dossier cannot be unpacked: {error}") from error
    return folder


def check(release: str, folder: Path, began: float, *, vkey: str | None = None) -> Checked:
    """Verify an unpacked dossier: its sums, every proof by the verifier of this installation, and the lines proved.

    Args:
        began: on the monotonic clock; `seconds` are counted from there.
        vkey: the log's key as it is known here; that of the dossier when None.
    """
    listed = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text().splitlines())
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    problems = [f"{name}: its SHA-256 is another" for name, digest in listed.items() if _sum(files.get(name)) != digest]
    problems += [f"{name}: it stands not in {SUMS}" for name in sorted(files.keys() - listed.keys() - {SUMS})]
    proofs = sorted((folder / "proofs").iterdir())
    verifier = resources.files("lineage.examiner").joinpath("verify.py")
    if files["verify.py"].read_bytes() != verifier.read_bytes():
        problems.append("verify.py: it is not the verifier of this installation")
    key = vkey or files["vkey"].read_text().strip()
    with resources.as_file(verifier) as script:
        problems += [f"{path}: it is not verified" for path in _unverified(script, key, proofs)]
    lines = [json_module.loads(path.read_bytes())["record"] for path in proofs]
    if "".join(f"{line}\n" for line in lines).encode() != files["facts.jsonl"].read_bytes():
        problems.append("facts.jsonl: its lines are not those that are proved")
    missing = files[MISSING].read_text().splitlines() if MISSING in files else []
    size = sum(path.stat().st_size for path in files.values())
    stands = int(files["checkpoint"].read_text().split("\n")[1])
    told_missing = [line.removeprefix("- ") for line in missing if line.startswith("- ")]
    seconds = round(time.monotonic() - began, 3)
    return Checked(release, str(folder), stands, len(lines), len(files), size, problems, told_missing, seconds)


def _unverified(verifier: Path, vkey: str, proofs: list[Path]) -> list[str]:
    asked = "\n".join([str(verifier), vkey, *map(str, proofs)])
    command = [sys.executable, "-I", "-c", _RUN]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else [f"the verifier ended: {done.stderr.strip()[-300:]}"]


def _sum(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _own_key(settings: Settings) -> str | None:
    known = verifier_at(settings.log_key)
    return None if known is None else known.vkey


def _print_dossier(checked: Checked) -> None:
    word = "verified" if checked.ok else "NOT verified"
    out.print(
        f"{checked.release} as of record {checked.record}: {checked.records} records, each with its proof, {word} "
        f"({checked.files} files, {_size(checked.bytes)}, {checked.seconds:.1f} s) → {checked.folder}",
        soft_wrap=True,
    )
    for problem in checked.problems[:20]:
        out.print(f"  {problem}", soft_wrap=True, markup=False)
    for line in checked.missing:
        out.print(f"  missing: {line}", soft_wrap=True, markup=False)


@app.command("create")
def create_command(
    dest: Annotated[Path, typer.Argument(help="A folder on another disk; the same one again copies only what is new.")],
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave private keys and secrets out; keep them elsewhere.")
    ] = False,
    json: Json = False,
) -> None:
    """Back up log, keys, vault, artefacts, decisions, data and runs, whether or not the platform runs."""
    with told():
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
        str | None, typer.Option(help="Why what is gone may be gone, in a sentence; it goes on record.")
    ] = None,
    json: Json = False,
) -> None:
    """Put a backup back, verify all of it and ask the witness. Exit status 3 when something would be lost."""
    with told():
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
    with told():
        found = drill(Settings())
        if json:
            print_json(asdict(found))
        else:
            _print_drill(found)


def drill(settings: Settings, *, clock: Clock = now, further: int = FURTHER) -> Drill:
    """Rehearse a loss of the home, next to it, and measure.

    Raises:
        As `create` and `restore`; what was written is deleted.
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
    begin_anew(home)
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


def _print_backup(made: Made, dest: Path, seconds: float) -> None:
    out.print(
        f"Backed up {made.records} records of {made.log}: {made.files} files, {_size(made.bytes)}, "
        f"{_size(made.copied)} of them new, {seconds:.1f} s → {dest}",
        soft_wrap=True,
    )
    if made.keys:
        out.print("It holds the keys: whoever has it can sign and read as this platform. Keep it like them.")
    else:
        out.print("It holds no private keys and secrets: without keys/ and secrets/ nothing can go on from it.")
    if not made.settled:
        out.print("Decisions were sealed all the while: after a restore some may stand in two segments.")
    for name in made.left_out:
        out.print(f"  left out, no regular file: {name}", soft_wrap=True, markup=False)


def _print_restored(done: Restored, settings: Settings, seconds: float) -> None:
    out.print(
        f"Restored and verified: {done.records} records, {done.segments} decision segments, {done.bundles} bundles, "
        f"{_size(done.bytes)}, {seconds:.1f} s → {settings.root}",
        soft_wrap=True,
    )
    if done.seen is None:
        out.print("No witness could be asked: whether there were newer records cannot be told.")
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
