"""Verb 3, register: fix the candidate's bytes, signature and fingerprint as a release. Records ReleaseRegistered."""

from __future__ import annotations

from pathlib import Path

from lineage.bundle_facts import SPEC_FILE, check_agreement, parse_statement
from lineage.digest import digest_files, read_folder
from lineage.errors import InvalidError, TamperedError
from lineage.state.entities import Release
from lineage.state.views import release_view
from training.tracking import Tracker
from training.train import Candidate
from validators.validate import Ledger


def register(candidate: Candidate, model: str, ledger: Ledger, tracker: Tracker) -> str:
    """Make the MLflow version, tagged and aliased `challenger`, then record it; the version.

    Raises:
        UnavailableError: MLflow failed or the bundle cannot be read; nothing is on record then.
        TamperedError: the bundle says other things than the facts; `field` names what differs.
    """
    check_bundle(candidate.written.folder, release_view(ledger.release(candidate.release)))
    version = tracker.register(model, candidate.run_id, candidate.release, candidate.written.digest)
    data = {"digest": candidate.written.digest, "mlflow_version": version, "fingerprint": candidate.fingerprint}
    ledger.append("ReleaseRegistered", release=candidate.release, data=data)
    return version


def check_bundle(folder: Path, release: Release) -> None:
    """Check that the bundle on disk has the digest on record and says what the facts say about the release.

    Raises:
        UnavailableError: it cannot be read.
        TamperedError: it is another one, or says other things; `field` names what differs.
    """
    try:
        files = read_folder(folder)
        digest = digest_files(folder.name, files)
    except InvalidError as error:
        raise TamperedError(f"bundle {folder.name[:12]}: {error.message}", field="digest") from error
    if digest != release.digest:
        raise TamperedError(
            f"the bundle of {release.release} has digest {digest[:19]}…, but {release.digest[:19]}… is on record; "
            "train the release again",
            field="digest",
        )
    check_agreement(folder.name, parse_statement(folder.name, files.get(SPEC_FILE, b"")), release.statement)
