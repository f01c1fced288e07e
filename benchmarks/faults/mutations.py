"""Bytes changed in log, checkpoint, key and decision segments: detection by both verifiers, and the first bad record.

Flip, set, zero, delete, insert and truncate bytes; swap, duplicate, delete and insert lines. Each damaged folder is
read by the ledger's own verifier and by `verify.py`, the file that examiners get; both have the log's key.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.power_loss import memory, record
from lineage.digest import digest_file
from lineage.errors import TamperedError
from lineage.examiner import verify
from lineage.log.reader import Chain
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at
from lineage.log.writer import Log
from tests.support.log_mutations import KINDS, mutate

TRIALS, PER_LOG, OF_SEGMENTS = 100_000, 500, 0.1


def run(trials: int = TRIALS, seed: int = 1) -> Iterator[str]:
    """Counts of damage by file, of damage found and of first records named right, for each verifier."""
    rng = random.Random(seed)
    done, found, named, nameable = Counter[str](), Counter[str](), Counter[str](), 0
    unseen: list[str] = []
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        signer = signer_at(Path(place) / "log.key")
        for number in range(trials):
            if number % PER_LOG == 0:
                folder = _log(Path(place) / str(number), signer, rng)
                whole = {path: path.read_bytes() for path in folder.iterdir()}
            if rng.random() < OF_SEGMENTS:
                done["decision segment"] += 1
                found.update(_segment(Path(place) / "segment.parquet", rng))
                continue
            what, first = mutate(folder, rng)
            done[what.partition(": ")[2]] += 1
            nameable += first is not None
            for verifier in ("chain", "verify.py"):
                reported = _named_record(verifier, folder, signer)
                found[verifier] += reported is not None
                named[verifier] += first is not None and reported == first
                if reported is None:
                    unseen.append(f"{number}: {what} unseen by {verifier}")
            for path, data in whole.items():
                if not path.exists() or path.read_bytes() != data:
                    path.write_bytes(data)
    logs = trials - done["decision segment"]
    yield f"{trials} mutations: " + ", ".join(f"{count} in {name}" for name, count in done.items())
    for verifier in ("chain", "verify.py"):
        share = named[verifier] / nameable
        yield f"{verifier:<9} found {found[verifier]} of {logs}, named the first bad record in {share:.4%}"
    yield f"decision segments: {found['decision segment']} of {done['decision segment']} found by the digest on record"
    yield from unseen[:5]


def _log(folder: Path, signer: Signer, rng: random.Random) -> Path:
    log = Log(folder, signer=signer, segment_bytes=rng.choice((1_500, 6_000, 1 << 20)))
    list(log.replay())
    for _ in range(rng.randint(1, 6)):
        for _ in range(rng.randint(1, 6)):
            log.stage(record(log.seq + 1, rng))
        log.commit()
    log.close()
    return folder


def _segment(path: Path, rng: random.Random) -> list[str]:
    data = rng.randbytes(rng.randint(1, 4_000)) + b"\n"
    path.write_bytes(data)
    recorded, changed = digest_file(path), data
    while changed == data:
        changed = KINDS[rng.choice(list(KINDS))](data, rng)
    path.write_bytes(changed)
    return ["decision segment"] if digest_file(path) != recorded else []


def _named_record(verifier: str, folder: Path, signer: Signer) -> int | None:
    """Number of the record that the verifier names, 0 for another file, None where it verifies."""
    try:
        if verifier == "chain":
            for _ in Chain(folder, signer.verifier):
                pass
        else:
            verify.verify_log({}, signer.verifier.vkey, None, folder)
    except TamperedError as error:
        return int(error.detail["record"])
    except verify.Finding as finding:
        return int(finding.args[0])
    return None
