"""Routes about the past: which release answered at a time, provenance graphs, and the rebuild of the lineage store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from lineage.errors import InvalidError, RefusedError, UnknownError
from lineage.history.as_of import BARRING, DECIDING, KILLING, answering, moment
from lineage.history.provenance import GRAPH_KINDS, graph
from lineage.log.index import Records
from lineage.rules.draft import Draft
from lineage.rules.roles import check_role
from lineage.service.reads import Caller, context_of, reader
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(reader)])
_MAY_REBUILD = frozenset({"auditor", "operator"})
_MOST_RECORDS = 100_000
_ABOUT_ALL = (*KILLING, "RulesActivated")
Record = dict[str, Any]


@router.get("/v1/models/{model}/asof")
def asof(
    request: Request,
    model: str,
    at: Annotated[str | None, Query(description="RFC 3339 with its zone")] = None,
    seq: Annotated[int | None, Query(ge=1, description="a record number, in place of `at`")] = None,
) -> Response:
    """The release, threshold and policy that answered at a time or record, and the actions that led there."""
    context = context_of(request)
    if (at is None) == (seq is None):
        raise InvalidError("say either `at` or `seq`", field="at")
    instant: datetime | None = moment(at) if at is not None else None
    head = len(context.ledger.records)
    if seq is not None and seq > head:
        raise UnknownError(f"there is no record {seq}; the last one is {head}", field="seq")
    records_needed = deciding_records(
        context.ledger.records, model, head, context.ledger.read(lambda fold: same_bytes_elsewhere(fold, model))
    )
    return _json(answering(records_needed, model, instant, seq=seq, now=context.clock()))


@router.get("/v1/provenance")
def provenance(
    request: Request, release: str | None = None, dataset: str | None = None, model: str | None = None
) -> Response:
    """The provenance graph of a release, of a data set (by its digest), or of a model."""
    records = context_of(request).ledger.records
    about = model if model is not None else (release or "").rpartition("@")[0]
    models = {about} if dataset is None else models_of_dataset(records, dataset)
    count = sum(len(records.numbers(kinds=GRAPH_KINDS, model=name)) for name in models)
    if count > _MOST_RECORDS:
        expected = f"at most {_MOST_RECORDS:,} are read for one answer"
        raise InvalidError(
            f"{count:,} records are part of that graph; {expected}. Ask for one release", field="dataset"
        )
    records_needed = [
        record for name in sorted(models) for record in records.find(kinds=GRAPH_KINDS, model=name).records
    ]
    records_needed.sort(key=_seq)
    return _json(graph(records_needed, release=release, dataset_digest=dataset, model=model))


@router.post("/v1/store/rebuild")
def rebuild(request: Request, actor: Caller) -> Response:
    """Rebuild the lineage store from the log; the old one answers meanwhile. For operators and auditors."""
    context = context_of(request)
    try:
        check_role(actor, _MAY_REBUILD, "rebuild the lineage store")
    except RefusedError as refusal:
        context.ledger.refuse(Draft("StoreRebuild", actor, {}), refusal)
        raise
    began = time.monotonic()
    count = context.store.rebuild(context.ledger.records)
    return _json({"records": count, "seconds": round(time.monotonic() - began, 3)})


def deciding_records(records: Records, model: str, head: int, others: Iterable[str]) -> Sequence[Record]:
    """The records among the first `head` that `answering` needs, in order; `others` from `same_bytes_elsewhere`."""
    pages = [records.find(upto=head, model=model, limit=1), records.find(upto=head, model=model, kinds=DECIDING)]
    pages += [records.find(upto=head, release=release, kinds=("ModelTrained", *BARRING)) for release in others]
    about_all = [record for record in records.find(upto=head, kinds=_ABOUT_ALL).records if record["model"] is None]
    found = {record["seq"]: record for page in pages for record in page.records}
    found |= {record["seq"]: record for record in about_all}
    return sorted(found.values(), key=_seq)


def same_bytes_elsewhere(fold: LedgerState, model: str) -> list[str]:
    """Releases of other models with the same bytes as a release of this model."""
    own = {release.digest for release in fold.releases.values() if release.model == model}
    return [release.release for release in fold.releases.values() if release.model != model and release.digest in own]


def models_of_dataset(records: Records, dataset: str) -> set[str]:
    """Models that were trained on the data set of that digest, or for which it was pinned."""
    trained = records.find(kinds=["ModelTrained"]).records
    pinned = records.find(kinds=["DatasetPinned"]).records
    users = {record["model"] for record in trained if record["data"]["dataset"].get("digest") == dataset}
    return users | {record["model"] for record in pinned if record["data"]["digest"] == dataset}


def _seq(record: Record) -> int:
    return int(record["seq"])


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
