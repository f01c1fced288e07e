"""The ledger and its witness: a cut, old or forked log is detected, and only the witness can raise the alarm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.log.disk import Disk
from lineage.log.signed_note import Signer, Verifier
from lineage.witness.comparison import check_against_copy, check_against_witness
from lineage.witness.cosigner import Cosigner, OwnLog, rest_after
from lineage.witness.known_logs import register
from lineage.witness.server import Witness, create_app
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import ShownLog, key_of, listening, serving

TRIALS = 30  # of each kind of damage; `make bench BENCH=faults.rewinds` has 2,000


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Witness]]:
    """A real witness on a real port that trusts on first sight, and the object behind it."""
    app = create_app(tmp_path_factory.mktemp("witness"), trust_first=True)
    with serving(app) as url:
        yield url, app.state.witness


class Side:
    """A log's side: the log, its folder, and cosigners on it."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        self.folder, self.url = folder, url
        folder.mkdir(parents=True, exist_ok=True)
        self.log = ShownLog(f"plimsoll/{name}")
        self.pin, self.cosigned = folder / "witness.vkey", folder / "cosigned"

    def cosigner(self, log: ShownLog | OwnLog | None = None, **given: Any) -> Cosigner:
        own = log if isinstance(log, OwnLog) else (log or self.log).own()
        given = {"clock": ManualClock(), "seconds": 20.0, "rng": Random(1)} | given
        return Cosigner(own, self.url, pin=self.pin, cosigned=self.cosigned, **given)

    def submit(self, log: ShownLog | None = None) -> dict[str, Any]:
        """One round of a cosigner that has just been started; its state afterwards."""
        cosigner = self.cosigner(log)
        cosigner.submit()
        cosigner.close()
        return cosigner.state()

    def check(self, log: ShownLog | None = None) -> int | None:
        shown = log or self.log
        size, root = len(shown.tree), shown.tree.root
        found = check_against_witness(self.url, self.pin, shown.signer.verifier, size, root, seconds=20)
        return found.size if found else None


@pytest.fixture
def side(tmp_path: Path, witness: tuple[str, Witness], request: pytest.FixtureRequest) -> Side:
    side = Side(tmp_path / "ledger", witness[0], request.node.name.replace("[", "/").strip("]"))
    register(witness[1].folder, side.log.signer.verifier.vkey)
    return side


# --- the witness agrees


def test_the_newest_checkpoint_is_cosigned_kept_and_can_be_checked_by_anybody(side: Side) -> None:
    side.log.grow(11)
    assert side.check() is None, "the witness does not know the log yet"
    state = side.submit()
    vkey = side.pin.read_text().strip()
    assert state == {
        "witness": side.url,
        "vkey": vkey,
        "cosigned_size": 11,
        "lag": 0,
        "refused": None,
        "forgot": None,
        "problem": None,
        "unreachable_since": None,
    }
    note = side.cosigned.read_bytes()
    assert note.startswith(side.log.note())
    assert Verifier.parse(vkey).check(note)
    side.log.signer.verifier.check(note)
    assert side.check() == 11
    copy = check_against_copy(side.cosigned, side.pin, side.log.signer.verifier, 11, side.log.tree.root)
    assert copy is not None
    assert copy.size == 11


def test_a_log_goes_on_from_where_it_was_cosigned_also_after_a_restart_and_without_its_copy(side: Side) -> None:
    for step in range(12):
        side.log.grow(step % 4)
        if step % 3 == 2:
            side.cosigned.unlink()
        state = side.submit()
        assert (state["refused"], state["problem"], state["lag"]) == (None, None, 0)
    assert side.check() == len(side.log.tree)


def test_an_empty_log_is_cosigned_too(side: Side) -> None:
    assert side.submit()["problem"] is None
    assert side.check() == 0


