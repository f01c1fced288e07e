"""Records and decision segments that the tests of the lineage store ask about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lineage.digest import digest_file
from lineage.ledger import Ledger
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.store.duckdb_store import Store
from lineage.store.rows import QUERIES
from tests.support.sample_facts import MODEL, OPERATOR, VALIDATOR, FactWriter

Record = dict[str, Any]
FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"
#: How segments were written before there were keys of persons, and since.
OLD = {"key": "4711", "key_hash_share": 0.5, "features": [1.0, 2.0], "reasons": ["R1"], "error": "ValueError: 4711"}
NEW = {"subject": "f00d", "sealed": b"\x00\x01", "route_version": 7}


class Segments:
    """Segment files of a ledger, on record or not."""

    def __init__(self, folder: Path, writer: FactWriter) -> None:
        self.folder, self.writer = folder, writer

    def put(
        self, name: str, *, count: int = 2, recorded: bool = True, release: str = FIRST, hour: int = 10, **more: Any
    ) -> Path:
        """A segment of `count` decisions and one outcome."""
        decisions = [
            {"type": "decision", "decision_id": f"{name}-{number}", "at": f"2026-11-23T{hour}:00:0{number}.5+00:00"}
            | {"model": MODEL, "release": release, "score": number / 10, **more}
            for number in range(count)
        ]
        outcome = {
            "type": "outcome",
            "decision_id": f"{name}-0",
            "at": f"2026-11-23T{hour}:30:00.5+00:00",
            "model": MODEL,
        }
        path = self.folder / MODEL / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame([*decisions, outcome | {"outcome": 1}], infer_schema_length=None).write_parquet(path)
        if recorded:
            times = {"from": f"2026-11-23T{hour}:00:00.5+00:00", "to": f"2026-11-23T{hour}:30:00.5+00:00"}
            sealed = {"segment": name, "digest": digest_file(path), "rows": count, "outcomes": 1}
            self.writer.record("DecisionsSealed", **sealed, releases={release: count}, **times)
        return path


def stopped_and_let_go(ledger: Ledger, model: str | None) -> None:
    """The baseline, then nothing; let go by two people; stopped again."""

    def say(kind: str, actor: Actor, **data: Any) -> int:
        return int(ledger.append(Draft(kind, actor, data, model, None, "because"))["seq"])

    say("KillSwitchPulled", VALIDATOR, answer="baseline")
    pulled = say("KillSwitchPulled", OPERATOR, answer="nothing")
    asked = say("KillReleaseRequested", OPERATOR, pulled=pulled)
    say("KillSwitchReleased", VALIDATOR, pulled=pulled, requested=asked)
    say("KillSwitchPulled", OPERATOR, answer="baseline")


def answers(store: Store) -> dict[str, list[Record]]:
    return {name: store.query(name) for name in QUERIES}


class Watched(Sequence[Record]):
    """A log that is read from disk: knows the most taken at a time; `meanwhile` happens once on the way."""

    def __init__(self, records: list[Record], meanwhile: Any = None) -> None:
        self.records, self.meanwhile, self.most = records, meanwhile, 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self.most = max(self.most, len(range(*index.indices(len(self)))))
            then, self.meanwhile = self.meanwhile, None
            if then is not None:
                then()
        return self.records[index]
