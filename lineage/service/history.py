"""What the ledger service answers about the past: who answered when, what came of what; and how its store is mended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from lineage.errors import InvalidError, RefusedError, UnknownError
from lineage.history.as_of import BARRING, DECIDING, KILLING, answering, moment
from lineage.history.provenance import TOLD, graph
from lineage.log.index import Records
from lineage.rules.draft import Draft
from lineage.service.reads import Caller, context_of, reader
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(reader)])
_MAY_REBUILD = ("auditor", "operator")
_MOST_TOLD = 100_000
_ABOUT_ALL = (*KILLING, "RulesActivated")
Record = dict[str, Any]


@router.get("/v1/models/{model}/asof")
def asof(
    request: Request,
    model: str,
    at: Annotated[str | None, Query(description="RFC 3339 with its zone")] = None,
    seq: Annotated[int | None, Query(ge=1, description="a record number, in place of `at`")] = None,
) -> Response:
    """Which release, threshold and policy answered at that time or record, and who put them there."""
    context = context_of(request)
    if (at is None) == (seq is None):
        raise InvalidError("say either `at` or `seq`", field="at")
    instant: datetime | None = moment(at) if at is not None else None
    head = len(context.ledger.records)
    if seq is not None and seq > head:
        raise UnknownError(f"there is no record {seq}; the last one is {head}", field="seq")
    told = deciding(context.ledger.records, model, head, context.ledger.read(lambda fold: twins(fold, model)))
    return _json(answering(told, model, instant, seq=seq, now=context.clock()))


@router.get("/v1/provenance")
def provenance(
    request: Request, release: str | None = None, dataset: str | None = None, model: str | None = None
) -> Response:
    """Where a release comes from and what it answered, what came of a data set (by its digest), or all of a model."""
    known = context_of(request).ledger.records
    about = model if model is not None else (release or "").rpartition("@")[0]
    models = {about} if dataset is None else users_of(known, dataset)
    count = sum(len(known.numbers(kinds=TOLD, model=name)) for name in models)
    if count > _MOST_TOLD:
        expected = f"at most {_MOST_TOLD:,} are read for one answer"
        raise InvalidError(f"{count:,} records tell of that; {expected}. Ask for one release", field="dataset")
    told = [record for name in sorted(models) for record in known.find(kinds=TOLD, model=name).records]
    told.sort(key=_seq)
    return _json(graph(told, release=release, dataset_digest=dataset, model=model))


@router.post("/v1/store/rebuild")
def rebuild(request: Request, who: Caller) -> Response:
    """Make the lineage store anew from the log; it answers meanwhile. For operators and auditors."""
    context = context_of(request)
    if who.role not in _MAY_REBUILD:
        roles = " or ".join(_MAY_REBUILD)
        message = f"{who.name} has role {who.role}, which may not rebuild the lineage store; role {roles} may"
        refusal = RefusedError(message, code="role", status=403)
        context.ledger.refuse(Draft("StoreRebuild", who, {}), refusal)
        raise refusal
    began = time.monotonic()
    count = context.store.rebuild(context.ledger.records)
    return _json({"records": count, "seconds": round(time.monotonic() - began, 3)})


def deciding(known: Records, model: str, head: int, others: Iterable[str]) -> Sequence[Record]:
    """The records among the first `head` that `answering` needs, in order; `others` as `twins` says."""
    pages = [known.find(upto=head, model=model, limit=1), known.find(upto=head, model=model, kinds=DECIDING)]
    pages += [known.find(upto=head, release=release, kinds=("ModelTrained", *BARRING)) for release in others]
    everybody = [record for record in known.find(upto=head, kinds=_ABOUT_ALL).records if record["model"] is None]
    found = {record["seq"]: record for page in pages for record in page.records}
    found |= {record["seq"]: record for record in everybody}
    return sorted(found.values(), key=_seq)


def twins(fold: LedgerState, model: str) -> list[str]:
    """Releases of other models that have the same bytes as one of the model's."""
    own = {release.digest for release in fold.releases.values() if release.model == model}
    return [release.release for release in fold.releases.values() if release.model != model and release.digest in own]


def users_of(known: Records, dataset: str) -> set[str]:
    """Models that were trained on the data set of that digest, or for which it was pinned."""
    trained = known.find(kinds=["ModelTrained"]).records
    pinned = known.find(kinds=["DatasetPinned"]).records
    users = {record["model"] for record in trained if record["data"]["dataset"].get("digest") == dataset}
    return users | {record["model"] for record in pinned if record["data"]["digest"] == dataset}


def _seq(record: Record) -> int:
    return int(record["seq"])


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
