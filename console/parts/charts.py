"""Charts with one palette for both themes; text, grid and limit take their colours from the style sheet.

At most four lines, named above the plot, a dotted limit with its number, from zero, no tool bar;
each has a table twin.
"""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from console.formatting import NB, clock, number, percent
from console.parts.widgets import Children, empty, panel, table

Json = dict[str, Any]
Series = dict[str, list[tuple[str, float]]]
#: Okabe-Ito hues moved until each has 3:1 against the light and the dark panel.
PALETTE = ("#1f88c9", "#c27f00", "#0a9a73", "#c2649b")
_TABLE_ROWS = 12
_HEIGHT = 176


def chart(
    title: str, series: Series, *, limit: float | None = None, share: bool = False, note: str = "", why_empty: str = ""
) -> html.Section:
    """A panel with a line chart and its table twin.

    Args:
        series: name -> points `(ISO time, value)`, oldest first; the four with most points are drawn.
        share: values and limit are shares and read as per cent.
    """
    kept = dict(sorted(series.items(), key=lambda pair: -len(pair[1]))[: len(PALETTE)])
    if not any(kept.values()):
        return panel(title, empty("Nothing to draw yet.", why_empty))
    graph = dcc.Graph(
        figure=figure(kept, limit, share),
        config={"displayModeBar": False, "staticPlot": True, "responsive": True},
        style={"height": _HEIGHT},
    )
    # The picture is hidden from screen readers; the table says the same.
    drawn = html.Div([_keys(kept, limit, share), graph], className="graph", **{"aria-hidden": "true"})
    return panel(title, html.P(note, className="note") if note else None, drawn, _twin(title, kept, share))


def _keys(series: Series, limit: float | None, share: bool) -> html.Ul:
    # Drawn as HTML: plotly colours words through style attributes, which the content security policy bars.
    show = percent if share else number
    names = [
        html.Li([html.Span(className=f"swatch s{index}"), name]) for index, name in enumerate(series) if series[name]
    ]
    if limit is not None:
        names.append(html.Li([html.Span(className="swatch dotted"), f"limit{NB}{show(limit)}"]))
    return html.Ul(names, className="keys")


def figure(series: Series, limit: float | None, share: bool) -> Json:
    """The plotly figure as plain data."""
    values = [value for points in series.values() for _, value in points]
    top = max([*values, limit or 0.0, 1e-9]) * 1.18
    traces = [
        {
            "type": "scatter",
            "mode": "lines" if len(points) > 1 else "markers",
            "x": [at for at, _ in points],
            "y": [value for _, value in points],
            "line": {"color": PALETTE[index], "width": 2},
            "marker": {"color": PALETTE[index], "size": 7},
        }
        for index, points in enumerate(series.values())
    ]
    return {"data": traces, "layout": _layout(limit, share, top)}


def _layout(limit: float | None, share: bool, top: float) -> Json:
    layout: Json = {
        "margin": {"l": 48, "r": 8, "t": 8, "b": 24},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "xaxis": {"showgrid": False, "zeroline": False, "nticks": 5, "tickformat": "%H:%M"},
        "yaxis": {"range": [0, top], "nticks": 4, "zeroline": False, "tickformat": ".0%" if share else "~s"},
        "shapes": [],
    }
    if limit is not None:
        edge = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": limit, "y1": limit}
        layout["shapes"] = [edge | {"line": {"width": 1.5, "dash": "dot", "color": "#c04a10"}}]
    return layout


def _twin(title: str, series: Series, share: bool) -> html.Details:
    show = percent if share else number
    rows: list[list[Children]] = [
        [name, clock(at), show(value)]
        for name, points in series.items()
        for at, value in reversed(points[-_TABLE_ROWS:])
    ]
    return html.Details(
        [html.Summary("View as table"), table(["Series", "Time (UTC)", "Value"], rows, caption=title)],
        className="twin",
    )
