"""Routes for independent verification: checkpoints, public keys, inclusion and consistency proofs."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from lineage.service.reads import context_of, reader

router = APIRouter(dependencies=[Depends(reader)])
open_router = APIRouter()


@open_router.get("/v1/checkpoint", response_class=PlainTextResponse)
def checkpoint(
    request: Request, cosigned: Annotated[bool, Query(description="the newest one that the witness saw")] = False
) -> PlainTextResponse:
    """The newest checkpoint as a signed note, without authentication. The log has to continue every copy kept."""
    context = context_of(request)
    note = context.cosigned() if cosigned else context.ledger.checkpoint()
    return PlainTextResponse(note, headers={"Cache-Control": "no-store"})


@open_router.get("/v1/keys")
def keys(request: Request) -> Response:
    """Public keys of the log and of its witness, without authentication. Compare them with keys from another source."""
    context = context_of(request)
    found = {"vkey": context.ledger.verifier.vkey, "witness_vkey": context.witness_vkey()}
    return Response(orjson.dumps(found), media_type="application/json")


@router.get("/v1/proof/{seq}")
def proof(
    request: Request,
    seq: int,
    size: Annotated[int | None, Query(ge=1, description="records of the checkpoint; all when absent")] = None,
) -> Response:
    """One record with its inclusion proof and checkpoint, about 1 KiB.

    Without a size the proof leads to the newest cosigned checkpoint if that counts the record, else to the newest one.
    """
    context = context_of(request)
    keys = context.ledger.keys
    note = context.cosigned_over(seq) if size is None else None
    line, path, own = context.ledger.prove(seq, note[0] if note else size)
    bundle = {
        "record": line.decode(),
        "index": seq - 1,
        "size": int(own.split(b"\n")[1]),
        "proof": base64_hashes(path),
        "checkpoint": (note[1] if note else own).decode(),
        "vkey": keys.signer_of(note[1] if note else own).vkey,
        "handovers": [one.note.decode() for one in keys.handovers],
        "witness_vkey": context.witness_vkey() if note else None,
    }
    return Response(orjson.dumps(bundle), media_type="application/json")


@router.get("/v1/followers")
def followers(request: Request) -> Response:
    """Progress and last error of the witness and of the OpenLineage receiver."""
    context = context_of(request)
    state = {"witness": context.cosigner.state() if context.cosigner else None, "openlineage": context.outbox.state()}
    return Response(orjson.dumps(state), media_type="application/json")


@router.get("/v1/consistency")
def consistency(
    request: Request, old: Annotated[int, Query(ge=0)], new: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """The consistency proof that the log of `old` records is a prefix of the log of `new` records."""
    ledger = context_of(request).ledger
    new = len(ledger.records) if new is None else new
    found: dict[str, Any] = {"old": old, "new": new, "proof": base64_hashes(ledger.prove_consistency(old, new))}
    return Response(orjson.dumps(found), media_type="application/json")


def base64_hashes(path: list[bytes]) -> list[str]:
    """Hashes as base64."""
    return [base64.b64encode(one).decode() for one in path]
