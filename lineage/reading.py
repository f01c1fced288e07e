"""What the ledger service answers to questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from lineage.actions import model_named, release_named
from lineage.clock import stamp
from lineage.digest import digest_bytes
from lineage.errors import InvalidError, RefusedError, TamperedError, UnknownError
from lineage.guards import Actor
from lineage.state import LedgerState
from lineage.verify import verify_ledger

if TYPE_CHECKING:
    from lineage.service import Office

_MOST_WAIT = 30.0
_MOST_RECORDS = 1_000
_ETAG_DIGITS = 18


def office_of(request: Request) -> Office:
    """The office behind this application."""
    office: Office = request.app.state.office
    return office


def caller(request: Request, authorization: Annotated[str | None, Header()] = None) -> Actor:
    """Who calls, from the bearer token.

    Raises:
        RefusedError: no token, or one that is not known (401).
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise RefusedError(
            "no token: send `Authorization: Bearer …`; POST /v1/session gives one", code="token", status=401
        )
    return office_of(request).accounts.who(token)


def reader(who: Annotated[Actor, Depends(caller)]) -> Actor:
    """A caller who may read the record: everybody but clients of the gateway."""
    if who.role == "client":
        raise RefusedError("a client token may ask for decisions only", code="role", status=403)
    return who


Caller = Annotated[Actor, Depends(caller)]

router = APIRouter(dependencies=[Depends(reader)])
open_router = APIRouter()


def _json(value: Any, etag: int | None = None) -> Response:
    headers = {"ETag": f'"{etag}"'} if etag is not None else None
    return Response(orjson.dumps(value), headers=headers, media_type="application/json")


@open_router.get("/healthz")
def health(request: Request) -> Response:
    """Whether the service answers and how long the log is. Open to everybody."""
    return _json({"ok": True, "records": len(office_of(request).ledger.records)})


@open_router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics: counts only, nothing about anybody. Open to everybody who reaches the port."""
    return Response(office_of(request).metrics.text(), media_type="text/plain; version=0.0.4")


@open_router.get("/v1/whoami")
def whoami(who: Caller) -> Response:
    """Name and role of the token's owner."""
    return _json({"name": who.name, "role": who.role})


@router.get("/v1/state")
def state(request: Request) -> Response:
    """The whole fold."""
    fold = office_of(request).ledger.read(LedgerState.to_dict)
    return _json(fold, fold["seq"])


@router.get("/v1/models/{model}")
def one_model(request: Request, model: str) -> Response:
    """One model of the fold."""
    view = office_of(request).ledger.read(lambda fold: asdict(model_named(fold, model)))
    return _json(view, view["etag"])


@router.get("/v1/releases/{release}")
def one_release(request: Request, release: str) -> Response:
    """One release of the fold with its facts."""
    ledger = office_of(request).ledger
    etag, view = ledger.read(lambda fold: _release_view(fold, release))
    facts = [record for record in ledger.records[:] if record["release"] == release]
    return _json({**view, "facts": facts, "etag": etag}, etag)


def _release_view(fold: LedgerState, release: str) -> tuple[int, dict[str, Any]]:
    view = release_named(fold, release)
    return fold.models[view.model].etag, asdict(view)


@router.get("/v1/records")
async def records(
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST_RECORDS)] = 500,
    offset: Annotated[int, Query(ge=0)] = 0,
    order: Annotated[str, Query(pattern="^(oldest|newest)$")] = "oldest",
    kind: Annotated[str | None, Query(description="one kind, or several with commas")] = None,
    model: str | None = None,
    release: str | None = None,
    actor: str | None = None,
    wait: Annotated[float, Query(ge=0, le=_MOST_WAIT)] = 0.0,
) -> Response:
    """Records behind `after` that match; with `wait`, the answer comes when there is one or time is up."""
    office = office_of(request)
    kinds = set(kind.split(",")) if kind else None
    wanted = {"model": model, "release": release}

    def matches(record: dict[str, Any]) -> bool:
        return (
            (kinds is None or record["kind"] in kinds)
            and (actor is None or record["actor"]["name"] == actor)
            and all(value is None or record[name] == value for name, value in wanted.items())
        )

    deadline = time.monotonic() + wait
    while True:
        head = len(office.ledger.records)
        found = [record for record in office.ledger.records[after:head] if matches(record)]
        left = deadline - time.monotonic()
        if found or left <= 0:
            break
        await office.wait(head, left)
    if order == "newest":
        found.reverse()
    return _json({"records": found[offset : offset + limit], "head": head, "total": len(found)})


@router.get("/v1/events")
async def events(request: Request, after: Annotated[int, Query(ge=0)] = 0) -> StreamingResponse:
    """Every record behind `after` and then every new one, as server-sent events."""
    office = office_of(request)

    async def stream() -> AsyncIterator[bytes]:
        seen = after
        while not await request.is_disconnected():
            for record in office.ledger.records[seen:]:
                seen = record["seq"]
                yield b"id: %d\ndata: %s\n\n" % (seen, orjson.dumps(record))
            yield b": alive\n\n"
            await office.wait(seen, 10.0)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/v1/query/{name}")
def query(
    request: Request,
    name: str,
    model: str | None = None,
    release: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """Rows of a named query of the lineage store."""
    return _json({"rows": office_of(request).store.query(name, model=model, release=release, limit=limit)})


@router.get("/v1/verify")
async def verify(request: Request) -> Response:
    """Verify log, chain, legality, decision segments and bundles."""
    office = office_of(request)
    began = time.monotonic()
    result = await asyncio.to_thread(verify_ledger, office.settings)
    why = result.problems[0]["problem"] if result.problems else None
    timing = {"at": stamp(office.clock()), "seconds": round(time.monotonic() - began, 3), "why": why}
    return _json(result.to_dict() | timing)


@router.get("/v1/reports/{release}")
def report(request: Request, release: str) -> HTMLResponse:
    """The validation report of a release, if its bytes are those on record."""
    office = office_of(request)
    expected = office.ledger.read(lambda fold: release_named(fold, release).report_digest)
    path = office.settings.reports / f"{release}.html"
    if expected is None or not path.is_file():
        raise UnknownError(f"{release} has no report yet", field="release")
    data = path.read_bytes()
    if digest_bytes(data) != expected:
        raise TamperedError(f"the report of {release} is not what was recorded", field="report")
    return HTMLResponse(data)


@open_router.get("/v1/gateway-tokens")
def gateway_tokens(request: Request, who: Caller) -> Response:
    """Hashes of live tokens, for the serving plane only."""
    if who.role != "service":
        raise RefusedError(f"{who.name} has role {who.role}; only services may ask this", code="role", status=403)
    return _json(office_of(request).accounts.live_tokens())


def etag_of(if_match: str | None) -> int | None:
    """The state number in an `If-Match` header.

    Raises:
        InvalidError: it is not one of ours.
    """
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not text.isdecimal() or len(text) > _ETAG_DIGITS:
        raise InvalidError(f"If-Match is {if_match!r:.120}; expected the ETag of what you saw", field="If-Match")
    return int(text)
