"""The dossier of a release: everything on record about it in one folder, with its proofs and the verifier.

It covers the first `upto` records of the log, and its checkpoint signs their root. By default `upto` is the newest
record about the release, so that the same bytes are made again until there is a new record about it. Signatures are
Ed25519 and therefore repeat; no clock is read.

Rows of customers are left out, as the README states. Files that are missing or do not have their recorded digest are
named in MISSING.md.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from lineage.digest import canonical, digest_bytes, digest_file, digest_folder
from lineage.errors import PlimsollError, TamperedError, UnavailableError, UnknownError
from lineage.facts.registry import FACTS, subject_of
from lineage.history.dossier_contents import CONTENTS, MISSING, README, SUMS
from lineage.history.dossier_records import about
from lineage.ledger import Ledger
from lineage.log.index import Record, Records
from lineage.settings import Settings
from lineage.state.fold import LedgerState

Files = dict[str, bytes]
#: Largest number of measurements of each kind in a dossier; they come every few seconds while a release answers.
MOST_ROUTINE = 5_000
_SPEC_BYTES = 256 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name


@dataclass
class _Case:
    """One release as of record `upto`. `facts` are the records shown; `sealed` counts all segments and decisions."""

    release: str
    upto: int
    at: str
    trained: Record
    facts: list[Record]
    sealed: dict[str, int]
    missing: list[tuple[str, str]] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Record]:
        return [fact for fact in self.facts if fact["kind"] in kinds]

    @property
    def own(self) -> list[Record]:
        """The facts whose subject is the release itself."""
        return [fact for fact in self.facts if fact["release"] == self.release]


def build_dossier(ledger: Ledger, settings: Settings, release: str, upto: int | None = None) -> Files:
    """The files of a release's dossier, content by name.

    Args:
        ledger: the ledger.
        settings: the home with reports and bundles.
        release: name of the release.
        upto: last record to cover; the newest one about the release when None.

    Raises:
        UnknownError: there is no such release, or not among the first `upto` records.
    """
    records = ledger.records
    newest = len(records)
    if upto is not None and not 1 <= upto <= newest:
        raise UnknownError(f"there is no record {upto}; the log holds {newest}", field="upto")
    seqs = about(records, release, newest if upto is None else upto)
    case = _case(records, release, upto or seqs[-1], seqs)
    files: Files = {"release.json": _json(_fold(records, case)), "vkey": f"{ledger.verifier.vkey}\n".encode()}
    files |= _proofs(ledger, case) | _summaries(case) | _from_disk(settings, case)
    files["verify.py"] = resources.files("lineage.examiner").joinpath("verify.py").read_bytes()
    if case.missing:
        files[MISSING] = _missing(case)
    files[README] = _readme(case, files)
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return files | {SUMS: sums.encode()}


def to_zip(files: Files) -> bytes:
    """The files as a zip; the same files give the same bytes: no compression, fixed times and modes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as made on Unix, wherever it is made
            archive.writestr(entry, files[name])
    return made.getvalue()


def _case(records: Records, release: str, upto: int, seqs: list[int]) -> _Case:
    facts = [records[seq - 1] for seq in seqs]
    trained = next(fact for fact in facts if fact["kind"] == "ModelTrained" and fact["release"] == release)
    segments = [one["data"]["releases"][release] for one in facts if one["kind"] == "DecisionsSealed"]
    sealed = {"decisions": sum(segments), "segments": len(segments)}
    case = _Case(release, upto, records[upto - 1]["at"], trained, facts, sealed)
    for kind in ("DecisionsSealed", "DriftMeasured", "FairnessMeasured"):
        many = [one["seq"] for one in facts if one["kind"] == kind and one["data"].get("stage") != "validation"]
        old = many[:-MOST_ROUTINE]
        if old:
            gone = set(old)
            case.facts = [one for one in case.facts if one["seq"] not in gone]
            which = f"{len(old)} of {len(many)} records of kind {kind}, from {old[0]} to {old[-1]}"
            why = f"{which}, are left out for their number. `plimsoll audit prove NUMBER` proves each of them"
            case.missing.append(("facts.jsonl and proofs/", why))
    return case


