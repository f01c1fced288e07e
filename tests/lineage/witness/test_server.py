"""The witness never cosigns two histories, whatever a log, a crash or a disk does."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from lineage.errors import (
    InvalidError,
    RefusedError,
    TamperedError,
    UnavailableError,
)
from lineage.log.checkpoint import Checkpoint, open_checkpoint
from lineage.log.signed_note import Signer, split
from lineage.witness.known_logs import register
from lineage.witness.protocol import BODY_BYTES
from lineage.witness.server import create_app
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import ShownLog, history, key_of, listening, opened, post

ROOT = Path(__file__).parents[3]
SHOWN = ShownLog(size=40)
VKEY = SHOWN.signer.verifier.vkey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    register(tmp_path / "witness", VKEY)
    return tmp_path / "witness"


@pytest.fixture
def http(folder: Path, clock: ManualClock) -> Iterator[TestClient]:
    with TestClient(create_app(folder, clock=clock), raise_server_exceptions=False) as client:
        yield client


# --- what it is asked, and what it answers


def test_a_cosignature_can_be_checked_by_anybody_who_has_the_key(http: TestClient, clock: ManualClock) -> None:
    answer = post(http, SHOWN.body(0, 7))
    assert (answer.status_code, answer.text[:2]) == (200, "— ")
    verifier = http.app.state.witness.verifier  # type: ignore[attr-defined]
    assert http.get("/vkey").text == verifier.vkey + "\n"
    assert verifier.check(SHOWN.note(7) + answer.content) == int(clock().timestamp())
    latest = http.get(f"/checkpoint/{SHOWN.signer.name}").content
    assert latest == SHOWN.note(7) + answer.content
    assert http.get(f"/checkpoint/{SHOWN.signer.name.replace('/', '%2F')}").content == latest
    assert open_checkpoint(latest, SHOWN.signer.verifier) == Checkpoint(SHOWN.signer.name, 7, SHOWN.tree.root(7))
    assert http.get("/healthz").json() == {"ok": True, "witness": verifier.name, "logs": 1}


def test_a_log_is_followed_step_by_step(http: TestClient, folder: Path) -> None:
    sizes = [0, 1, 2, 3, 8, 8, 21, 40]
    for old, new in zip([0, *sizes], sizes, strict=False):
        assert post(http, SHOWN.body(old, new)).status_code == 200, (old, new)
    assert history(folder) == [(size, SHOWN.tree.root(size).hex()) for size in [0, 1, 2, 3, 8, 21, 40]]


HASH = base64.b64encode(bytes(32)).decode()
NOTE = SHOWN.note(7).decode()
MALFORMED = {
    "nothing": "",
    "only a note": NOTE,
    "no empty line": f"old 0\n{NOTE.replace(chr(10) * 2, chr(10))}",
    "old without a size": f"old\n\n{NOTE}",
    "two spaces": f"old  0\n\n{NOTE}",
    "capitals": f"OLD 0\n\n{NOTE}",
    "leading zero": f"old 00\n\n{NOTE}",
    "negative": f"old -1\n\n{NOTE}",
    "plus": f"old +1\n\n{NOTE}",
    "not a number": f"old x\n\n{NOTE}",
    "other digits": f"old ٣\n\n{NOTE}",
    "endless number": f"old {'9' * 40}\n\n{NOTE}",
    "carriage return": f"old 0\r\n\r\n{NOTE}",
    "short hash": f"old 0\n{HASH[:20]}\n\n{NOTE}",
    "long hash": f"old 0\n{base64.b64encode(bytes(33)).decode()}\n\n{NOTE}",
    "hash without padding": f"old 0\n{HASH[:-1]}\n\n{NOTE}",
    "hash of another spelling": f"old 0\n{HASH[:-2]}B=\n\n{NOTE}",
    "hash with a space": f"old 0\n{HASH} \n\n{NOTE}",
    "64 hashes": f"old 0\n{(HASH + chr(10)) * 64}\n{NOTE}",
    "no note": "old 0\n\n",
    "no signature": f"old 0\n\n{NOTE.partition('—')[0]}",
    "cut note": f"old 0\n\n{NOTE[:-1]}",
    "junk as signature": f"old 0\n\n{NOTE}junk\n",
    "no root": "old 0\n\n" + SHOWN.signer.sign(b"plimsoll/x\n7\n").decode(),
    "short root": "old 0\n\n" + SHOWN.signer.sign(f"{SHOWN.signer.name}\n7\nAAAA\n".encode()).decode(),
    "size with zeroes": "old 0\n\n" + SHOWN.signer.sign(f"{SHOWN.signer.name}\n007\n{HASH}\n".encode()).decode(),
    "more lines": "old 0\n\n" + SHOWN.signer.sign(f"{SHOWN.signer.name}\n7\n{HASH}\nmore\n".encode()).decode(),
    "old larger than new": "old 8\n\n" + NOTE,
}


@pytest.mark.parametrize("what", sorted(MALFORMED))
def test_what_is_no_request_is_answered_400(what: str, http: TestClient, folder: Path) -> None:
    answer = post(http, MALFORMED[what].encode())
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert answer.json()["error"]
    assert history(folder) == []
    assert post(http, SHOWN.body(0, 7)).status_code == 200, "the next good request works"


def test_bytes_that_are_no_text_are_answered_400(http: TestClient) -> None:
    for body in (b"\xff\xfe", b"old 0\n\n\xff\n\n", b"old 0\n\xff\n\n" + SHOWN.note(3), bytes(300)):
        assert post(http, body).status_code == 400


def test_an_unknown_log_is_answered_404(http: TestClient) -> None:
    other = ShownLog("plimsoll/somebody", 3)
    assert post(http, other.body(0)).status_code == 404
    assert http.get("/checkpoint/plimsoll/somebody").status_code == 404
    assert http.get(f"/checkpoint/{'x' * 5_000}").status_code == 404
    assert http.get(f"/checkpoint/{SHOWN.signer.name}").status_code == 404, "known, but nothing was shown yet"
    assert http.get("/checkpoint/..%2F..%2Fwitness.key").status_code == 404
    assert http.get("/nothing").json()["code"] == "http"


def line(signer: Signer, signature: bytes) -> bytes:
    """A signature line under the signer's name and key id, whoever signed."""
    return f"— {signer.name} {base64.b64encode(signer.verifier.key_id + signature).decode()}\n".encode()


