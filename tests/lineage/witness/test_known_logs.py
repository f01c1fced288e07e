"""The witness's state survives crashes, broken disks and any sequence of true and false histories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import httpx
import pytest
from hypothesis import settings as depth
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lineage.errors import PlimsollError, RefusedError, TamperedError, UnavailableError, UnknownError
from lineage.log.checkpoint import open_checkpoint
from lineage.log.disk import Disk
from lineage.witness.known_logs import register
from lineage.witness.server import Witness
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import ShownLog, history, listening, opened, post

ROOT = Path(__file__).parents[3]
SHOWN = ShownLog(size=40)
VKEY = SHOWN.signer.verifier.vkey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    register(tmp_path / "witness", VKEY)
    return tmp_path / "witness"


# --- what it remembers


def test_times_of_cosignatures_never_go_backwards(folder: Path, clock: ManualClock) -> None:
    moments = []
    for step, seconds in enumerate([0, 60, -3_600, 30, 7_200]):
        clock.later(seconds=seconds)
        with opened(folder, clock=clock) as witness:
            line = witness.add_checkpoint(SHOWN.body(step, step + 1))
            moments.append(witness.verifier.check(SHOWN.note(step + 1) + line))
    start = int(ManualClock()().timestamp())
    assert moments == [start, start + 60, start + 60, start + 60, int(clock().timestamp())]


def test_the_same_head_is_cosigned_again_with_a_new_time_and_told_once(folder: Path, clock: ManualClock) -> None:
    with opened(folder, clock=clock) as witness:
        first = witness.add_checkpoint(SHOWN.body(0, 9))
        clock.later(seconds=5)
        second = witness.add_checkpoint(SHOWN.body(9, 9))
        assert first != second
        assert witness.latest(SHOWN.signer.name).endswith(second)
    assert len(history(folder)) == 1


def seen_files(folder: Path) -> tuple[Path, Path]:
    name = SHOWN.signer.name.replace("/", "%2F")
    return folder / "seen" / f"{name}.note", folder / "seen" / f"{name}.jsonl"


def test_a_torn_tail_of_the_history_is_cut_and_caught_up(folder: Path) -> None:
    with opened(folder) as witness:
        for old, new in ((0, 5), (5, 9)):
            witness.add_checkpoint(SHOWN.body(old, new))
    expected = [(size, SHOWN.tree.root(size).hex()) for size in (5, 9)]
    whole = seen_files(folder)[1].read_bytes()
    for kept in range(whole.index(b"\n") + 1, len(whole) + 1):
        seen_files(folder)[1].write_bytes(whole[:kept])
        with opened(folder):
            assert history(folder) == expected
    for torn in (b"{", b'{"root":"ab', b"x" * 100):
        seen_files(folder)[1].write_bytes(whole + torn)
        with opened(folder):
            assert seen_files(folder)[1].read_bytes() == whole


def test_a_memory_that_was_changed_or_put_back_is_told(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as witness:
        witness.add_checkpoint(SHOWN.body(0, 5))
        older = seen_files(folder)[0].read_bytes()
        witness.add_checkpoint(SHOWN.body(5, 9))
    note, past = seen_files(folder)
    newest, lines = note.read_bytes(), past.read_bytes()
    with opened(tmp_path / "another", trust_first=True) as another:
        another.introduce(VKEY)
        foreign = SHOWN.note(9) + another.add_checkpoint(SHOWN.body(0, 9))
    damages: list[tuple[Path, bytes | None]] = [
        (note, older),
        (note, None),
        (note, b""),
        (note, newest[:-1]),
        (note, newest.replace(b"\n9\n", b"\n8\n")),
        (note, SHOWN.note(9)),
        (note, foreign),
        (past, b"x" * 5_000),
        (past, b"junk\n"),
        (past, lines.replace(b'"size":9', b'"size":10')),
    ]
    for path, data in damages:
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(TamperedError), opened(folder):
            pass
        note.write_bytes(newest)
        past.write_bytes(lines)
    with opened(folder) as witness:
        witness.add_checkpoint(SHOWN.body(9, 10))


def test_of_many_requests_at_once_none_overtakes_another(folder: Path, quick: None) -> None:
    """The race that the specification warns of: a smaller size must not be stored over a larger one."""
    cosigned: list[int] = []
    codes: set[str] = set()
    with opened(folder) as witness:

        def work(seed: int) -> None:
            chance, old = Random(seed), 0
            for _ in range(40):
                new = min(40, old + chance.randrange(3))
                try:
                    witness.add_checkpoint(SHOWN.body(old, new))
                    cosigned.append(new)
                    old = new
                except RefusedError as refusal:
                    codes.add(refusal.code)
                    old = refusal.detail["size"]

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sizes = [size for size, _ in history(folder)]
    assert sizes == sorted(set(sizes))
    assert set(cosigned) == set(sizes)
    assert codes <= {"stale"}


# --- crashes and broken disks


class BrokenDisk(Disk):
    """Fails at one of its calls: with an error, or as if the process ended there."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error

    def append(self, descriptor: int, data: bytes) -> None:
        half = len(data) // 2
        super().append(descriptor, data[:half])
        self._count()
        super().append(descriptor, data[half:])
        self._count()

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        half = len(data) // 2
        super().write_at(descriptor, data[:half], offset)
        self._count()
        super().write_at(descriptor, data, offset)

    def flush(self, descriptor: int) -> None:
        super().flush(descriptor)
        self._count()

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)
        self._count()

    def flush_folder(self, folder: Path) -> None:
        super().flush_folder(folder)
        self._count()