def test_new_records_wake_the_cosigner_and_the_newest_wins(side: Side) -> None:
    cosigner = side.cosigner(interval=0.0)
    assert cosigner.state()["lag"] == 0
    cosigner.start()
    try:
        for size in range(1, 40):
            side.log.grow(1)
            cosigner.wake()
            if size % 10 == 0:
                assert cosigner.wait(size, 60)
        assert cosigner.wait(39, 60)
        assert not cosigner.wait(40, 0)
        assert cosigner.state()["lag"] == 0
    finally:
        cosigner.close()
    assert side.check() == 39


def test_what_is_recorded_within_the_interval_is_cosigned_on_closing(side: Side) -> None:
    side.log.grow(1)
    cosigner = side.cosigner(interval=3_600.0)
    cosigner.start()
    assert cosigner.wait(1, 60)
    side.log.grow(6)
    cosigner.wake()
    cosigner.close()
    assert cosigner.state()["cosigned_size"] == 7
    cosigner.close()  # twice does no harm


def test_without_news_the_witness_is_not_asked(side: Side) -> None:
    side.log.grow(5)
    cosigner = side.cosigner()
    assert cosigner.submit()
    before = side.cosigned.stat().st_mtime_ns, side.cosigned.stat().st_ino
    assert cosigner.submit()
    assert (side.cosigned.stat().st_mtime_ns, side.cosigned.stat().st_ino) == before
    cosigner.close()


# --- the witness saw another history