def test_only_the_log_itself_may_speak_for_it(http: TestClient) -> None:
    name = SHOWN.signer.name
    forger = Signer(name, key_of("forger"))
    text = split(SHOWN.note(7))[0]
    wrong = line(SHOWN.signer, forger.private.sign(text))
    other = Signer("plimsoll/other", key_of("other"))
    for note in (
        forger.sign(text),
        text + b"\n" + wrong,
        other.sign(text),
        SHOWN.note(7) + wrong,  # a line that names the key and does not hold spoils the note
    ):
        answer = post(http, b"old 0\n\n" + note)
        assert (answer.status_code, answer.json()["code"]) == (403, "signature")
    # signatures of keys that nobody knows are passed over, and not kept
    foreign = line(other, other.private.sign(text))
    assert post(http, b"old 0\n\n" + SHOWN.note(7) + foreign).status_code == 200
    assert b"plimsoll/other" not in http.get(f"/checkpoint/{name}").content


def test_who_names_another_size_is_told_the_known_one_in_the_form_that_clients_compare(http: TestClient) -> None:
    post(http, SHOWN.body(0, 20))
    for old, size in ((0, 20), (0, 40), (19, 40), (21, 40), (0, 5), (5, 5)):
        answer = post(http, SHOWN.body(old, size))
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "text/x.tlog.size"
        assert answer.content == b"20\n"
    assert post(http, SHOWN.body(20, 40)).status_code == 200


def test_another_history_is_refused_and_its_signed_checkpoint_kept_as_evidence(http: TestClient, folder: Path) -> None:
    post(http, SHOWN.body(0, 20))
    fork = SHOWN.copy(19).grow(1, "fork")
    answer = post(http, fork.body(20, 20))
    assert (answer.status_code, answer.json()["code"]) == (409, "fork")
    assert answer.headers["content-type"] == "application/json", "clients take nothing for a size"
    fork.grow(5)
    answer = post(http, fork.body(20))
    assert (answer.status_code, answer.json()["code"]) == (422, "inconsistent")
    (evidence,) = (folder / "seen").glob("*.refused")
    assert open_checkpoint(evidence.read_bytes(), SHOWN.signer.verifier).size == 25
    assert history(folder) == [(20, SHOWN.tree.root(20).hex())]
    assert post(http, SHOWN.body(20, 40)).status_code == 200


