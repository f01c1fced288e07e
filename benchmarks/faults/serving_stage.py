"""A running platform for fault runs: clients of its accounts, and access to its record."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from benchmarks.faults.history import RECORDED
from benchmarks.serving import platform
from benchmarks.serving.home import Champion, build_home
from benchmarks.serving.model import Rows, rows
from lineage.accounts.credentials import Credentials
from lineage.digest import digest_of
from lineage.log.reader import lines
from lineage.settings import Settings
from plimsoll import Client, Unavailable
from plimsoll.ledger import Ledger
from serve.record.spool import SpoolReader

Fact = dict[str, Any]
_SCHEMA = dict.fromkeys(RECORDED, pl.String) | {"share": pl.Float64, "route_version": pl.Int64}
_POLL = 0.05


@dataclass(frozen=True)
class Bank:
    """A running platform, its accounts, and the rows of requests."""

    settings: Settings
    champions: list[Champion]
    passwords: Mapping[str, str]

    @property
    def token(self) -> str:
        """Of the machine account that asks for decisions."""
        return self.settings.token("client")

    @cached_property
    def service(self) -> Ledger:
        """Client of the ledger with the controller's account."""
        return Ledger(self.settings.ledger_url, self.settings.token("controller"))

    @cached_property
    def trainer(self) -> Ledger:
        """Client of the ledger with the trainer's account."""
        return Ledger(self.settings.ledger_url, self.settings.token("trainer"))

    @cached_property
    def operator(self) -> Client:
        """The person who starts, promotes, aborts and rolls back."""
        return self._person("operator")

    @cached_property
    def validator(self) -> Client:
        """The person who approves."""
        return self._person("validator")

    @cached_property
    def rows(self) -> Rows:
        """Feature rows of requests, float64[2000, 30]."""
        return rows(2_000, seed=17)

    def _person(self, name: str) -> Client:
        addresses: dict[str, Any] = {"gateway": self.settings.gateway_url, "ledger": self.settings.ledger_url}
        return Client.sign_in(name, self.passwords[name], **addresses)

    @property
    def head(self) -> int:
        """Number of the newest record."""
        return int(self.service.changes()["seq"])

    def recorded(self, kind: str, after: int, seconds: float) -> Fact | None:
        """The first fact of this kind behind `after`; None when time is up. The ledger may be away meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self.service.records(after, kind=kind, wait=min(1.0, left))["records"]
            except Unavailable:
                time.sleep(_POLL)
                continue
            if found:
                return dict(found[0])
        return None

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until all spooled decisions are sealed; return whether that happened."""

        def settled() -> bool:
            pending = self.settings.decisions / "pending.json"
            return not pending.exists() and not _spooled(self.settings)

        return until(settled, seconds)


@contextmanager
def opened(models: int, releases: int, replicas: int) -> Iterator[Bank]:
    """Build the home, start the platform, stop all of it afterwards and remove the home."""
    folder = Path(tempfile.mkdtemp(prefix="pf-"))  # short: Unix sockets lie below it
    try:
        settings = platform.settings_for(folder / "var", gateway_replicas=replicas)
        champions = build_home(settings, models, releases=releases)
        passwords = Credentials(settings).first_start()
        with platform.running(settings):
            yield Bank(settings, champions, passwords)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; return whether it held before time was up."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def facts_of(settings: Settings) -> list[Fact]:
    """Every record of the ledger, in order, from its files."""
    return [orjson.loads(line.data) for line in lines(settings.log_folder)]


def decisions_of(settings: Settings) -> pl.DataFrame:
    """Customers' decisions on record: from sealed segments and spools.

    Segments of an unfinished sealing are skipped: their lines are still in the spools.
    """
    planned = _load(settings.decisions / "pending.json")
    unfinished = digest_of(planned).removeprefix("sha256:")[:16] if planned else "none"
    paths = [path for path in sorted(settings.decisions.glob("*/*.parquet")) if not path.stem.endswith(unfinished)]
    columns = [pl.read_parquet(path) for path in paths]
    spooled = _spooled(settings)
    kept = [_customers(frame) for frame in columns]
    if spooled:
        rest = [{name: record.get(name) for name in (*RECORDED, "type", "purpose")} for record in spooled]
        kept.append(_customers(pl.DataFrame(rest, schema=_SCHEMA | {"type": pl.String, "purpose": pl.String})))
    return pl.concat(kept) if kept else pl.DataFrame(schema=_SCHEMA)


def _customers(frame: pl.DataFrame) -> pl.DataFrame:
    ours = frame.filter((pl.col("type") == "decision") & (pl.col("purpose") == "customer"))
    return ours.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())


def _spooled(settings: Settings) -> list[dict[str, Any]]:
    """Whole lines of the spools behind the sealed part."""
    reader, found = SpoolReader(settings.spool, _load(settings.decisions / "cursor.json")), []
    if settings.spool.exists():
        while batch := reader.read().records:
            found += batch
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return content
