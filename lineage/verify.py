"""Verification of a ledger: stored records, hash chain, legality of each fact, and the bytes that facts name.

Read-only; the service may be running or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lineage.completeness import Numbers, Reconciliation
from lineage.digest import digest_folder
from lineage.errors import PlimsollError, TamperedError
from lineage.log.merkle import EMPTY_ROOT
from lineage.log.reader import Chain, verifier_in
from lineage.log.signing_key import verifier_at
from lineage.rules.draft import check_record
from lineage.segments import content_of, numbers_in, place_of, rows_of
from lineage.settings import Settings
from lineage.signing import verify as verify_signature
from lineage.state.fold import LedgerState


@dataclass
class Verification:
    """Result of a verification. `ok` is true only if there was at least one record and no problem.

    Attributes:
        checkpoint: records that the checkpoint counts.
        answers: numbered answers that the segments state.
        beyond: records after the checkpoint, as after a crash or while the log grows.
        pinned: whether the log's key came from another place than the log itself.
        problems: `{"record", "problem"}` each.
    """

    records: int = 0
    root: str = EMPTY_ROOT.hex()
    checkpoint: int = 0
    beyond: int = 0
    log: str | None = None
    pinned: bool = False
    segments: int = 0
    answers: int = 0
    bundles: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.records > 0 and not self.problems

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def verify_ledger(settings: Settings) -> Verification:
    """Verify the log under `settings`, the decision segments and the bundles it names."""
    result = Verification()
    bundles: dict[str, int] = {}
    try:
        _log(settings, bundles, result)
    except PlimsollError as error:  # nothing after a broken link can be verified
        number = error.detail.get("record", result.records + 1)
        result.problems.append({"record": number, "problem": error.message})
        return result
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"it cannot be what was recorded: {error!r}"
        result.problems.append({"record": result.records + 1, "problem": problem})
        return result
    for digest, seq in bundles.items():
        _bundle(settings, digest, seq, result)
    if not result.records:
        result.problems.append({"record": 0, "problem": f"there is no log under {settings.log_folder}"})
    return result


def _log(settings: Settings, bundles: dict[str, int], result: Verification) -> None:
    pinned = verifier_at(settings.log_key)
    verifier = pinned or verifier_in(settings.log_folder)
    result.pinned, result.log = pinned is not None, verifier.name if verifier else None
    whole, state, complete = Chain(settings.log_folder, verifier), LedgerState(), Reconciliation()
    result.checkpoint = whole.acknowledged
    for entry in whole:
        record = entry.record
        check_record(record, state)
        state.apply(record)
        result.records = record["seq"]
        _check_named_bytes(record, settings, bundles, result, complete)
    result.answers = complete.answers
    result.problems += [{"record": one.record, "problem": one.text} for one in complete.problems()]
    result.root, result.beyond = whole.tree.root().hex(), max(0, result.records - result.checkpoint)


def _check_named_bytes(
    record: dict[str, Any],
    settings: Settings,
    bundles: dict[str, int],
    result: Verification,
    complete: Reconciliation,
) -> None:
    if record["kind"] == "DecisionsSealed":
        rows = _segment(settings, record, result)
        data = record["data"]
        complete.sealed(record["seq"], record["model"], data["segment"], data.get("answers"), rows)
    elif record["kind"] == "AnswersClosed":
        complete.closed(record["seq"], record["data"]["writer"], record["data"]["answers"])
    elif record["kind"] == "ReleaseRegistered":
        bundles[record["data"]["digest"]] = record["seq"]


def _segment(settings: Settings, record: dict[str, Any], result: Verification) -> Numbers | None:
    """The numbers in a segment by writer; None, with a problem, where it cannot be read."""
    result.segments += 1
    place = place_of(record)
    try:
        return numbers_in(rows_of(content_of(settings.root, place, record["model"]), place.segment))
    except PlimsollError as error:
        result.problems.append({"record": record["seq"], "problem": error.message})
        return None


def _bundle(settings: Settings, digest: str, seq: int, result: Verification) -> None:
    folder = settings.artefacts / digest.removeprefix("sha256:")
    result.bundles += 1
    try:
        if digest_folder(folder) != digest:
            raise TamperedError(f"bundle {digest[:19]}… is not what was registered")
        verify_signature(folder, settings)
    except PlimsollError as error:
        result.problems.append({"record": seq, "problem": error.message})
