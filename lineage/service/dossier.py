"""Route for the dossier of a release as a zip."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from lineage.history.dossier import build_dossier, to_zip
from lineage.service.reads import context_of, reader

router = APIRouter(dependencies=[Depends(reader)])
_MOST = 2**53  # a number that JSON can carry


class Zip(Response):
    """A zip archive as the response body."""

    media_type = "application/zip"


@router.get("/v1/releases/{release}/dossier", response_class=Zip)
def dossier(
    request: Request,
    release: str,
    upto: Annotated[int | None, Query(ge=1, le=_MOST, description="the record that the dossier stands on")] = None,
) -> Zip:
    """The dossier of a release: its records, their proofs and the verifier, as one zip.

    Without `upto` it ends at the newest record about the release: the same bytes until there is a new one.
    """
    context = context_of(request)
    files = build_dossier(context.ledger, context.settings, release, upto)
    name = f"attachment; filename={release}.zip"  # names of releases need no quotes
    return Zip(to_zip(files), headers={"Content-Disposition": name, "Cache-Control": "no-store"})
