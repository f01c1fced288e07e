"""Releases named in the path: to name one is to insist on it, not to choose it.

Which release answers a customer is what the bank decided and what the trial of a challenger rests on. A caller who
could choose would walk around both. So a request that names a release is answered where that release would have
answered anyway, and refused otherwise. Only services may ask another release that lies in memory, and what it says is
recorded as verification, which is never evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lineage.errors import RefusedError, UnavailableError, UnknownError
from serve.gateway.messages import Caller
from serve.routes import Route, RouteTable, Target

SERVICE = "service"


def default_target(route: Route) -> Target | None:
    """The release that answers every customer who is on no trial."""
    return route.champion or route.baseline


def versions_for(route: Route, caller: Caller) -> list[str]:
    """The releases that this caller may name."""
    target = default_target(route)
    targets = route.standing if caller.role == SERVICE else [target] if target else []
    return [target.release for target in targets]


def find_version(route: Route, version: str, caller: Caller) -> Target:
    """The release that a path names, in full (`credit-default@7`) or by its number (`7`).

    Raises:
        UnknownError: it is none of this route (404).
        RefusedError: it is one, but this caller may not name it (403).
    """
    release = version if "@" in version else f"{route.model}@{version}"
    targets = (route.champion, route.baseline, route.previous, route.challenger)
    found = next((target for target in targets if target and target.release == release), None)
    may = versions_for(route, caller)
    if found is None:
        raise UnknownError(
            f"version {version[:80]!r} of {route.model} is not served; expected {' or '.join(may)}", field="version"
        )
    if release not in may:
        raise RefusedError(
            f"{release} is not the release that answers {caller.role}s; "
            f"ask for {' or '.join(may)}, or without a version",
            code="version",
            status=403,
            field="version",
        )
    return found


def require_answered_by(
    route: Route, target: Target, keys: Iterable[str], is_on_trial: Callable[[str], bool], caller: Caller
) -> None:
    """Be sure that the release named is the one that answers each of these customers.

    Raises:
        RefusedError: some row is answered by the challenger (403).
    """
    for row, key in enumerate(keys):
        answers = route.challenger if is_on_trial(key) else default_target(route)
        if answers != target:
            raise RefusedError(
                f"row {row}: this customer is answered by another release than {target.release}, and {caller.role}s "
                "cannot choose; ask without a version",
                code="version",
                status=403,
                field="version",
                row=row,
            )


def table_pinned_to(table: RouteTable, route: Route, target: Target, is_resident: bool) -> RouteTable:
    """The table as it would be if `target` were in charge and nobody on trial: for services that verify.

    Raises:
        UnavailableError: the release's bundle is not in this replica's memory.
    """
    if not is_resident:
        raise UnavailableError(f"no verified bundle of {target.release} is in memory", field="version")
    champion = None if target == default_target(route) and route.champion is None else target
    alone = replace(route, champion=champion, challenger=None, share=0.0, salt="")
    return replace(table, routes={**table.routes, route.model: alone})
