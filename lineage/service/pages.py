"""Routes for what a page shows: models and releases in pages, what is stopped, the inbox, and the actions of a person.

Every answer has an ETag that stays the same until something that it shows changes; with `If-None-Match` the answer is
304 without a body. The header `X-Ledger-Seq` is the number of the newest record that the answer includes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from lineage.errors import InvalidError
from lineage.lifecycle import State
from lineage.rules import available
from lineage.rules.actions import model_named, release_named
from lineage.rules.inbox import inbox
from lineage.rules.roles import SERVICES, check_role
from lineage.service.reads import PROBLEMS, SEQ_HEADER, Caller, context_of, reader
from lineage.state.fold import LedgerState
from lineage.state.summaries import Page, changes_since, model_summary, models_page, releases_page, stopped_page

router = APIRouter(dependencies=[Depends(reader)], responses=PROBLEMS)
_MOST = 500
_SECONDS = 60
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=_MOST)]
Search = Annotated[str, Query(max_length=200, description="a part of the name")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]


@router.get("/v1/models")
def models(
    request: Request, search: Search = "", offset: Offset = 0, limit: Limit = 100, seen: IfNoneMatch = None
) -> Response:
    """Models by name: `models`, `total`, and `kill`, the switch of all of them."""

    def look(state: LedgerState) -> bytes:
        page = models_page(state, search=search, offset=offset, limit=limit)
        return orjson.dumps({"models": page.entries, "total": page.total, "kill": state.kill})

    return _answer(request, look, seen)


@router.get("/v1/releases")
def releases(
    request: Request,
    model: Annotated[str, Query(description="one model, or several with commas")] = "",
    state: Annotated[str, Query(description="one state, or several with commas")] = "",
    search: Search = "",
    offset: Offset = 0,
    limit: Limit = 100,
    seen: IfNoneMatch = None,
) -> Response:
    """Releases, the one that moved last first: `releases`, `total`, their `models` by name, and `kill`."""
    states = [one for one in state.split(",") if one]
    unknown = set(states) - {str(one) for one in State}
    if unknown:
        raise InvalidError(f"state has {min(unknown)!r:.60}; expected {', '.join(State)}", field="state")
    names = [one for one in model.split(",") if one]

    def look(fold: LedgerState) -> bytes:
        page = releases_page(fold, models=names, states=states, search=search, offset=offset, limit=limit)
        shown = {"releases": page.entries, "total": page.total, "models": _models_of(fold, page), "kill": fold.kill}
        return orjson.dumps(shown)

    return _answer(request, look, seen)


@router.get("/v1/stopped")
def stopped(request: Request, limit: Limit = 100, seen: IfNoneMatch = None) -> Response:
    """What is stopped: `kill` (of all models), `models` that are killed or have open breakers, and `total` of them.

    `away` says since when the witness does not answer, or is null.
    """

    def look(state: LedgerState) -> bytes:
        page = stopped_page(state, limit=limit)
        return orjson.dumps({"models": page.entries, "total": page.total, "kill": state.kill, "away": state.away})

    return _answer(request, look, seen)


@router.get("/v1/inbox")
def waiting(request: Request, who: Caller, limit: Limit = 50, seen: IfNoneMatch = None) -> Response:
    """What waits for the caller, worst first: `items` and `total`."""
    context = context_of(request)
    now = context.clock()

    def look(state: LedgerState) -> bytes:
        def make() -> tuple[bytes, int]:
            items = inbox(state, who, now)
            return orjson.dumps(items[:_MOST]), len(items)

        minute = int(now.timestamp()) // _SECONDS
        every, total = context.inboxes.get((state.changed, minute), who, make)
        body = every if total <= limit else orjson.dumps(orjson.loads(every)[:limit])
        return b'{"items":%b,"total":%d}' % (body, total)

    return _answer(request, look, seen)


@router.get("/v1/models/{model}/actions")
def model_actions(request: Request, model: str, who: Caller, seen: IfNoneMatch = None) -> Response:
    """What the caller may do to a model now, and why not: `actions`, and `etag` for those that need it."""

    def look(state: LedgerState) -> bytes:
        etag = model_named(state, model).etag
        return orjson.dumps({"etag": etag, "actions": available.of_model(state, model, who)})

    return _answer(request, look, seen)


@router.get("/v1/releases/{release}/actions")
def release_actions(request: Request, release: str, who: Caller, seen: IfNoneMatch = None) -> Response:
    """What the caller may do to a release now, and why not: `actions`, and `etag` for those that need it."""

    def look(state: LedgerState) -> bytes:
        etag = state.models[release_named(state, release).model].etag
        return orjson.dumps({"etag": etag, "actions": available.of_release(state, release, who)})

    return _answer(request, look, seen)


@router.get("/v1/kill/actions")
def kill_actions(request: Request, who: Caller, seen: IfNoneMatch = None) -> Response:
    """What the caller may do to the kill switch of all models now: `actions`, and `etag`."""

    def look(state: LedgerState) -> bytes:
        return orjson.dumps({"etag": state.etag, "actions": available.of_kill_switch(state, None, who)})

    return _answer(request, look, seen)


@router.get("/v1/changes")
def changes(request: Request, who: Caller, after: Annotated[int, Query(ge=0)] = 0) -> Response:
    """Models that records behind `after` are about, with the releases that may answer or move; for services."""
    check_role(who, SERVICES, "ask for changes in this form")
    found = context_of(request).ledger.read(lambda state: changes_since(state, after))
    return Response(orjson.dumps(found), media_type="application/json")


def _models_of(state: LedgerState, page: Page) -> dict[str, dict[str, object]]:
    names = sorted({str(entry["model"]) for entry in page.entries})
    return {name: model_summary(state.models[name]) for name in names}


def _answer(request: Request, look: Callable[[LedgerState], bytes], seen: str | None) -> Response:
    """The JSON that `look` gives, or 304 where the caller has these very bytes."""
    seq, body = context_of(request).ledger.read(lambda state: (state.seq, look(state)))
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", SEQ_HEADER: str(seq)}
    if seen is not None and etag in [one.strip().removeprefix("W/") for one in seen.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
