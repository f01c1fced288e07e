"""Links from page to page of a list whose filters are in the address."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from dash import html

from console.formatting import number
from console.parts.widgets import link

Json = dict[str, Any]
_MOST = 100_000


def page_number(text: Any) -> int:
    """The page in an address, counted from 1; 1 for what is no page."""
    return min(_MOST, max(1, int(text))) if str(text).isdecimal() else 1


def pages(path: str, chosen: Json, page: int, size: int, total: int) -> html.Div | None:
    """Links to the page before and the page after; None where one page is enough."""
    last = max(1, -(-total // size))
    if last == 1 and page == 1:
        return None
    parts: list[Any] = []
    if page > 1:
        parts.append(link("Previous", _address(path, chosen, min(page - 1, last)), "button"))
    parts.append(html.Span(f"Page {number(page)} of {number(last)}", className="note"))
    if page < last:
        parts.append(link("Next", _address(path, chosen, page + 1), "button"))
    return html.Div(parts, className="pages", role="navigation", **{"aria-label": "Pages of the list"})


def _address(path: str, chosen: Json, page: int) -> str:
    query = {name: value for name, value in chosen.items() if value and name != "page"}
    if page > 1:
        query["page"] = page
    return f"{path}?{urlencode(query)}" if query else path
