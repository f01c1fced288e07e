"""Seals spooled records into Parquet segments whose digests enter the ledger, each record in exactly one segment.

The order makes a crash safe at any point: the plan (which bytes of which spool files) is stored first; segments are
named after the plan, so a repetition gives the same names; facts carry the name as their idempotency key; only then
the cursor moves past the plan.

Personal fields of a decision are encrypted under that person's key (`lineage.privacy.key_vault`): a segment can never
be changed, but a key can be destroyed.
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

from lineage.completeness import ranges_of
from lineage.digest import digest_file, digest_of
from lineage.errors import TamperedError, UnavailableError
from lineage.privacy.decisions import PERSONAL_FIELDS, belongs_to
from lineage.privacy.key_vault import Vault
from lineage.segments import COLUMNS, check_columns, rows_of
from serve.judge.evidence import SHADOW
from serve.record.spool import Batch, Record, SpoolReader

SCHEMA = COLUMNS


@dataclass(frozen=True)
class Segment:
    """A written segment; `data` is that of its DecisionsSealed fact."""

    model: str
    name: str
    data: dict[str, Any]


class Sealer:
    """Writes segments and keeps the cursor of the sealed bytes.

    Args:
        folder: of the segments, one folder per model; holds cursor.json and, while sealing, pending.json.
        reader: reader of the spools; its offsets are set to the cursor.
        vault: keys of the persons.
    """

    def __init__(self, folder: Path, reader: SpoolReader, vault: Vault) -> None:
        self._folder, self._reader, self._vault = folder, reader, vault
        folder.mkdir(parents=True, exist_ok=True)
        known: dict[str, int] = _load(self._cursor_file) or {}
        self.cursor = {name: end for name, end in known.items() if (reader.folder / name).exists()}
        reader.offsets = dict(self.cursor)

    @property
    def _cursor_file(self) -> Path:
        return self._folder / "cursor.json"

    @property
    def _pending_file(self) -> Path:
        return self._folder / "pending.json"

    def unfinished(self) -> Batch | None:
        """The batch whose sealing was interrupted, read again; None where there is none.

        Raises:
            UnavailableError: the vault does not answer.
        """
        ranges = _load(self._pending_file)
        if not ranges:
            return None
        batch = self._reader.read_ranges(ranges)
        add_pseudonyms(batch.records, self._vault)
        return batch

    def plan(self, batch: Batch) -> None:
        """Store which bytes of the spools are about to be sealed."""
        _store(self._pending_file, batch.ranges)

    def segments(self, batch: Batch) -> list[Segment]:
        """Write the batch's segments, one a model; the same batch gives the same names, and a written file is kept.

        Raises:
            UnavailableError: the vault or the disk failed; the same batch can be sealed later.
        """
        name = digest_of(batch.ranges).removeprefix("sha256:")[:16]
        return [self._segment(model, name, records) for model, records in _by_model(batch.records)]

    def commit(self, batch: Batch) -> None:
        """Move the cursor past the batch; call after every segment's fact is on record."""
        for name, (_, end) in batch.ranges.items():
            self.cursor[name] = max(end, self.cursor.get(name, 0))
        _store(self._cursor_file, self.cursor)
        self._pending_file.unlink(missing_ok=True)
        _sync(self._folder)  # durable before the spools are changed

    def forget(self, names: list[str]) -> None:
        """Forget the cursors of removed spool files."""
        for name in names:
            self.cursor.pop(name, None)
            self._reader.offsets.pop(name, None)

    def _segment(self, model: str, batch_name: str, records: list[Record]) -> Segment:
        decisions = [record for record in records if record["type"] == "decision"]
        times = sorted(record["at"] for record in records)
        stamp = times[0][:19].replace("-", "").replace(":", "")
        path = self._folder / model / f"{stamp}-{batch_name}.parquet"
        if not _is_whole(path):
            _write(path, encrypt_personal_fields(records, self._vault))
        releases: dict[str, int] = {}
        for record in decisions:
            if record["purpose"] != SHADOW:  # a shadow's copy is not counted as a decision of its release
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
            "answers": [one.to_dict() for one in ranges_of(_numbers(decisions))],
        }
        return Segment(model, path.stem, data)


def _numbers(decisions: list[Record]) -> dict[str, list[int]]:
    """Numbers by writer; decisions spooled before answers were numbered have none."""
    numbers: dict[str, list[int]] = {}
    for record in decisions:
        if record.get("number") is not None:
            numbers.setdefault(record["writer"], []).append(record["number"])
    return numbers


def read_segments(folder: Path, model: str, most: int | None = None) -> Iterator[pl.DataFrame]:
    """Segments of a model, newest first, at most `most`.

    Raises:
        UnavailableError: one of them cannot be read. What is measured without it would be measured on less than there
            is, so this model's measurement waits; other models go on.
    """
    paths = sorted((folder / model).glob("*.parquet"), reverse=True)
    for path in paths[:most]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnavailableError(
                f"segment {path.stem} of {model} cannot be read: {error}", field="segment"
            ) from error
        yield rows_of(data, path.stem)


def add_pseudonyms(records: list[Record], vault: Vault) -> None:
    """Set `subject`, the person's pseudonym, in each decision without one; a new person gets a key.

    Raises:
        UnavailableError: the vault does not answer.
    """
    unnamed = [record for record in records if record["type"] == "decision" and "subject" not in record]
    if unnamed:
        names = vault.identify([(str(record["key"]), str(record["at"])) for record in unnamed])
        for record, name in zip(unnamed, names, strict=True):
            record["subject"] = name


def encrypt_personal_fields(records: list[Record], vault: Vault) -> list[Record]:
    """The records with personal fields encrypted under each person's key, as a segment stores them.

    Personal fields of a person whose key was destroyed are left out.

    Raises:
        UnavailableError: the vault does not answer.
    """
    add_pseudonyms(records, vault)
    decisions = [record for record in records if record["type"] == "decision"]
    personal = [orjson.dumps({name: record.get(name) for name in PERSONAL_FIELDS}) for record in decisions]
    blobs = vault.seal(
        [(record["subject"], belongs_to(record), data) for record, data in zip(decisions, personal, strict=True)]
    )
    rows = {id(record): _encrypted(record, blob) for record, blob in zip(decisions, blobs, strict=True)}
    return [rows.get(id(record), record) for record in records]


def _encrypted(record: Record, blob: bytes | None) -> Record:
    error = record["error"]
    kind = None if error is None else str(error).partition(":")[0]
    return record | {"sealed": blob, "error": kind}


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


def _is_whole(path: Path) -> bool:
    """Whether the segment was written before and can be read."""
    try:
        check_columns(path.read_bytes(), path.stem)
    except (FileNotFoundError, TamperedError):
        return False
    return True


def _store(path: Path, content: Any) -> None:
    draft = path.with_suffix(".part")
    draft.write_bytes(orjson.dumps(content))
    _settle(draft, path)


def _settle(draft: Path, path: Path) -> None:
    """Make the draft durable, rename it, and make the rename durable."""
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
