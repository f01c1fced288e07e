"""What the ledger service answers to questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from pydantic import AwareDatetime

from lineage.clock import stamp
from lineage.digest import digest_bytes
from lineage.errors import InvalidError, RefusedError, TamperedError, UnknownError
from lineage.log.index import Records
from lineage.rules.actions import model_named, release_named
from lineage.rules.proposal import Actor
from lineage.rules.roles import READERS, SERVICES, check_role
from lineage.service import personal_reads
from lineage.service.personal_reads import ReasonHeader
from lineage.state.fold import LedgerState
from lineage.store.rows import PERSONAL
from lineage.verify import verify_ledger

if TYPE_CHECKING:
    from lineage.service.context import Context

_MOST_WAIT = 30.0
_MOST_RECORDS = 1_000
_DIGITS = 18
_PAGE_BYTES = 64 * 1024
_ALIVE_SECONDS = 10.0
#: The number of the newest record that an answer includes.
SEQ_HEADER = "X-Ledger-Seq"


def context_of(request: Request) -> Context:
    """The context behind this application."""
    context: Context = request.app.state.context
    return context


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
    return context_of(request).actor_of(token)


def reader(who: Annotated[Actor, Depends(caller)]) -> Actor:
    """A caller who may read the record: neither a client of the gateway nor an admin."""
    check_role(who, READERS, "read the record of models")
    return who


Caller = Annotated[Actor, Depends(caller)]
_TEXT = {"type": "string", "minLength": 1}
#: The one form of every error, for the schema; some say more, e.g. the ETag that is valid now.
_PROBLEM = {
    "type": "object",
    "required": ["error", "code"],
    "properties": dict.fromkeys(("error", "code", "field"), _TEXT),
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "What was wrong with it, or refused", "content": {"application/json": {"schema": _PROBLEM}}},
    "5XX": {"description": "What failed here", "content": {"application/json": {"schema": _PROBLEM}}},
}
router = APIRouter(dependencies=[Depends(reader)], responses=PROBLEMS)
open_router = APIRouter(responses=PROBLEMS)


def _json(value: Any, etag: int | None = None, seq: int | None = None) -> Response:
    headers = {"ETag": f'"{etag}"'} if etag is not None else {}
    headers |= {SEQ_HEADER: str(seq)} if seq is not None else {}
    return Response(orjson.dumps(value), headers=headers, media_type="application/json")


@open_router.get("/healthz")
def health(request: Request) -> Response:
    """Whether the service answers and how long the log is. Open to everybody."""
    return _json(context_of(request).health())


@open_router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Prometheus metrics: counts only, nothing about anybody. Open to everybody who reaches the port."""
    context = context_of(request)
    witness = context.cosigner.state() if context.cosigner else None
    context.metrics.outside(witness, context.outbox.state(), len(context.segments.missing))
    return Response(context.metrics.text(), media_type="text/plain; version=0.0.4")


@open_router.get("/v1/whoami")
def whoami(who: Caller) -> Response:
    """Name, id and roles of the token's owner."""
    return _json({"name": who.name, "role": who.role, "id": who.id, "roles": who.roles})


@router.get("/v1/state")
def state(request: Request) -> Response:
    """The whole fold."""
    seq, fold = context_of(request).ledger.read(_fold)
    return _json(orjson.Fragment(fold), seq)


def _fold(state: LedgerState) -> tuple[int, bytes]:
    """Written out in one go: nothing is recorded meanwhile, and copies of many releases take ten times as long."""
    whole: dict[str, Any] = {"seq": state.seq, "era": state.era, "etag": state.etag, "kill": state.kill}
    whole |= {"models": state.models, "releases": state.releases}
    return state.seq, orjson.dumps(whole)


@router.get("/v1/models/{model}")
def one_model(request: Request, model: str) -> Response:
    """One model of the fold, with the kill switch of all models beside it as `kill_of_all`."""
    ledger = context_of(request).ledger
    seq, view, kill = ledger.read(lambda fold: (fold.seq, asdict(model_named(fold, model)), fold.kill))
    return _json(view | {"kill_of_all": kill}, view["etag"], seq)


