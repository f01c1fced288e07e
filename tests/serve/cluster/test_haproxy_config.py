"""HAProxy's configuration as Ray writes it and as it runs: listeners, refusals, slow callers. Real HAProxy."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from socket import socket

import pytest

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.haproxy_config import (
    Limits,
    bound_to,
    config_without_replicas,
    corrected,
    is_routed,
    limits_for,
    standby_config,
)
from tests.support.gateway_servers import SERVICE, Reply, connect, haproxy, raw_request, read_reply, send, served
from tests.support.holding_replica import Replica
from tests.support.real_haproxy import Written, guarded, ray_writes

_LIMITS = limits_for(32)
_NOWHERE = 30_003
_LONG = 20_000  # milliseconds: nobody is refused because a test is slow


Front = tuple[Replica, int]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("hap")
    return Settings(home=folder / "var", ray_tmp=folder / "ray")


@pytest.fixture(scope="module")
def written(settings: Settings) -> Written:
    return ray_writes(settings, [30_001, 30_002])


@pytest.fixture
def replica() -> Iterator[tuple[Replica, int]]:
    replica = Replica()
    with served(replica.app) as port:
        send(port, raw_request(path="/v2"))  # it has begun
        yield replica, port
        replica.go()


@cache
def _before_nothing() -> Written:
    with tempfile.TemporaryDirectory() as folder:
        return ray_writes(Settings(home=Path(folder) / "var", ray_tmp=Path(folder) / "r"), [_NOWHERE])


def _front(stack: ExitStack, at: int, tmp_path: Path, limits: Limits) -> int:
    return stack.enter_context(guarded(_before_nothing().moved(_NOWHERE, at), tmp_path, limits))


def _patient(**changes: int) -> Limits:
    limits = replace(_LIMITS, body=_LONG, headers=_LONG, client=_LONG)
    return replace(
        limits,
        customers=replace(limits.customers, concurrent=1, max_queue=2, queue_timeout=_LONG, burst_queue=2),
        **changes,
    )


def _ask(stack: ExitStack, port: int, request: bytes | None = None) -> socket:
    connection = stack.enter_context(connect(port))
    connection.sendall(request or raw_request(b"{}"))
    return connection


def _answered(asked: list[socket], count: int) -> tuple[list[Reply], list[socket]]:
    """The replies that come first, and who still waits: requests that come at once are not taken in their order."""
    replies, waiting = [], list(asked)
    while len(replies) < count:
        there = [one for one in wait(waiting, _LONG / 1000) if isinstance(one, socket)]
        assert there
        for connection in there[: count - len(replies)]:
            replies.append(read_reply(connection))
            waiting.remove(connection)
    return replies, waiting


def _error_of(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/json"
    assert reply.content["error"]
    return str(reply.content["code"])


def test_haproxy_takes_what_is_made_of_rays_template(written: Written, settings: Settings, tmp_path: Path) -> None:
    texts = {name: corrected(getattr(written, name), settings.host, _LIMITS) for name in ("routed", "unrouted")}
    texts["standby"] = standby_config(texts["routed"], "127.0.0.1:8000")
    texts["nothing"] = bound_to(config_without_replicas(_LIMITS), "127.0.0.1:8000")
    assert [name for name, text in texts.items() if is_routed(text)] == ["routed", "standby"]
    for name, text in texts.items():
        path = tmp_path / f"{name}.cfg"
        path.write_text(text)
        checked = subprocess.run([str(haproxy()), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_every_listener_is_on_loopback_and_the_admin_socket_is_its_owners(written: Written) -> None:
    text = corrected(written.routed, "127.0.0.1", _LIMITS)
    binds = re.findall(r"^\s*bind (\S+)", text, re.MULTILINE)
    assert len(binds) == 3
    assert [bind for bind in binds if not bind.startswith("127.0.0.1:")] == []
    assert re.findall(r"stats socket \S+ mode (\d+)", text) == ["600"]
    standby = standby_config(text, "fd@7")
    assert re.findall(r"^\s*bind (\S+)", standby, re.MULTILINE) == ["fd@7"]
    assert "stats socket" not in standby


def test_haproxy_logs_no_request_and_splices_no_body(written: Written) -> None:
    per_request = re.compile(r"^\s*(log\s|option (httplog|splice-)).*$", re.MULTILINE)
    assert per_request.findall(written.routed)  # so Ray writes it
    text = corrected(written.routed, "127.0.0.1", _LIMITS)
    assert per_request.findall(text + standby_config(text, "fd@7")) == []


def test_correcting_again_changes_nothing(written: Written) -> None:
    text = corrected(written.routed, "127.0.0.1", _LIMITS)
    assert corrected(text, "127.0.0.1", _LIMITS) == text


@pytest.mark.parametrize(
    "line",
    ["frontend prometheus", "listen stats", "mode 666", "default-server ", " bind 127", " use_backend", " check"],
)
def test_another_template_than_the_known_one_is_refused(written: Written, line: str) -> None:
    assert line in written.routed
    with pytest.raises(UnavailableError, match="HAProxy"):
        corrected(written.routed.replace(line, "mode other"), "127.0.0.1", _LIMITS)


def test_a_replica_has_room_for_two_haproxies_at_a_time() -> None:
    for inflight in (32, 100, 4096):
        assert 2 * limits_for(inflight).concurrent <= inflight
    assert min(pool.concurrent for pool in limits_for(1).pools) == 1


def test_who_finds_the_queue_full_is_refused_at_once_and_who_was_let_in_is_answered(
    replica: Front, tmp_path: Path
) -> None:
    held, at = replica
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, _patient())
        first = _ask(stack, port)
        assert held.came.acquire(timeout=20)
        refused, let_in = _answered([_ask(stack, port) for _ in range(5)], 3)
        assert [(reply.status, _error_of(reply), reply.headers["retry-after"]) for reply in refused] == [
            (503, "overloaded", "1")
        ] * 3
        held.go()
        assert [read_reply(connection).status for connection in (first, *let_in)] == [200] * 3
    assert held.most == 1


def test_how_ray_watches_a_request_is_not_for_callers_to_say(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    theirs = raw_request(path="/v2", X_Request_Timeout_Seconds="0.001", X_Request_Disconnect_Disabled="?0")
    with ExitStack() as stack:
        assert send(_front(stack, at, tmp_path, _patient()), theirs).status == 200
    assert held.headers[b"x-request-timeout-seconds"] == b"0"
    assert held.headers[b"x-request-disconnect-disabled"] == b"?1"


def test_in_a_rush_fewer_may_wait(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    limits = _patient(burst_rate=2)
    limits = replace(limits, customers=replace(limits.customers, max_queue=1_000, burst_queue=1))
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, limits)
        first = _ask(stack, port)
        assert held.came.acquire(timeout=20)
        (late,), _ = _answered([_ask(stack, port) for _ in range(500)], 1)
        assert (late.status, _error_of(late)) == (503, "overloaded")
        held.go()
        assert read_reply(first).status == 200


def test_the_platform_itself_and_questions_of_health_are_answered_while_customers_are_refused(
    replica: Front, tmp_path: Path
) -> None:
    held, at = replica
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, _patient())
        _ask(stack, port)
        assert held.came.acquire(timeout=20)
        (refused,), _ = _answered([_ask(stack, port) for _ in range(8)], 1)
        assert refused.status == 503
        health = raw_request(path="/v2/health/ready", method="GET", token=None, Content_Length=None)
        assert send(port, health, "GET").status == 200
        verified = _ask(stack, port, raw_request(b"{}", token=SERVICE))
        assert held.came.acquire(timeout=20)
        forged = send(port, raw_request(b"{}", token=SERVICE + "x"))
        assert (forged.status, _error_of(forged)) == (503, "overloaded")
        held.go()
        assert read_reply(verified).status == 200


def test_large_bodies_take_no_place_of_small_ones(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    with ExitStack() as stack:
        limits = _patient()
        port = _front(stack, at, tmp_path, limits)
        for _ in range(limits.bulk.concurrent + 2):
            half = raw_request(b" " * 20_000, Content_Length="100000")
            _ask(stack, port, half)
        small = _ask(stack, port)
        assert held.came.acquire(timeout=20)
        held.go()
        assert read_reply(small).status == 200


def test_some_hundred_slow_callers_keep_nobody_waiting(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    held.go()
    heads = b"POST /decide/loan HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:"
    body = raw_request(b"{", Content_Length="500")
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, _patient())
        for _ in range(150):
            _ask(stack, port, heads)
            _ask(stack, port, body)
        assert [send(port, raw_request(b"{}")).status for _ in range(5)] == [200] * 5
    assert held.most == 1


def test_slow_callers_are_cut(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    held.go()
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, _patient(headers=300, body=300, keep_alive=300))
        assert read_reply(_ask(stack, port, b"POST /decide/loan HTTP/1.1\r\nHost: 127.0.0.1\r\nX-S")).status == 408
        cut = read_reply(_ask(stack, port, raw_request(b"{", Content_Length="500")))
        assert (cut.status, _error_of(cut)) == (408, "too_slow")
        idle = _ask(stack, port)
        assert read_reply(idle).status == 200
        assert idle.recv(1) == b""
    assert held.most <= 1


def test_an_upgrade_is_refused_but_for_an_offer_of_h2c(replica: Front, tmp_path: Path) -> None:
    held, at = replica
    held.go()
    handshake = {
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    with ExitStack() as stack:
        port = _front(stack, at, tmp_path, _patient())
        request = raw_request(method="GET", Content_Length=None, Upgrade="websocket", **handshake)
        reply = send(port, request, "GET")
        assert (reply.status, _error_of(reply)) == (400, "malformed")
        h2c = {"Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
        assert send(port, raw_request(b"{}", Upgrade="h2c", **h2c)).status == 200


def test_without_a_replica_everybody_is_told_to_come_back(tmp_path: Path) -> None:
    with ExitStack() as stack:
        port = _front(stack, 9, tmp_path, _patient())
        reply = send(port, raw_request(json.dumps({}).encode()))
    assert (reply.status, _error_of(reply), reply.headers["retry-after"]) == (503, "unavailable", "1")
