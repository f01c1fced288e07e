"""PL004: the bundle holds the bytes that were trained and signed, and they still give the same answers."""

from __future__ import annotations

from typing import ClassVar

import polars as pl
from pydantic import Field

from lineage.digest import digest_folder
from lineage.errors import TamperedError
from lineage.signing import verify
from validators.check import Finding, Limits
from validators.evidence import Evidence
from validators.scoring.bundle import GOLDEN_FILE, REFERENCE_FILE, SPEC_FILE, load_bundle
from validators.scoring.golden import replay_golden


class ArtefactLimits(Limits):
    """How many golden and reference rows a bundle must hold."""

    minimum_golden_rows: int = Field(default=32, ge=1, le=10_000)
    minimum_reference_rows: int = Field(default=500, ge=50, le=5_000)


class ArtefactCompleteAndSigned:
    """The release bundle itself: complete, unchanged, signed, and answering bit for bit.

    Purpose:
        What was validated must be what will answer. A release is its bytes: nothing may be missing, added or changed
        between training, validation and serving.
    Test mechanism:
        Every file the release names is looked for; the folder's digest is taken again and compared with the one on
        record; the OpenSSF model-signing signature is verified with the platform's key; the bundle is loaded fresh
        and its golden rows are answered again, where each score must have the same bits and each decision must be
        the same.
    Signs of high risk:
        A digest that differs, a signature that does not verify, or a golden row with another answer, which on
        unchanged bytes points at another library or processor.
    Strengths:
        Exact: there is no tolerance that a change could hide in.
    Limitations:
        Proves which bytes these are and who signed them, not that the model is good. Trust rests on the key.
    """

    code: ClassVar[str] = "PL004"
    title: ClassVar[str] = "Bundle complete, unchanged, signed and reproducible"
    limits: ClassVar[type[Limits]] = ArtefactLimits

    def examine(self, evidence: Evidence, limits: ArtefactLimits) -> list[Finding]:
        """Findings on files, digest, signature, golden rows and reference. Bytes that failed a check are not parsed."""
        findings = [_files(evidence), _digest(evidence), _signature(evidence)]
        if all(finding.ok for finding in findings):
            findings += [_golden(evidence, limits), _reference(evidence, limits)]
        return findings


def _files(evidence: Evidence) -> Finding:
    spec = evidence.bundle.spec
    wanted = [SPEC_FILE, GOLDEN_FILE, REFERENCE_FILE, spec.artefact, spec.baseline.artefact]
    missing = [name for name in wanted if not (evidence.folder / name).is_file()]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(wanted)
    return Finding("files missing", len(missing), 0, "<=", ok=not missing, n=len(wanted), detail=detail)


def _digest(evidence: Evidence) -> Finding:
    now = digest_folder(evidence.folder)
    same = now == evidence.digest and evidence.folder.name == now.removeprefix("sha256:")
    detail = now if same else f"recorded {evidence.digest}, folder {evidence.folder.name}, now {now}"
    return Finding("digest as recorded", float(same), 1, "==", ok=same, n=1, detail=detail)


def _signature(evidence: Evidence) -> Finding:
    try:
        verify(evidence.folder, evidence.settings)
    except TamperedError as error:
        return Finding("signature verifies", 0, 1, "==", ok=False, n=1, detail=error.message)
    return Finding("signature verifies", 1, 1, "==", ok=True, n=1, detail="OpenSSF model-signing, ECDSA P-256")


def _golden(evidence: Evidence, limits: ArtefactLimits) -> Finding:
    replay = replay_golden(load_bundle(evidence.folder))
    enough = replay.count >= limits.minimum_golden_rows
    detail = f"{replay.matched} of {replay.count} rows came out bit for bit"
    if not enough:
        detail += f"; at least {limits.minimum_golden_rows} are needed"
    return Finding(
        "golden rows reproduced",
        replay.matched,
        max(replay.count, limits.minimum_golden_rows),
        "==",
        ok=replay.ok and enough,
        n=replay.count,
        detail=detail,
    )


def _reference(evidence: Evidence, limits: ArtefactLimits) -> Finding:
    frame = pl.read_parquet(evidence.folder / REFERENCE_FILE)
    missing = [name for name in (*evidence.bundle.feature_names, "score") if name not in frame.columns]
    ok = not missing and frame.height >= limits.minimum_reference_rows
    detail = f"missing columns: {', '.join(missing)}" if missing else "every feature and the score, for drift"
    return Finding(
        "reference rows", frame.height, limits.minimum_reference_rows, ">=", ok=ok, n=frame.height, detail=detail
    )


check = ArtefactCompleteAndSigned()
