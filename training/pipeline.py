"""From a model folder to a registered release: pin, train, validate, register.

    python -m training.pipeline examples/credit_default
    ray job submit --working-dir . -- python -m training.pipeline examples/credit_default

Exit status: 0 registered, 1 a resource failed (Ray, MLflow, ledger, disk), 2 invalid input, 3 rejected by a check or
refused by the ledger, also where the run gave the bytes of a release that exists already ("unchanged"). The last line
names the release and, where it was rejected, why.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineage.errors import InvalidError, RefusedError, UnavailableError
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from plimsoll import errors as ledger_errors
from plimsoll.ledger import Ledger
from training.progress import Progress
from training.register import register
from training.spec import Spec, load_spec
from training.tracking import Tracker
from training.train import Candidate, Options, train
from validators.check_runner import CheckResult
from validators.evidence import Evidence
from validators.validate import Verdict, champion_of, open_candidate, validate

REGISTERED, UNAVAILABLE, INVALID, REJECTED = 0, 1, 2, 3


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    release: str
    digest: str
    verdict: Verdict
    mlflow_version: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The last line with --json."""
        return {
            "release": self.release,
            "digest": self.digest,
            "status": "registered" if self.verdict.passed else "rejected",
            "failed": self.verdict.failed,
            "report": str(self.verdict.report),
            "mlflow_version": self.mlflow_version,
            "seconds": round(self.seconds, 1),
        }


def run(spec: Spec, options: Options, settings: Settings, ledger: Ledger, progress: Progress) -> Outcome:
    """Take one candidate from data to a registered release or a recorded rejection."""
    started = time.perf_counter()
    progress.write(f"{spec.model.name}: {spec.model.title}; author {options.author}, seed {options.seed}")
    with Tracker(settings) as tracker:
        candidate = train(spec, options, settings, ledger, tracker, progress)
        with progress.step("validate") as notes:
            verdict = validate_candidate(spec, candidate, options.author, settings, ledger, progress)
            notes.append(f"{len(verdict.results) - len(verdict.failed)} of {len(verdict.results)} checks passed")
        version = None
        if verdict.passed:
            with progress.step("register") as notes:
                version = register(candidate, spec.model.name, ledger, tracker)
                notes.append(f"MLflow {spec.model.name} version {version}, alias challenger")
    return Outcome(candidate.release, candidate.written.digest, verdict, version, time.perf_counter() - started)


def validate_candidate(
    spec: Spec, candidate: Candidate, author: str, settings: Settings, ledger: Ledger, progress: Progress
) -> Verdict:
    """Gather the evidence and run the checks. Opens the spec; what it calls takes values."""
    champion = champion_of(spec.model.name, ledger, settings)
    evidence = Evidence(
        bundle=open_candidate(candidate.written.digest, settings),
        digest=candidate.written.digest,
        holdout=candidate.holdout,
        label=spec.data.label,
        protected=spec.data.protected,
        identifiers=spec.data.identifiers,
        settings=settings,
        champion=champion[1] if champion else None,
        champion_release=champion[0] if champion else None,
    )
    about = {
        "Purpose": spec.model.purpose,
        "Owner": f"{spec.model.owner}, tier {spec.model.tier}, {', '.join(spec.model.jurisdictions)}",
        "Author": author,
        "Label": spec.data.label_means,
        "Signature": f"OpenSSF model-signing, key {candidate.written.signature_key}",
        "Fingerprint": candidate.fingerprint,
        "MLflow run": candidate.run_id,
    }

    def show(result: CheckResult) -> None:
        progress.write(f"  {result.code} {result.status:<13} {result.seconds:5.1f} s  {result.title}")
        for finding in result.findings:
            if not finding.ok:
                progress.write(f"        {finding.name}: {finding.detail}")

    return validate(candidate.release, evidence, candidate.policy, ledger, about, show)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's text."""
    close_to_others()
    given = _parser().parse_args(arguments)
    progress = Progress(sys.stderr if given.json else sys.stdout)
    try:
        settings = Settings()
        spec = load_spec(given.folder)
        options = _options(given, spec)
        ledger = Ledger(settings.ledger_url, settings.token("trainer"), timeout=30.0)
        outcome = run(spec, options, settings, ledger, progress)
    except (InvalidError, ledger_errors.Invalid) as error:
        return _stopped(given, progress, INVALID, "invalid", error)
    except (RefusedError, ledger_errors.Refused) as error:
        word = "unchanged" if error.code == "same_bytes" else "refused"
        return _stopped(given, progress, REJECTED, word, error)
    except (UnavailableError, ledger_errors.Unavailable) as error:
        return _stopped(given, progress, UNAVAILABLE, "failed", error)
    if given.json:
        sys.stdout.write(json.dumps(outcome.to_dict()) + "\n")
    failed = ", ".join(outcome.verdict.failed)
    end = "registered" if outcome.verdict.passed else f"rejected by {failed}"
    progress.write(f"report {outcome.verdict.report}")
    progress.write(f"{outcome.release} {end} after {outcome.seconds:.1f} s")
    return REGISTERED if outcome.verdict.passed else REJECTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.pipeline", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="the model folder, with model.toml")
    parser.add_argument("--trials", type=int, help="sets of parameters to try (default: model.toml)")
    parser.add_argument("--seed", type=int, help="seed of search and fit (default: model.toml, plus --request)")
    parser.add_argument("--author", help="the author on record (default: the user of this process)")
    parser.add_argument("--request", type=int, help="the RetrainRequested record this run answers")
    parser.add_argument("--fault", choices=["inverted_labels"], help="plant a fault in the data, for drills")
    parser.add_argument(
        "--shape",
        choices=["search", "quick", "deep"],
        default="search",
        help="search parameters, or train one fixed set",
    )
    parser.add_argument("--json", action="store_true", help="progress to stderr, the outcome as JSON to stdout")
    return parser


def _options(given: argparse.Namespace, spec: Spec) -> Options:
    trials = spec.training.trials if given.trials is None else given.trials
    if not 1 <= trials <= 10_000:
        raise InvalidError(f"--trials is {trials}; expected 1 to 10000", field="trials")
    # The request is part of the seed: a retraining gives other bytes than the release it replaces, and can be repeated.
    seed = spec.training.seed + (given.request or 0) if given.seed is None else given.seed
    if not 0 <= seed < 2**31:
        raise InvalidError(f"--seed is {seed}; expected 0 to {2**31 - 1}", field="seed")
    return Options(given.author or getpass.getuser(), seed, trials, given.shape, given.fault, given.request)


def _stopped(given: argparse.Namespace, progress: Progress, status: int, word: str, error: Any) -> int:
    if given.json:
        sys.stdout.write(json.dumps({"status": word, "error": error.message, "field": error.field}) + "\n")
    progress.write(f"{word}: {error.message}")
    return status


if __name__ == "__main__":
    sys.exit(main())
