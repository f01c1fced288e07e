"""What an address leads to that is no page of the console."""

from __future__ import annotations

from typing import Any

from dash import html

from console.parts.widgets import empty, link, page_head

PAGE = {"path": "/404", "name": "Not found", "title": "Not found · Plimsoll"}


def layout(**_: Any) -> html.Div:
    """A way back."""
    text = "The address may belong to a release that was never trained, or be misspelt."
    return html.Div([page_head("No such page"), empty("Nothing is here.", text), link("To the overview", "/")])