def test_a_log_that_went_back_leaves_evidence_and_one_that_asks_for_the_size_does_not(
    http: TestClient, folder: Path
) -> None:
    post(http, SHOWN.body(0, 20))
    assert post(http, SHOWN.body(0, 21)).status_code == 409
    assert list((folder / "seen").glob("*.refused")) == []
    assert post(http, SHOWN.body(7, 7)).status_code == 409
    assert len(list((folder / "seen").glob("*.refused"))) == 1


@pytest.mark.parametrize("old", [0, 7, 20])
def test_a_proof_that_proves_nothing_is_answered_422(old: int, http: TestClient) -> None:
    if old:
        post(http, SHOWN.body(0, old))
    good = SHOWN.offer(old, 20).proof
    flipped = [bytes([one[0] ^ 1]) + one[1:] for one in good]
    for proof in ([*good, bytes(32)], good[:-1], good[1:], flipped, good[::-1]):
        if proof != good:
            body = f"old {old}\n" + "".join(base64.b64encode(one).decode() + "\n" for one in proof) + "\n"
            assert post(http, body.encode() + SHOWN.note(20)).status_code == 422
    assert post(http, SHOWN.body(old, 20)).status_code == 200


def test_large_bodies_are_not_read(http: TestClient) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    assert post(http, b"x" * (BODY_BYTES + 1)).status_code == 413
    assert http.post("/add-checkpoint", content=drip()).status_code == 413
    assert http.post("/logs", content=b"x" * (BODY_BYTES + 1)).status_code == 413
    assert post(http, b"x" * BODY_BYTES).status_code == 400


def test_web_pages_are_kept_out(http: TestClient) -> None:
    body = SHOWN.body(0, 7)
    for path in ("/add-checkpoint", "/logs"):
        assert http.post(path, content=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert http.post("/add-checkpoint", content=body, headers={"Host": "evil.example"}).status_code == 400
    assert http.get("/docs").status_code == 404


# --- whose logs, whose keys


def test_nobody_is_trusted_on_first_sight_unless_it_is_switched_on(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path / "strict")) as http:
        answer = http.post("/logs", content=VKEY)
        assert (answer.status_code, answer.json()["code"]) == (403, "untrusted")
        register(tmp_path / "strict", VKEY)  # while it runs
        assert http.post("/logs", content=VKEY).status_code == 200
        assert post(http, SHOWN.body(0, 3)).status_code == 200


def test_the_first_key_of_a_log_is_its_only_one(tmp_path: Path) -> None:
    other = Signer(SHOWN.signer.name, key_of("other")).verifier.vkey
    with TestClient(create_app(tmp_path / "open", trust_first=True)) as http:
        assert http.post("/logs", content=VKEY).json() == {"origin": SHOWN.signer.name}
        assert http.post("/logs", content=VKEY + "\n").status_code == 200
        answer = http.post("/logs", content=other)
        assert (answer.status_code, answer.json()["code"]) == (403, "key_changed")
    with pytest.raises(RefusedError, match="known by another key"):
        register(tmp_path / "open", other)


def test_not_everybody_can_be_trusted_on_first_sight(tmp_path: Path) -> None:
    with opened(tmp_path / "witness", trust_first=True) as witness:
        for number in range(64):
            witness.introduce(Signer(f"log/{number}", key_of(str(number))).verifier.vkey)
        with pytest.raises(RefusedError, match="64 logs"):
            witness.introduce(VKEY)
        register(witness.folder, VKEY)
        assert len(witness.logs()) == 65


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "plimsoll/x",
        VKEY[:-4],
        VKEY.replace("+", "+0", 1),
        Signer("a/witness", key_of("w"), cosigns=True).verifier.vkey,
        Signer("x" * 300, key_of("w")).verifier.vkey,
        Signer("x\x00y", key_of("w")).verifier.vkey,
    ],
)
def test_what_is_no_log_key_is_not_taken(vkey: str, tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path / "witness", trust_first=True)) as http:
        assert http.post("/logs", content=vkey.encode()).status_code == 422
    with pytest.raises(InvalidError):
        register(tmp_path / "witness", vkey)


