"""The outbox: each event in order and once, whatever the receiver, the disk or the process does."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import orjson
import pytest

from lineage.ledger import Ledger
from lineage.log.index import Records
from lineage.log.reader import Entry, Line
from lineage.openlineage.events import encode
from lineage.openlineage.outbox import Outbox
from lineage.openlineage.receiver import HttpTarget
from tests.support.lineage_receiver import SECONDS, Receiver, all_of, dead_letters, drain, running
from tests.support.ports import free_port
from tests.support.sample_facts import MODEL, FactWriter, ManualClock

ROOT = Path(__file__).parents[3]


def test_everything_is_sent_in_order_and_once(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    for _ in range(8):
        writer.champion()
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    drain(outbox)
    assert receiver.bodies == all_of(writer.ledger)
    assert len(receiver.bodies) > 50, "more than one batch"
    assert {name["content-type"] for name in receiver.headers} == {"application/json"}
    state = {"url": receiver.url, "sent": len(receiver.bodies), "waiting": 0, "dead": 0}
    assert outbox.state() == state | {"failing_since": None, "why": None}


def test_news_is_sent_while_the_ledger_goes_on(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    writer.ledger.follow(outbox.wake)
    with running(outbox):
        for _ in range(3):
            before = len(all_of(writer.ledger))
            writer.champion()
            receiver.wait(len(all_of(writer.ledger)) - before)
    assert receiver.bodies == all_of(writer.ledger)


def test_it_sleeps_until_there_is_news(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    stepped: Queue[float | None] = Queue()

    class Counted(Outbox):
        def step(self) -> float | None:
            wait = super().step()
            stepped.put(wait)
            return wait

    writer.train()
    outbox = Counted(writer.ledger.records, folder, HttpTarget(receiver.url))
    with running(outbox):
        assert stepped.get(timeout=SECONDS) is None
        outbox.wake()
        assert stepped.get(timeout=SECONDS) is None
    assert stepped.qsize() <= 1, "closing may be news, nothing else was"


def test_a_restart_goes_on_where_it_stopped(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    writer.champion()
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    sent = len(receiver.bodies)
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    writer.champion()
    drain(outbox)
    assert receiver.bodies == all_of(writer.ledger)
    assert outbox.state()["sent"] == len(receiver.bodies) > sent


def test_a_failure_between_the_events_of_a_record_repeats_none(
    writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.train()
    receiver.answer = lambda number, body: 503 if number == 2 else 201
    assert Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)).step()
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    started, completed = all_of(writer.ledger)
    assert receiver.bodies == [started, completed, completed]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seq":"1"}', b'{"ledger":"sha256:other","seq":3}'])
def test_a_cursor_that_does_not_speak_of_this_ledger_begins_anew(
    content: bytes, writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.champion()
    (folder / "openlineage.cursor").write_bytes(content)
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    assert receiver.bodies == all_of(writer.ledger)


def test_a_ledger_that_was_put_back_to_an_older_copy_is_told_anew(
    writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.train()
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    cursor = orjson.loads((folder / "openlineage.cursor").read_bytes())
    (folder / "openlineage.cursor").write_bytes(orjson.dumps(cursor | {"seq": 99}))
    writer.train()
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    assert receiver.bodies == all_of(writer.ledger)[:2] + all_of(writer.ledger)


# Receivers that are not well


def test_a_receiver_that_is_away_is_waited_for(writer: FactWriter, clock: ManualClock, folder: Path) -> None:
    writer.champion()
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/lineage"
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(url), clock=clock, rng=random.Random(7))
    since = "2026-11-23T10:00:00.000000Z"
    waits = []
    for _ in range(12):
        waits.append(outbox.step())
        clock.later(minutes=5)
    assert outbox.state()["failing_since"] == since
    assert "ConnectError" in outbox.state()["why"]
    assert outbox.state()["waiting"] == len(writer.ledger.records)
    for tries, wait in enumerate(waits):
        longest = min(300.0, 2.0**tries)
        assert longest / 2 <= (wait or 0.0) <= longest
    assert len(set(waits[9:])) == 3, "chance cuts the longest too, each by its own"
    back = Receiver(port)
    drain(outbox)
    back.close()
    assert back.bodies == all_of(writer.ledger)
    assert outbox.state()["failing_since"] is None
    assert outbox.state()["why"] is None


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429, 401, 403, 404, 405, 301, 307])
def test_an_answer_that_does_not_speak_of_the_event_is_asked_for_again(
    status: int, writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.train()
    receiver.answer = lambda number, body: status if number <= 2 else 201
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    assert outbox.step()
    assert outbox.step()
    assert f"answered {status}" in outbox.state()["why"]
    drain(outbox)
    first, second = all_of(writer.ledger)
    assert receiver.bodies == [first, first, first, second]
    assert not outbox.dead_letters.exists()
    assert {name["path"] for name in receiver.headers} == {"/api/v1/lineage"}, "no redirect is followed"


def test_an_event_that_is_refused_is_set_aside_with_the_reason_and_the_rest_goes_on(
    writer: FactWriter, receiver: Receiver, folder: Path, clock: ManualClock
) -> None:
    writer.champion()
    events = all_of(writer.ledger)
    refused = [events[1], events[4]]
    receiver.answer = lambda number, body: 422 if body in refused else 201
    receiver.reply = b"no such\nthing"
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url), clock=clock)
    drain(outbox)
    assert receiver.bodies == events
    letters = dead_letters(outbox)
    assert [encode(letter["event"]) for letter in letters] == refused
    assert letters[0]["why"] == f"{receiver.url} answered 422: 'no such\\nthing'"
    assert (letters[0]["kind"], letters[0]["at"]) == ("ModelTrained", "2026-11-23T10:00:00.000000Z")
    assert stat.S_IMODE(outbox.dead_letters.stat().st_mode) == 0o600
    state = outbox.state()
    assert (state["sent"], state["dead"], state["waiting"]) == (len(events) - 2, 2, 0)
    assert state["failing_since"] is None
    assert "answered 422" in state["why"]
    again = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    drain(again)
    assert again.state()["dead"] == 2, "it is remembered"


def test_what_a_crash_left_of_a_dead_letter_stays_a_line_of_its_own(
    writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.train()
    receiver.answer = lambda number, body: 400
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    outbox.dead_letters.write_bytes(b'{"at":"2026')
    drain(outbox)
    first, *rest = outbox.dead_letters.read_bytes().splitlines()
    assert first == b'{"at":"2026'
    assert [encode(orjson.loads(line)["event"]) for line in rest] == all_of(writer.ledger)


def test_a_record_that_cannot_be_told_is_set_aside(receiver: Receiver, folder: Path, tmp_path: Path) -> None:
    records = Records()
    told = {"kind": "ReviewDecided", "model": MODEL, "release": f"{MODEL}@1", "actor": {"name": "a", "role": "b"}}
    told |= {"at": "2026-11-23T10:00:00.000000Z", "seq": 1}
    later = told | {"seq": 2, "kind": "CanaryAborted", "data": {"why": "harm"}}
    entries = [told | {"data": {}}, later]  # as one that an older version wrote might look
    records.publish([Entry(one, Line(orjson.dumps(one), tmp_path / "log", 0), b"") for one in entries])
    outbox = Outbox(records, folder, HttpTarget(receiver.url))
    drain(outbox)
    assert len(receiver.bodies) == 1
    (letter,) = dead_letters(outbox)
    assert (letter["seq"], letter["event"]) == (1, None)
    assert "KeyError" in letter["why"]


def test_a_slow_receiver_is_given_up_for_now(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    writer.train()
    released = threading.Event()

    def slow(number: int, body: bytes) -> int:
        if number == 1:
            released.wait(SECONDS)
        return 201

    receiver.answer = slow
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url, timeout=0.2))
    assert outbox.step()
    assert "ReadTimeout" in outbox.state()["why"]
    released.set()
    drain(outbox)
    first, second = all_of(writer.ledger)
    assert receiver.bodies == [first, first, second], "whether it took the first is not known, so it is sent again"


def test_an_endless_reply_is_given_up(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    writer.train()
    receiver.reply = b"x" * 50_000_000
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    drain(outbox)
    assert receiver.bodies == all_of(writer.ledger)


def test_an_append_waits_for_no_receiver(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    reached, released = threading.Event(), threading.Event()

    def hang(number: int, body: bytes) -> int:
        reached.set()
        released.wait(SECONDS)
        return 201

    receiver.answer = hang
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url, timeout=SECONDS))
    writer.ledger.follow(outbox.wake)
    with running(outbox):
        writer.train()
        assert reached.wait(SECONDS)
        for _ in range(5):
            writer.champion()
        assert outbox.state()["sent"] == 0, "the receiver has not answered yet"
        released.set()
        receiver.wait(len(all_of(writer.ledger)))
    assert receiver.bodies == all_of(writer.ledger)


def test_closing_stops_after_the_event_under_way(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
    writer.champion()
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))

    def close(number: int, body: bytes) -> int:
        outbox.close(0.0)
        return 201

    receiver.answer = close
    outbox.start()
    receiver.wait(1)
    outbox.close(SECONDS)
    assert receiver.bodies == all_of(writer.ledger)[:1]
    receiver.answer = lambda number, body: 201
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    assert receiver.bodies == all_of(writer.ledger)


def test_a_disk_that_takes_no_cursor_is_told_and_loses_nothing(
    writer: FactWriter, receiver: Receiver, folder: Path
) -> None:
    writer.champion()
    (folder / "openlineage.cursor.new").mkdir()
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url))
    assert outbox.step()
    assert "Is a directory" in outbox.state()["why"]
    (folder / "openlineage.cursor.new").rmdir()
    drain(outbox)
    assert outbox.state()["why"] is None
    assert receiver.bodies == all_of(writer.ledger)
    drain(Outbox(writer.ledger.records, folder, HttpTarget(receiver.url)))
    assert receiver.bodies == all_of(writer.ledger), "the cursor was written"


def test_a_fault_of_the_sender_itself_is_told(
    writer: FactWriter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()

    class Faulty(HttpTarget):
        def send(self, body: bytes) -> None:
            reached.set()
            raise ZeroDivisionError("a fault")

    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    writer.train()
    outbox = Outbox(writer.ledger.records, folder, Faulty("http://127.0.0.1:9"))
    with running(outbox):
        assert reached.wait(SECONDS)
    assert outbox.state()["why"] == "a fault"
    assert outbox.state()["failing_since"]


CHILD = """
import sys
from pathlib import Path
from tests.support.sample_facts import FactWriter
from lineage.ledger import Ledger
from lineage.openlineage.outbox import Outbox
from lineage.openlineage.receiver import HttpTarget

