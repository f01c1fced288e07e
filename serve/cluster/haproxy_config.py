"""HAProxy's configuration: the file that Ray writes from its template, corrected before each start. Pure.

Ray's template binds listeners to every interface, waits five seconds for a replica that is gone, queues any number of
requests for ever and answers errors as text, and has no settings for these. `corrected` changes them, and raises when
the template is not the expected one, so that HAProxy never starts with a configuration that was not checked. The
reasons for the limits are in docs/adr/0017-overload.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from lineage.errors import UnavailableError

CUSTOMERS = "http-gateway"  # Ray's name for the backend of application `gateway`
_FRONTEND, _DEFAULT = "frontend http_frontend", "backend default_backend"


@dataclass(frozen=True)
class Pool:
    """A class of requests with its own concurrency limit, so that one class cannot starve another.

    Attributes:
        name: of the backend.
        concurrent: requests that one replica works on at a time.
        max_queue: requests that may wait, for each replica.
        queue_timeout: how long one may wait, in milliseconds: a replica may pause for a moment.
        burst_queue: instead of max_queue, while requests arrive faster than replicas answer. After a refusal only one
            may wait for a second, because a longer queue would make every request late.
    """

    name: str
    concurrent: int
    max_queue: int
    queue_timeout: int
    burst_queue: int


@dataclass(frozen=True)
class Limits:
    """Limits of the ingress. Times are in milliseconds, sizes in bytes."""

    customers: Pool
    service: Pool
    health: Pool
    bulk: Pool
    max_bytes: int = 1024 * 1024  # of a body; serve.gateway.body has the same limit
    bulk_bytes: int = 8 * 1024  # larger bodies may exceed HAProxy's buffer and occupy a replica while they arrive
    burst_rate: int = 100  # requests in 100 ms, for each replica: faster is a burst
    refusal_hold: int = 1_000  # how long queues stay short after a refusal
    connect: int = 100
    check: int = 5_000  # of health: a dead replica refuses at once, a busy one may take this long
    headers: int = 5_000
    body: int = 5_000
    client: int = 15_000
    server: int = 35_000  # longer than anything that the gateway waits for
    keep_alive: int = 30_000

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools, the customers' first."""
        return (self.customers, self.service, self.health, self.bulk)

    @property
    def concurrent(self) -> int:
        """Requests that one replica can have at a time from this HAProxy, over all pools."""
        return sum(pool.concurrent for pool in self.pools)