class EndError(BaseException):
    """The process ends here."""


def bring_to(folder: Path, size: int) -> None:
    with opened(folder) as witness:
        for old in range(size):
            witness.add_checkpoint(SHOWN.body(old, old + 1))


def must_be_whole(witness: Witness, size: int) -> None:
    """After whatever happened while `size + 1` was offered: the old head or the new one, and only the true history."""
    known = open_checkpoint(witness.latest(SHOWN.signer.name), SHOWN.signer.verifier)
    assert known.size in (size, size + 1)
    assert known.root == SHOWN.tree.root(known.size)
    expected = [(number, SHOWN.tree.root(number).hex()) for number in range(1, known.size + 1)]
    assert history(witness.folder) == expected
    fork = SHOWN.copy(size).grow(1, "fork")
    if known.size == size + 1:
        with pytest.raises(RefusedError, match="another root"):
            witness.add_checkpoint(fork.body(known.size))
    witness.add_checkpoint(SHOWN.body(known.size, size + 2))
    with pytest.raises(RefusedError):
        witness.add_checkpoint(fork.grow(4).body(size + 2))


@pytest.mark.parametrize("end", ["crash", "error"])
def test_wherever_storing_ends_the_witness_goes_on_with_the_old_head_or_the_new(end: str, tmp_path: Path) -> None:
    reached = 0
    for at in range(1, 30):
        folder = tmp_path / str(at)
        register(folder, VKEY)
        bring_to(folder, 3)
        disk = BrokenDisk(10_000, EndError() if end == "crash" else OSError(28, "No space left on device"))
        with opened(folder, disk=disk) as witness:
            disk.left = at
            try:
                witness.add_checkpoint(SHOWN.body(3, 4))
            except EndError:
                pass
            except UnavailableError:
                must_be_whole(witness, 3)  # without a restart
                continue
            else:
                break
        reached += 1
        with opened(folder) as witness:
            must_be_whole(witness, 3)
    assert at > 6, "storing takes several steps"
    assert (reached > 6) == (end == "crash")


CHILD = """
import os, signal, socket, sys
from pathlib import Path
import uvicorn
from lineage.log.disk import Disk
from lineage.witness.server import create_app

folder, number, left = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Deadly(Disk):
    def step(self):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def flush(self, descriptor):
        super().flush(descriptor)
        self.step()
    def rename(self, old, new):
        super().rename(old, new)
        self.step()
    def flush_folder(self, folder):
        super().flush_folder(folder)
        self.step()

server = uvicorn.Server(uvicorn.Config(create_app(folder, disk=Deadly()), log_level="error"))
server.run(sockets=[socket.socket(fileno=number)])
"""


