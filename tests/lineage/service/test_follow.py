"""Followers of the log see every record once and in order: server-sent events and long polls of a real process.

Also with many followers, across new connections and across a kill of the service.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest

from lineage.accounts.credentials import Credentials
from lineage.settings import Settings
from plimsoll.errors import Unavailable
from plimsoll.ledger import Ledger
from tests.support.ports import free_port
from tests.support.sample_facts import MODEL, sample

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
APPENDS, FOLLOWERS, IDLE, LARGE, TRIES = 200, 20, 20, 100, 5
_SECONDS = 60.0  # nobody waits longer for anything


class Service:
    """The ledger service in its own process."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, ledger_port=free_port())
        Credentials(self.settings).first_start()
        self.headers = {"Authorization": f"Bearer {self.settings.token('controller')}"}
        self.ledger = Ledger(self.settings.ledger_url, self.settings.token("controller"), timeout=_SECONDS)
        self.up = threading.Event()
        self.start()

    def start(self) -> None:
        """Return once it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PLIMSOLL_")}
        environment |= {
            "PLIMSOLL_HOME": str(self.settings.home),
            "PLIMSOLL_LEDGER_PORT": str(self.settings.ledger_port),
        }
        self.process = subprocess.Popen([sys.executable, "-m", "lineage.service"], cwd=ROOT, env=environment)
        with self.client() as client:
            assert client.get("/healthz").json()["ok"]
        self.up.set()

    def kill(self) -> None:
        self.up.clear()
        self.process.kill()
        self.process.wait(_SECONDS)

    def close(self) -> None:
        self.ledger.close()
        self.process.terminate()
        self.process.wait(_SECONDS)

    def client(self) -> httpx.Client:
        """Connections of one follower; where nobody listens yet it tries again for some seconds."""
        transport = httpx.HTTPTransport(retries=7)
        return httpx.Client(
            base_url=self.settings.ledger_url, headers=self.headers, timeout=_SECONDS, transport=transport
        )

    def record(self, number: int, text: str = "") -> Json:
        data = sample("AlertRaised", summary=f"{number} {text}")
        return self.ledger.append("AlertRaised", model=MODEL, data=data, key=f"{number}-{text[:80]}")

    def records(self, after: int = 0) -> list[Json]:
        found: list[Json] = []
        while True:
            page = self.ledger.records(after=after + len(found))
            found += page["records"]
            if after + len(found) >= page["head"]:
                return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with closing(Service(tmp_path_factory.mktemp("follow") / "var")) as opened:
        yield opened


def events(client: httpx.Client, after: int, *, header: bool = False) -> Iterator[Json]:
    """Records of one stream, until it ends."""
    given: Json = {"headers": {"Last-Event-ID": str(after)}} if header else {"params": {"after": after}}
    with client.stream("GET", "/v1/events", **given) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        number, silent = None, 0
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            silent = silent + 1 if line == ": alive" else 0 if value else silent
            assert silent < 3, "records that were promised do not come"
            if name == "id":
                number = int(value)
            elif name == "data":
                record: Json = orjson.loads(value)
                assert record["seq"] == number
                yield record


def events_by_header(client: httpx.Client, after: int) -> Iterator[Json]:
    return events(client, after, header=True)


def polls(client: httpx.Client, after: int) -> Iterator[Json]:
    """Records of long polls, each of which begins where the one before ended."""
    while True:
        page = client.get("/v1/records", params={"after": after, "wait": 20, "limit": 7}).json()
        assert page["records"], "records that were promised do not come"
        for record in page["records"]:
            after = record["seq"]
            yield record


Follow = Callable[[httpx.Client, int], Iterator[Json]]
ways = pytest.mark.parametrize("follow", [events, events_by_header, polls], ids=lambda way: way.__name__)


def seen(service: Service, follow: Follow, after: int, upto: int, again: int | None = None) -> list[Json]:
    """What a follower sees until it has record `upto`; it begins a new connection after every `again` records."""
    found: list[Json] = []
    last = after
    while last < upto:
        with service.client() as client:
            for number, record in enumerate(follow(client, last), start=1):
                found.append(record)
                last = record["seq"]
                if last >= upto or number == again:
                    break
    return found


@ways
@pytest.mark.parametrize("again", [None, 17], ids=["one connection", "many connections"])
def test_a_follower_sees_each_append_once_and_in_order(follow: Follow, again: int | None, service: Service) -> None:
    head = len(service.records())
    upto = head + APPENDS
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(seen, service, follow, head, upto, again)
        said = [service.record(number, f"{follow.__name__} {again}") for number in range(APPENDS)]
        assert follower.result(_SECONDS) == said
    assert [record["seq"] for record in said] == list(range(head + 1, upto + 1))


@ways
def test_a_follower_who_comes_late_sees_what_was_and_then_what_comes(follow: Follow, service: Service) -> None:
    before = service.records()
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(seen, service, follow, 0, len(before) + 10)
        said = [service.record(number, f"late {follow.__name__}") for number in range(10)]
        assert follower.result(_SECONDS) == before + said


def test_many_follow_at_once_and_one_of_them_never_reads(service: Service) -> None:
    head = len(service.records())
    upto = head + APPENDS
    with ExitStack() as stack:
        stack.enter_context(never_reading(service))
        pool = stack.enter_context(ThreadPoolExecutor(FOLLOWERS))
        follow = [(events, polls)[number % 2] for number in range(FOLLOWERS - 1)]
        followers = [pool.submit(seen, service, way, head, upto) for way in follow]
        said = [service.record(number, "in company") for number in range(APPENDS)]
        for follower in followers:
            assert follower.result(_SECONDS) == said


def test_who_never_reads_costs_the_service_little_memory(service: Service) -> None:
    large = "x" * 200_000
    for number in range(LARGE):
        service.record(number, large)
    before = psutil.Process(service.process.pid).memory_info().rss
    with ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(never_reading(service))
        everything = service.records()
        assert seen(service, events, 0, len(everything)) == everything, "the others are served"
        more = psutil.Process(service.process.pid).memory_info().rss - before
    assert more < IDLE * LARGE * len(large) / 4, "what nobody reads is not kept for each of them"


def never_reading(service: Service) -> socket.socket:
    """A follower from the first record on who sends the question and then sleeps."""
    idle = socket.socket()
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    idle.connect((service.settings.host, service.settings.ledger_port))
    asked = ["GET /v1/events HTTP/1.1", "Host: localhost", f"Authorization: {service.headers['Authorization']}"]
    idle.sendall("\r\n".join([*asked, "", ""]).encode())
    return idle


@pytest.mark.parametrize("follow", [events, polls], ids=lambda way: way.__name__)
def test_a_follower_goes_on_where_it_was_when_the_service_is_killed(follow: Follow, tmp_path: Path) -> None:
    with closing(Service(tmp_path / "var")) as service, ThreadPoolExecutor(2) as pool:
        halfway = threading.Event()
        follower = pool.submit(watch, service, follow, halfway)
        speaker = pool.submit(lambda: [record_until_delivered(service, number) for number in range(1, APPENDS + 1)])
        assert halfway.wait(_SECONDS)
        service.kill()
        service.start()
        said, found = speaker.result(_SECONDS), follower.result(_SECONDS)
        everything = service.records()
    assert [record["seq"] for record in found] == list(range(1, len(found) + 1))
    assert found == everything[: len(found)]
    assert [record for record in found if record["kind"] == "AlertRaised"] == said
    assert sum(record["kind"] == "LedgerOpened" for record in found) == 2, "it was killed and started again"


def watch(service: Service, follow: Follow, halfway: threading.Event) -> list[Json]:
    """Follow from the first record to the last alert, with a new connection whenever one breaks."""
    found: list[Json] = []
    while True:
        service.up.wait(_SECONDS)
        try:
            with service.client() as client:
                for record in follow(client, len(found)):
                    found.append(record)
                    if record["key"] == f"{APPENDS // 2}-":
                        halfway.set()
                    if record["key"] == f"{APPENDS}-":
                        return found
        except httpx.TransportError:  # it was killed meanwhile
            continue


def record_until_delivered(service: Service, number: int) -> Json:
    for _ in range(TRIES):
        try:
            return service.record(number)
        except Unavailable:
            service.up.wait(_SECONDS)
    return service.record(number)


def test_the_newer_of_after_and_last_event_id_counts(service: Service) -> None:
    head = len(service.records())
    assert head > 2
    with service.client() as client:
        asked = {"params": {"after": 1}, "headers": {"Last-Event-ID": str(head - 1)}}
        with client.stream("GET", "/v1/events", **asked) as stream:
            assert next(stream.iter_lines()) == f"id: {head}"


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", "9" * 19, "²"])
def test_a_last_event_id_that_is_none_is_told(bad: str, service: Service) -> None:
    with service.client() as client:
        answer = client.get("/v1/events", headers={"Last-Event-ID": bad.encode("latin-1")})  # type: ignore[dict-item]
    assert answer.status_code == 422
    assert answer.json()["field"] == "Last-Event-ID"


def test_stopping_does_not_wait_for_those_who_follow(tmp_path: Path) -> None:
    with (
        closing(Service(tmp_path / "var")) as service,
        never_reading(service),
        service.client() as client,
        client.stream("GET", "/v1/events") as stream,
    ):
        assert next(stream.iter_lines()) == "id: 1"
        service.close()
    assert service.process.returncode == -signal.SIGTERM