@pytest.mark.parametrize("copy", ["with its copy", "without its copy", "with an older copy"])
def test_a_log_that_was_put_back_cut_or_forked_is_always_refused_and_an_honest_one_never(
    copy: str, tmp_path: Path, witness: tuple[str, Witness], quick: None
) -> None:
    caught, honest = 0, 0
    for trial in range(TRIALS // 3):
        chance = Random(f"{copy}{trial}")
        side = Side(tmp_path / str(trial), witness[0], f"{copy.replace(' ', '-')}/{trial}")
        register(witness[1].folder, side.log.signer.verifier.vkey)
        side.log.grow(chance.randint(1, 60))
        side.submit()
        older = side.cosigned.read_bytes()
        then = side.log.copy()
        side.log.grow(chance.randint(1, 60))
        side.submit()
        side.log.grow(chance.choice([0, 0, 1, 30]))
        seen, whole = len(side.log.tree), side.log
        side.submit()
        if copy == "without its copy":
            side.cosigned.unlink()
        if copy == "with an older copy":
            side.cosigned.write_bytes(older)
        damaged = {
            "put back": then,
            "put back, went on": then.copy().grow(chance.randint(1, 99), "again"),
            "cut": whole.copy(chance.randrange(seen)),
            "fork": whole.copy(chance.randrange(seen)).grow(chance.randint(1, 99), "fork"),
            "replaced": ShownLog(whole.signer.name).grow(chance.randint(1, 99), "other"),
        }
        for what, log in damaged.items():
            state = side.submit(log)
            assert state["refused"], (what, trial, state)
            assert state["cosigned_size"] in (0, len(then.tree)), "nothing new"
            with pytest.raises(TamperedError) as error:
                side.check(log)
            assert (error.value.detail["seen"], error.value.detail["size"]) == (seen, len(log.tree))
            assert str(seen) in error.value.message
            assert str(len(log.tree)) in error.value.message
            caught += 1
        for log in (whole, whole.grow(chance.randint(1, 9))):
            state = side.submit(log)
            assert (state["refused"], state["problem"], state["lag"]) == (None, None, 0)
            assert side.check(log) == len(log.tree)
            honest += 1
    assert (caught, honest) == (5 * TRIALS // 3, 2 * TRIALS // 3)


def test_a_refusal_stays_until_somebody_looks_into_it(side: Side) -> None:
    side.log.grow(20)
    side.submit()
    side.cosigned.unlink()
    fork = side.log.copy(15).grow(9, "fork")
    cosigner = side.cosigner(fork)
    cosigner.start()
    assert not cosigner.wait(24, 60)
    refused = cosigner.state()["refused"]
    assert "its history was replaced" in refused
    for _ in range(3):
        fork.grow(1)
        cosigner.wake()
        assert not cosigner.submit()
    cosigner.close()
    state = cosigner.state()
    assert (state["refused"], state["lag"], state["cosigned_size"]) == (refused, 27, 0)
    assert side.check() == 20, "what was cosigned before stays so"


def test_a_log_that_is_shorter_than_its_own_cosigned_copy_is_told_without_the_witness(tmp_path: Path) -> None:
    with serving(create_app(tmp_path / "witness", trust_first=True)) as url:
        side = Side(tmp_path / "ledger", url, "copy")
        side.log.grow(20)
        side.submit()
    cut = side.log.copy(12)
    assert "newer records are gone" in side.submit(cut)["refused"]
    with pytest.raises(TamperedError, match="20 records"):
        check_against_copy(side.cosigned, side.pin, cut.signer.verifier, 12, cut.tree.root)
    with pytest.raises(UnavailableError):
        side.check(cut)
    side.cosigned.write_bytes(side.cosigned.read_bytes()[:-9])
    with pytest.raises(TamperedError, match="not what the witness cosigned"):
        check_against_copy(side.cosigned, side.pin, side.log.signer.verifier, 20, side.log.tree.root)
    side.cosigned.unlink()
    assert check_against_copy(side.cosigned, side.pin, cut.signer.verifier, 12, cut.tree.root) is None


def test_a_log_whose_key_was_exchanged_is_refused(side: Side) -> None:
    side.log.grow(9)
    side.submit()
    side.cosigned.unlink()
    other = side.log.copy()
    other.signer = Signer(side.log.signer.name, key_of("another"))
    assert "another key" in side.submit(other)["refused"]
    with pytest.raises(TamperedError, match="another key"):
        side.check(other)


# --- whoever is not the witness


def test_the_first_key_of_the_witness_is_the_only_one_that_counts(tmp_path: Path) -> None:
    with listening() as (bound, url):
        side = Side(tmp_path / "ledger", url, "pinned")
        side.log.grow(9)
        with serving(create_app(tmp_path / "witness", trust_first=True), bound):
            side.submit()
        kept = side.cosigned.read_bytes()
    with serving(create_app(tmp_path / "impostor", trust_first=True)) as other:
        side.url = other
        side.log.grow(1)
        with pytest.raises(RefusedError, match="another key") as refusal:
            side.check()
        assert refusal.value.code == "witness_changed"
        state = side.submit()
        assert "does not count" in state["problem"]
        assert (state["refused"], state["cosigned_size"], state["lag"]) == (None, 9, 1)
        assert side.cosigned.read_bytes() == kept, "what it signed is not kept"
        side.pin.unlink()  # the operator begins with another witness
        state = side.submit()
        assert (state["problem"], state["refused"], state["lag"]) == (None, None, 0)
        assert side.check() == 10


def test_nobody_is_his_own_witness(side: Side, witness: tuple[str, Witness]) -> None:
    key = witness[1].verifier
    same = Verifier(side.log.signer.name, key.key)
    with pytest.raises(RefusedError, match="a witness needs a key of its own"):
        check_against_witness(side.url, side.pin, same, 0, side.log.tree.root)
    assert not side.pin.exists()
    side.pin.write_text(key.vkey)
    with pytest.raises(RefusedError, match="a witness needs a key of its own"):
        check_against_witness(side.url, side.pin, same, 0, side.log.tree.root)


class Liar:
    """Answers every POST alike, and the rest as a witness that knows nobody; shows the key it is given."""

    def __init__(self, vkey: str, status: int, kind: str, body: bytes, latest: bytes = b"") -> None:
        self.vkey, self.answer, self.asked = vkey, (body, status, {"content-type": kind}), 0
        self.latest = latest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = Response(b"unknown", 404)
        if request.method == "POST":
            await request.body()
            self.asked += 1
            response = Response(*self.answer)
        elif scope["path"] == "/vkey":
            response = Response(self.vkey)
        elif self.latest:
            response = Response(self.latest)
        await response(scope, receive, send)


LIES = {
    "larger size": (409, "text/x.tlog.size", b"1000000\n"),
    "smaller size": (409, "text/x.tlog.size", b"3\n"),
    "no size": (409, "text/x.tlog.size", b"many\n"),
    "size without a newline": (409, "text/x.tlog.size", b"3"),
    "size of another kind": (409, "text/plain", b"3\n"),
    "another root": (409, "application/json", b"{}"),
    "no proof": (422, "application/json", b"{}"),
    "no key": (403, "application/json", b"{}"),
    "not known": (404, "application/json", b"{}"),
    "failed": (500, "text/plain", b"oh"),
    "elsewhere": (307, "text/plain", b"http://127.0.0.1:1/"),
    "signed by nobody": (200, "text/plain", b""),
    "junk": (200, "text/plain", b"\xff\xfe junk"),
    "signed by the log": (200, "text/plain", ShownLog("plimsoll/lies", 9).note().partition(b"\n\n")[2]),
    "signed by another": (200, "text/plain", Signer("w", key_of("w"), cosigns=True).cosign(ShownLog().note(), 9)),
    "without end": (200, "text/plain", b"x" * 200_000),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_whoever_lacks_the_key_can_neither_cosign_nor_raise_an_alarm(lie: str, tmp_path: Path) -> None:
    vkey = Signer("the/witness", key_of("true"), cosigns=True).verifier.vkey
    liar = Liar(vkey, *LIES[lie])
    with serving(liar) as url:
        side = Side(tmp_path, url, "lies")
        side.log.grow(9)
        state = side.submit()
    assert liar.asked
    assert state["problem"]
    assert (state["refused"], state["cosigned_size"], state["lag"]) == (None, 0, 9)
    assert state["unreachable_since"] == "2026-11-23T10:00:00.000000Z"
    assert not side.cosigned.exists()


def test_a_checkpoint_that_only_the_log_signed_is_no_proof_that_the_witness_saw_it(tmp_path: Path) -> None:
    true = Signer("the/witness", key_of("true"), cosigns=True)
    false = Signer("the/witness", key_of("false"), cosigns=True)
    larger = ShownLog("plimsoll/lies", 20)
    for latest in (larger.note(), larger.note() + false.cosign(larger.note(), 9), b"junk"):
        with serving(Liar(true.verifier.vkey, 422, "application/json", b"{}", latest)) as url:
            side = Side(tmp_path, url, "lies")
            side.log.grow(9)
            with pytest.raises(UnavailableError, match="does not count"):
                side.check()
            state = side.submit()
            assert (state["refused"], bool(state["problem"])) == (None, True)
    latest = larger.note() + true.cosign(larger.note(), 9)
    with serving(Liar(true.verifier.vkey, 422, "application/json", b"{}", latest)) as side.url:
        assert side.submit()["refused"], "the same one with the true signature is"


@pytest.mark.parametrize("vkey", ["", "junk", ShownLog().signer.verifier.vkey, "\x00" * 200_000])
def test_what_is_no_witness_is_not_pinned(vkey: str, tmp_path: Path) -> None:
    with serving(Liar(vkey, 200, "text/plain", b"")) as url:
        side = Side(tmp_path, url, "no-witness")
        with pytest.raises((UnavailableError, RefusedError)):
            side.check()
        assert side.submit()["problem"]
        assert not side.pin.exists()


def test_a_spoilt_pin_is_told_and_not_replaced(side: Side) -> None:
    for junk in (b"junk", b"\xff"):
        side.pin.write_bytes(junk)
        with pytest.raises(TamperedError, match="no witness's key"):
            side.check()
        assert side.submit()["refused"]
        assert side.pin.read_bytes() == junk


def test_an_answer_that_drips_without_end_is_given_up(tmp_path: Path) -> None:
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def drip() -> Any:
            while not ended.is_set():
                yield b"x"

        if scope["type"] == "http":
            await StreamingResponse(drip())(scope, receive, send)

    with serving(app) as url:
        side = Side(tmp_path, url, "drip")
        with pytest.raises(UnavailableError, match="without end"):
            side.check()
        ended.set()


# --- the witness is away, or has forgotten


def test_a_witness_that_is_away_holds_nothing_up_and_is_caught_up_with(tmp_path: Path, clock: ManualClock) -> None:
    with listening() as (bound, url):
        pass
    side = Side(tmp_path / "ledger", url, "away")
    side.log.grow(5)
    cosigner = side.cosigner(clock=clock)
    for _ in range(3):
        assert not cosigner.submit()
        clock.later(seconds=60)
    state = cosigner.state()
    assert (state["unreachable_since"], state["lag"]) == ("2026-11-23T10:00:00.000000Z", 5)
    assert "no answer" in state["problem"]
    with pytest.raises(UnavailableError, match="no answer"):
        side.check()
    with listening() as (bound, url), serving(create_app(tmp_path / "witness", trust_first=True), bound):
        cosigner.close()
        side.url = url
        state = side.submit()
    assert (state["unreachable_since"], state["problem"], state["lag"]) == (None, None, 0)
    side.log.grow(2)
    state = side.submit()
    assert (state["cosigned_size"], state["lag"]) == (5, 2), "what was cosigned before a restart counts"


def test_the_thread_tries_again_until_the_witness_is_there(tmp_path: Path) -> None:
    with listening() as (bound, url):
        side = Side(tmp_path / "ledger", url, "again")
        side.log.grow(5)
        strict = create_app(tmp_path / "witness")  # it does not watch this log yet
        with serving(strict, bound):
            cosigner = side.cosigner()
            cosigner.start()
            while cosigner.state()["problem"] is None:
                cosigner.wait(5, 0.05)
            assert f"--add {side.log.signer.verifier.vkey}" in cosigner.state()["problem"]
            register(tmp_path / "witness", side.log.signer.verifier.vkey)
            assert cosigner.wait(5, 60)
            cosigner.close()
    assert cosigner.state()["problem"] is None


def test_a_witness_that_forgot_is_told_and_gone_on_with(tmp_path: Path) -> None:
    with listening() as (bound, url):
        side = Side(tmp_path / "ledger", url, "forgot")
        side.log.grow(5)
        home = tmp_path / "witness"
        with serving(create_app(home, trust_first=True), bound):
            side.submit()
    for path in [*(home / "seen").iterdir(), *(home / "logs").iterdir()]:
        path.unlink()
    with serving(create_app(home, trust_first=True)) as side.url:
        side.log.grow(2)
        cosigner = side.cosigner()
        assert cosigner.submit()
        assert cosigner.state()["forgot"] == "the witness cosigned 5 records before and knows of 0 now"
        side.log.grow(2)
        assert cosigner.submit()
        assert cosigner.state()["forgot"], "it stays told"
        cosigner.close()


def test_a_full_disk_is_told_and_gone_over(side: Side) -> None:
    class FullDisk(Disk):
        full = True

        def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().write_at(descriptor, data, offset)

    disk = FullDisk()
    side.log.grow(3)
    cosigner = side.cosigner(disk=disk)
    assert not cosigner.submit()
    assert "could not be pinned: No space" in cosigner.state()["problem"]
    side.check()  # pins the key
    assert not cosigner.submit()
    assert "could not be stored: No space" in cosigner.state()["problem"]
    disk.full = False
    assert cosigner.submit()
    assert cosigner.state()["lag"] == 0
    cosigner.close()


def test_after_failures_it_waits_longer_and_not_for_as_long_as_others(tmp_path: Path) -> None:
    for seed in range(50):
        waits = [rest_after(failures, Random(seed)) for failures in range(1, 3_000)]
        assert 0.25 <= waits[0] <= 0.5
        assert all(later >= earlier for earlier, later in pairwise(waits))
        assert 30 <= waits[-1] <= 60
    assert len({rest_after(9, Random(seed)) for seed in range(50)}) == 50


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:7412", "ftp://x", "http://", "http://me:secret@host", "http://host/?a=b", "http://[::", "x" * 9],
)
def test_an_address_that_is_none_is_refused_without_telling_passwords(url: str, side: Side) -> None:
    side.url = url
    with pytest.raises(InvalidError) as error:
        side.cosigner()
    assert error.value.field == "witness_url"
    assert "secret" not in error.value.message
