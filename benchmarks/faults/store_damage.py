"""Bits flipped in the file of the lineage store and files cut short: what it holds afterwards is what the log holds.

Half of the damage is done to a store that was closed, half to one whose newest rows are still in DuckDB's WAL. A store
that notices the damage is made anew from the log; damage where nothing lies changes nothing.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults.power_loss import memory
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.store.duckdb_store import Store
from tests.support.sample_facts import FactWriter

TRIALS = 2_000
_HEADERS = 12_288  # bytes: what DuckDB reads first, and a small part of the file
Record = dict[str, Any]


def run(trials: int = TRIALS, seed: int = 1) -> Iterator[str]:
    """Counts of damaged stores, of those made anew, and of those that held something else than the log."""
    rng, rebuilt, wrong = random.Random(seed), 0, []
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        records = _records(Path(place))
        path = Path(place) / "lineage.duckdb"
        content, states = _stores(path, records)
        for number in range(trials):
            _damage(path, *states[number % 2], number, rng)
            store = Store(path, records)
            if dump(store) != content:
                wrong.append(number)
            rebuilt += store.rebuilt
            store.close()
    yield f"{trials} damaged stores, of which {rebuilt} were made anew from the log"
    yield f"stores that held something else than the log: {len(wrong)} of {trials} {wrong[:5] or ''}".rstrip()


def dump(store: Store) -> dict[str, list[Any]]:
    """Every row of every table and view, bit for bit."""
    store.flush()
    db = store._db
    names = [name for (name,) in db.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()]
    names += [name for (name,) in db.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
    return {name: db.table(name).order("ALL").fetchall() for name in sorted(names)}


def _records(place: Path) -> Sequence[Record]:
    ledger = Ledger(place / "log", signer=signer_at(place / "log.key"))
    writer = FactWriter(ledger)
    for _ in range(2):
        writer.champion()
    for kind in ("DriftMeasured", "FairnessMeasured", "AlertRaised", "DatasetPinned", "RouteApplied"):
        writer.record(kind)
    records = ledger.records[:]
    ledger.close()
    return records


def _stores(path: Path, records: Sequence[Record]) -> tuple[dict[str, list[Any]], list[tuple[bytes, bytes]]]:
    """What an undamaged store holds, and its two files (store, WAL) while it was open and after it was closed."""
    Store(path, records[:20]).close()
    store = Store(path, records)  # the rest is in the WAL until it is closed
    content = dump(store)
    while_open = path.read_bytes(), _wal(path).read_bytes()
    store.close()
    return content, [while_open, (path.read_bytes(), b"")]


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _damage(path: Path, main: bytes, wal: bytes, number: int, rng: random.Random) -> None:
    """Put both files there, one of them with a bit flipped or (every tenth time) without its end."""
    in_wal = bool(wal) and number % 4 == 0
    target = bytearray(wal if in_wal else main)
    if number % 10 == 9:
        target = target[: rng.randrange(len(target))]
    else:
        within = len(target) if number % 3 else min(len(target), _HEADERS)  # the headers get their share
        target[rng.randrange(within)] ^= 1 << rng.randrange(8)
    for file, data in ((path, main if in_wal else target), (_wal(path), target if in_wal else wal)):
        file.write_bytes(data)
        if not data:
            file.unlink()
