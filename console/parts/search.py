"""A field that suggests names of models or releases while it is typed in; the ledger searches, twenty at a time."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, State, callback
from dash.exceptions import PreventUpdate

from console.person_ledger import person_ledger
from plimsoll.errors import Error

SUGGESTED = 20
_RELEASES = frozenset({"audit-release"})
_FIELDS = ("audit-model", "audit-release", "releases-model", "drift-model", "fairness-model")


def search_box(id_: str, label: str, value: str | None) -> Any:
    """The field."""
    return dmc.Select(
        id=id_,
        label=label,
        data=[value] if value else [],
        value=value or None,
        clearable=True,
        searchable=True,
        debounce=250,
        placeholder="Part of a name",
        nothingFoundMessage="No such name",
        clearButtonProps={"aria-label": f"Clear {label.lower()}"},
    )


async def suggestions(id_: str, typed: str, chosen: str | None) -> list[str]:
    """Names with this part; what is chosen stays among them, or the field would lose it."""
    at = person_ledger()
    try:
        if id_ in _RELEASES:
            found = [one.release for one in (await at.releases(search=typed, limit=SUGGESTED)).releases]
        else:
            found = [one.model for one in (await at.models(search=typed, limit=SUGGESTED)).models]
    except Error as error:
        raise PreventUpdate from error
    return found if chosen is None or chosen in found else [chosen, *found]


def _register(id_: str) -> None:
    @callback(Output(id_, "data"), Input(id_, "searchValue"), State(id_, "value"))
    async def suggest(typed: str | None, chosen: str | None) -> list[str]:
        """Search as it is typed; a chosen name is not searched for."""
        return await suggestions(id_, "" if typed in (None, chosen) else str(typed), chosen)


for _id in _FIELDS:
    _register(_id)
