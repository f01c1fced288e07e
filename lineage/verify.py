"""Verification of a ledger: stored records, hash chain, legality of each fact, and the bytes that facts name.

Read-only; the service may be running or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lineage.bundle_facts import SPEC_FILE, check_agreement, parse_statement
from lineage.completeness import Numbers, Reconciliation
from lineage.digest import digest_files, read_folder
from lineage.errors import PlimsollError, TamperedError
from lineage.log.handover import LogKeys
from lineage.log.merkle import EMPTY_ROOT, Tree
from lineage.log.reader import Chain, verifier_in
from lineage.log.signed_note import Verifier
from lineage.log.signing_key import verifier_at
from lineage.rules.draft import check_record
from lineage.segments import content_of, numbers_in, place_of, rows_of
from lineage.settings import Settings
from lineage.signing import verify as verify_signature
from lineage.state.entities import Release
from lineage.state.fold import LedgerState
from lineage.state.keys import KeyRing

#: Since this era a registered bundle without a readable `release.json` is a problem; earlier ones were not looked at.
_STATEMENT_REQUIRED = 3
#: Record, era and release of every registration.
Bundles = list[tuple[int, int, Release]]


@dataclass
class Verification:
    """Result of a verification. `ok` is true only if there was at least one record and no problem.

    Attributes:
        checkpoint: records that the checkpoint counts.
        answers: numbered answers that the segments state.
        beyond: records after the checkpoint, as after a crash or while the log grows.
        cosigned: records that the kept copy of the witness's newest checkpoint counts; 0 if there is none.
        pinned: whether the log's key came from another place than the log itself.
        problems: `{"record", "problem"}` each.
    """

    records: int = 0
    root: str = EMPTY_ROOT.hex()
    checkpoint: int = 0
    beyond: int = 0
    cosigned: int = 0
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
    bundles: Bundles = []
    try:
        keys = _log(settings, bundles, result)
    except PlimsollError as error:  # nothing after a broken link can be verified
        number = error.detail.get("record", result.records + 1)
        result.problems.append({"record": number, "problem": error.message})
        return result
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"it cannot be what was recorded: {error!r}"
        result.problems.append({"record": result.records + 1, "problem": problem})
        return result
    for seq, era, release in bundles:
        _bundle(settings, seq, era, release, release.signature_key if keys.of("bundle") else None, result)
    if not result.records:
        result.problems.append({"record": 0, "problem": f"there is no log under {settings.log_folder}"})
    return result


def _log(settings: Settings, bundles: Bundles, result: Verification) -> KeyRing:
    pinned = verifier_at(settings.log_key)
    verifier = pinned or verifier_in(settings.log_folder)
    result.pinned, result.log = pinned is not None, verifier.name if verifier else None
    note = _read_cosigned(settings)  # before the lines: the log may grow meanwhile
    whole, state, complete = Chain(settings.log_folder, verifier), LedgerState(), Reconciliation()
    result.checkpoint = whole.acknowledged
    for entry in whole:
        record = entry.record
        check_record(record, state)
        state.apply(record)
        result.records = record["seq"]
        _check_named_bytes(record, state, settings, bundles, result, complete)
    result.answers = complete.answers
    result.problems += [{"record": one.record, "problem": one.text} for one in complete.problems()]
    result.root, result.beyond = whole.tree.root().hex(), max(0, result.records - result.checkpoint)
    if note is not None and whole.keys is not None:
        _check_cosigned(note, whole.keys, whole.tree, settings, result)
    return state.keys


def _read_cosigned(settings: Settings) -> bytes | None:
    """The kept copy of the newest cosigned checkpoint, unchecked; None if there is none."""
    try:
        return settings.cosigned.read_bytes()
    except FileNotFoundError:
        return None


def _check_cosigned(note: bytes, own: LogKeys, tree: Tree, settings: Settings, result: Verification) -> None:
    """Check that the log continues the kept cosigned checkpoint, and that the pinned witness signed it."""
    try:
        head = own.open(note)
        pin = settings.witness_pin
        if pin.exists():
            Verifier.parse(pin.read_text()).check(note)
    except (OSError, ValueError) as error:  # NoteError, or not UTF-8
        raise TamperedError(f"cosigned is not what the witness signed: {error}", record=0) from error
    result.cosigned = head.size
    if head.size > len(tree):
        gone = f"the witness cosigned {head.size} records; from record {len(tree) + 1} on they are gone"
        raise TamperedError(gone, record=len(tree) + 1)
    if tree.root(head.size) != head.root:
        raise TamperedError(f"the first {head.size} records are not those that the witness cosigned", record=0)


def _check_named_bytes(
    record: dict[str, Any],
    state: LedgerState,
    settings: Settings,
    bundles: Bundles,
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
        bundles.append((record["seq"], state.era, state.releases[record["release"]]))


def _segment(settings: Settings, record: dict[str, Any], result: Verification) -> Numbers | None:
    """The numbers in a segment by writer; None, with a problem, where it cannot be read."""
    result.segments += 1
    place = place_of(record)
    try:
        return numbers_in(rows_of(content_of(settings.root, place, record["model"]), place.segment))
    except PlimsollError as error:
        result.problems.append({"record": record["seq"], "problem": error.message})
        return None


def _bundle(settings: Settings, seq: int, era: int, release: Release, key_id: str | None, result: Verification) -> None:
    folder = settings.artefacts / release.digest.removeprefix("sha256:")
    result.bundles += 1
    try:
        files = read_folder(folder)
        if digest_files(folder.name, files) != release.digest:
            raise TamperedError(f"bundle {release.digest[:19]}… is not what was registered")
        verify_signature(folder, settings, key_id=key_id)
        _check_statement(folder.name, files.get(SPEC_FILE, b""), era, release)
    except PlimsollError as error:
        result.problems.append({"record": seq, "problem": f"{release.release}: {error.message}"})


def _check_statement(name: str, content: bytes, era: int, release: Release) -> None:
    try:
        said = parse_statement(name, content)
    except TamperedError:
        if era >= _STATEMENT_REQUIRED:
            raise
        return  # such a bundle is loaded nowhere
    check_agreement(name, said, release.statement)