folder, url, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ledger = Ledger(folder / "log")
outbox = Outbox(ledger.records, folder, HttpTarget(url))
outbox.start()
ledger.follow(outbox.wake)
FactWriter(ledger, name).champion()
sys.stdin.read()
"""


def test_killed_at_any_moment_it_loses_and_reorders_nothing(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    receiver, home, kills = Receiver(), tmp_path / "ledger", 9
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for number in range(kills):
        command = [sys.executable, "-c", CHILD, str(home), receiver.url, f"model-{number}"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        moment, before = len(receiver.bodies) + chance.randint(1, 9), chance.random() < 0.5

        def kill(count: int, body: bytes, child: Any = child, moment: int = moment, before: bool = before) -> int:
            if count == moment and before:
                os.kill(child.pid, signal.SIGKILL)
            elif count == moment:  # the answer is on its way when it dies
                threading.Thread(target=os.kill, args=(child.pid, signal.SIGKILL)).start()
            return 201

        receiver.answer = kill
        assert child.wait(SECONDS) == -signal.SIGKILL
        assert child.stdin is not None
        child.stdin.close()
    receiver.answer = lambda count, body: 201
    ledger = Ledger(home / "log")
    outbox = Outbox(ledger.records, home, HttpTarget(receiver.url))
    drain(outbox)
    expected = all_of(ledger)
    receiver.close()
    ledger.close()
    place = {body: number for number, body in enumerate(expected)}
    assert len(place) == len(expected)
    came = [place[body] for body in receiver.bodies]
    assert list(dict.fromkeys(came)) == list(range(len(expected))), "nothing is lost and nothing overtakes"
    steps = [after - before for before, after in pairwise(came)]
    assert [step for step in steps if step > 1] == [], "nothing is left out"
    assert len([step for step in steps if step < 1]) <= kills, "only a crash sends anything again"
