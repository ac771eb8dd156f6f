"""How every chart of the site looks, in each theme."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from fxcast.web.page import labelled, named

BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#808890"  # Okabe and Ito's: told apart by all eyes

_TEXT = {"light": "#1b2430", "dark": "#e6eaf0"}
_GRID = {"light": "#e2e6ec", "dark": "#2a3441"}


def dressed(figure: go.Figure, theme: str | None, *, height: int) -> go.Figure:
    """Return a figure in a theme's colours, on the ground of the page."""
    known = theme if theme in _TEXT else "light"
    axis: dict[str, Any] = {"gridcolor": _GRID[known], "zeroline": False, "automargin": True}
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT[known], "size": 12},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0, "maxheight": 0.14},
        hovermode="x unified",
        hoverlabel={"bgcolor": "#ffffff" if known == "light" else "#18202a", "font": {"color": _TEXT[known]}},
        uirevision="kept",  # news change the data and not where somebody has zoomed to
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def chart(figure: go.Figure, *, said: str, id: str = "") -> Component:  # noqa: A002  # as Dash names it
    """Return a figure as a part of a page.

    Args:
        said: What it shows, for those who can't see it.
    """
    graph = dcc.Graph(figure=figure, config={"displaylogo": False, "scrollZoom": True, "responsive": True}, **named(id))
    return html.Div(graph, role="figure", **labelled(said))
