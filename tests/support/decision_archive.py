"""A ledger service with decisions: recorded as the gateway does, sealed as the controller does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from lineage.digest import digest_file
from lineage.privacy.erasure import Subjects
from lineage.rules.draft import Draft
from lineage.settings import Settings
from serve.record.decision_log import DecisionLog
from serve.record.sealing import SCHEMA
from serve.record.spool import Spool
from tests.support.decision_records import decision
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MACHINE, MODEL, ManualClock

Json = dict[str, Any]


class Archive:
    """A ledger service with decisions: `decide` as the gateway does, `seal` as the controller does."""

    def __init__(self, service: LedgerService) -> None:
        self.service, self.settings = service, service.settings
        self.champion = service.writer.champion()
        self.spool, self.decision_log = Spool(self.settings.spool, "r1"), DecisionLog(self.settings)
        self.alive = True

    def later(self, **by: float) -> None:
        """Advance the clock and sign all people in again, because sessions expire."""
        self.service.clock.later(**by)
        for name, password in self.service.passwords.items():
            answer = self.service.http.post("/v1/session", json={"name": name, "password": password})
            self.service.tokens[name] = answer.json()["token"]

    def reopen(self) -> None:
        self.service.reopen()

    @property
    def subjects(self) -> Subjects:
        return self.service.context.subjects

    def decide(self, number: int, **changes: Any) -> str:
        now = self.service.clock()
        given = {"at": now.isoformat(), "rollout": None, "release": self.champion}
        given |= {"digest": self.service.writer.digest(self.champion), "model": MODEL, "route_version": 10_000}
        line = decision(number, "champion", **(given | changes)) | {"arm": None}
        self.spool.write(line)
        return str(line["decision_id"])

    def seal(self) -> list[Json]:
        self.decision_log.take()
        facts = []
        for segment in self.decision_log.next_segments():
            draft = Draft("DecisionsSealed", MACHINE, segment.data, segment.model, key=segment.name)
            facts.append(self.service.context.ledger.append(draft))
        self.decision_log.sealed(lambda process: self.alive)
        return facts

    def seal_plain(self, rows: list[Json], name: str = "20261123T090000-0123456789abcdef") -> Path:
        """A segment in the format before keys of persons."""
        plain = {"key": pl.String, "key_hash_share": pl.Float64, "features": pl.List(pl.Float64)}
        schema = {one: kind for one, kind in SCHEMA.items() if one not in ("subject", "sealed")} | plain
        schema |= {"reasons": pl.List(pl.String)}
        path = self.settings.decisions / MODEL / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame([{one: row.get(one) for one in schema} for row in rows], schema=schema).write_parquet(path)
        data = {"segment": name, "uri": f"decisions/{MODEL}/{path.name}", "digest": digest_file(path)}
        data |= {"rows": len(rows), "outcomes": 0, "from": rows[0]["at"], "to": rows[-1]["at"], "releases": {}}
        self.service.context.ledger.append(Draft("DecisionsSealed", MACHINE, data, MODEL))
        return path

    def show(self, decision_id: str, who: str = "auditor", status: int = 200) -> Json:
        headers = self.service.headers(who) | {"X-Reason": "a customer complained"}
        answer = self.service.http.get(f"/v1/decisions/{decision_id}", headers=headers)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    def ask(self, verb: str, subject: Any, who: str, status: int, key: str | None = None, **body: Any) -> Json:
        headers = self.service.headers(who) | ({"Idempotency-Key": key} if key else {})
        sent = {"subject": subject} | ({"reason": "a customer complained"} if verb == "history" else {}) | body
        answer = self.service.http.post(f"/v1/subjects/{verb}", json=sent, headers=headers)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    def history(self, subject: str, who: str = "auditor") -> list[str]:
        return [one["decision_id"] for one in self.ask("history", subject, who, 200)["decisions"]]


@contextmanager
def open_archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
    with open_service(settings, clock) as service:
        yield Archive(service)
