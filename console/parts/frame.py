"""How a page shows what it read, or that it could not read: the same way everywhere.

A page's `layout` is an empty frame; its one callback fills it at once and again at news. The server's event loop never
waits for the ledger in a layout.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dash import ctx, dcc, html
from dash.exceptions import PreventUpdate

from console.parts.widgets import trouble
from plimsoll.errors import Error, Unavailable

Json = dict[str, Any]
#: Kinds that may be about all models.
_ABOUT_ALL = ("KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased")


def frame(id_: str, *more: Any) -> html.Div:
    """A page that is about to be filled; `more` are its stores."""
    return html.Div([*more, html.Div(html.P("Reading the ledger…", className="note"), id=id_)])


async def fill(make: Callable[..., Awaitable[Any]], *args: Any, news: Json | None = None, about: str = "") -> Any:
    """What `make` builds, or the ledger's refusal in its own words; an ended session leads to the sign-in page.

    Args:
        news: what moved; a refresh because of it is left out when it says nothing about `about` (a model or kind).

    Raises:
        PreventUpdate: there is nothing to show anew. While the ledger is silent the old view stays, under the banner
            that says that it is old.
    """
    first = not ctx.triggered_prop_ids
    moved = (news or {}).get("moved") or []
    if not first and about and moved and not {about, *_ABOUT_ALL} & set(moved):
        raise PreventUpdate
    try:
        return await make(*args)
    except Unavailable as error:
        if not first:
            raise PreventUpdate from error
        return trouble(error.message)
    except Error as error:
        return signed_out() if error.status == 401 else trouble(error.message)


def signed_out() -> dcc.Location:
    """Leads to the sign-in page."""
    return dcc.Location(id="leave", pathname="/sign-in", search="?again=1", refresh=True)