def limits_for(inflight: int) -> Limits:
    """Limits for replicas that take `inflight` requests at a time.

    From 32 up, twice their sum fits into `inflight`, for an old HAProxy may still run beside its successor: a replica
    that refuses would only make HAProxy retry elsewhere, which adds load.
    """

    def pool(name: str, part: int, max_queue: int, queue_timeout: int, burst_queue: int = 64) -> Pool:
        return Pool(name, max(1, inflight // part), max_queue, queue_timeout, min(burst_queue, max_queue))

    return Limits(
        pool(CUSTOMERS, 8, 256, 5_000),  # twice the limit of serve.decision.challenger_client
        pool(f"{CUSTOMERS}-service", 8, 64, 5_000),  # the platform itself: verification, route status
        pool(f"{CUSTOMERS}-health", 16, 32, 1_000),
        pool(f"{CUSTOMERS}-bulk", 8, 28, 5_000),  # large bodies: slow to arrive and to answer
    )


#: Error answers of HAProxy itself, in the form of lineage.errors: code, message and, if there is one, the field.
_ERRORS: dict[int, tuple[str, ...]] = {
    400: ("malformed", "this is no HTTP request that can be read; check the request line, the headers and their sizes"),
    408: ("too_slow", "the body did not arrive in time; expected it with the request", "body"),
    422: ("malformed", "this transfer encoding is not possible here; expected chunked or a Content-Length"),
    500: ("unavailable", "the gateway could not answer; try again in a second"),
    502: ("unavailable", "the answer of the gateway could not be read; try again in a second"),
    503: ("unavailable", "no replica of the gateway is free or up; try again in a second"),
    504: ("unavailable", "the gateway did not answer in time; try again in a second"),
}
_OVERLOADED = ("overloaded", "there are more requests than can be answered in time; try again in a second")
_STARTING = ("unavailable", "the gateway is not up yet; try again in a second")
_LARGE = ("too_large", "the body is larger than {most} bytes; send fewer rows", "body")
_TARGET = ("malformed", "the target of the request is no path; expected one that begins with /")
_UPGRADE = ("malformed", "the connection cannot be upgraded; expected a request of HTTP/1.1 without the header Upgrade")


def corrected(text: str, host: str, limits: Limits, service: str = "") -> str:
    """Ray's configuration with the platform's limits, listeners and error answers.

    Args:
        text: written by Ray; an already corrected one is returned as it is.
        host: the address that every listener is bound to.
        service: `fingerprint` of the service's token; without it the service has no pool of its own.

    Raises:
        UnavailableError: the text does not come from Ray 2.60's template.
    """
    sections = _sections(text)
    if _expected(sections, "defaults").count(_MARK):
        return text
    _restrict_listeners(sections, host)
    _remove_request_logs(sections)
    _set_defaults(_expected(sections, "defaults"), limits)
    _set_frontend(_expected(sections, _FRONTEND), limits, service, routed=f"backend {CUSTOMERS}" in sections)
    sections[_DEFAULT] = [f"    http-request return {_http_return(503, *_STARTING)}"]
    if f"backend {CUSTOMERS}" in sections:
        sections |= _backends(sections.pop(f"backend {CUSTOMERS}"), limits)
    return _text(sections)


def fingerprint(token: str) -> str:
    """The SHA-256 by which HAProxy recognises a bearer token, so that the token is not in the configuration."""
    return sha256(f"Bearer {token}".encode()).hexdigest().upper()


def is_routed(text: str) -> bool:
    """Whether the configuration has gateway replicas: the first one of a new HAProxy has none."""
    return f"backend {CUSTOMERS}" in text.splitlines()


def bound_to(text: str, address: str) -> str:
    """A corrected configuration with another bind address for customers.

    Args:
        address: in HAProxy's syntax: `host:port`, `fd@7` for an inherited socket, `unix@/a/path`.
    """
    sections = _sections(text)
    _exchange(_expected(sections, _FRONTEND), r"^(\s*)bind .*$", rf"\1bind {address}")
    return _text(sections)


def standby_config(text: str, address: str) -> str:
    """A corrected configuration for the standby's HAProxy: only the listener for customers, no admin sockets."""
    sections = _sections(bound_to(text, address))
    for name in ("frontend prometheus", "listen stats"):
        sections.pop(name, None)
    for name in ("global", "defaults"):
        own = r"\s*(stats socket|server-state-|load-server-state)"
        sections[name] = [line for line in sections[name] if not re.match(own, line)]
    return _text(sections)


def config_without_replicas(limits: Limits) -> str:
    """A corrected configuration without replicas: every request is answered with 503 and Retry-After."""
    sections = {
        "global": ["    maxconn 1024", "    nbthread 1"],
        "defaults": ["    mode http"],
        _FRONTEND: ["    bind :"],
    }
    _set_defaults(sections["defaults"], limits)
    _set_frontend(sections[_FRONTEND], limits, "", routed=False)
    sections[_FRONTEND].append("    default_backend default_backend")
    return _text(sections | {_DEFAULT: [f"    http-request return {_http_return(503, *_STARTING)}"]})


def admin_socket(text: str) -> str:
    """The path of the admin socket in this configuration, or ""."""
    found = re.search(r"^\s*stats socket (/\S+)", text, re.MULTILINE)
    return found[1] if found else ""


_MARK = "    # corrected by plimsoll"


def _sections(text: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            lines = sections.setdefault(line.rstrip(), [])
        elif line.strip():
            lines.append(line)
    return sections


def _text(sections: Mapping[str, list[str]]) -> str:
    return "".join(f"{name}\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())


def _expected(sections: Mapping[str, list[str]], name: str) -> list[str]:
    if name not in sections:
        raise UnavailableError(f"Ray's configuration of HAProxy has no section {name!r}; expected Ray 2.60's template")
    return sections[name]


def _exchange(lines: list[str], pattern: str, new: str, least: int = 1) -> None:
    """Replace what matches by `new` in every line; raise when fewer than `least` lines match."""
    found = [re.subn(pattern, new, line) for line in lines]
    if sum(count for _, count in found) < least:
        raise UnavailableError(
            f"Ray's configuration of HAProxy has no line like {pattern!r}; expected Ray 2.60's template"
        )
    lines[:] = [line for line, _ in found]


def _restrict_listeners(sections: Mapping[str, list[str]], host: str) -> None:
    """Bind every listener to `host`, and keep other users of this host from the admin socket."""
    _exchange(_expected(sections, "global"), r"mode 666", "mode 600")
    _exchange(_expected(sections, "frontend prometheus"), r"bind \*?:", f"bind {host}:")
    _exchange(_expected(sections, "listen stats"), r"bind \*?:", f"bind {host}:")
    for name, lines in sections.items():
        if any(re.match(r"\s*bind (\*|:|0\.0\.0\.0|\[?::)", line) for line in lines):
            raise UnavailableError(
                f"section {name!r} of HAProxy's configuration listens on every interface; expected {host}"
            )


def _remove_request_logs(sections: Mapping[str, list[str]]) -> None:
    """Remove request logs, because the gateway counts its answers and HAProxy has an exporter; and splicing.

    Bodies are small, and splicing one through two pipes costs more than copying it.
    """
    for lines in sections.values():
        lines[:] = [line for line in lines if not re.match(r"\s*(log\s|option (httplog|log-|splice-))", line)]


def _set_defaults(lines: list[str], limits: Limits) -> None:
    lines[:] = [line for line in lines if not re.match(r"\s*(timeout|errorfile)\s", line)]
    times = {
        "connect": limits.connect,
        "check": limits.check,
        "client": limits.client,
        "server": limits.server,
        "http-request": limits.headers,
        "http-keep-alive": limits.keep_alive,
    }
    lines += [
        _MARK,
        "    option http-ignore-probes",
        *(f"    timeout {name} {value}ms" for name, value in times.items()),
    ]
    lines += [f"    http-error {_http_return(status, *said)}" for status, said in _ERRORS.items()]


def _set_frontend(lines: list[str], limits: Limits, service: str, *, routed: bool) -> None:
    bind = next((at for at, line in enumerate(lines) if line.lstrip().startswith("bind ")), None)
    if bind is None:
        raise UnavailableError("Ray's configuration of HAProxy has no `bind` in its frontend; expected one")
    lines[bind + 1 : bind + 1] = [
        f"    http-request return {_http_return(400, *_UPGRADE)} "
        "if { req.hdr(upgrade) -m found } !{ req.hdr(upgrade) -i h2c }",
        f"    http-request return {_http_return(400, *_TARGET)} if !{{ path_beg / }}",
        f"    http-request return {_http_return(413, *(word.format(most=limits.max_bytes) for word in _LARGE))} "
        f"if {{ req.body_size gt {limits.max_bytes} }}",
        # A slow sender must not occupy a replica: the request is forwarded when it has arrived.
        f"    http-request wait-for-body time {limits.body}ms",
        # Otherwise Ray starts a task and a timer for each request, for its caller's disconnect and its timeout. The
        # request is complete when it is forwarded, and the gateway and `timeout server` bound what it waits for.
        "    http-request set-header x-request-disconnect-disabled ?1",
        "    http-request set-header x-request-timeout-seconds 0",
    ]
    if routed:
        use = next((at for at, line in enumerate(lines) if line.lstrip().startswith("use_backend ")), None)
        if use is None:
            raise UnavailableError("Ray's configuration of HAProxy has no `use_backend`; expected the gateway's")
        own = f"    use_backend {limits.service.name} if {{ req.hdr(authorization),sha2(256),hex -m str {service} }}"
        lines[use:use] = [
            *([own] if service else []),
            f"    use_backend {limits.health.name} if {{ path_beg /v2/health/ }}",
            f"    use_backend {limits.bulk.name} if {{ req.body_size gt {limits.bulk_bytes} }}",
        ]


def _backends(lines: list[str], limits: Limits) -> dict[str, list[str]]:
    """The backend that Ray wrote, and one for each other pool: same servers, health taken from the first."""
    _exchange(lines, r"^(\s*default-server .*)$", rf"\1 maxconn {limits.customers.concurrent}")
    servers = [line.split() for line in lines if line.lstrip().startswith("server ")]
    if any(len(words) < 4 or words[3] != "check" for words in servers):
        raise UnavailableError(
            "a server in Ray's configuration of HAProxy is not checked; expected Ray 2.60's template"
        )
    count = max(1, sum("backup" not in words for words in servers))
    backends = {limits.customers: lines}
    for pool in limits.pools[1:]:
        follow = (
            f"    server {name} {address} track {CUSTOMERS}/{name} maxconn {pool.concurrent}"
            + (" backup" if "backup" in options else "")
            for _, name, address, *options in servers
        )
        backends[pool] = ["    http-reuse always", *follow]
    return {f"backend {pool.name}": [*_bounds(pool, count, limits), *rest] for pool, rest in backends.items()}


def _bounds(pool: Pool, replicas: int, limits: Limits) -> Iterable[str]:
    """Rules that refuse requests beyond the queue limits: HAProxy itself limits only the time in a queue."""
    since = f"proc.full_{pool.name.replace('-', '_')}"
    many = f"{{ queue ge {pool.max_queue * replicas} }}"
    burst = f"{{ queue ge {pool.burst_queue * replicas} }} {{ sc_http_req_rate(0) ge {limits.burst_rate * replicas} }}"
    still = f"{{ queue ge {replicas} }} {{ date(0,ms),sub({since}) lt {limits.refusal_hold} }}"
    yield f"    timeout queue {pool.queue_timeout}ms"
    yield "    stick-table type integer size 1 expire 10s store http_req_rate(100ms)"
    yield "    http-request track-sc0 int(0)"
    refused = "if { var(txn.refused) -m bool }"
    yield f"    http-request set-var(txn.refused) bool(true) if {many} or {burst} or {still}"
    yield f"    http-request set-var({since}) date(0,ms) {refused}"
    yield f"    http-request return {_http_return(503, *_OVERLOADED)} {refused}"


def _http_return(status: int, code: str, message: str, field: str | None = None) -> str:
    content = {"error": message, "code": code} | ({"field": field} if field else {})
    body = json.dumps(content, separators=(",", ":"))
    wait = " hdr Retry-After 1" if status == 503 else ""
    return f"status {status} content-type application/json string '{body}'{wait}"
