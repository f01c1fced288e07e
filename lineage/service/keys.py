"""Routes for the platform's keys: list, rotate, revoke."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from lineage.rules.roles import READERS, check_role
from lineage.service.bodies import WithReason
from lineage.service.context import Context
from lineage.service.key_changes import public_key
from lineage.service.reads import PROBLEMS, Caller, context_of
from lineage.service.writes import REPEATED, Key, limit_fact_size, recorded
from lineage.signing import key_name
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(limit_fact_size)], responses=PROBLEMS)
SigningKey = Literal["ledger", "bundle"]


class Revoke(WithReason):
    """A revocation; without `from_record` from the next record on, with 1 from the beginning."""

    id: str = Field(min_length=8, max_length=80)
    from_record: Annotated[int | None, Field(ge=1)] = None


@router.get("/v1/key-eras")
def eras(request: Request, who: Caller) -> Response:
    """The keys in force and their eras: `keys`, each with `key`, `id`, `public`, `since`, `until`, `revoked_from`."""
    check_role(who, READERS | {"admin"}, "list keys")
    context = context_of(request)
    known = context.ledger.read(_eras)
    named = {(era["key"], era["id"]) for era in known}
    first = [one for one in _present(context) if (one["key"], one["id"]) not in named]
    return Response(orjson.dumps({"keys": [*first, *known]}), media_type="application/json")


@router.post("/v1/keys/{key}/rotate", status_code=201, responses=REPEATED)
def rotate(request: Request, key: SigningKey, body: WithReason, actor: Caller, idempotency: Key = None) -> Response:
    """Replace the key that signs checkpoints or bundles. For admins."""
    record, new = context_of(request).key_changes.rotate(key, actor, body.reason, idempotency)
    return recorded(request, record, 201 if new else 200)


@router.post("/v1/keys/{key}/revoke", status_code=201, responses=REPEATED)
def revoke(request: Request, key: SigningKey, body: Revoke, actor: Caller, idempotency: Key = None) -> Response:
    """Have a former key count no longer, from a record on; `alerts` about champions that it signed. For admins."""
    changes = context_of(request).key_changes
    record, new = changes.revoke(key, body.id, body.from_record, actor, body.reason, idempotency)
    return recorded(request, record | {"alerts": changes.alerts_of(record)}, 201 if new else 200)


def _eras(state: LedgerState) -> list[dict[str, Any]]:
    return [asdict(era) for era in state.keys.eras]


def _present(context: Context) -> list[dict[str, Any]]:
    """Signing keys in force as the files say; those that were never rotated are in no record."""
    ledger, empty = public_key(context.ledger.verifier), dict.fromkeys(("name", "since_at", "until", "until_at"))
    bundle = {"id": key_name(context.settings), "public": None}
    rest = empty | {"since": 0, "revoked_from": None}
    return [{"key": "ledger"} | ledger | rest, {"key": "bundle"} | bundle | rest]
