"""A ledger without a disk: the same guard and the same fold, for tests that need many states quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lineage.facts.eras import LATEST
from lineage.rules.draft import Draft, check_permitted, model_of, parsed_data
from lineage.rules.proposal import Actor
from lineage.state.fold import LedgerState
from lineage.state.people import People
from tests.support.accounts import in_era, people_on_record

Record = dict[str, Any]
START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


#: People of every role, two operators, and the author of every release in the role of a validator.
PEOPLE = (
    Actor("operator", "operator"),
    Actor("second", "operator"),
    Actor("validator", "validator"),
    Actor("scientist", "validator"),
    Actor("scientist", "scientist"),
    Actor("auditor", "auditor"),
)


class MemoryLedger:
    """Appends go into the fold and into `records`; a second passes between two of them."""

    def __init__(self) -> None:
        self.state = LedgerState(era=LATEST, people=People(people_on_record(PEOPLE)))
        self.records: list[Record] = []

    def append(self, draft: Draft) -> Record:
        """Record a draft that no rule refuses."""
        draft = replace(draft, actor=in_era(self.state, draft.kind, draft.actor))
        data = parsed_data(draft, self.state.era)
        check_permitted(draft, data, self.state)
        seq = self.state.seq + 1
        at = (START + timedelta(seconds=seq)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        model = model_of(draft)
        release = self.state.next_release(str(model)) if draft.kind == "ModelTrained" else draft.release
        record = {"seq": seq, "at": at, "kind": draft.kind, "model": model, "release": release}
        actor = {"id": draft.actor.person, "name": draft.actor.name, "role": draft.actor.role}
        record |= {"actor": actor, "reason": draft.reason, "data": data}
        self.state.apply(record)
        self.records.append(record)
        return record

    def try_(self, make: Callable[[LedgerState], Draft]) -> Record:
        """Record a draft as `append` does, and take it back."""
        self.state.begin()
        try:
            record = self.append(make(self.state))
            self.records.pop()
            return record
        finally:
            self.state.roll_back()
