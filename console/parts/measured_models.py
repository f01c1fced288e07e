"""The models that a page of measurements shows: one that was chosen, or four at a time by name."""

from __future__ import annotations

from typing import Any

from console.parts.interests import OF_ALERTS, OF_CHAMPIONS, OF_JOBS
from console.parts.live_part import Interest
from console.parts.paging import page_number, pages
from console.person_ledger import PersonLedger
from lineage.state.entities import ModelSummary

Json = dict[str, Any]
SIZE = 4


async def models_of_page(at: PersonLedger, path: str, chosen: Json) -> tuple[list[ModelSummary], Any, Interest]:
    """The models that a page of measurements shows, the links to the other pages, and what it is interested in."""
    kinds, only = OF_ALERTS | OF_JOBS | OF_CHAMPIONS, chosen.get("model")
    if only:
        model, _ = await at.model(str(only))
        return [model], None, Interest(kinds, (model.model,))
    page = page_number(chosen.get("page"))
    found = await at.models(offset=(page - 1) * SIZE, limit=SIZE)
    names = tuple(model.model for model in found.models)
    full = len(names) == SIZE or page > 1
    return found.models, pages(path, chosen, page, SIZE, found.total), Interest(kinds, names if full else None)
