"""Spooled decisions become Parquet segments whose digests enter the ledger, each record in exactly one segment.

The order makes it safe to be killed anywhere: the plan (which bytes of which spool files) is stored first; segments
are named after the plan, so doing it again gives the same names; facts carry the name as their idempotency key; only
then does the cursor move past the plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from lineage.digest import digest_file, digest_of
from serve.spool import Batch, Record, SpoolReader

#: Columns of a segment. `type` is decision or outcome; an outcome row has decision_id, at, outcome and replica only.
SCHEMA: dict[str, Any] = {
    "type": pl.String,
    "decision_id": pl.String,
    "at": pl.String,
    "model": pl.String,
    "release": pl.String,
    "digest": pl.String,
    "role": pl.String,
    "arm": pl.String,
    "key": pl.String,
    "key_hash_share": pl.Float64,
    "share": pl.Float64,
    "features": pl.List(pl.Float64),
    "score": pl.Float64,
    "threshold": pl.Float64,
    "decision": pl.String,
    "adverse": pl.Boolean,
    "reasons": pl.List(pl.String),
    "fallback": pl.String,
    "latency_ms": pl.Float64,
    "error": pl.String,
    "rollout": pl.String,
    "purpose": pl.String,
    "replica": pl.String,
    "route_version": pl.Int64,
    "outcome": pl.Int64,
}


@dataclass(frozen=True)
class Segment:
    """A written segment: the data of its DecisionsSealed fact."""

    model: str
    name: str
    data: dict[str, Any]


class Sealer:
    """Keeps the cursor of what is sealed, in `folder`.

    Args:
        folder: where segments go, one folder per model; holds cursor.json and, while sealing, pending.json.
        reader: the tail of the spools; its offsets are set to the cursor.
    """

    def __init__(self, folder: Path, reader: SpoolReader) -> None:
        self._folder, self._reader = folder, reader
        folder.mkdir(parents=True, exist_ok=True)
        self.cursor: dict[str, int] = _load(self._cursor_file) or {}
        reader.offsets = dict(self.cursor)

    @property
    def _cursor_file(self) -> Path:
        return self._folder / "cursor.json"

    @property
    def _pending_file(self) -> Path:
        return self._folder / "pending.json"

    def unfinished(self) -> Batch | None:
        """The batch whose sealing was cut short, read again; None where there is none."""
        ranges = _load(self._pending_file)
        return self._reader.read_ranges(ranges) if ranges else None

    def plan(self, batch: Batch) -> None:
        """Store what is about to be sealed."""
        _store(self._pending_file, batch.ranges)

    def segments(self, batch: Batch) -> list[Segment]:
        """Write the batch's segments, one a model; the same batch gives the same names and, once written, bytes."""
        name = digest_of(batch.ranges).removeprefix("sha256:")[:16]
        return [self._segment(model, name, records) for model, records in _by_model(batch.records)]

    def commit(self, batch: Batch) -> None:
        """Move the cursor past the batch; call when every segment's fact is on record."""
        for name, (_, end) in batch.ranges.items():
            self.cursor[name] = max(end, self.cursor.get(name, 0))
        _store(self._cursor_file, self.cursor)
        self._pending_file.unlink(missing_ok=True)

    def _segment(self, model: str, batch_name: str, records: list[Record]) -> Segment:
        decisions = [record for record in records if record["type"] == "decision"]
        times = sorted(record["at"] for record in records)
        stamp = times[0][:19].replace("-", "").replace(":", "")
        path = self._folder / model / f"{stamp}-{batch_name}.parquet"
        if not path.exists():
            _write(path, records)
        releases: dict[str, int] = {}
        for record in decisions:
            releases[record["release"]] = releases.get(record["release"], 0) + 1
        data = {
            "segment": path.stem,
            "uri": f"decisions/{model}/{path.name}",
            "digest": digest_file(path),
            "rows": len(decisions),
            "outcomes": len(records) - len(decisions),
            "from": times[0],
            "to": times[-1],
            "releases": releases,
        }
        return Segment(model, path.stem, data)


def read_segments(folder: Path, model: str, most: int | None = None) -> Iterator[pl.DataFrame]:
    """Segments of a model, the newest first; at most `most` of them."""
    paths = sorted((folder / model).glob("*.parquet"), reverse=True)
    for path in paths[:most]:
        yield pl.read_parquet(path)


def _by_model(records: list[Record]) -> Iterator[tuple[str, list[Record]]]:
    ordered = sorted(records, key=lambda record: (record["model"], record["at"], record["decision_id"]))
    for model, group in groupby(ordered, key=lambda record: str(record["model"])):
        yield model, list(group)


def _write(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    frame = pl.DataFrame([{name: record.get(name) for name in SCHEMA} for record in records], schema=SCHEMA)
    frame.write_parquet(draft, compression="zstd")
    _settle(draft, path)


def _store(path: Path, content: Any) -> None:
    draft = path.with_suffix(".part")
    draft.write_bytes(orjson.dumps(content))
    _settle(draft, path)


def _settle(draft: Path, path: Path) -> None:
    """Make the draft durable, then give it its name."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def _load(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
