"""Reads of personal data: the fact that a person leaves before the answer is given.

A caller of a route for decisions about customers says why. The ledger records who, what, about whom (a commitment,
never the key) and why; only then the answer leaves. If the fact cannot be recorded there is no answer.

The same answer to the same person for the same reason is recorded once in `REPEAT`: a page that is opened again, or a
script that asks every second, adds one record in ten minutes and not six hundred. An answer that shows anything else,
also one more decision, is another fact.

Services read no personal data here. The controller measures drift and fairness on the segments and the spools, in its
own process; what it states are counts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Header

from lineage.clock import Clock
from lineage.digest import digest_of
from lineage.errors import InvalidError, RefusedError, UnknownError
from lineage.ledger import Ledger
from lineage.privacy.key_vault import Vault
from lineage.rules.draft import REASON_CHARACTERS, Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import READERS_LEAVE

KIND = "PersonalDataRead"
REASON_HEADER = "X-Reason"
REPEAT = timedelta(minutes=10)
_MOST_REMEMBERED, _MOST_IDS = 10_000, 100
#: Why, as percent-encoded UTF-8: headers hold ASCII only.
ReasonHeader = Annotated[
    str | None,
    Header(alias=REASON_HEADER, description="why the data is looked at, percent-encoded; it goes on record"),
]


class PersonalReads:
    """Records reads. Thread-safe.

    Args:
        clock: decides what is a repetition.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock, self._lock = ledger, clock, threading.Lock()
        self._recent: dict[str, datetime] = {}

    def record(self, actor: Actor, reason: str, data: dict[str, Any]) -> None:
        """Put a read on record; an identical one in the last ten minutes is not repeated.

        Raises:
            PlimsollError: it cannot be recorded; the caller must not answer.
        """
        key, now = digest_of([actor.name, actor.role, reason, data]), self._clock()
        with self._lock:
            before = self._recent.get(key)
        if before is not None and now - before < REPEAT:
            return
        self._ledger.append(Draft(KIND, actor, data, reason=reason))
        with self._lock:  # after the record: what failed is tried again
            self._recent.pop(key, None)
            self._recent[key] = now
            if len(self._recent) > _MOST_REMEMBERED:
                self._recent.pop(next(iter(self._recent)))

    def require_reader(self, actor: Actor) -> None:
        """Refuse services: they have no reason to look at one decision.

        Raises:
            RefusedError: the role reads no decisions (403); the refusal is on record.
        """
        if actor.role in READERS_LEAVE[KIND]:
            return
        refusal = RefusedError(
            f"{actor.name} has role {actor.role}; decisions about customers are read by people, who leave a fact. "
            "Measurements read the segments",
            code="role",
            status=403,
        )
        self._ledger.refuse(Draft(KIND, actor, {}), refusal)
        raise refusal


def read_data(
    what: str, decision_ids: Iterable[str], *, commitment: str | None = None, shown: bool = False, count: int = -1
) -> dict[str, Any]:
    """The data of a PersonalDataRead fact; `count` is the number of the ids unless it is given."""
    ids = [str(one)[:64] for one in decision_ids]
    return {
        "what": what,
        "commitment": commitment,
        "decision_ids": ids[:_MOST_IDS],
        "count": len(ids) if count < 0 else count,
        "fields": "shown" if shown else "withheld",
    }


def commitment_of(vault: Vault, pseudonym: str | None) -> str | None:
    """The commitment of a person; None where the vault has no key of that pseudonym."""
    if not pseudonym:
        return None
    try:
        return vault.commitment(pseudonym)
    except UnknownError:
        return None


def reason_in(header: str | None) -> str:
    """The reason in an `X-Reason` header.

    Raises:
        InvalidError: it is missing, blank or too long.
    """
    reason = unquote(header or "").strip()
    if not reason:
        raise InvalidError(
            f"say why: this shows decisions about customers, and who looks at them is recorded. Send {REASON_HEADER} "
            "with a sentence that has no name in it",
            field=REASON_HEADER,
        )
    if len(reason) > REASON_CHARACTERS:
        raise InvalidError(
            f"the reason has {len(reason)} characters; at most {REASON_CHARACTERS} are kept", field=REASON_HEADER
        )
    return reason


def without_name(reason: str, subject: Any) -> str:
    """The reason with the person's key left out.

    Left out and not refused where the caller did not name the person: a refusal would confirm a guess.
    """
    if not isinstance(subject, str) or not subject:
        return reason
    return re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", "[the person]", reason, flags=re.IGNORECASE)


def refuse_name_in(reason: str, subject: str, field: str) -> None:
    """Refuse a reason that names the person: it is recorded for ever.

    Raises:
        InvalidError: it does.
    """
    if without_name(reason, subject) != reason:
        raise InvalidError(
            f"{field} names the person; it is recorded for ever, so write it without the person", field=field
        )
