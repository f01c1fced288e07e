"""Who answered for a model at an instant, and who decided that: from the records up to it, and from nothing else.

Pure. Two things are told apart: what the ledger had decided, and what every gateway replica had acknowledged by then
(`RouteApplied`). Between the two some replicas may have answered by the newer route; each answer names its release in
the sealed decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from lineage.clock import stamp
from lineage.errors import InvalidError, UnknownError
from lineage.state.entities import Release
from lineage.state.fold import LedgerState
from lineage.state.safety import stricter

Record = dict[str, Any]
Answer = dict[str, Any]
#: After these a digest never answers again, for whichever model.
BARRING = ("CandidateRejected", "CanaryAborted", "ReviewDecided", "RollbackOrdered")
#: Facts that stop a model, or all of them where they name none, and those that let go.
KILLING = ("KillSwitchPulled", "KillSwitchReleased")
#: Facts after which somebody else may answer, and facts that say who did.
DECIDING = (
    *("ModelTrained", "CandidateValidated", "CandidateRejected", "ReleaseRegistered", "CanaryStarted", "CanaryStepped"),
    *("CanaryAborted", "ReviewRequested", "ReviewDecided", "RolloutStepped", "ReleasePromoted", "ChampionRetired"),
    *("RollbackOrdered", "ReleaseRolledBack", "ChampionReinstated", "RouteApplied", "BreakerOpened", "BreakerClosed"),
    *KILLING,
)
_WORDS = {
    "CanaryStarted": "canary_started",
    "CanaryStepped": "share_raised",
    "RolloutStepped": "share_raised",
    "ReleasePromoted": "promoted",
    "ChampionReinstated": "reinstated",
    "RollbackOrdered": "rollback_ordered",
}


def moment(text: str, name: str = "at") -> datetime:
    """The instant that a text in RFC 3339 stands for; seconds may be left out.

    Raises:
        InvalidError: it is none, or has no zone.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "expected e.g. 2026-03-04T10:02:00Z (in an address `+` is written %2B)"
        raise InvalidError(f"{name} is {text!r:.60}, which is no instant; {expected}", field=name) from error
    if read.tzinfo is None:
        raise InvalidError(f"{name} is {text!r:.60} without a zone; write Z for UTC, or an offset", field=name)
    return read


def answering(
    records: Sequence[Record],
    model: str,
    instant: datetime | None = None,
    *,
    seq: int | None = None,
    now: datetime | None = None,
) -> Answer:
    """Who answered for `model`, by every record with `at <= instant`, or by the first `seq` records.

    Args:
        records: in order; all, or at least those of kinds `DECIDING` about the model, the model's first, those of
            kinds `KILLING` about all models, those of kind RulesActivated, and those of kind ModelTrained and
            `BARRING` about releases of other models with the same bytes.
        instant, seq: one of them.
        now: later than it nothing is known yet.

    Returns:
        `model`, `asked`, `seq` (the last record of kinds `DECIDING` about the model, or all of them, by then, or
        None), and what `_decided` and `_acknowledged` say, as `decided` and `acknowledged`.

    Raises:
        InvalidError: not one of instant and seq, an instant without a zone, after `now`, or before the first record.
        UnknownError: there is no such model.
    """
    if (instant is None) == (seq is None):
        raise InvalidError("say either an instant or a record number", field="at")
    if instant is not None and instant.tzinfo is None:
        raise InvalidError(f"{instant} has no zone; write Z for UTC, or an offset", field="at")
    if instant is not None and now is not None and instant > now:
        raise InvalidError(f"{stamp(instant)} lies in the future; it is {stamp(now)}", field="at")
    if seq is not None and seq < 1:
        raise InvalidError(f"seq is {seq}; records are counted from 1", field="seq")
    asked = stamp(instant) if instant is not None else None
    fold = _Fold(model)
    for record in records:
        if record["seq"] > seq if seq is not None else record["at"] > str(asked):
            _check_begun(fold, record, records, ("at", asked) if asked is not None else ("seq", f"record {seq}"))
            break
        fold.take(record)
    if not fold.begun:
        raise UnknownError(f"there is no record about a model {model!r}; see `plimsoll releases`", field="model")
    asked_for = {"at": asked} if asked is not None else {"seq": seq}
    told = {"decided": _decided(fold), "acknowledged": _acknowledged(fold)}
    return {"model": model, "asked": asked_for, "seq": fold.seq, **told}


