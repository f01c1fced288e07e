"""Delivery to receivers that are healthy, absent, slow or broken: in order, without loss, without blocking."""

from __future__ import annotations

import os
import random
import signal
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any, ClassVar

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lineage.errors import InvalidError, UnavailableError
from lineage.ledger import Ledger
from lineage.log.index import Records
from lineage.log.reader import Entry, Line
from lineage.openlineage.events import Translator, encode
from lineage.openlineage.outbox import Outbox
from lineage.openlineage.receiver import FileTarget, HttpTarget, read_receiver
from tests.support.ports import free_port
from tests.support.sample_facts import MODEL, FactWriter, ManualClock

ROOT = Path(__file__).parents[3]
SECONDS = 60
Answer = Callable[[int, bytes], int]


class Receiver:
    """A real HTTP server: keeps every body it was sent and answers each as it is told to."""

    def __init__(self, port: int = 0, tls: tuple[Path, Path] | None = None) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Answer = lambda number, body: 201
        self.arrived: Queue[bytes] = Queue()
        self.reply = b"{}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar[bool] = True

            def do_POST(self) -> None:
                outer.take(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}/api/v1/lineage"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()} | {"path": request.path})
        status = self.answer(len(self.bodies), body)
        with suppress(OSError):  # who asked may be gone
            request.send_response(status)
            request.send_header("Content-Length", str(len(self.reply)))
            request.send_header("Location", "/elsewhere")
            request.end_headers()
            request.wfile.write(self.reply)
        self.arrived.put(body)

    def wait(self, count: int) -> None:
        """Until so many bodies were answered."""
        for _ in range(count):
            self.arrived.get(timeout=SECONDS)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.mkdir()
    return path


@contextmanager
def running(outbox: Outbox) -> Iterator[Outbox]:
    outbox.start()
    try:
        yield outbox
    finally:
        outbox.close(SECONDS)


def all_of(ledger: Ledger, namespace: str = "plimsoll") -> list[bytes]:
    translator = Translator(ledger.records, namespace)
    return [encode(event) for record in ledger.records for event in translator.events(record)]


def drain(outbox: Outbox) -> None:
    """Deliver until everything is told; a failure is an error here."""
    while (wait := outbox.step()) is not None:
        assert wait == 0.0, outbox.state()


def dead_letters(outbox: Outbox) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in outbox.dead_letters.read_bytes().splitlines()]


# What is sent, and from where


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


def test_an_endless_reply_holds_nobody_up(writer: FactWriter, receiver: Receiver, folder: Path) -> None:
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


# Killed


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


# Who is named as the receiver


def test_nothing_is_sent_where_nobody_is_named(writer: FactWriter, folder: Path) -> None:
    writer.champion()
    outbox = Outbox.of_user(writer.ledger.records, folder)
    before = threading.active_count()
    with running(outbox):
        assert threading.active_count() == before
        assert outbox.step() is None
    state = {"url": None, "sent": 0, "waiting": 0, "dead": 0, "failing_since": None}
    assert outbox.state() == state | {"why": "no receiver is set"}
    assert list(folder.iterdir()) == []


def test_the_variables_of_openlineage_name_the_receiver(
    writer: FactWriter, receiver: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", receiver.url.removesuffix("/api/v1/lineage") + "/")
    monkeypatch.setenv("OPENLINEAGE_ENDPOINT", "/custom/lineage")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret-123")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "bank-prod")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    writer.train()
    outbox = Outbox.of_user(writer.ledger.records, folder)
    drain(outbox)
    assert receiver.bodies == all_of(writer.ledger, "bank-prod")
    assert {name["authorization"] for name in receiver.headers} == {"Bearer secret-123"}
    assert {name["path"] for name in receiver.headers} == {"/custom/lineage"}


@pytest.mark.parametrize("said", ["true", "1", "TRUE"])
def test_it_can_be_switched_off(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", said)
    assert read_receiver() == (None, "plimsoll")


def test_a_file_named_by_the_user_goes_before_the_variables(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = receiver.url.removesuffix("/api/v1/lineage")
    text = (
        f"transport:\n  type: http\n  url: {base}\n  timeout: 3\n  auth:\n    type: api_key\n    apiKey: of-the-file\n"
    )
    (tmp_path / "conf.yml").write_text(text)
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "conf.yml"))
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    target, _ = read_receiver()
    assert isinstance(target, HttpTarget)
    target.send(b"{}")
    assert receiver.headers[0]["authorization"] == "Bearer of-the-file"
    assert target.url == receiver.url


def test_a_file_in_the_working_folder_is_read(writer: FactWriter, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "openlineage.yml").write_text("transport:\n  type: file\n  log_file_path: out.jsonl\n")
    writer.champion()
    drain(Outbox.of_user(writer.ledger.records, folder))
    assert (tmp_path / "out.jsonl").read_bytes().splitlines() == all_of(writer.ledger)


def test_the_nested_variables_name_a_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(tmp_path / "a.jsonl"))
    target, _ = read_receiver()
    assert isinstance(target, FileTarget)
    assert target.url == f"file:{tmp_path / 'a.jsonl'}"


