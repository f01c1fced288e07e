"""The lineage store with 1,000,000 records: rebuilding it, opening it, and the history of a release or model.

Records are generated from their number on access, as the log reads them from disk: 50 models, 200 releases
each, 100 records a release. Queries are timed through `Store.query`, as the service asks them, on one thread.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, overload

import orjson

from lineage.clock import stamp
from lineage.store.duckdb_store import Store

Record = dict[str, Any]
RECORDS, MODELS, TIMES = 1_000_000, 50, 100
QUERIES = (
    "history",
    "releases",
    "lineage",
    "checks",
    "rollouts",
    "approvals",
    "routes",
    "segments",
    "drift",
    "fairness",
)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
#: Records of one release in order: kind, count, and whether the record names the release.
LIFE = (
    *(("DatasetPinned", 1, False), ("ModelTrained", 1, True), ("CheckCompleted", 12, True)),
    *(("CandidateValidated", 1, True), ("ReleaseRegistered", 1, True), ("CanaryStarted", 1, True)),
    *(("CanaryHeld", 8, True), ("CanaryStepped", 2, True), ("ReviewRequested", 1, True), ("ReviewDecided", 1, True)),
    *(("RolloutStepped", 2, True), ("ReleasePromoted", 1, True), ("ChampionRetired", 1, True)),
    *(("RouteApplied", 9, False), ("DecisionsSealed", 34, False), ("DriftMeasured", 10, False)),
    *(("FairnessMeasured", 12, False), ("AlertRaised", 2, False)),
)
STEPS = [(kind, named) for kind, times, named in LIFE for _ in range(times)]


_JUDGED = '{"share":0.25,"judgement":{"verdict":"HOLD","reasons":["too few","ratio %(x)f"],"seconds":%(x)f}}'
_FEATURES = ",".join(['{"feature":"PAY_%(n)d","score":%(x)f,"method":"PSI","limit":0.1,"drifted":false}'] * 6)
_GROUPS = ",".join(['{"group":"%(n)d","n":300,"favourable_rate":%(x)f,"interval":[%(x)f,%(x)f]}'] * 2)
#: Data of facts by kind; other kinds have that of a promotion.
DATA = {
    "ModelTrained": '{"digest":"%(digest)s","policy_digest":"%(digest)s","fingerprint":"%(digest)s","run_id":"%(id)s",'
    '"author":"scientist","threshold":%(x)f,"metrics":{"auc":%(x)f},'
    '"dataset":{"uri":"datasets/uci","version":%(n)d,"digest":"%(digest)s"}}',
    "CheckCompleted": '{"check":"check_%(x)f","status":"pass","policy_digest":"%(digest)s",'
    '"findings":[{"name":"difference of AUC","observed":%(x)f,"limit":0.0,"relation":">=","ok":true}]}',
    "DecisionsSealed": '{"segment":"%(id)s","uri":"decisions/m/%(id)s.parquet","digest":"%(digest)s","rows":%(n)d,'
    '"outcomes":40,"from":"2026-01-01T00:00:00Z","to":"2026-01-01T01:00:00Z","releases":{"%(release)s":%(n)d}}',
    "DriftMeasured": '{"release":"%(release)s","share_drifted":%(x)f,"limit":0.3,"features":[' + _FEATURES + "]}",
    "FairnessMeasured": '{"release":"%(release)s","stage":"live","ratio":%(x)f,"groups":[' + _GROUPS + "]}",
    "RouteApplied": '{"version":%(n)d,"champion":"%(release)s","challenger":null,"share":0.0,"milliseconds":%(x)f}',
    "ReleasePromoted": '{"decision":"approve","golden":{"count":32,"matched":32},"digest":"%(digest)s"}',
} | dict.fromkeys(("CanaryHeld", "CanaryStepped", "RolloutStepped", "ReviewRequested"), _JUDGED)


class Synthetic(Sequence[Record]):
    """The first `count` records of an endless generated log."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [record_of(number) for number in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return record_of(index)


def record_of(number: int) -> Record:
    """Record `number`, counted from 0."""
    life, step = divmod(number, len(STEPS))
    kind, named = STEPS[step]
    model = f"model-{life % MODELS:02d}"
    release = f"{model}@{life // MODELS + 1}"
    return {
        "seq": number + 1,
        "at": stamp(BEGAN + timedelta(seconds=number)),
        "kind": kind,
        "model": model,
        "release": release if named else None,
        "actor": {"name": "controller", "role": "service"},
        "reason": None,
        "key": None,
        "prev": hashlib.sha256(b"%d" % number).hexdigest(),
        "data": data_of(kind, release, number),
        "v": 2,
    }


def data_of(kind: str, release: str, number: int) -> Record:
    """Data of a fact of this kind, as long and as varied as real ones."""
    digest = "sha256:" + hashlib.sha256(b"%s %d" % (kind.encode(), number)).hexdigest()
    some = {"release": release, "digest": digest, "id": digest[7:23], "n": number, "x": number % 997 / 997}
    data: Record = orjson.loads(DATA.get(kind, DATA["ReleasePromoted"]) % some)
    return data


def run() -> Iterator[str]:
    """Seconds to rebuild and to open, milliseconds of queries."""
    records = Synthetic(RECORDS)
    making = _seconds(lambda: [records[start : start + 20_000][0] for start in range(0, RECORDS, 20_000)])
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "lineage.duckdb"
        store = Store(path, records[:0])
        rebuilding = _seconds(lambda: store.rebuild(records))
        size = path.stat().st_size / 2**20
        yield f"rebuild    {store.count():,} records in {rebuilding:.1f} s, {making:.1f} s of it to make them"
        yield f"on disk    {size:.0f} MiB"
        store.close()
        opened: list[Store] = []
        opening = _seconds(lambda: opened.append(Store(path, records)))
        kept = "kept" if not opened[0].rebuilt else "rebuilt"
        yield f"opening    {opening:.2f} s, every row compared with what was put in; {kept}"
        yield from _queries(opened[0])
        opened[0].close()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _queries(store: Store) -> Iterator[str]:
    random, slowest = Random(7), 0.0
    for name in QUERIES:
        for by in ("release", "model"):
            taken, worked, rows = [], [], 0
            for _ in range(TIMES):
                model = f"model-{random.randrange(MODELS):02d}"
                release = f"{model}@{random.randrange(RECORDS // MODELS // len(STEPS)) + 1}"
                began, busy = time.perf_counter(), time.process_time()
                rows += len(store.query(name, model=model) if by == "model" else store.query(name, release=release))
                taken.append((time.perf_counter() - began) * 1e3)
                worked.append((time.process_time() - busy) * 1e3)
            p99, cpu = (statistics.quantiles(values, n=100)[98] for values in (taken, worked))
            slowest = max(slowest, p99)
            times = f"p50 {statistics.median(taken):5.1f} ms   p99 {p99:5.1f} ms ({cpu:.1f} of processor time)"
            yield f"{name:<10} of a {by:<8} {times}   {rows:,} rows"
    yield f"slowest p99 {slowest:.1f} ms, {len(QUERIES) * 2 * TIMES:,} queries of up to 100 rows"