def _check_begun(fold: _Fold, after: Record, records: Sequence[Record], asked: tuple[str, str]) -> None:
    """Tell a model that came later from one that never was."""
    if fold.begun:
        return
    first = next((r for r in records if r["model"] == fold.model and r["seq"] >= after["seq"]), None)
    if first is not None:
        begins = f"its first record is {first['seq']}, at {first['at']}"
        raise InvalidError(f"nothing was on record about {fold.model} at {asked[1]}; {begins}", field=asked[0])


@dataclass
class _Fold:
    """The ledger's fold of one model, and the records that moved it."""

    model: str
    state: LedgerState = field(default_factory=LedgerState)
    begun: bool = False
    seq: int | None = None
    champion_by: Record | None = None
    share_by: Record | None = None
    killed_by: Record | None = None
    applied: Record | None = None
    moves: dict[str, list[Record]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Fold in the next record."""
        if record["kind"] == "RulesActivated":
            self.state.apply(record)
            return
        everybody = record["model"] is None and record["kind"] in KILLING
        if record["model"] != self.model and not everybody:
            self._take_other(record)
            return
        self.begun |= not everybody
        if record["kind"] not in DECIDING:
            return
        self.seq = record["seq"]
        if record["kind"] == "RouteApplied":
            self.applied = record
        before, killed = self._position(), self.killed()
        self.state.apply(record)
        after = self._position()
        if after[:2] != before[:2]:
            self.champion_by = record
        if after[2:] != before[2:]:
            self.share_by = record
        if self.killed() != killed:
            self.killed_by = record
        if record["release"] is not None:
            self.moves.setdefault(record["release"], []).append(record)

    def killed(self) -> str:
        """What answers under the kill switches: `nothing`, `baseline`, or an empty text where none is pulled."""
        view = self.state.models.get(self.model)
        return stricter([self.state.kill, view.kill if view else None])

    def _take_other(self, record: Record) -> None:
        # Bytes that failed as a release of another model are barred here too.
        kind, release = record["kind"], record["release"]
        if kind == "ModelTrained":
            self.digests[release] = record["data"]["digest"]
        elif kind in BARRING and record["data"].get("decision") != "approve" and release in self.digests:
            self.state.barred.add(self.digests[release])

    def _position(self) -> tuple[Any, ...]:
        view = self.state.models.get(self.model)
        return (view.champion, view.mode, view.challenger, view.share) if view else (None, "baseline", None, 0.0)


def _decided(fold: _Fold) -> Answer:
    """What the ledger had decided.

    `mode` (normal, baseline, or killed by a person), `killed` (what answered then: baseline or nothing; else empty),
    `release` (None where the baseline or nothing answers), `baseline_of` (whose bundle's baseline answers then),
    `digest` of the bundle that answers, `threshold` (None for a baseline: its cut-off stands in the bundle), `policy`
    and `policy_digest` it was let in under, `people` (see `_people`), `by` (the record that put it there), `kills` and
    `breakers` (see `_kills` and `_breakers`) and `challenger` (None, also while killed, or release, digest, threshold,
    policy_digest, share, state, people, by).
    """
    view, killed = fold.state.models.get(fold.model), fold.killed()
    stands = (view.champion if view else None) or ""
    champion = fold.state.releases.get(stands if not killed else "")
    answers = champion or fold.state.releases.get((view.baseline_from if view else None) or "")
    answers = answers if killed != "nothing" else None
    told: Answer = {"mode": "killed" if killed else view.mode if view else "baseline", "killed": killed}
    told["release"] = champion.release if champion else None
    told["baseline_of"] = answers.release if answers and not champion else None
    told |= _release(answers)
    told["threshold"] = champion.threshold if champion else None
    told["policy"] = answers.policy if answers else None
    told["people"] = _people(fold, champion.release) if champion else []
    told["by"] = _who(fold.killed_by if killed else fold.champion_by)
    told |= {"kills": _kills(fold), "breakers": _breakers(fold), "challenger": None}
    if view is not None and view.challenger is not None and not killed:
        challenger = fold.state.releases[view.challenger]
        told["challenger"] = {"release": challenger.release, "share": view.share, "state": str(challenger.state)}
        told["challenger"] |= _release(challenger) | {"people": _people(fold, challenger.release)}
        told["challenger"]["by"] = _who(fold.share_by)
    return told


def _kills(fold: _Fold) -> list[Answer]:
    """The switches that were pulled: `of` (the model; None: all), `answer`, `by`, `at`, `seq`, `reason`, `since`."""
    view = fold.state.models.get(fold.model)
    pulled = ((None, fold.state.kill), (fold.model, view.kill if view else None))
    names = ("answer", "by", "at", "seq", "reason", "since")
    return [{"of": of} | {name: getattr(kill, name) for name in names} for of, kill in pulled if kill]


def _breakers(fold: _Fold) -> list[Answer]:
    """Where the baseline answered in place of the champion: `replica`, `release`, `cause`, `since`, `times`, `seq`."""
    view = fold.state.models.get(fold.model)
    return (
        [{"replica": replica} | asdict(breaker) for replica, breaker in sorted(view.breakers.items())] if view else []
    )


def _release(release: Release | None) -> Answer:
    if release is None:
        return {"digest": None, "threshold": None, "policy_digest": None}
    return {"digest": release.digest, "threshold": release.threshold, "policy_digest": release.policy_digest}


def _acknowledged(fold: _Fold) -> Answer | None:
    """The newest route that every replica had said it runs; None before the first.

    `seq` and `at` of that record, `version` (the record number up to which the route follows the ledger), `champion`,
    `challenger`, `share`, `killed`, `replicas`, and `in_step`: whether it is what was decided.
    """
    if fold.applied is None:
        return None
    data = fold.applied["data"]
    told = {name: data[name] for name in ("version", "champion", "challenger", "share", "replicas")}
    told["killed"] = data.get("killed", "")
    view = fold.state.models.get(fold.model)
    decided: tuple[Any, ...] = (None, None, 0.0)
    if view is not None:  # a challenger with no share is on no route
        decided = (view.champion, view.challenger if view.share > 0 else None, view.share)
    in_step = (*decided, fold.killed()) == tuple(told[name] for name in ("champion", "challenger", "share", "killed"))
    return {"seq": fold.applied["seq"], "at": fold.applied["at"], **told, "in_step": in_step}


def _people(fold: _Fold, release: str) -> list[Answer]:
    """What was done to bring the release there, in order: `did`, `by`, `role`, `seq`, `at`, `reason`."""
    told: list[Answer] = []
    for record in fold.moves.get(release, []):
        did = _WORDS.get(record["kind"])
        if record["kind"] == "ReviewDecided":
            did = {"approve": "approved", "reject": "rejected"}[record["data"]["decision"]]
        if record["kind"] == "RolloutStepped" and not any(step["did"] == "rollout_started" for step in told):
            did = "rollout_started"
        if did is not None:
            told.append({"did": did, **(_who(record) or {})})
    return told


def _who(record: Record | None) -> Answer | None:
    """`seq`, `at`, `kind`, `by`, `role`, `reason` of a record."""
    if record is None:
        return None
    actor = record["actor"]
    told = {
        "seq": record["seq"],
        "at": record["at"],
        "kind": record["kind"],
        "by": actor["name"],
        "role": actor["role"],
    }
    return told | {"reason": record["reason"]}