def test_a_file_that_cannot_be_written_is_waited_for(writer: FactWriter, folder: Path, tmp_path: Path) -> None:
    writer.train()
    outbox = Outbox(writer.ledger.records, folder, FileTarget(tmp_path / "missing" / "out.jsonl"))
    assert outbox.step()
    (tmp_path / "missing").mkdir()
    drain(outbox)
    assert (tmp_path / "missing" / "out.jsonl").read_bytes().splitlines() == all_of(writer.ledger)


def test_the_console_is_the_log_of_the_service(
    writer: FactWriter, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "console")
    writer.train()
    drain(Outbox.of_user(writer.ledger.records, folder))
    assert capsys.readouterr().out.count("eventType") == 2


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ({"OPENLINEAGE_URL": "bank.example"}, "url"),
        ({"OPENLINEAGE_URL": "ftp://bank.example"}, "url"),
        ({"OPENLINEAGE_URL": "http://user:hidden@127.0.0.1"}, "url"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1:99999"}, "url"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1", "OPENLINEAGE_API_KEY": "hidden\nX: y"}, "api_key"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1", "OPENLINEAGE_DISABLED": "hidden"}, "OPENLINEAGE_DISABLED"),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "kafka"}, "transport.type"),
        ({"OPENLINEAGE__TRANSPORT": '{"type":"http","url":"http://a","auth":{"type":"jwt"}}'}, "transport.auth.type"),
        ({"OPENLINEAGE__TRANSPORT": '{"type":"http","url":"http://a","retry":{"total":"hidden"}}'}, "transport.retry"),
        ({"OPENLINEAGE_CONFIG": "/nowhere/to/be/found.yml"}, "OPENLINEAGE_CONFIG"),
    ],
)
def test_what_is_not_understood_is_said_without_its_secrets_and_sends_nothing(
    names: dict[str, str], field: str, writer: FactWriter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidError) as refused:
        read_receiver()
    assert refused.value.field == field
    assert "hidden" not in refused.value.message
    outbox = Outbox.of_user(writer.ledger.records, folder)
    assert outbox.state()["url"] is None
    assert outbox.state()["why"] == refused.value.message


@pytest.mark.parametrize(
    "text", ["transport: [", "- a\n", "filters:\n  - type: exact\n", "transport: {type: file, append: false}"]
)
def test_a_file_that_asks_for_what_is_not_done_here_sends_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "openlineage.yml").write_text(text)
    with pytest.raises(InvalidError, match="OpenLineage's configuration"):
        read_receiver()


def test_the_key_is_never_shown(
    writer: FactWriter, receiver: Receiver, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.train()
    receiver.answer = lambda number, body: {1: 500, 2: 401}.get(number, 400)
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url, "secret-123"))
    assert outbox.step()
    assert outbox.step()
    drain(outbox)
    shown = capsys.readouterr()
    kept = "".join(path.read_text() for path in folder.iterdir())
    assert "secret-123" not in f"{shown.out}{shown.err}{kept}{outbox.state()}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")])
    host = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    draft = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    draft = draft.serial_number(7).not_valid_before(begin).not_valid_after(end).add_extension(host, critical=False)
    made = draft.sign(key, hashes.SHA256())
    pem, secret = folder / "bank.pem", folder / "bank.key"
    pem.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem, secret


def test_a_receiver_is_trusted_only_on_a_certificate_that_the_user_vouches_for(tmp_path: Path) -> None:
    pem, secret = certificate(tmp_path)
    receiver = Receiver(tls=(pem, secret))
    base = receiver.url.removesuffix("/api/v1/lineage")
    with pytest.raises(UnavailableError, match="certificate"):
        HttpTarget(receiver.url).send(b"{}")
    text = f"transport:\n  type: http\n  url: {base}\n  sslContext:\n    caCertPath: {pem}\n"
    (tmp_path / "openlineage.yml").write_text(text)
    target, _ = read_receiver()
    assert target is not None
    target.send(b"{}")
    receiver.close()
    assert receiver.bodies == [b"{}"]


def test_an_unreachable_address_says_which() -> None:
    port = free_port()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        HttpTarget(f"http://127.0.0.1:{port}/").send(b"{}")


# Feast's receiver


