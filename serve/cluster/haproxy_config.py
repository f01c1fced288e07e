"""HAProxy as this platform wants it: the file that Ray writes from its template, corrected before each start. Pure.

Ray's template has no settings for what matters here: it opens listeners to every interface, waits five seconds for a
replica that is gone, lets any number of requests wait for ever, and answers with text. `corrected` puts that right,
and raises where the template is no longer as it was: an HAProxy that is not understood does not start. Why the limits
are what they are stands in docs/adr/0017-overload.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from lineage.errors import UnavailableError

CUSTOMERS = "http-gateway"  # as Ray names the backend of application `gateway`
_FRONT, _NOWHERE = "frontend http_frontend", "backend default_backend"


@dataclass(frozen=True)
class Pool:
    """Requests that have places of their own in each replica, so that no other kind can take them.

    A replica works on `places` of them at a time. For each replica `waiting` more may wait, at most `patience`
    milliseconds: a replica may stop for breath. In a rush, when more come than any replica answers, only `rush` may:
    a burst is served. Once that was not enough only one may, for a second: what waits behind others is not served in
    the time it expects.
    """

    name: str
    places: int
    waiting: int
    patience: int
    rush: int


@dataclass(frozen=True)
class Limits:
    """What is allowed at the door. Times are in milliseconds, sizes in bytes."""

    customers: Pool
    service: Pool
    health: Pool
    bulk: Pool
    most_bytes: int = 1024 * 1024  # of a body, as serve.gateway.body has it
    bulk_bytes: int = 8 * 1024  # larger bodies may not fit HAProxy's buffer, and then hold a place while they arrive
    rushing: int = 100  # requests in a tenth of a second, for each replica
    full: int = 1_000  # after a refusal the queues stay short for so long
    connect: int = 100
    check: int = 5_000  # of health: who is dead refuses the connection at once, who is busy is not dead
    headers: int = 5_000
    body: int = 5_000
    client: int = 15_000
    server: int = 35_000  # nothing that the gateway waits for takes so long
    keep_alive: int = 30_000

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All of them, the customers' first."""
        return (self.customers, self.service, self.health, self.bulk)

    @property
    def places(self) -> int:
        """Requests that one replica can have at a time from this HAProxy."""
        return sum(pool.places for pool in self.pools)


