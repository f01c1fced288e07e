"""Durable appends of 300-byte records, one writer: our log against DuckDB and SQLite, interleaved rounds.

Every peer makes each record durable before the next one: DuckDB one row a transaction, SQLite in WAL mode with
synchronous=FULL.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from lineage.log import Log

RECORDS, ROUNDS = 300, 5
TEXT = "x" * 200


def run() -> Iterator[str]:
    """Median appends a second of each, and the ratio to ours."""
    with tempfile.TemporaryDirectory() as folder:
        writers = {"plimsoll": _ours(Path(folder)), "duckdb": _duckdb(Path(folder)), "sqlite": _sqlite(Path(folder))}
        rates: dict[str, list[float]] = {name: [] for name in writers}
        for _ in range(ROUNDS):
            for name, write in writers.items():
                began = time.perf_counter()
                for number in range(RECORDS):
                    write(number)
                rates[name].append(RECORDS / (time.perf_counter() - began))
    ours = statistics.median(rates["plimsoll"])
    for name, values in rates.items():
        rate = statistics.median(values)
        low, high = min(values), max(values)
        yield f"{name:<10} {rate:8.0f} appends/s ({low:.0f} to {high:.0f})   plimsoll is {ours / rate:.2f}x"


def _ours(folder: Path) -> Callable[[int], object]:
    log = Log(folder / "log")
    list(log.replay())
    return lambda number: log.append({"kind": "AlertRaised", "data": {"number": number, "text": TEXT}})


def _duckdb(folder: Path) -> Callable[[int], object]:
    db = duckdb.connect(str(folder / "peer.duckdb"))
    db.execute("CREATE TABLE records (number BIGINT, text VARCHAR)")
    return lambda number: db.execute("INSERT INTO records VALUES (?, ?)", [number, TEXT])


def _sqlite(folder: Path) -> Callable[[int], object]:
    db = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE records (number INTEGER, text TEXT)")
    return lambda number: db.execute("INSERT INTO records VALUES (?, ?)", (number, TEXT))