FEATURE_STORE = """\
project: credit
registry: registry.db
provider: local
entity_key_serialization_version: 3
openlineage:
  consumer:
    enabled: true
    connection_string: sqlite:///{path}
"""


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Feast's lineage server, a process of its own; its address."""
    repository, port = tmp_path_factory.mktemp("features"), free_port()
    (repository / "feature_store.yaml").write_text(FEATURE_STORE.format(path=repository / "lineage.db"))
    program = str(Path(sys.executable).with_name("feast"))
    command = [program, "-c", str(repository), "serve_lineage", "-h", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"FEAST_USAGE": "False"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=repository)
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "Uvicorn running" in line:
            break
    else:
        pytest.fail("".join(said))
    reader = threading.Thread(target=server.stderr.read, daemon=True)  # or it would stop when the pipe is full
    reader.start()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(SECONDS)
    reader.join(SECONDS)
    server.stderr.close()


def ask(feast: str, path: str) -> Any:
    reply = httpx.get(f"{feast}/api/v1/lineage/openlineage{path}", trust_env=False, timeout=SECONDS)
    reply.raise_for_status()
    return reply.json()


def edges(graph: dict[str, Any]) -> set[tuple[str, str]]:
    return {(edge["source_name"], edge["target_name"]) for edge in graph["edges"]}


@pytest.fixture
def shown(feast: str, writer: FactWriter, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> str:
    """The journey of a release, from its data to its decisions, delivered to Feast."""
    place = {"uri": "file:///srv/datasets/credit-default", "version": 3, "digest": "sha256:data"}
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    writer.record("DatasetPinned", **place)
    clock.later(seconds=9)
    release = writer.train(request=request, dataset=place)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("ReleaseRegistered", release, digest=writer.digest(release))
    writer.record("JobFinished", request=request, status="succeeded")
    writer.promote(writer.rollout(writer.approve(writer.to_review(writer.canary(release)))))
    for kind in ("DecisionsSealed", "DriftMeasured", "FairnessMeasured"):
        writer.record(kind)
    monkeypatch.setenv("OPENLINEAGE_URL", feast)
    outbox = Outbox.of_user(writer.ledger.records, folder)
    drain(outbox)
    assert outbox.state()["dead"] == 0
    assert outbox.state()["sent"] == len(all_of(writer.ledger))
    return feast


def test_feast_shows_the_way_from_the_data_to_the_model_to_the_decisions(shown: str) -> None:
    graph = ask(shown, "/graph")
    assert edges(graph) >= {
        ("/srv/datasets/credit-default", f"{MODEL}.train"),
        (f"{MODEL}.train", f"{MODEL}.model"),
        (f"{MODEL}.model", f"{MODEL}.validate"),
        (f"{MODEL}.model", f"{MODEL}.rollout"),
        (f"{MODEL}.rollout", f"{MODEL}.route"),
        (f"{MODEL}.route", f"{MODEL}.serve"),
        (f"{MODEL}.serve", f"{MODEL}.decisions"),
        (f"{MODEL}.decisions", f"{MODEL}.monitor"),
        (f"{MODEL}.retrain", f"{MODEL}.train"),
        ("/srv/datasets/credit-default", "uci"),
    }
    nodes = {node["name"]: node for node in graph["nodes"]}
    data = nodes["/srv/datasets/credit-default"]
    assert [field["name"] for field in data["schema"]["fields"]] == ["LIMIT_BAL", "default"]
    assert data["facets"]["version"]["datasetVersion"] == "3"
    assert nodes[f"{MODEL}.model"]["facets"]["datasetType"]["datasetType"] == "MODEL"


def test_feast_leads_from_a_model_back_to_its_data(shown: str) -> None:
    graph = ask(shown, f"/graph/dataset/plimsoll/{MODEL}.model?direction=upstream")
    assert ("/srv/datasets/credit-default", f"{MODEL}.train") in edges(graph)
    assert {node["namespace"] for node in graph["nodes"] if node["type"] == "dataset"} == {"file", "plimsoll"}


def test_feast_shows_the_runs_and_who_began_them(shown: str, writer: FactWriter) -> None:
    found = {run["job_name"]: run for run in ask(shown, "/runs?limit=500")["runs"]}
    translator = Translator(writer.ledger.records)
    retrain = translator.run_id(MODEL, "retrain", 1)
    assert {name.removeprefix(f"{MODEL}."): run["state"] for name, run in found.items()} == dict.fromkeys(
        ("retrain", "train", "validate", "rollout", "serve", "monitor"), "COMPLETE"
    )
    tree = ask(shown, f"/runs/{translator.run_id(MODEL, 'train', f'{MODEL}@1')}/tree")
    assert {run["run_id"] for run in tree["runs"]} >= {translator.run_id(MODEL, "validate", f"{MODEL}@1")}
    assert found[f"{MODEL}.train"]["parent_run_id"] == retrain


def test_feast_takes_an_event_twice_without_a_second_run(shown: str, writer: FactWriter, tmp_path: Path) -> None:
    before = {run["run_id"] for run in ask(shown, "/runs?limit=500")["runs"]}
    again = tmp_path / "again"
    again.mkdir()
    drain(Outbox.of_user(writer.ledger.records, again))
    assert {run["run_id"] for run in ask(shown, "/runs?limit=500")["runs"]} == before
