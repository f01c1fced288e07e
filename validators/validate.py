"""Verb 2, validate: run the checks that the policy names and record whether the candidate may be registered.

- Any check that did not pass rejects the candidate.
- Every check is recorded as it ends; the verdict is recorded last, with the digest of the report.
- The champion on record is part of the evidence: if its bytes cannot be verified, nothing is validated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lineage.digest import digest_file, digest_files, read_folder
from lineage.errors import InvalidError, TamperedError
from lineage.policy import Policy
from lineage.settings import Settings
from lineage.state.views import model_view, release_view
from validators.check import Check, Limits
from validators.check_runner import CheckResult, run_check
from validators.checks.group_fairness import FairnessLimits, disparities
from validators.evidence import Evidence
from validators.plugins import CHECKS
from validators.policy import limits_of
from validators.report import Report, write_report
from validators.scoring.bundle import Bundle, parse_bundle
from validators.scoring.verified_read import load_verified


class Ledger(Protocol):
    """The part of the ledger client that training and validation need (`plimsoll.ledger.Ledger`)."""

    def append(
        self,
        kind: str,
        *,
        data: dict[str, Any],
        model: str | None = None,
        release: str | None = None,
    ) -> dict[str, Any]:
        """Append one fact and return its record."""

    def model(self, model: str) -> dict[str, Any]:
        """One model of the fold."""

    def release(self, release: str) -> dict[str, Any]:
        """One release of the fold."""


@dataclass(frozen=True)
class Verdict:
    """The outcome: results in the order of the policy, and the path of the report."""

    release: str
    results: tuple[CheckResult, ...]
    report: Path
    report_digest: str

    @property
    def passed(self) -> bool:
        """True when at least one check ran and every check passed."""
        return bool(self.results) and all(result.status == "pass" for result in self.results)

    @property
    def failed(self) -> list[str]:
        """The names of the checks that did not pass."""
        return [result.check for result in self.results if result.status != "pass"]


def validate(
    release: str,
    evidence: Evidence,
    policy: Policy,
    ledger: Ledger,
    about: dict[str, Any],
    on_result: Callable[[CheckResult], None] = lambda _: None,
) -> Verdict:
    """Run the checks on a candidate and record the outcome.

    Args:
        about: facts on the candidate for the report: data set, digests, author.
        on_result: called with each result as it ends.

    Raises:
        UnknownError: the policy names a check that is not installed.
        plimsoll.errors.Error: the ledger did not take a fact; the candidate is not validated then.
    """
    digest, limits = policy.digest, limits_of(policy)
    found: dict[str, Check] = {name: CHECKS.load(name) for name in policy.validation.checks}
    results = []
    for name, check in found.items():
        result = run_check(name, check, evidence, limits[name])
        ledger.append("CheckCompleted", release=release, data=result.to_dict() | {"policy_digest": digest})
        results.append(result)
        on_result(result)
    _record_fairness(release, evidence, limits.get("group_fairness"), ledger)
    report = Report(release, tuple(results), evidence, policy, about)
    path = write_report(report, evidence.settings.reports)
    verdict = Verdict(release, tuple(results), path, digest_file(path))
    if verdict.passed:
        data: dict[str, Any] = {"checks": [result.check for result in results]}
        ledger.append("CandidateValidated", release=release, data=data | {"report_digest": verdict.report_digest})
    else:
        data = {"failed": verdict.failed or ["no checks"], "report_digest": verdict.report_digest}
        ledger.append("CandidateRejected", release=release, data=data)
    return verdict


def _record_fairness(release: str, evidence: Evidence, limits: Limits | None, ledger: Ledger) -> None:
    if not isinstance(limits, FairnessLimits) or not set(limits.attributes) <= set(evidence.holdout.columns):
        return  # the policy does not want it, or the check has reported the missing evidence
    for disparity in disparities(evidence, limits):
        ledger.append("FairnessMeasured", model=evidence.bundle.name, data=disparity.to_dict(release, "validation"))


def champion_of(model: str, ledger: Ledger, settings: Settings) -> tuple[str, Bundle] | None:
    """The release that answers now, verified and loaded; None before the first promotion.

    Raises:
        TamperedError: its bytes are not those on record.
        UnavailableError: its bundle is not here.
    """
    name = model_view(ledger.model(model)).champion
    if name is None:
        return None
    recorded = release_view(ledger.release(name)).digest
    return name, load_verified(settings.artefacts / recorded.removeprefix("sha256:"), recorded, settings)


def open_candidate(digest: str, settings: Settings) -> Bundle:
    """The candidate's bundle, parsed from the bytes whose digest was taken. A check verifies its signature.

    Raises:
        InvalidError: this is no digest, or the folder holds other things than files.
        UnavailableError: the bundle is not here.
        TamperedError: the folder does not have that digest.
    """
    if not digest.startswith("sha256:"):
        raise InvalidError(f"digest is {digest!r}; expected sha256: and 64 hexadecimal digits", field="digest")
    folder = settings.artefacts / digest.removeprefix("sha256:")
    files = read_folder(folder)
    if digest_files(folder.name, files) != digest:
        raise TamperedError(f"bundle {folder.name[:12]} is not the bytes on record; train again")
    return parse_bundle(folder, files)