def limits_for(inflight: int) -> Limits:
    """Limits for replicas that take `inflight` requests at a time.

    Twice their places are within that, also where an HAProxy follows another, from 32 up: a refusal by the replica
    itself would be tried again elsewhere, which helps nobody who is overloaded.
    """

    def pool(name: str, part: int, waiting: int, patience: int, rush: int = 64) -> Pool:
        return Pool(name, max(1, inflight // part), waiting, patience, min(rush, waiting))

    return Limits(
        pool(CUSTOMERS, 8, 256, 5_000),  # twice as many as may wait for a challenger (serve.decision.challenger_client)
        pool(f"{CUSTOMERS}-service", 8, 64, 5_000),  # verification and reading of routes: the platform itself
        pool(f"{CUSTOMERS}-health", 16, 32, 1_000),
        pool(f"{CUSTOMERS}-bulk", 8, 28, 5_000),  # large bodies: they may be slow to come in, and take long
    )


#: What HAProxy itself answers, in the form of lineage.errors: code, message and, where it is one, the field.
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
    """The configuration with the platform's limits, listeners and answers.

    Args:
        text: as Ray wrote it; it may be corrected already.
        host: the address that every listener is bound to.
        service: what `fingerprint` says of the service's token; without it the service has no places of its own.

    Raises:
        UnavailableError: the text is not what Ray's template gives.
    """
    sections = _sections(text)
    if _expected(sections, "defaults").count(_MARK):
        return text
    _lock_up(sections, host)
    _quiet(sections)
    _set_defaults(_expected(sections, "defaults"), limits)
    _set_front(_expected(sections, _FRONT), limits, service, routed=f"backend {CUSTOMERS}" in sections)
    sections[_NOWHERE] = [f"    http-request return {_answer(503, *_STARTING)}"]
    if f"backend {CUSTOMERS}" in sections:
        sections |= _backends(sections.pop(f"backend {CUSTOMERS}"), limits)
    return _text(sections)


def fingerprint(token: str) -> str:
    """What `corrected` wants to know of a bearer token. The token itself does not follow from it."""
    return sha256(f"Bearer {token}".encode()).hexdigest().upper()


def is_routed(text: str) -> bool:
    """Whether the configuration leads to gateway replicas: a new HAProxy's first one does not."""
    return f"backend {CUSTOMERS}" in text.splitlines()


def bound_to(text: str, address: str) -> str:
    """A corrected configuration with its customers' entrance elsewhere.

    Args:
        address: as HAProxy writes it: `host:port`, `fd@7` for a socket that it inherits, `unix@/a/path`.
    """
    sections = _sections(text)
    _exchange(_expected(sections, _FRONT), r"^(\s*)bind .*$", rf"\1bind {address}")
    return _text(sections)


def standby_of(text: str, address: str) -> str:
    """A corrected configuration for a second HAProxy beside the first: nothing but the customers' entrance."""
    sections = _sections(bound_to(text, address))
    for name in ("frontend prometheus", "listen stats"):
        sections.pop(name, None)
    for name in ("global", "defaults"):
        own = r"\s*(stats socket|server-state-|load-server-state)"
        sections[name] = [line for line in sections[name] if not re.match(own, line)]
    return _text(sections)


def nothing_behind(limits: Limits) -> str:
    """A corrected configuration as long as there is no replica: everybody is told to come back."""
    sections = {"global": ["    maxconn 1024", "    nbthread 1"], "defaults": ["    mode http"], _FRONT: ["    bind :"]}
    _set_defaults(sections["defaults"], limits)
    _set_front(sections[_FRONT], limits, "", routed=False)
    sections[_FRONT].append("    default_backend default_backend")
    return _text(sections | {_NOWHERE: [f"    http-request return {_answer(503, *_STARTING)}"]})


def admin_socket(text: str) -> str:
    """The path of the socket on which an HAProxy with this configuration says who it is; "" where there is none."""
    found = re.search(r"^\s*stats socket (/\S+)", text, re.MULTILINE)
    return found[1] if found else ""


_MARK = "    # as the platform wants it"


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
    """Put `new` in place of what matches, in every line that has it."""
    found = [re.subn(pattern, new, line) for line in lines]
    if sum(count for _, count in found) < least:
        raise UnavailableError(
            f"Ray's configuration of HAProxy has no line like {pattern!r}; expected Ray 2.60's template"
        )
    lines[:] = [line for line, _ in found]


def _lock_up(sections: Mapping[str, list[str]], host: str) -> None:
    """Nobody from elsewhere, and no other user of this host."""
    _exchange(_expected(sections, "global"), r"mode 666", "mode 600")
    _exchange(_expected(sections, "frontend prometheus"), r"bind \*?:", f"bind {host}:")
    _exchange(_expected(sections, "listen stats"), r"bind \*?:", f"bind {host}:")
    for name, lines in sections.items():
        if any(re.match(r"\s*bind (\*|:|0\.0\.0\.0|\[?::)", line) for line in lines):
            raise UnavailableError(f"section {name!r} of HAProxy's configuration listens to everybody; expected {host}")


def _quiet(sections: Mapping[str, list[str]]) -> None:
    """No line of log for each request, which nobody reads: the gateway counts its answers, and there is an exporter.

    Nor are bodies spliced from socket to socket: they are small, and then two pipes cost more than one copy.
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
    lines += [f"    http-error {_answer(status, *said)}" for status, said in _ERRORS.items()]


def _set_front(lines: list[str], limits: Limits, service: str, *, routed: bool) -> None:
    bind = next((at for at, line in enumerate(lines) if line.lstrip().startswith("bind ")), None)
    if bind is None:
        raise UnavailableError("Ray's configuration of HAProxy has no `bind` in its frontend; expected one")
    lines[bind + 1 : bind + 1] = [
        f"    http-request return {_answer(400, *_UPGRADE)} "
        "if { req.hdr(upgrade) -m found } !{ req.hdr(upgrade) -i h2c }",
        f"    http-request return {_answer(400, *_TARGET)} if !{{ path_beg / }}",
        f"    http-request return {_answer(413, *(word.format(most=limits.most_bytes) for word in _LARGE))} "
        f"if {{ req.body_size gt {limits.most_bytes} }}",
        # A replica's place is not for who is slow to send: the request goes on when it is here.
        f"    http-request wait-for-body time {limits.body}ms",
        # Ray would watch each request for a caller who goes away and for its time, a task and a timer each. The request
        # is whole when it goes on, and what the gateway waits for is bounded in the gateway and by `timeout server`.
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
    """The backend that Ray wrote, and one for each other pool that has the same servers and asks for no health."""
    _exchange(lines, r"^(\s*default-server .*)$", rf"\1 maxconn {limits.customers.places}")
    servers = [line.split() for line in lines if line.lstrip().startswith("server ")]
    if any(len(words) < 4 or words[3] != "check" for words in servers):
        raise UnavailableError(
            "a server in Ray's configuration of HAProxy is not checked; expected Ray 2.60's template"
        )
    count = max(1, sum("backup" not in words for words in servers))
    backends = {limits.customers: lines}
    for pool in limits.pools[1:]:
        follow = (
            f"    server {name} {address} track {CUSTOMERS}/{name} maxconn {pool.places}"
            + (" backup" if "backup" in options else "")
            for _, name, address, *options in servers
        )
        backends[pool] = ["    http-reuse always", *follow]
    return {f"backend {pool.name}": [*_bounds(pool, count, limits), *rest] for pool, rest in backends.items()}


def _bounds(pool: Pool, replicas: int, limits: Limits) -> Iterable[str]:
    """Rules that refuse before anybody waits in vain: HAProxy itself has a limit of time for a backend's queue only."""
    since = f"proc.full_{pool.name.replace('-', '_')}"
    many = f"{{ queue ge {pool.waiting * replicas} }}"
    rush = f"{{ queue ge {pool.rush * replicas} }} {{ sc_http_req_rate(0) ge {limits.rushing * replicas} }}"
    still = f"{{ queue ge {replicas} }} {{ date(0,ms),sub({since}) lt {limits.full} }}"
    yield f"    timeout queue {pool.patience}ms"
    yield "    stick-table type integer size 1 expire 10s store http_req_rate(100ms)"
    yield "    http-request track-sc0 int(0)"
    refused = "if { var(txn.refused) -m bool }"
    yield f"    http-request set-var(txn.refused) bool(true) if {many} or {rush} or {still}"
    yield f"    http-request set-var({since}) date(0,ms) {refused}"
    yield f"    http-request return {_answer(503, *_OVERLOADED)} {refused}"


def _answer(status: int, code: str, message: str, field: str | None = None) -> str:
    content = {"error": message, "code": code} | ({"field": field} if field else {})
    body = json.dumps(content, separators=(",", ":"))
    wait = " hdr Retry-After 1" if status == 503 else ""
    return f"status {status} content-type application/json string '{body}'{wait}"
