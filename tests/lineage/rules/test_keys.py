"""Rules of keys: who replaces and revokes them, in which order, and which releases a key counts for."""

from __future__ import annotations

from typing import Any

import pytest

from lineage.errors import PlimsollError, RefusedError
from lineage.ledger import Ledger
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from tests.support.accounts import begin_era_3
from tests.support.sample_facts import AT, CONTROLLER, OPERATOR, FactWriter, digest

ADMIN, LEDGER = Actor("adam", "admin", "p-adam"), Actor("ledger", PLATFORM)
FIRST, SECOND, THIRD = digest("first key"), digest("second key"), digest("third key")


def rotation(old: str | None, new: str, key: str = "bundle", **changes: Any) -> dict[str, Any]:
    public = {"id": old, "public": "PEM"} if old else None
    whole = {"key": key, "name": None, "old": public, "new": {"id": new, "public": "PEM"}, "overlap_seconds": 0}
    return whole | changes


def revocation(key_id: str, from_record: int, key: str = "bundle") -> dict[str, Any]:
    return {"key": key, "name": None, "id": key_id, "from_record": from_record}


@pytest.fixture
def present(ledger: Ledger) -> Ledger:
    """A ledger under the latest rules."""
    begin_era_3(ledger, [Actor("adam", "admin"), OPERATOR])
    return ledger


def state(ledger: Ledger, kind: str, data: dict[str, Any], actor: Actor = ADMIN) -> int:
    seq: int = ledger.append(Draft(kind, actor, data, reason="because"))["seq"]
    return seq


def refusal(ledger: Ledger, kind: str, data: dict[str, Any], actor: Actor = ADMIN) -> str:
    before, keys = len(ledger.records), ledger.state.keys
    with pytest.raises(PlimsollError) as caught:
        state(ledger, kind, data, actor)
    assert (len(ledger.records), ledger.state.keys) == (before, keys)
    return str(caught.value.code)


def test_eras_of_a_key_follow_each_other(present: Ledger) -> None:
    first = state(present, "KeyRotated", rotation(FIRST, SECOND))
    second = state(present, "KeyRotated", rotation(SECOND, THIRD))
    eras = present.state.keys.of("bundle")
    assert [(era.id, era.since, era.until) for era in eras] == [
        (FIRST, 0, first),
        (SECOND, first, second),
        (THIRD, second, None),
    ]
    assert present.state.keys.in_force("bundle") == eras[-1]
    assert present.state.keys.in_force("ledger") is None
    assert eras[1].covers(first)
    assert not eras[1].covers(second)


@pytest.mark.parametrize("actor", [CONTROLLER, OPERATOR, LEDGER], ids=lambda actor: actor.role)
@pytest.mark.parametrize(
    ("kind", "data"), [("KeyRotated", rotation(FIRST, SECOND)), ("KeyRevoked", revocation(FIRST, 1))]
)
def test_only_an_admin_replaces_or_revokes(kind: str, data: dict[str, Any], actor: Actor, present: Ledger) -> None:
    assert refusal(present, kind, data, actor) == "role"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (rotation(FIRST, THIRD), "stale_key"),
        (rotation(None, THIRD), "stale_key"),
        (rotation(SECOND, SECOND), "key_reused"),
        (rotation(SECOND, FIRST), "key_reused"),
        (rotation(SECOND, THIRD, overlap_seconds=60), "overlap"),
        (rotation(SECOND, THIRD, name="controller"), "key_name"),
        (rotation(None, THIRD, key="token"), "key_name"),
    ],
)
def test_a_rotation_that_does_not_replace_the_key_in_force(data: dict[str, Any], code: str, present: Ledger) -> None:
    state(present, "KeyRotated", rotation(FIRST, SECOND))
    if data["name"] == "controller":
        data = data | {"old": None}  # of a name that has no key yet
    assert refusal(present, "KeyRotated", data) == code


def test_a_key_is_revoked_after_it_was_replaced_and_never_less_than_before(present: Ledger) -> None:
    assert refusal(present, "KeyRevoked", revocation(FIRST, 1)) == "unknown"
    state(present, "KeyRotated", rotation(FIRST, SECOND))
    assert refusal(present, "KeyRevoked", revocation(SECOND, 1)) == "key_in_force"
    assert refusal(present, "KeyRevoked", revocation(FIRST, 99)) == "from_record"
    state(present, "KeyRevoked", revocation(FIRST, 3))
    for from_record in (3, 4):
        assert refusal(present, "KeyRevoked", revocation(FIRST, from_record)) == "order"
    state(present, "KeyRevoked", revocation(FIRST, 1))
    era = present.state.keys.find("bundle", FIRST)
    assert era is not None
    assert not era.counts_for(1)


def ready(writer: FactWriter, key: str) -> str:
    """A validated candidate whose bundle this key signed."""
    release = writer.train(signature_key=key)
    writer.check(release)
    writer.record("CandidateValidated", release)
    return release


def register(writer: FactWriter, release: str) -> str | None:
    """Register it; the words of the refusal, or None."""
    try:
        writer.record("ReleaseRegistered", release, digest=writer.digest(release))
    except RefusedError as refusal:
        return f"{refusal.code}: {refusal.message}"
    return None


def test_a_release_is_registered_only_under_a_key_that_counts(present: Ledger) -> None:
    writer = FactWriter(present)
    assert register(writer, ready(writer, THIRD)) is None, "before the first rotation there is no list of keys"
    before = ready(writer, FIRST)
    stolen = ready(writer, FIRST)
    state(present, "KeyRotated", rotation(FIRST, SECOND))
    assert register(writer, before) is None, "trained in the era of its key"
    assert register(writer, ready(writer, SECOND)) is None
    assert "none of this platform's" in str(register(writer, ready(writer, THIRD)))
    assert "was in force for records 0 to" in str(register(writer, ready(writer, FIRST)))
    state(present, "KeyRevoked", revocation(FIRST, len(present.records) + 1))
    assert "revoked from record" in str(register(writer, stolen))


def test_the_witness_is_away_once_and_then_back(present: Ledger) -> None:
    away = {"since": AT, "cosigned": 2, "at_opening": False, "why": "no answer"}
    assert refusal(present, "WitnessBack", {"since": AT, "cosigned": 2}, LEDGER) == "order"
    assert refusal(present, "WitnessAway", away, CONTROLLER) == "role"
    state(present, "WitnessAway", away, LEDGER)
    assert refusal(present, "WitnessAway", away, LEDGER) == "order"
    state(present, "WitnessAway", away | {"at_opening": True}, LEDGER)
    assert present.state.away is not None
    assert present.state.away.at_opening
    state(present, "WitnessBack", {"since": AT, "cosigned": 4}, LEDGER)
    assert present.state.away is None
