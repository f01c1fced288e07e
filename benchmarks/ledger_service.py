"""The ledger with 1,000,000 records: opening, histories, proofs, appends and followers, here and over HTTP."""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from benchmarks import million
from lineage.accounts.credentials import Credentials
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from plimsoll.ledger import Ledger as LedgerClient

RECORDS, QUESTIONS, CLIENTS, SECONDS, NEWS = 1_000_000, 300, 16, 5.0, 200


def run(records: int = RECORDS) -> Iterator[str]:
    """Each figure with the number of times it was measured."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        settings = Settings(home=Path(place) / "var", ledger_port=_free_port())
        size = million.build(settings, records)
        yield f"{records} records of {million.MODELS} models, {size / 1e6:.0f} MB"
        yield from _in_process(settings, random.Random(1))
        Credentials(settings).first_start()
        began = time.perf_counter()
        with _service(settings) as process:
            memory = psutil.Process(process.pid).memory_info().rss / 2**20
            yield f"the service answers after {time.perf_counter() - began:.0f} s (store built anew), {memory:.0f} MiB"
            yield from _over_http(settings, records, random.Random(2))


def _in_process(settings: Settings, rng: random.Random) -> Iterator[str]:
    began, before = time.perf_counter(), psutil.Process().memory_info().rss
    ledger = Ledger(settings.log_folder, signer=signer_at(settings.log_key))
    took, more = time.perf_counter() - began, (psutil.Process().memory_info().rss - before) / 2**20
    yield f"opened, every link checked and every record folded, in {took:.0f} s; {more:.0f} MiB"
    count, releases = len(ledger.records), list(ledger.state.releases)
    find = ledger.records.find
    for newest in (False, True):
        for name, offset in {"begin": 0, "middle": count // 2, "end": count - 500}.items():
            page = partial(find, newest_first=newest, offset=offset, limit=500)
            yield _line(f"page at the {name}, {'newest' if newest else 'oldest'} first", _timed(page))
    yield _line("history of a release", _timed(lambda: find(release=rng.choice(releases), limit=500)))
    yield _line("page of a model", _timed(lambda: find(model=rng.choice(releases).partition("@")[0], limit=500)))
    yield _line("page of a kind", _timed(partial(find, kinds=["DriftMeasured"], offset=5_000, limit=500)))
    yield _line("page of an actor", _timed(partial(find, actor="validator", newest_first=True, limit=500)))
    both = partial(find, kinds=["DriftMeasured", "FairnessMeasured"], actor="controller", limit=500)
    yield _line("model, two kinds, actor", _timed(lambda: both(model=rng.choice(releases).partition("@")[0])))
    hashes: list[int] = []
    proofs = _timed(lambda: hashes.append(len(ledger.prove(rng.randint(1, count))[1])))
    yield f"{_line('inclusion proof', proofs)}, at most {max(hashes)} hashes"
    ledger.close()


def _over_http(settings: Settings, records: int, rng: random.Random) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {settings.token('controller')}"}
    with httpx.Client(base_url=settings.ledger_url, headers=headers, timeout=60.0, trust_env=False) as client:
        found = client.get("/v1/releases", params={"limit": 500}).json()["releases"]
        releases = [release["release"] for release in found]

        def page(**asked: Any) -> Callable[[], object]:
            return lambda: client.get("/v1/records", params={"limit": 100, **asked}).raise_for_status()

        asked = {
            "first page": page(),
            "page in the middle": page(offset=records // 2),
            "last page": page(offset=records - 100),
            "newest page": page(order="newest"),
            "oldest of the newest": page(order="newest", offset=records - 100),
            "page of a kind": page(kind="CheckCompleted", offset=5_000),
            "page of kind and actor": page(kind="CheckCompleted", actor="trainer", order="newest"),
        }
        for name, ask in asked.items():
            yield _line(f"HTTP {name}", _timed(ask))
        yield _line("HTTP release", _timed(lambda: client.get(f"/v1/records?release={rng.choice(releases)}")))
        yield _line("HTTP model", _timed(lambda: client.get(f"/v1/records?model={releases[-1].partition('@')[0]}")))
        sizes = [len(client.get(f"/v1/proof/{rng.randint(1, records)}").content) for _ in range(50)]
        yield f"one record with its proof: median {statistics.median(sizes):.0f} bytes, largest {max(sizes)}"
    yield from _appends(settings)
    yield from _bare_appends(settings)
    for followers in (1, 20):
        yield from _news(settings, followers)


def _appends(settings: Settings) -> Iterator[str]:
    taken: list[float] = []
    clients = [LedgerClient(settings.ledger_url, settings.token("controller"), timeout=60.0) for _ in range(CLIENTS)]
    for client in clients:  # connected first: creating a client reads certificates, which would delay the others
        client.append("AlertRaised", model="model-1", data=_ALERT)
    end = time.perf_counter() + SECONDS

    def write(client: LedgerClient) -> None:
        while (began := time.perf_counter()) < end:
            client.append("AlertRaised", model="model-1", data=_ALERT)
            taken.append(time.perf_counter() - began)
        client.close()

    threads = [threading.Thread(target=write, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield f"{_line(f'HTTP append, {CLIENTS} clients', taken)}, {len(taken) / SECONDS:.0f}/s"


def _bare_appends(settings: Settings) -> Iterator[str]:
    """As `_appends`, without the work of the client library, which shares this machine with the service."""
    taken: list[float] = []
    body = orjson.dumps({"kind": "AlertRaised", "model": "model-1", "data": _ALERT})
    token = settings.token("controller")
    fixed = f"POST /v1/facts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    fixed += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
    end = time.perf_counter() + SECONDS

    def write() -> None:
        with socket.create_connection((settings.host, settings.ledger_port)) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (began := time.perf_counter()) < end:
                wire.sendall(f"{fixed}{uuid.uuid4().hex}\r\n\r\n".encode() + body)
                answer = b""
                while not answer.endswith(b'"v":2}'):
                    answer += wire.recv(65_536)
                assert answer.startswith(b"HTTP/1.1 201"), answer
                taken.append(time.perf_counter() - began)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for writer in [pool.submit(write) for _ in range(CLIENTS)]:
            writer.result()
    yield f"{_line(f'HTTP append, {CLIENTS} bare clients', taken)}, {len(taken) / SECONDS:.0f}/s"


def _news(settings: Settings, followers: int) -> Iterator[str]:
    """From the acknowledgement of an append to its arrival at each follower of server-sent events."""
    client = LedgerClient(settings.ledger_url, settings.token("controller"), timeout=60.0)
    head = client.records(after=0, limit=1)["head"]
    following = threading.Barrier(followers + 1)

    def follow() -> dict[int, float]:
        arrived: dict[int, float] = {}
        headers = {"Authorization": f"Bearer {settings.token('controller')}"}
        with (
            httpx.Client(base_url=settings.ledger_url, headers=headers, timeout=60.0, trust_env=False) as client,
            client.stream("GET", "/v1/events", params={"after": head}) as stream,
        ):
            following.wait(60)
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    arrived[int(line[4:])] = time.perf_counter()
                if len(arrived) >= NEWS:
                    break
        return arrived

    with ThreadPoolExecutor(followers) as pool:
        seen = [pool.submit(follow) for _ in range(followers)]
        following.wait(60)
        acknowledged = {}
        for _ in range(NEWS):
            seq = client.append("AlertRaised", model="model-1", data=_ALERT)["seq"]
            acknowledged[seq] = time.perf_counter()
        late = [max(0.0, one.result()[seq] - at) for one in seen for seq, at in acknowledged.items()]
    yield _line(f"acknowledged to followed by {followers}", late)
    client.close()


_ALERT = {"alert": "drill", "about": None, "severity": "ticket", "summary": "a drill", "evidence": None}


def _timed(ask: Callable[[], object], count: int = QUESTIONS) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return taken


def _line(name: str, taken: list[float]) -> str:
    p50, p99 = (statistics.quantiles(taken, n=100)[at] * 1e3 for at in (49, 98))
    return f"{name:<32} {p50:7.2f} ms, p99 {p99:7.2f} ms  ({len(taken)} times)"


@contextmanager
def _service(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLIMSOLL_")}
    environment |= {"PLIMSOLL_HOME": str(settings.root), "PLIMSOLL_LEDGER_PORT": str(settings.ledger_port)}
    process = subprocess.Popen([sys.executable, "-m", "lineage.service"], env=environment)
    try:
        deadline = time.monotonic() + 300
        while not _answers(settings):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the ledger service does not come up")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.ledger_url}/healthz", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