@router.get("/v1/releases/{release}")
def one_release(request: Request, release: str) -> Response:
    """One release of the fold with its facts."""
    ledger = context_of(request).ledger
    seq, etag, view = ledger.read(lambda fold: (fold.seq, *_release_view(fold, release)))
    facts = ledger.records.find(release=release).records
    return _json({**view, "facts": facts, "etag": etag}, etag, seq)


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
    context = context_of(request)
    known = context.ledger.records
    kinds = kind.split(",") if kind else None
    deadline = time.monotonic() + wait
    while True:
        head = len(known)
        page = known.find(
            after=after,
            upto=head,
            kinds=kinds,
            newest_first=order == "newest",
            offset=offset,
            limit=limit,
            model=model,
            release=release,
            actor=actor,
        )
        left = deadline - time.monotonic()
        if page.total or left <= 0:
            break
        await context.wait(head, left)
    return _json({"records": page.records, "head": head, "total": page.total})


@router.get("/v1/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def events(
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str | None, Header(description="of the last event seen before; counts as `after`")] = None,
) -> StreamingResponse:
    """Every record behind `after` as it is stored and then every new one, as server-sent events with `id` = `seq`."""
    context = context_of(request)
    seen = max(after, _number(last_event_id, "Last-Event-ID", "the id of an event") or 0)

    async def stream(seen: int) -> AsyncIterator[bytes]:
        while not await request.is_disconnected():
            seen, page = _events(context.ledger.records, seen)
            yield page or b": alive\n\n"
            await context.wait(seen, _ALIVE_SECONDS)

    return StreamingResponse(stream(seen), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _events(known: Records, seen: int) -> tuple[int, bytes]:
    """The number of the last event on the page, and the page; small, since a follower who does not read keeps one."""
    page, head = bytearray(), len(known)
    while seen < head and len(page) < _PAGE_BYTES:
        seen += 1
        page += b"id: %d\ndata: %s\n\n" % (seen, known.line(seen))
    return seen, bytes(page)


@router.get("/v1/query/{name}")
def query(
    request: Request,
    name: str,
    who: Caller,
    model: str | None = None,
    release: str | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before_seq: Annotated[int | None, Query(ge=1)] = None,
    decision_id: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    x_reason: ReasonHeader = None,
) -> Response:
    """Rows of a named query of the lineage store; `missing_segments` could hold more of them and cannot be used.

    `decisions` and `outcomes` are about customers: they take a reason, and the read goes on record before the answer.
    """
    context = context_of(request)
    personal = name in PERSONAL
    if personal:
        context.reads.require_reader(who)
    reason = personal_reads.reason_in(x_reason) if personal else ""
    found, missing = context.store.answer(
        name,
        model=model,
        release=release,
        since=since,
        until=until,
        before_seq=before_seq,
        decision_id=decision_id,
        limit=limit,
        offset=offset,
    )
    if personal:
        context.reads.record(who, reason, personal_reads.read_data(name, [row["decision_id"] for row in found]))
    return _json({"rows": found, "missing_segments": [one.to_dict() for one in missing]})


@router.get("/v1/verify")
async def verify(request: Request) -> Response:
    """Verify log, chain, legality, decision segments and bundles."""
    context = context_of(request)
    began = time.monotonic()
    result = await asyncio.to_thread(verify_ledger, context.settings)
    why = result.problems[0]["problem"] if result.problems else None
    timing = {"at": stamp(context.clock()), "seconds": round(time.monotonic() - began, 3), "why": why}
    return _json(result.to_dict() | timing)


@router.get("/v1/reports/{release}", response_class=HTMLResponse)
def report(request: Request, release: str) -> HTMLResponse:
    """The validation report of a release, if its bytes are those on record."""
    context = context_of(request)
    expected = context.ledger.read(lambda fold: release_named(fold, release).report_digest)
    path = context.settings.reports / f"{release}.html"
    if expected is None or not path.is_file():
        raise UnknownError(f"{release} has no report yet", field="release")
    data = path.read_bytes()
    if digest_bytes(data) != expected:
        raise TamperedError(f"the report of {release} is not what was recorded", field="report")
    return HTMLResponse(data)


@open_router.get("/v1/gateway-tokens")
def gateway_tokens(request: Request, who: Caller) -> Response:
    """Hashes of live tokens, for the serving plane only."""
    check_role(who, SERVICES, "read the tokens of callers")
    return _json(context_of(request).live_tokens())


def etag_of(if_match: str | None) -> int | None:
    """The state number in an `If-Match` header.

    Raises:
        InvalidError: it is not one of ours.
    """
    return _number(if_match and if_match.strip().strip('"'), "If-Match", "the ETag of what you saw")


def _number(text: str | None, header: str, expected: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > _DIGITS:
        raise InvalidError(f"{header} is {text!r:.120}; expected {expected}", field=header)
    return int(text)
