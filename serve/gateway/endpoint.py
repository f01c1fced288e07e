"""One request of a known caller, and what a path is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from starlette.responses import Response

from serve.gateway.messages import Caller, Headers
from serve.routes import Route, RouteTable


class Ask(NamedTuple):
    """One request of a known caller. `model` and `version` are "" where the path names none."""

    headers: Headers
    table: RouteTable
    caller: Caller
    model: str
    version: str
    body: bytes
    started: float

    @property
    def route(self) -> Route:
        return self.table.routes[self.model]


class Door(NamedTuple):
    """What a path is for: its method, who answers, and the content types of its body."""

    method: str
    handler: Callable[[Ask], Awaitable[Response]]
    types: Collection[str] = ()
