"""Verb 3, register: fix the candidate's bytes, signature and fingerprint as a release. Records ReleaseRegistered."""

from __future__ import annotations

from training.tracking import Tracker
from training.train import Candidate
from validators.validate import Ledger


def register(candidate: Candidate, model: str, ledger: Ledger, tracker: Tracker) -> str:
    """Make the MLflow version, tagged and aliased `challenger`, then record it; the version.

    Raises:
        UnavailableError: MLflow failed; nothing is on record then.
    """
    version = tracker.register(model, candidate.run_id, candidate.release, candidate.written.digest)
    data = {"digest": candidate.written.digest, "mlflow_version": version, "fingerprint": candidate.fingerprint}
    ledger.append("ReleaseRegistered", release=candidate.release, data=data)
    return version
