"""The rules of keys: a rotation replaces the key in force, and only a key that is no longer in force is revoked."""

from __future__ import annotations

from lineage.errors import RefusedError, UnknownError
from lineage.rules.proposal import Proposal
from lineage.state.keys import KeyEra


def replaces_key_in_force(p: Proposal) -> None:
    """Refuse a rotation whose old key is not the one in force, or whose new one was in use before."""
    data, ring = p.data, p.state.keys
    now = ring.in_force(data["key"], data["name"])
    old, new = data["old"], data["new"]
    if now is not None and (old is None or old["id"] != now.id) and not _other_log(now, old):
        given = old["id"] if old else "none"
        raise RefusedError(f"the {data['key']} key in force is {now.id}, not {given}; look again", code="stale_key")
    if ring.find(data["key"], new["id"], data["name"]) or (old is not None and old["id"] == new["id"]):
        raise RefusedError(f"{data['key']} key {new['id']} was in use before; make a new one", code="key_reused")


def _other_log(now: KeyEra, old: dict[str, str] | None) -> bool:
    """Whether the log continues under another name since its last rotation, after records were lost."""
    before = str(now.public).partition("+")[0]
    return now.key == "ledger" and old is not None and str(old["public"]).partition("+")[0] != before


def signs_without_overlap(p: Proposal) -> None:
    """Refuse an overlap for anything but a token: two signing keys at a time would leave a record with two eras."""
    if p.data["overlap_seconds"] and p.data["key"] != "token":
        raise RefusedError(f"a {p.data['key']} key has no overlap; only tokens have", code="overlap")
    if (p.data["key"] == "token") != (p.data["name"] is not None):
        raise RefusedError("a token names its machine account, a key names none", code="key_name")


def revokes_former_key(p: Proposal) -> None:
    """Refuse to revoke a key that is unknown or in force, and to take back a revocation in part."""
    data = p.data
    era = p.state.keys.find(data["key"], data["id"], data["name"])
    if era is None:
        known = ", ".join(one.id for one in p.state.keys.of(data["key"], data["name"])) or "none was ever rotated"
        raise UnknownError(f"there is no {data['key']} key {data['id']}; known: {known}", field="id")
    if era.until is None:
        raise RefusedError(
            f"{data['key']} key {era.id} is in force; rotate it first, then revoke it", code="key_in_force"
        )
    if era.revoked_from is not None and data["from_record"] >= era.revoked_from:
        raise RefusedError(f"key {era.id} is revoked from record {era.revoked_from} on already", code="order")
    if data["from_record"] > p.state.seq + 1:
        raise RefusedError(
            f"record {data['from_record']} does not exist yet; the newest is {p.state.seq}", code="from_record"
        )


def signing_key_counts(p: Proposal) -> None:
    """Refuse a release whose bundle was signed by an unknown or revoked key, or outside of the era of its key."""
    ring = p.state.keys
    known = ring.of("bundle")
    if not known:
        return
    era = ring.find("bundle", p.release.signature_key)
    if era is None:
        raise _unfit(p, f"which is none of this platform's {len(known)}")
    if not era.counts_for(p.state.seq + 1):
        raise _unfit(p, f"which is revoked from record {era.revoked_from} on")
    if not era.covers(p.release.steps[0].seq):
        raise _unfit(p, f"{_era(era)}; the candidate is of record {p.release.steps[0].seq}")


def _era(era: KeyEra) -> str:
    return f"which was in force for records {era.since} to {(era.until or 0) - 1}" if era.until else "a later key"


def _unfit(p: Proposal, why: str) -> RefusedError:
    return RefusedError(
        f"the bundle of {p.release.release} is signed by key {p.release.signature_key[:19]}…, {why}; train it again",
        code="signing_key",
        field="signature_key",
    )


def witness_is_away(p: Proposal) -> None:
    """Refuse a statement that the witness is back where it was not away."""
    if p.state.away is None:
        raise RefusedError("the witness is not recorded as away", code="order")


def witness_was_there(p: Proposal) -> None:
    """Refuse to record twice that the witness is away; each opening of the log may record it again."""
    if p.state.away is not None and not p.data["at_opening"]:
        raise RefusedError(f"the witness is away since record {p.state.away.seq} already", code="order")
