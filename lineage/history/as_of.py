"""The release that answered for a model at an instant, and the actions that led to it, from the records up to then.

Pure. The answer has two parts: what the ledger had decided, and what every gateway replica had acknowledged
(`RouteApplied`). In between, some replicas may have used the newer route; sealed decisions name the release of each
answer.
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
#: Facts after which a digest never answers again, for any model.
BARRING = ("CandidateRejected", "CanaryAborted", "ReviewDecided", "RollbackOrdered")
#: Facts that pull and release a kill switch, of one model or of all.
KILLING = ("KillSwitchPulled", "KillSwitchReleased")
#: Facts that may change which release answers, and those that record which did.
DECIDING = (
    *("ModelTrained", "CandidateValidated", "CandidateRejected", "ReleaseRegistered", "CanaryStarted", "CanaryStepped"),
    *("CanaryAborted", "ReviewRequested", "ReviewDecided", "RolloutStepped", "ReleasePromoted", "ChampionRetired"),
    *("RollbackOrdered", "ReleaseRolledBack", "ChampionReinstated", "RouteApplied", "BreakerOpened", "BreakerClosed"),
    *KILLING,
)
_DID = {
    "CanaryStarted": "canary_started",
    "CanaryStepped": "share_raised",
    "RolloutStepped": "share_raised",
    "ReleasePromoted": "promoted",
    "ChampionReinstated": "reinstated",
    "RollbackOrdered": "rollback_ordered",
}


def moment(text: str, name: str = "at") -> datetime:
    """Parse an instant in RFC 3339; seconds may be left out.

    Raises:
        InvalidError: it is not one, or has no zone; `field` is `name`.
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
    """What answered for `model`, by every record with `at <= instant`, or by the first `seq` records.

    Args:
        records: in order; all, or at least those of kinds `DECIDING` about the model, the model's first, those of
            kinds `KILLING` about all models, those of kind RulesActivated, and those of kind ModelTrained and
            `BARRING` about releases of other models with the same bytes.
        model: name of the model.
        instant, seq: exactly one of them.
        now: latest valid instant.

    Returns:
        `model`, `asked`, `seq` (the last record of kinds `DECIDING` about the model or about all models by then, or
        None), `decided` (see `_decided`) and `acknowledged` (see `_acknowledged`).

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
    asked_time = stamp(instant) if instant is not None else None
    fold = _Fold(model)
    for record in records:
        if record["seq"] > seq if seq is not None else record["at"] > str(asked_time):
            _check_begun(
                fold, record, records, ("at", asked_time) if asked_time is not None else ("seq", f"record {seq}")
            )
            break
        fold.apply(record)
    if not fold.begun:
        raise UnknownError(f"there is no record about a model {model!r}; see `plimsoll releases`", field="model")
    asked = {"at": asked_time} if asked_time is not None else {"seq": seq}
    answer = {"decided": _decided(fold), "acknowledged": _acknowledged(fold)}
    return {"model": model, "asked": asked, "seq": fold.seq, **answer}


def _check_begun(fold: _Fold, after: Record, records: Sequence[Record], asked_time: tuple[str, str]) -> None:
    """Raise an error that names the model's first record, if that came later."""
    if fold.begun:
        return
    first = next((r for r in records if r["model"] == fold.model and r["seq"] >= after["seq"]), None)
    if first is not None:
        begins = f"its first record is {first['seq']}, at {first['at']}"
        raise InvalidError(
            f"nothing was on record about {fold.model} at {asked_time[1]}; {begins}", field=asked_time[0]
        )


@dataclass
class _Fold:
    """The ledger's state of one model, and the records that moved it."""

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

    def apply(self, record: Record) -> None:
        """Apply the next record."""
        if record["kind"] == "RulesActivated":
            self.state.apply(record)
            return
        about_all = record["model"] is None and record["kind"] in KILLING
        if record["model"] != self.model and not about_all:
            self._apply_other_model(record)
            return
        self.begun |= not about_all
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
        """The answer under the kill switches: `nothing`, `baseline`, or an empty text if none is pulled."""
        view = self.state.models.get(self.model)
        return stricter([self.state.kill, view.kill if view else None])

    def _apply_other_model(self, record: Record) -> None:
        # Bytes that were barred as a release of another model are barred here too.
        kind, release = record["kind"], record["release"]
        if kind == "ModelTrained":
            self.digests[release] = record["data"]["digest"]
        elif kind in BARRING and record["data"].get("decision") != "approve" and release in self.digests:
            self.state.bar(self.digests[release], release)

    def _position(self) -> tuple[Any, ...]:
        view = self.state.models.get(self.model)
        return (view.champion, view.mode, view.challenger, view.share) if view else (None, "baseline", None, 0.0)


