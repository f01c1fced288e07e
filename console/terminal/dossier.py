"""`plimsoll dossier`: everything on record about one release, unpacked into a folder and verified."""

from __future__ import annotations

import hashlib
import io
import json as json_module
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from console.terminal import session
from console.terminal.output import errors_reported, out, print_json
from lineage.errors import RefusedError, TamperedError, UnavailableError
from lineage.history.dossier_contents import MISSING, README, SUMS
from lineage.log.signing_key import verifier_at
from lineage.settings import Settings
from plimsoll.wire import Wire, part

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
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


def dossier(
    release: Annotated[str, typer.Argument(help="e.g. credit-default@7")],
    to: Annotated[Path | None, typer.Option(help="A new folder; dossier-RELEASE when absent.")] = None,
    upto: Annotated[int | None, typer.Option(min=1, help="Number of its last record; the newest when absent.")] = None,
    json: Json = False,
) -> None:
    """Everything about one release with its proofs, unpacked and verified. Exit status 1 when it does not verify."""
    with errors_reported():
        settings = Settings()
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
    """Write the files of a dossier into an empty or new folder.

    Raises:
        RefusedError: the folder is not empty.
        TamperedError: the content is no dossier.
        UnavailableError: it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RefusedError(f"{folder} is not empty; choose another with --to", code="not_empty")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if not set(names) >= _ALWAYS:
                raise TamperedError(f"the content is no dossier: {min(_ALWAYS - set(names))} is missing")
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
    """Verify an unpacked dossier: checksums, every proof by this installation's verifier, and the proved lines.

    Args:
        began: start of `seconds`, on the monotonic clock.
        vkey: the log's verifier key of this installation; the dossier's own when None.
    """
    listed = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text().splitlines())
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    problems = [f"{name}: its SHA-256 differs" for name, digest in listed.items() if _sum(files.get(name)) != digest]
    problems += [f"{name}: it is not listed in {SUMS}" for name in sorted(files.keys() - listed.keys() - {SUMS})]
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
    size_of_log = int(files["checkpoint"].read_text().split("\n")[1])
    missing_names = [line.removeprefix("- ") for line in missing if line.startswith("- ")]
    seconds = round(time.monotonic() - began, 3)
    return Checked(release, str(folder), size_of_log, len(lines), len(files), size, problems, missing_names, seconds)


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


def _size(count: int) -> str:
    return f"{count / 1024**2:.1f} MiB" if count >= 1024**2 else f"{count / 1024:.0f} KiB"


def register(root: typer.Typer) -> None:
    """Add this command to the application."""
    root.command()(dossier)
