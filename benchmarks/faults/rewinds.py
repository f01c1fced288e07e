"""Tails cut, old folders restored and forks, made with the log's own key: the log or its witness must detect them.

The witness is a real process. The attacker may use every file and key of the home folder, old copies of it included,
but not the witness's folder. Everything was cosigned before each attack; what was not yet cosigned could be cut unseen.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from lineage.errors import TamperedError
from lineage.log.checkpoint import Checkpoint, to_sector
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.reader import CHECKPOINT, lines, segments
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at
from lineage.log.writer import Log
from lineage.witness.comparison import check_against_witness
from lineage.witness.cosigner import Cosigner, OwnLog

TRIALS = 2_000
SEGMENT_BYTES = 20_000
KINDS = ("tail cut", "tail cut, checkpoint signed anew", "old folder put back", "fork", "fork of the same length")


def run(trials: int = TRIALS, seed: int = 1) -> Iterator[str]:
    """Counts of attacks by kind, of those detected, and of alarms about the untouched log."""
    with tempfile.TemporaryDirectory() as place:
        witness, url = _witness(Path(place) / "witness")
        try:
            yield from _attacks(Path(place), url, trials, random.Random(seed))
        finally:
            witness.terminate()
            witness.wait(20)


def _attacks(place: Path, url: str, trials: int, rng: random.Random) -> Iterator[str]:
    signer = signer_at(place / "log.key")
    folder, old, pin = place / "log", place / "old", place / "witness.vkey"
    log = Log(folder, signer=signer, segment_bytes=SEGMENT_BYTES)
    list(log.replay())
    own = OwnLog(signer.verifier, lambda: log.note, log.tree.prove_consistency, log.tree.root)
    cosigner = Cosigner(own, url, pin=pin, cosigned=folder / "cosigned")
    done, unseen, false = Counter[str](), [], 0
    for number in range(trials):
        if number % 100 == 0:
            _append(log, rng)
            cosigner.submit()
            shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(folder, old)
        _append(log, rng)
        false += not cosigner.submit()
        false += _noticed(folder, log, url, pin, signer)
        kind = KINDS[number % len(KINDS)]
        attacked = _attack(kind, folder, old, place / "attacked", signer, rng)
        done[kind] += 1
        if not _noticed(attacked, None, url, pin, signer):
            unseen.append(f"{number}: {kind}")
    cosigner.close()
    log.close()
    yield ", ".join(f"{count} times {kind}" for kind, count in done.items())
    bound = f" (at 95 % fewer than {3 / trials:.2%} go unseen)" if not unseen else f": {unseen[:5]}"
    alarms = f"alarms about the untouched log: {false} of {2 * trials}"
    yield f"detected: {trials - len(unseen)} of {trials}{bound}; {alarms}"


def _attack(kind: str, folder: Path, old: Path, target: Path, signer: Signer, rng: random.Random) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    if kind.startswith("tail cut"):
        shutil.copytree(folder, target)
        last = segments(target)[-1]
        kept = last.read_bytes().splitlines(keepends=True)
        last.write_bytes(b"".join(kept[: rng.randrange(len(kept))]))
        if kind != "tail cut":
            _sign_anew(target, signer)
        return target
    shutil.copytree(old, target)
    if kind.startswith("fork"):
        length = sum(1 for path in segments(folder) for _ in path.open("rb"))
        fork = Log(target, signer=signer, segment_bytes=SEGMENT_BYTES)
        list(fork.replay())
        wanted = length - fork.seq if kind != "fork" else rng.randint(1, length - fork.seq + 20)
        for _ in range(max(1, wanted)):
            fork.stage(_record(rng))
        fork.commit()
        fork.close()
    return target


def _sign_anew(target: Path, signer: Signer) -> None:
    """Sign a new checkpoint for the cut log with its own key."""
    tree = Tree(leaf_hash(line.data) for line in lines(target))
    (target / CHECKPOINT).write_bytes(to_sector(Checkpoint(signer.name, len(tree), tree.root()).sign(signer)))


def _noticed(folder: Path, live: Log | None, url: str, pin: Path, signer: Signer) -> bool:
    try:
        log = live or Log(folder, signer=signer)
        try:
            if live is None:
                list(log.replay())
            check_against_witness(url, pin, signer.verifier, log.seq, log.tree.root)
        finally:
            if live is None:
                log.close()
    except TamperedError:
        return True
    return False


def _append(log: Log, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 6)):
        log.stage(_record(rng))
    log.commit()


def _record(rng: random.Random) -> dict[str, Any]:
    about = {"model": None, "release": None, "reason": None, "key": None}
    actor = {"name": "controller", "role": "service"}
    data = {"number": rng.random()}
    return {"at": "2026-11-23T10:00:00.000000Z", "kind": "AlertRaised", "actor": actor, "data": data, **about}


def _witness(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PLIMSOLL_WITNESS_HOME": str(folder), "PLIMSOLL_WITNESS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "lineage.witness", "--trust-first"], env=environment)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/healthz", trust_env=False).raise_for_status()
            return process, url
        except httpx.HTTPError:
            time.sleep(0.05)
    process.terminate()
    raise RuntimeError("the witness does not start")