@contextmanager
def child(folder: Path, left: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A witness process that kills itself after `left` durable steps."""
    with listening() as (bound, url):
        number = bound.fileno()
        command = [sys.executable, "-c", CHILD, str(folder), str(number), str(left)]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[number])
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
            try:
                yield process, http
            finally:
                process.kill()
                process.wait()


def test_a_witness_killed_between_storing_and_answering_answers_consistently_afterwards(folder: Path) -> None:
    fork = SHOWN.copy(3).grow(1, "fork")
    bring_to(folder, 3)
    fates, size = set(), 3
    # 1: recalling on start; 2 to 4: the note; 5 and 6: the history; then it would answer
    for left in (2, 3, 4, 5, 6):
        with child(folder, left) as (process, http):
            with pytest.raises(httpx.TransportError):
                post(http, SHOWN.body(size, size + 1))
            assert process.wait(60) == -signal.SIGKILL
        with child(folder, 0) as (process, http):
            latest = http.get(f"/checkpoint/{SHOWN.signer.name}").content
            known = open_checkpoint(latest, SHOWN.signer.verifier).size
            fates.add(known - size)
            assert known in (size, size + 1)
            assert post(http, fork.body(0)).content == f"{known}\n".encode()
            if known == len(fork.tree):
                assert post(http, fork.body(known)).status_code == 409
            assert post(http, SHOWN.body(known, size + 1)).status_code == 200
            fork.grow(1)
        size += 1
        assert history(folder) == [(number, SHOWN.tree.root(number).hex()) for number in range(1, size + 1)]
    assert fates == {0, 1}


# --- any sequence of true and false histories


class AnyLog(RuleBasedStateMachine):
    """A log that may fork, go back and lie, and a witness that may be restarted at any time."""

    @initialize()
    def begin(self) -> None:
        self.quick = mock.patch.object(os, "fsync"), mock.patch.object(os, "fdatasync")
        for patch in self.quick:
            patch.start()
        self.space = tempfile.TemporaryDirectory()
        self.folder = Path(self.space.name) / "witness"
        register(self.folder, VKEY)
        self.clock = ManualClock()
        self.witness = Witness(self.folder, clock=self.clock)
        self.branches = [ShownLog()]
        self.cosigned: list[tuple[int, bytes, int]] = [(0, ShownLog().tree.root(), 0)]

    @rule(branch=st.integers(0, 9), count=st.integers(1, 9))
    def grow(self, branch: int, count: int) -> None:
        index = branch % len(self.branches)
        self.branches[index].grow(count, f"branch {index} ")

    @rule(branch=st.integers(0, 9), at=st.floats(0, 1))
    def fork(self, branch: int, at: float) -> None:
        origin = self.branches[branch % len(self.branches)]
        self.branches.append(origin.copy(round(at * len(origin.tree))))

    @rule(seconds=st.integers(-10_000, 10_000))
    def time_passes(self, seconds: int) -> None:
        self.clock.later(seconds=seconds)

    @rule()
    def restart(self) -> None:
        self.witness.close()
        self.witness = Witness(self.folder, clock=self.clock)

    @rule(branch=st.integers(0, 9), at=st.floats(0, 1), old=st.integers(0, 60), honest=st.booleans(), cut=st.booleans())
    def offer(self, branch: int, at: float, old: int, honest: bool, cut: bool) -> None:
        shown = self.branches[branch % len(self.branches)]
        known, root, moment = self.cosigned[-1]
        size = len(shown.tree) if honest else round(at * len(shown.tree))
        old = known if honest else old
        offer = shown.offer(min(old, size), size)
        proof = offer.proof[:-1] if cut and not honest else offer.proof
        may = min(old, size) == known and shown.tree.root(known) == root and proof == offer.proof
        body = type(offer)(old, proof, offer.note).body
        if not may or old > size:
            with pytest.raises(PlimsollError) as refusal:
                self.witness.add_checkpoint(body)
            assert refusal.value.status in (400, 409, 422)
            return
        line = self.witness.add_checkpoint(body)
        when = self.witness.verifier.check(offer.note + line)
        assert when is not None
        assert when >= moment
        for before, its_root, _ in self.cosigned:
            assert before <= size
            assert shown.tree.root(before) == its_root, "two histories were cosigned"
        self.cosigned.append((size, shown.tree.root(size), when))

    @invariant()
    def what_is_told_is_what_was_cosigned(self) -> None:
        if len(getattr(self, "cosigned", ())) > 1:
            size, root, _ = self.cosigned[-1]
            latest = open_checkpoint(self.witness.latest(SHOWN.signer.name), SHOWN.signer.verifier)
            assert (latest.size, latest.root) == (size, root)
            heads = list(dict.fromkeys((size, root.hex()) for size, root, _ in self.cosigned[1:]))
            assert history(self.folder) == heads
        elif hasattr(self, "witness"):
            with pytest.raises(UnknownError):
                self.witness.latest(SHOWN.signer.name)

    def teardown(self) -> None:
        if hasattr(self, "witness"):
            self.witness.close()
            self.space.cleanup()
            for patch in self.quick:
                patch.stop()


TestAnyLog = AnyLog.TestCase
TestAnyLog.settings = depth(max_examples=150, stateful_step_count=30)
