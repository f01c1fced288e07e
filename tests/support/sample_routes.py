"""A view of the ledger with a champion and a challenger in canary, and the route table made from it."""

from __future__ import annotations

from typing import Any

from serve.ledger_view import LedgerView
from serve.routes import RouteTable, routes_from
from tests.support.entries import a_model, a_release

DIGESTS = {f"m@{n}": "sha256:" + str(n) * 64 for n in range(1, 4)}


def view(**changes: Any) -> LedgerView:
    """A view with champion m@1, no previous one, and m@2 in canary at 25 %."""
    given = {"champion": "m@1", "challenger": "m@2", "share": 0.25, "salt": "pepper-and-salt", "baseline_from": "m@1"}
    states = {"m@1": "champion", "m@2": "canary", "m@3": "registered"}
    releases = {name: a_release(name, states[name], digest=digest) for name, digest in DIGESTS.items()}
    return LedgerView(models={"m": a_model(**(given | changes))}, releases=releases)


def table(epoch: int = 1, version: int = 1, **changes: Any) -> RouteTable:
    return routes_from(view(**changes), {"ab": {"name": "client", "role": "client"}}, epoch, version)