def _decided(fold: _Fold) -> Answer:
    """The part of the answer that the ledger had decided.

    `mode` (normal, baseline, or killed by a person), `killed` (what answered then: baseline or nothing; else empty),
    `release` (None where the baseline or nothing answers), `baseline_of` (whose bundle's baseline answers then),
    `digest` of the bundle that answers, `threshold` (None for a baseline: its cut-off stands in the bundle), `policy`
    and `policy_digest` of that release, `people` (see `_people`), `by` (the record that led to it), `kills` and
    `breakers` (see `_kills` and `_breakers`) and `challenger` (None, also while killed, or release, digest, threshold,
    policy_digest, share, state, people, by).
    """
    view, killed = fold.state.models.get(fold.model), fold.killed()
    name = (view.champion if view else None) or ""
    champion = fold.state.releases.get(name if not killed else "")
    answers = champion or fold.state.releases.get((view.baseline_from if view else None) or "")
    answers = answers if killed != "nothing" else None
    answer: Answer = {"mode": "killed" if killed else view.mode if view else "baseline", "killed": killed}
    answer["release"] = champion.release if champion else None
    answer["baseline_of"] = answers.release if answers and not champion else None
    answer |= _release(answers)
    answer["threshold"] = champion.threshold if champion else None
    answer["policy"] = answers.policy if answers else None
    answer["people"] = _people(fold, champion.release) if champion else []
    answer["by"] = _act(fold.killed_by if killed else fold.champion_by)
    answer |= {"kills": _kills(fold), "breakers": _breakers(fold), "challenger": None}
    if view is not None and view.challenger is not None and not killed:
        challenger = fold.state.releases[view.challenger]
        answer["challenger"] = {"release": challenger.release, "share": view.share, "state": str(challenger.state)}
        answer["challenger"] |= _release(challenger) | {"people": _people(fold, challenger.release)}
        answer["challenger"]["by"] = _act(fold.share_by)
    return answer


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
    """The newest route that every replica had acknowledged; None before the first.

    `seq` and `at` of that record, `version` (the record number up to which the route follows the ledger), `champion`,
    `challenger`, `share`, `killed`, `replicas`, and `in_step`: whether it equals what was decided.
    """
    if fold.applied is None:
        return None
    data = fold.applied["data"]
    answer = {name: data[name] for name in ("version", "champion", "challenger", "share", "replicas")}
    answer["killed"] = data.get("killed", "")
    view = fold.state.models.get(fold.model)
    decided: tuple[Any, ...] = (None, None, 0.0)
    if view is not None:  # a challenger with no share is on no route
        decided = (view.champion, view.challenger if view.share > 0 else None, view.share)
    in_step = (*decided, fold.killed()) == tuple(answer[name] for name in ("champion", "challenger", "share", "killed"))
    return {"seq": fold.applied["seq"], "at": fold.applied["at"], **answer, "in_step": in_step}


def _people(fold: _Fold, release: str) -> list[Answer]:
    """The actions that moved the release, in order: `did`, `by`, `role`, `seq`, `at`, `reason`."""
    answer: list[Answer] = []
    for record in fold.moves.get(release, []):
        did = _DID.get(record["kind"])
        if record["kind"] == "ReviewDecided":
            did = {"approve": "approved", "reject": "rejected"}[record["data"]["decision"]]
        if record["kind"] == "RolloutStepped" and not any(step["did"] == "rollout_started" for step in answer):
            did = "rollout_started"
        if did is not None:
            answer.append({"did": did, **(_act(record) or {})})
    return answer


def _act(record: Record | None) -> Answer | None:
    """`seq`, `at`, `kind`, `by`, `role`, `reason` of a record."""
    if record is None:
        return None
    actor = record["actor"]
    answer = {
        "seq": record["seq"],
        "at": record["at"],
        "kind": record["kind"],
        "by": actor["name"],
        "role": actor["role"],
    }
    return answer | {"reason": record["reason"]}
