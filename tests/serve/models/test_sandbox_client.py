"""The sandbox: whatever a bundle's bytes do to it, they are refused and the replica survives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineage.errors import RefusedError, UnavailableError
from lineage.settings import Settings
from serve.models.sandbox_client import Sandbox
from tests.support.bundles import folder_of, make_bundle
from tests.support.faulty_bundles import end_children, of_family, sandbox_with
from validators.scoring.verified_read import read_verified
from validators.scoring.xgboost_without_sklearn import import_xgboost

Files = dict[str, bytes]
PLACE = Path("bundle")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    target = make_bundle(settings, "loan@1")
    return read_verified(folder_of(settings, target), target.digest, settings)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = sandbox_with(tmp_path_factory.mktemp("families"), families=CURIOUS)
    yield made
    made.close()


def test_a_good_bundle_is_proven_once_and_its_memory_is_measured(sandbox: Sandbox, files: Files) -> None:
    proof = sandbox.prove("sha256:good", PLACE, files)
    assert proof.golden == 8
    assert len(files["model.ubj"]) / 2 < proof.memory < len(files["model.ubj"]) * 4
    assert 0 < proof.light < 100_000
    assert sandbox.prove("sha256:good", PLACE, {}) is proof  # nothing is asked again


WAYS = {
    "hangs": "computed for 1 s|ended by force",
    "crashes": "ended with -11",
    "leaves": "ended with 0|did not end",
    "hoards": "more memory",
    "breaks": "ZeroDivisionError",
    "forges": "ended with 0",
    "chatters": "unreadable reply",
    "nameless": "no model family is called 'nameless'",
}


@pytest.mark.parametrize("family", WAYS)
def test_what_a_model_does_to_its_reader_is_told_and_ends_there(sandbox: Sandbox, files: Files, family: str) -> None:
    with pytest.raises(RefusedError, match=WAYS[family]) as caught:
        sandbox.prove(f"sha256:{family}", PLACE, of_family(files, family))
    assert caught.value.code == "unproven"
    before = sandbox.pid
    assert sandbox.prove(f"sha256:after-{family}", PLACE, files).golden == 8
    assert sandbox.pid == before is not None


CURIOUS = {
    name: f"""
    import os, signal, socket, ctypes, json
    try:
        {body}
    except OSError as error:
        raise ValueError("kept from it")
    raise ValueError("could do it")"""
    for name, body in {
        "writer": "open('/tmp/plimsoll-sandbox-test', 'w')",
        "reader": "open('/etc/passwd')",
        "caller": "socket.socket()",
        "killer": "os.kill(os.getppid(), signal.SIGKILL)",
        "forker": "os.fork()",
        "remover": f"os.unlink({__file__!r} + '.none')",
        "starter": "os.execv('/bin/true', ['/bin/true'])",
    }.items()
}


@pytest.mark.parametrize("family", CURIOUS)
def test_a_parser_that_was_taken_over_can_reach_nothing(sandbox: Sandbox, files: Files, family: str) -> None:
    with pytest.raises(RefusedError, match="kept from it"):
        sandbox.prove(f"sha256:{family}", PLACE, of_family(files, family))


def model_with_nan(files: Files) -> bytes:
    """The model with a leaf that is no number."""
    booster = import_xgboost().Booster()
    booster.load_model(bytearray(files["model.ubj"]))
    content = json.loads(booster.save_raw("json"))
    for tree in content["learner"]["gradient_booster"]["model"]["trees"]:
        tree["split_conditions"] = [
            value if child >= 0 else float("nan")
            for value, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
        ]
    return json.dumps(content).encode()


def golden(files: Files, score: str) -> bytes:
    rows = json.loads(files["golden.json"])
    return json.dumps([row | {"score": score, "decision": "approve"} for row in rows]).encode()


def test_every_golden_row_must_come_out_and_be_a_probability(sandbox: Sandbox, files: Files) -> None:
    first = json.loads(files["golden.json"])
    first[3]["score"] = float.hex(float.fromhex(first[3]["score"]) * 1.0000001)
    wrong: dict[str, tuple[Files, str]] = {
        "another answer": ({"golden.json": json.dumps(first).encode()}, "7 of 8 golden rows"),
        "no rows": ({"golden.json": b"[]"}, "0 of 0 golden rows"),
        "no list": ({"golden.json": b"7"}, "not a list of golden rows"),
        "nan": ({"model.ubj": model_with_nan(files), "golden.json": golden(files, "nan")}, "which is no probability"),
        "no model": ({"model.ubj": b"not a model"}, "not an XGBoost model"),
        "half a model": ({"model.ubj": files["model.ubj"][:-400]}, "not an XGBoost model"),
        "deep": ({"release.json": b"[" * 100_000}, "not JSON"),
    }
    for name, (change, why) in wrong.items():
        with pytest.raises(RefusedError, match=why):
            sandbox.prove(f"sha256:{name}", PLACE, files | change)
    with pytest.raises(RefusedError, match="no file 'golden"):
        sandbox.prove("sha256:none", PLACE, {name: part for name, part in files.items() if name != "golden.json"})


def test_where_the_sandbox_does_not_run_nothing_is_proven(files: Files) -> None:
    for command in (("/nowhere/python",), (sys.executable, "-c", "raise SystemExit(3)")):
        sandbox = Sandbox(command=command)
        with pytest.raises(UnavailableError, match=r"cannot be started|ended before"):
            sandbox.prove("sha256:x", PLACE, files)
        sandbox.close()


def test_a_sandbox_that_was_killed_is_started_again(sandbox: Sandbox, files: Files) -> None:
    sandbox.start()
    first = sandbox.pid
    assert first is not None
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert sandbox.prove("sha256:killed", PLACE, files).golden == 8
    assert sandbox.pid not in (None, first)


def test_a_bundle_that_waits_for_ever_is_ended_by_the_clock(files: Files, tmp_path: Path) -> None:
    sandbox = sandbox_with(tmp_path, wall_seconds=0.5)
    with pytest.raises(RefusedError, match=r"ran longer than 0.5 s"):
        sandbox.prove("sha256:sleeps", PLACE, of_family(files, "sleeps"))
    sandbox.close()


def test_bundles_are_proven_side_by_side(files: Files, tmp_path: Path) -> None:
    sandbox, refused = sandbox_with(tmp_path), list[str]()

    def ask() -> None:
        with pytest.raises(RefusedError) as caught:
            sandbox.prove("sha256:sleeping", PLACE, of_family(files, "sleeps"))
        refused.append(caught.value.message)

    sleeper = threading.Thread(target=ask)
    sleeper.start()
    for number in range(5):
        assert sandbox.prove(f"sha256:beside-{number}", PLACE, files).golden == 8
    while not end_children(sandbox):  # the thread may not have asked yet
        assert sleeper.is_alive()
    sleeper.join()
    assert "ended by force" in refused[0]
    sandbox.close()


def test_no_secret_reaches_the_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_SECRET_OF_A_TEST", "1")
    sandbox.close()
    sandbox.start()
    assert b"PLIMSOLL" not in Path(f"/proc/{sandbox.pid}/environ").read_bytes()


def test_the_sandbox_ends_when_nobody_is_there_to_ask() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen((sys.executable, "-m", "serve.models.sandbox_server"), stdin=theirs.fileno())
    ours.close()
    assert process.wait(timeout=60) == 0