def _fold(records: Records, case: _Case) -> dict[str, Any]:
    """The state of the release after the first `upto` records; only facts about releases of its model affect it."""
    state = LedgerState()
    kinds = ["ModelTrained", *(kind for kind in FACTS if subject_of(kind) == "release")]
    for record in records.find(upto=case.upto, kinds=kinds, model=case.trained["model"]).records:
        state.apply(record)
    return asdict(state.releases[case.release])


def _proofs(ledger: Ledger, case: _Case) -> Files:
    """The stored lines, a proof for each of them, and the checkpoint that all proofs lead to."""
    files, lines = Files(), []
    for seq in (fact["seq"] for fact in case.facts):
        line, path, note = ledger.prove(seq, case.upto)
        lines.append(line + b"\n")
        files["checkpoint"] = note
        files[f"proofs/{seq:012d}.json"] = _json(
            {
                "record": line.decode(),
                "index": seq - 1,
                "size": case.upto,
                "proof": [base64.b64encode(one).decode() for one in path],
                "checkpoint": note.decode(),
                "vkey": ledger.verifier.vkey,
                "witness_vkey": None,
            }
        )
    return files | {"facts.jsonl": b"".join(lines)}


def _summaries(case: _Case) -> Files:
    """Summaries of the records: findings, approvals, judgements, segments, policy. Each entry names its record."""
    made = case.trained["data"]
    checks = [{"record": one["seq"], **one["data"]} for one in case.of_kind("CheckCompleted")]
    judged = [one for one in case.own if one["data"].get("judgement") or one["kind"] in ("CanaryHeld", "CanaryAborted")]
    approvals = {
        "author": made["author"],
        "requested": [_act(one, "due_at") for one in case.of_kind("ReviewRequested")],
        "decided": [_act(one, "decision", "digest") for one in case.of_kind("ReviewDecided")],
        "refused": [_act(one, "attempted", "code", "message") for one in case.of_kind("ActionRefused")],
    }
    names = ("segment", "digest", "from", "to")
    segments = [
        {"record": one["seq"], "decisions": one["data"]["releases"][case.release]}
        | {name: one["data"][name] for name in names}
        for one in case.of_kind("DecisionsSealed")
    ]
    policy = canonical(made["policy"])
    if digest_bytes(policy) != made["policy_digest"]:
        why = f"its SHA-256 is not the policy digest in record {case.trained['seq']}, {made['policy_digest']}"
        case.missing.append(("policy.json", f"what is there is the policy on record, but {why}"))
    return {
        "findings.json": _json({"policy_digest": made["policy_digest"], "checks": checks}),
        "approvals.json": _json(approvals),
        "judgements.json": _json([_act(one, "share", "why", "judgement") for one in judged]),
        "segments.json": _json({"total": case.sealed, "segments": segments}),
        "policy.json": policy,
    }


def _act(record: Record, *names: str) -> dict[str, Any]:
    actor, data = record["actor"], record["data"]
    act = {"record": record["seq"], "at": record["at"], "kind": record["kind"], "by": actor["name"]}
    act |= {"role": actor["role"], "reason": record["reason"]}
    return act | {name: data[name] for name in names if name in data}


def _from_disk(settings: Settings, case: _Case) -> Files:
    """Files on disk that records name by their digest, if they have that digest, and data.json."""
    made, files = case.trained["data"], Files()
    recorded = [one["data"]["report_digest"] for one in case.of_kind("CandidateValidated", "CandidateRejected")]
    try:
        if recorded:
            files["report.html"] = _read_recorded(settings.reports / f"{case.release}.html", recorded[-1])
    except PlimsollError as error:
        case.missing.append(("report.html", error.message))
    listed: dict[str, str] = {}
    try:
        listed = _listing(settings.artefacts / made["digest"].removeprefix("sha256:"), made["digest"])
        files["bundle/FILES"] = _lines(listed)
        files |= _spec(settings.artefacts / made["digest"].removeprefix("sha256:"), listed)
    except PlimsollError as error:
        name = "bundle/release.json" if listed else "bundle/FILES and bundle/release.json"
        case.missing.append((name, error.message))
    names = ("family", "params", "seed", "code_digest", "environment_digest", "fingerprint", "signature_key", "run_id")
    pinned = [{"record": one["seq"], **one["data"]} for one in case.of_kind("DatasetPinned")]
    bundle = {"digest": made["digest"], "files": listed or None}
    data = {"record": case.trained["seq"], "dataset": made["dataset"], "pinned": pinned, "bundle": bundle}
    files["data.json"] = _json(data | {"features": made["features"]} | {name: made[name] for name in names})
    return files


