"""Files of a dossier by name, with their descriptions in its README."""

from __future__ import annotations

SUMS, MISSING, README = "SHA256SUMS", "MISSING.md", "README.md"
CONTENTS = {
    "facts.jsonl": "every record about the release and those it rests on, one a line, exactly as stored",
    "proofs/": "for each of them a proof that leads to the checkpoint, named by the record's number",
    "checkpoint": "how many records the log held and the root of their Merkle tree, signed by the log's key",
    "vkey": "the public key of the log; compare it with the one from a source that you trust",
    "release.json": "the release as those records add up to: state, share, checks, approvals, every step",
    "findings.json": "each check of the policy: what it observed, the limit, whether it passed",
    "approvals.json": "who made the release, who was asked, who decided, and what a control refused",
    "judgements.json": "what the judge of the canary and the rollout saw at each step, and what followed",
    "data.json": "data set, code, environment, parameters and seed it was trained with; digests of its bundle",
    "policy.json": "the limits that were in force, in canonical form: its SHA-256 is the policy digest on record",
    "segments.json": "how many decisions the release gave, and the sealed segments that hold them",
    "report.html": "the validation report; its SHA-256 is the report digest on record",
    "bundle/FILES": "SHA-256 and name of each file of the bundle; its own SHA-256 is the bundle digest on record",
    "bundle/release.json": "the bundle's specification: features, thresholds, words of the reasons",
    "verify.py": "the verifier: one file to read and run; needs Python and `cryptography`, nothing of ours",
    MISSING: "what should be in this folder and is not, and why",
    SUMS: "SHA-256 of every other file, for `sha256sum -c`",
}
