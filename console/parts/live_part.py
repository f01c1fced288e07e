"""A part of a page that reads the ledger again when something that it shows has moved.

A script schedules the reads: of each part at most one is in flight, and one more follows if news came meanwhile. So an
answer that comes late is shown, and never thrown away because the next question was asked before it. The answer carries
a version, the newest record that it includes: an answer older than what is shown is dropped, and news that an answer
already includes asks nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dash import ClientsideFunction, Input, Output, State, clientside_callback, dcc, html
from dash.exceptions import PreventUpdate

from console.parts.widgets import trouble
from console.person_ledger import PersonLedger
from lineage.errors import PlimsollError
from plimsoll.errors import Error, Unavailable

Json = dict[str, Any]


@dataclass(frozen=True)
class Interest:
    """What a part shows, so that only news about it makes the part read again.

    Attributes:
        kinds: of facts.
        models: None for any model. A fact about all models concerns every part that shows its kind.
    """

    kinds: frozenset[str]
    models: tuple[str, ...] | None = None


Made = tuple[Any, Interest | tuple[Interest, ...]]
NOTHING = Interest(frozenset())


class LivePart:
    """The stores and the schedule of one part; made once, when its module is imported.

    Args:
        id_: the id of the element that is filled.
        schedule: the script's function: `schedule` starts a read by setting `turn`, `schedule_slowly` at most every
            five seconds.
    """

    def __init__(self, id_: str, schedule: str = "schedule") -> None:
        self.id = id_
        self.turn = Input(f"{id_}-turn", "data")
        self.shown = State(f"{id_}-shown", "data")
        self.shown_output = Output(f"{id_}-shown", "data")
        #: For `running=` of the callback that reads.
        self.running = [(Output(f"{id_}-busy", "data"), True, False)]
        clientside_callback(
            ClientsideFunction("plimsoll", schedule),
            Output(f"{id_}-scheduled", "data"),
            Input("news", "data"),
            Input(f"{id_}-busy", "data"),
            Input(f"{id_}-shown", "data"),
            State(f"{id_}-turn", "id"),
        )

    def stores(self) -> list[dcc.Store]:
        """The stores that the script works with."""
        return [dcc.Store(id=f"{self.id}-{name}") for name in ("turn", "busy", "shown", "scheduled")]

    def frame(self, *more: Any) -> html.Div:
        """The part before it is filled; `more` are the page's own stores."""
        return html.Div([*self.stores(), *more, html.Div(html.P("Reading the ledger…", className="note"), id=self.id)])

    async def fill(
        self, at: PersonLedger, shown: Json | None, make: Callable[[PersonLedger], Awaitable[Made]]
    ) -> tuple[Any, Json]:
        """What `make` builds, with what the script needs of it; a refusal of the ledger in its own words.

        Args:
            shown: what the script has of the answer on screen; None at first.

        Raises:
            PreventUpdate: the answer is older than what is shown, or the ledger does not answer: the old view stays,
                under the chip that says so.
        """
        try:
            content, shows = await make(at)
        except Unavailable as error:
            if shown is not None:
                raise PreventUpdate from error
            return trouble(error.message), described(0, NOTHING)
        except (Error, PlimsollError) as error:
            content = signed_out() if error.status == 401 else trouble(error.message)
            return content, described(0, NOTHING)
        if shown is not None and at.version < shown["version"]:
            raise PreventUpdate
        return content, described(at.version, shows)


def described(version: int, shows: Interest | tuple[Interest, ...]) -> Json:
    """What the script in the browser has of an answer."""
    interests = (shows,) if isinstance(shows, Interest) else shows
    return {
        "version": version,
        "shows": [
            {"kinds": sorted(one.kinds), "models": None if one.models is None else sorted(one.models)}
            for one in interests
        ],
    }


def signed_out() -> dcc.Location:
    """Leads to the sign-in page."""
    return dcc.Location(id="leave", pathname="/sign-in", search="?again=1", refresh=True)
