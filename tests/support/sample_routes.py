"""A fold with a champion and a challenger in canary, and the route table made from it."""

from __future__ import annotations

from typing import Any

from serve.routes import RouteTable, routes_from

DIGESTS = {f"m@{n}": "sha256:" + str(n) * 64 for n in range(1, 4)}


def fold(**changes: Any) -> dict[str, Any]:
    """A fold with champion m@1, previous none and m@2 in canary at 25 %."""
    model = {
        "model": "m",
        "champion": "m@1",
        "previous": None,
        "challenger": "m@2",
        "share": 0.25,
        "salt": "pepper-and-salt",
        "baseline_from": "m@1",
        "shadow": None,
        "kill": None,
    } | changes
    states = {"m@1": "champion", "m@2": "canary", "m@3": "registered"}
    releases = {name: {"digest": digest, "state": states[name], "policy": {}} for name, digest in DIGESTS.items()}
    return {"models": {"m": model}, "releases": releases, "kill": None}


def table(epoch: int = 1, version: int = 1, **changes: Any) -> RouteTable:
    return routes_from(fold(**changes), {"ab": {"name": "client", "role": "client"}}, epoch, version)