def test_the_key_is_made_once_and_read_by_nobody_else(folder: Path) -> None:
    with opened(folder) as witness:
        vkey = witness.verifier.vkey
        assert witness.verifier.cosigns
    key = folder / "witness.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert (folder / "witness.vkey").read_text() == vkey + "\n"
    with opened(folder) as again:
        assert again.verifier.vkey == vkey
    (folder / "witness.vkey").unlink()  # a crash after the key was made
    with opened(folder) as again:
        assert again.verifier.vkey == vkey


def test_a_witness_without_its_key_is_not_another_witness(folder: Path, tmp_path: Path) -> None:
    with opened(folder):
        pass
    key = (folder / "witness.key").read_bytes()
    (folder / "witness.key").unlink()
    with pytest.raises(UnavailableError, match="is gone"), opened(folder):
        pass
    (folder / "witness.key").write_bytes(b"junk")
    with pytest.raises(UnavailableError, match="cannot be used"), opened(folder):
        pass
    with opened(tmp_path / "other"):
        pass
    (folder / "witness.key").write_bytes((tmp_path / "other" / "witness.key").read_bytes())
    with pytest.raises(TamperedError, match="not of one key"), opened(folder):
        pass
    (folder / "witness.key").write_bytes(key)
    with opened(folder):
        pass


def test_a_witness_with_the_key_of_its_log_does_not_start(tmp_path: Path) -> None:
    with opened(tmp_path / "witness", trust_first=True) as witness:
        same = Signer("plimsoll/log", witness.signer.private).verifier.vkey
        with pytest.raises(RefusedError, match="own key"):
            witness.introduce(same)
    with pytest.raises(RefusedError, match="own key"):
        register(tmp_path / "witness", same)
    # put there by hand, past every check
    (tmp_path / "witness" / "logs" / "plimsoll%2Flog.vkey").write_text(same)
    with pytest.raises(RefusedError, match="own key") as refusal, opened(tmp_path / "witness"):
        pass
    assert refusal.value.code == "same_key"


def test_a_key_under_another_name_is_not_passed_over_in_silence(folder: Path) -> None:
    (folder / "logs" / "mine.vkey").write_text(Signer("plimsoll/mine", key_of("m")).verifier.vkey)
    with pytest.raises(InvalidError, match="--add"), opened(folder):
        pass
    (folder / "logs" / "mine.vkey").write_bytes(b"\xff")
    with pytest.raises(InvalidError, match="no verifier key"), opened(folder):
        pass


def test_a_second_witness_is_refused(folder: Path) -> None:
    with opened(folder), pytest.raises(RefusedError, match="another witness"), opened(folder):
        pass
    with opened(folder):
        pass


def test_it_runs_as_a_process_of_its_own_and_a_log_is_added_by_one_command(tmp_path: Path) -> None:
    with listening() as (bound, url):
        port = bound.getsockname()[1]
    home = tmp_path / "var"
    environment = os.environ | {"PLIMSOLL_HOME": str(home), "PLIMSOLL_WITNESS_PORT": str(port)}
    command = [sys.executable, "-m", "lineage.witness"]
    added = subprocess.run([*command, "--add", VKEY], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert added.stdout.decode() == f"watching {SHOWN.signer.name}\n"
    wrong = subprocess.run([*command, "--add", "x"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert wrong.returncode == 1
    assert b"no verifier key" in wrong.stderr
    assert b"Traceback" not in wrong.stderr
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        with httpx.Client(
            base_url=url, trust_env=False, timeout=60, transport=httpx.HTTPTransport(retries=8, trust_env=False)
        ) as http:
            assert post(http, SHOWN.body(0, 11)).status_code == 200
            second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
            assert second.returncode == 1
            assert b"another witness" in second.stderr
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert history(tmp_path / "var-witness") == [(11, SHOWN.tree.root(11).hex())]
    assert not home.exists(), "nothing of it lies in the ledger's home"
