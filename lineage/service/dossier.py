"""What the ledger service gives to whoever examines one release: its dossier as a zip."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from lineage.history.dossier import build_dossier, to_zip
from lineage.service.reads import context_of, reader

router = APIRouter(dependencies=[Depends(reader)])
_MOST = 2**53  # a number that JSON can carry


class Zip(Response):
    """An archive."""

    media_type = "application/zip"


@router.get("/v1/releases/{release}/dossier", response_class=Zip)
def dossier(
    request: Request,
    release: str,
    upto: Annotated[int | None, Query(ge=1, le=_MOST, description="the record that the dossier stands on")] = None,
) -> Zip:
    """Everything about one release in one folder, with its proofs and the verifier.

    Without `upto` it stands on the newest record about the release: the same bytes until something new happens to it.
    """
    context = context_of(request)
    files = build_dossier(context.ledger, context.settings, release, upto)
    name = f"attachment; filename={release}.zip"  # a release that is known has a name that needs no quotes
    return Zip(to_zip(files), headers={"Content-Disposition": name, "Cache-Control": "no-store"})