def _read_recorded(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"{digest} is on record, but the file cannot be read: {error.strerror}") from error
    if digest_bytes(data) != digest:
        raise TamperedError(f"{digest} is on record, but the file has {digest_bytes(data)}: it was changed")
    return data


def _listing(folder: Path, digest: str) -> dict[str, str]:
    """Digest of each file of the bundle by name, after checking the bundle's digest."""
    if not folder.is_dir():
        raise UnavailableError(f"the bundle {digest} is on record, but its folder is not there")
    found = digest_folder(folder)
    if found != digest:
        raise TamperedError(f"the bundle {digest} is on record, but its folder has {found}: it was changed")
    return {path.name: digest_file(path) for path in sorted(folder.iterdir(), key=lambda path: path.name)}


def _lines(listed: dict[str, str]) -> bytes:
    return "".join(f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in listed.items()).encode()


def _spec(folder: Path, listed: dict[str, str]) -> Files:
    if "release.json" not in listed:
        raise UnavailableError("the bundle holds no release.json")
    size = (folder / "release.json").stat().st_size
    if size > _SPEC_BYTES:
        raise UnavailableError(f"it has {size} bytes; up to {_SPEC_BYTES} are taken in. bundle/FILES has its digest")
    return {"bundle/release.json": _read_recorded(folder / "release.json", listed["release.json"])}


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _missing(case: _Case) -> bytes:
    lines = "".join(f"- **{name}**: {why}.\n" for name, why in case.missing)
    return f"# Missing from the dossier of {case.release} at record {case.upto}\n\n{lines}".encode()


def _readme(case: _Case, files: Files) -> bytes:
    present = [name for name in CONTENTS if name in files or name in (SUMS, "proofs/")]
    listed = "".join(f"| `{name}` | {CONTENTS[name]} |\n" for name in present)
    gaps = f"**Not everything is here: read {MISSING}.**" if case.missing else "Nothing is missing."
    return _README.format(
        release=case.release, upto=case.upto, at=case.at, facts=len(case.facts), listed=listed, gaps=gaps
    ).encode()


_README = """# Dossier of {release}

It ends at record {upto} of the log, made at {at}, and holds {facts} records. {gaps}

| file | what it is |
|---|---|
{listed}
## Verify it without trusting us

    sha256sum -c SHA256SUMS
    for one in proofs/*.json; do python -I verify.py record "$one" --vkey "$(cat vkey)" || break; done

The first shows that the folder is whole. The second shows that each record is, byte for byte, among the {upto} that
the log's key signed for in `checkpoint`; take the key from a source that you trust in place of `vkey` if you can. Then
see that `facts.jsonl` holds the lines that were proved, and no others:

    python -I -c "import json, pathlib; print(pathlib.Path('facts.jsonl').read_bytes() == b''.join(
        json.loads(one.read_bytes())['record'].encode() + b'\\n'
        for one in sorted(pathlib.Path('proofs').iterdir())))"

The other JSON files repeat what those records say; each entry names its `record`.

A proof shows that a record is in the log, not that no other record is about this release. For that take the whole log:
`python verify.py extends checkpoint LOGFOLDER` shows that it still holds what `checkpoint` signed. The witness's
cosignature on a later checkpoint shows that this history was seen outside; `plimsoll audit checkpoint --cosigned`
prints it.

## Left out on purpose

- `golden.json` and `reference.parquet` of the bundle, the training data and the decision segments: they hold rows of
  customers. Their digests are here, so that authorised readers can compare.
- The model files: they are the owner's. `bundle/FILES` has their digests.
"""
