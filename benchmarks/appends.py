"""Durable appends of 300-byte records by 64 writers: the log, the whole ledger, DuckDB and SQLite, interleaved rounds.

Every peer acknowledges a record only once it is durable, one row a transaction: DuckDB with a connection a writer,
SQLite in WAL mode with synchronous=FULL, with a connection a writer and with one connection behind a lock (`locked`).
`log` stores records; `ledger` also checks and folds facts.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from lineage.ledger import Ledger
from lineage.log.group_commit import GroupCommit
from lineage.log.writer import Log
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor

WRITERS, ROUNDS, SECONDS = 64, 5, 1.5
TEXT = "x" * 60
Write = Callable[[int], object]
Peer = Callable[[], Write]  # a connection of one writer


def run() -> Iterator[str]:
    """Median appends a second of each, the ratio to the log's, and the slowest percent of acknowledgements."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place)
        peers = {"log": _log(folder), "ledger": _ledger(folder), "duckdb": _duckdb(folder)}
        peers |= {"sqlite": _sqlite(folder / "64.sqlite"), "locked": _sqlite_locked(folder / "1.sqlite")}
        rates: dict[str, list[float]] = {name: [] for name in peers}
        waits: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(ROUNDS):
            for name, peer in peers.items():
                taken = _round(peer)
                rates[name].append(len(taken) / SECONDS)
                waits[name] += taken
    ours = statistics.median(rates["log"])
    for name, values in rates.items():
        rate = statistics.median(values)
        p50, p99 = (statistics.quantiles(waits[name], n=100)[at] * 1e3 for at in (49, 98))
        yield (
            f"{name:<8}{rate:8.0f} appends/s ({min(values):.0f} to {max(values):.0f})  log is {ours / rate:5.2f}x  "
            f"acknowledged after {p50:.1f} ms, p99 {p99:.1f} ms"
        )
    yield f"{WRITERS} writers, {ROUNDS} rounds of {SECONDS} s each, interleaved"


def _round(peer: Peer) -> list[float]:
    """Seconds that each acknowledgement took."""
    end = time.perf_counter() + SECONDS
    taken: list[list[float]] = [[] for _ in range(WRITERS)]

    def write(number: int) -> None:
        append = peer()
        while (began := time.perf_counter()) < end:
            append(number)
            taken[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [seconds for one in taken for seconds in one]


def _envelope(number: int) -> dict[str, Any]:
    actor = {"name": "controller", "role": "service"}
    about = {"at": "2026-11-23T10:00:00.000000Z", "model": "m", "release": None, "reason": None, "key": None}
    return {"kind": "AlertRaised", "actor": actor, "data": {"number": number, "text": TEXT}, **about}


def _log(folder: Path) -> Peer:
    log = Log(folder / "log")
    list(log.replay())

    def commit(group: Any) -> None:
        for slot in group:
            slot.result = log.stage(slot.asked)
        log.commit()

    shared: GroupCommit[dict[str, Any], dict[str, Any]] = GroupCommit(commit)
    return lambda: lambda number: shared.ask(_envelope(number))


def _ledger(folder: Path) -> Peer:
    ledger = Ledger(folder / "ledger")
    actor = Actor("controller", "service")
    data = {"alert": "drift", "severity": "ticket", "summary": TEXT[:20]}
    return lambda: lambda _: ledger.append(Draft("AlertRaised", actor, data, "m"))


def _duckdb(folder: Path) -> Peer:
    db = duckdb.connect(str(folder / "peer.duckdb"))
    db.execute("CREATE TABLE records (number BIGINT, text VARCHAR)")

    def connect() -> Write:
        own = db.cursor()
        return lambda number: own.execute("INSERT INTO records VALUES (?, ?)", [number, "x" * 300])

    return connect


def _sqlite_made(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS records (number INTEGER, text TEXT)")
    return db


def _sqlite(path: Path) -> Peer:
    _sqlite_made(path).close()

    def connect() -> Write:
        own = _sqlite_made(path)
        return lambda number: own.execute("INSERT INTO records VALUES (?, ?)", (number, "x" * 300))

    return connect


def _sqlite_locked(path: Path) -> Peer:
    db, lock = _sqlite_made(path), threading.Lock()

    def write(number: int) -> None:
        with lock:
            db.execute("INSERT INTO records VALUES (?, ?)", (number, "x" * 300))

    return lambda: write
