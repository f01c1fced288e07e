"""Verification of a ledger: stored records, hash chain, legality of each fact, and the bytes that facts name.

Read-only; the service may be running or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lineage.bundle_facts import SPEC_FILE, check_agreement, parse_statement
from lineage.digest import digest_file, digest_files, read_folder
from lineage.errors import PlimsollError, TamperedError
from lineage.log.merkle import EMPTY_ROOT
from lineage.log.reader import Chain, verifier_in
from lineage.log.signing_key import verifier_at
from lineage.rules.draft import check_record
from lineage.settings import Settings
from lineage.signing import signature_of, verify_files
from lineage.state.entities import Release
from lineage.state.fold import LedgerState

#: Since this era a registered bundle without a readable `release.json` is a problem; earlier ones were not looked at.
_STATEMENT_REQUIRED = 3
#: Record, era and release of every registration.
Bundles = list[tuple[int, int, Release]]


@dataclass
class Verification:
    """Result of a verification. `ok` is true only if there was at least one record and no problem.

    Attributes:
        checkpoint: records that the checkpoint counts.
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
        _log(settings, bundles, result)
    except PlimsollError as error:  # nothing after a broken link can be verified
        number = error.detail.get("record", result.records + 1)
        result.problems.append({"record": number, "problem": error.message})
        return result
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"it cannot be what was recorded: {error!r}"
        result.problems.append({"record": result.records + 1, "problem": problem})
        return result
    for seq, era, release in bundles:
        _bundle(settings, seq, era, release, result)
    if not result.records:
        result.problems.append({"record": 0, "problem": f"there is no log under {settings.log_folder}"})
    return result


def _log(settings: Settings, bundles: Bundles, result: Verification) -> None:
    pinned = verifier_at(settings.log_key)
    verifier = pinned or verifier_in(settings.log_folder)
    result.pinned, result.log = pinned is not None, verifier.name if verifier else None
    whole, state = Chain(settings.log_folder, verifier), LedgerState()
    result.checkpoint = whole.acknowledged
    for entry in whole:
        record = entry.record
        check_record(record, state)
        state.apply(record)
        result.records = record["seq"]
        _check_named_bytes(record, state, settings, bundles, result)
    result.root, result.beyond = whole.tree.root().hex(), max(0, result.records - result.checkpoint)


def _check_named_bytes(
    record: dict[str, Any], state: LedgerState, settings: Settings, bundles: Bundles, result: Verification
) -> None:
    if record["kind"] == "DecisionsSealed":
        _segment(settings.root / record["data"]["uri"], record, result)
    elif record["kind"] == "ReleaseRegistered":
        bundles.append((record["seq"], state.era, state.releases[record["release"]]))


def _segment(path: Path, record: dict[str, Any], result: Verification) -> None:
    result.segments += 1
    try:
        if digest_file(path) != record["data"]["digest"]:
            raise TamperedError(f"decision segment {record['data']['segment']} is not what was sealed")
    except PlimsollError as error:
        result.problems.append({"record": record["seq"], "problem": error.message})


def _bundle(settings: Settings, seq: int, era: int, release: Release, result: Verification) -> None:
    folder = settings.artefacts / release.digest.removeprefix("sha256:")
    result.bundles += 1
    try:
        files = read_folder(folder)
        if digest_files(folder.name, files) != release.digest:
            raise TamperedError(f"bundle {release.digest[:19]}… is not what was registered")
        verify_files(folder.name, files, signature_of(folder), settings)
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
