"""Rotation and revocation of keys: the new key is made, the change is recorded, then the new key is put into force.

A crash in between is finished when the ledger is opened: a new key that is on record is installed, another one is
thrown away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lineage.errors import InvalidError, RefusedError
from lineage.ledger import Ledger
from lineage.log.signed_note import Verifier
from lineage.log.signing_key import discard_next, install_next, next_key, next_signer_at, signer_at
from lineage.rules.draft import Draft, Record, check_right
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.settings import Settings
from lineage.signing import BundleKeys
from lineage.state.alerts import SIGNING_KEY
from lineage.state.entities import Release
from lineage.state.fold import LedgerState
from lineage.state.keys import KeyEra
from lineage.witness.cosigner import Cosigner

_LEDGER = Actor("ledger", PLATFORM)


class KeyChanges:
    """Changes of keys of one home; one at a time.

    Args:
        cosigner: is told of another log key; None without a witness.
    """

    def __init__(self, settings: Settings, ledger: Ledger, cosigner: Cosigner | None) -> None:
        self._settings, self._ledger, self._cosigner = settings, ledger, cosigner
        self._turn = threading.Lock()

    def rotate(self, key: str, actor: Actor, reason: str, request: str | None) -> tuple[Record, bool]:
        """Replace a signing key, `ledger` or `bundle`; the record, and whether it is new.

        Raises:
            InvalidError: there is no such key.
            RefusedError: the actor may not, or a rule refuses it; the refusal is on record.
            UnavailableError: a file cannot be written.
        """
        prepare = {"ledger": self._next_ledger_key, "bundle": BundleKeys(self._settings).prepare}.get(key)
        if prepare is None:
            raise InvalidError(f"there is no key {key!r} to rotate; expected ledger or bundle", field="key")

        def draft(_: LedgerState) -> Draft:
            data = {"key": key, "name": None, "old": old, "new": new, "overlap_seconds": 0}
            return Draft("KeyRotated", actor, data, reason=reason, key=request)

        with self._turn:
            self._check_role("KeyRotated", actor, reason)  # first: no key is made for a caller without the right
            old, new = prepare()  # before the ledger's lock is taken
            try:
                return self._act("KeyRotated", actor, reason, request, draft)
            finally:
                finish_rotations(self._settings, self._ledger)
                if self._cosigner is not None:
                    self._cosigner.rekey(self._ledger.keys)

    def revoke(
        self, key: str, key_id: str, from_record: int | None, actor: Actor, reason: str, request: str | None
    ) -> tuple[Record, bool]:
        """Have a former key count no longer, from a record on (None: from the next one); raises alerts.

        Raises:
            RefusedError: as `rotate`.
            UnknownError: there is no such key.
        """

        def draft(state: LedgerState) -> Draft:
            begin = state.seq + 1 if from_record is None else from_record
            data = {"key": key, "name": None, "id": key_id, "from_record": begin}
            return Draft("KeyRevoked", actor, data, reason=reason, key=request)

        with self._turn:
            self._check_role("KeyRevoked", actor, reason)
            record, new = self._act("KeyRevoked", actor, reason, request, draft)
            bar_bundles(self._settings, self._ledger)
            if new and key == "bundle":
                self._raise_alerts(record)
            return record, new

    def alerts_of(self, revocation: Record) -> list[str]:
        """Summaries of the alerts that a revocation raised."""
        raised = self._ledger.records.find(after=revocation["seq"], kinds=["AlertRaised"]).records
        return [one["data"]["summary"] for one in raised if one["data"]["evidence"] == revocation["seq"]]

    def _next_ledger_key(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return public_key(self._ledger.verifier), public_key(next_signer_at(self._settings.log_key).verifier)

    def _act(
        self, kind: str, actor: Actor, reason: str, request: str | None, draft: Callable[[LedgerState], Draft]
    ) -> tuple[Record, bool]:
        try:
            return self._ledger.act(actor, request, draft)
        except RefusedError as refusal:
            self._ledger.refuse(Draft(kind, actor, {}, reason=reason), refusal)
            raise

    def _check_role(self, kind: str, actor: Actor, reason: str) -> None:
        try:
            self._ledger.read(lambda state: check_right(kind, actor, None, state))
        except RefusedError as refusal:
            self._ledger.refuse(Draft(kind, actor, {}, reason=reason), refusal)
            raise

    def _raise_alerts(self, record: Record) -> None:
        """An alert for each champion whose bundle does not count any more, with what to do."""
        affected = self._ledger.read(lambda state: [r for r in revoked_releases(state) if _answers(state, r)])
        for release in affected:
            summary = (
                f"the key that signed {release.release} is revoked (record {record['seq']}) and it is the champion: "
                f"`plimsoll rollback {release.model}`, or train it again"
            )
            data = {"alert": SIGNING_KEY, "about": release.release, "release": release.release, "severity": "page"}
            whole = data | {"summary": summary, "evidence": record["seq"]}
            self._ledger.append(Draft("AlertRaised", _LEDGER, whole, release.model))


def finish_rotations(settings: Settings, ledger: Ledger) -> None:
    """Put keys into force that are on record as rotated to, and throw away those that are not.

    Raises:
        UnavailableError: a file cannot be read or written.
    """
    keys = ledger.state.keys
    if next_key(settings.log_key).exists():
        new, now = signer_at(next_key(settings.log_key)), keys.in_force("ledger")
        if now is not None and now.public == new.verifier.vkey and ledger.verifier != new.verifier:
            ledger.hand_over(new, lambda: install_next(settings.log_key))
        else:
            discard_next(settings.log_key)
    in_force = keys.in_force("bundle")
    BundleKeys(settings).finish(in_force.public if in_force else None)


def bar_bundles(settings: Settings, ledger: Ledger) -> None:
    """Write the list of bundles that no replica loads, and set keys aside of which nothing counts.

    Raises:
        UnavailableError: it cannot be written.
    """
    digests = ledger.read(lambda state: [release.digest for release in revoked_releases(state)])
    distrusted = [era.id for era in ledger.state.keys.of("bundle") if era.revoked_from == 1]
    BundleKeys(settings).bar(digests, distrusted)


def revoked_releases(state: LedgerState) -> list[Release]:
    """Releases that were registered when the key that signed them did not count any more."""
    eras = {era.id: era for era in state.keys.of("bundle") if era.revoked_from is not None}
    return [release for release in state.releases.values() if _is_revoked(release, eras.get(release.signature_key))]


def _is_revoked(release: Release, era: KeyEra | None) -> bool:
    registered = next((step.seq for step in release.steps if step.kind == "ReleaseRegistered"), None)
    return era is not None and registered is not None and not era.counts_for(registered)


def _answers(state: LedgerState, release: Release) -> bool:
    return state.models[release.model].champion == release.release


def public_key(verifier: Verifier) -> dict[str, Any]:
    """A key of the log or of the witness as it is recorded."""
    return {"id": verifier.key_id.hex(), "public": verifier.vkey}
