"""Rules for releases named in the path: naming a release asserts that it answers; it does not choose it.

Which release answers a customer is decided by governance, and the canary test depends on it; callers who could choose
would bypass both. A request that names a release is therefore answered only if that release would have answered
anyway, and refused otherwise. Role service may ask any release in memory; that is recorded as verification, which is
never evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lineage.errors import RefusedError, UnavailableError, UnknownError
from serve.gateway.messages import Caller
from serve.routes import Route, RouteTable, Target

SERVICE = "service"


def default_target(route: Route) -> Target | None:
    """The release that answers customers who are not assigned to the challenger."""
    return route.champion or route.baseline


def versions_for(route: Route, caller: Caller) -> list[str]:
    """Names of the releases that this caller may name in a path."""
    target = default_target(route)
    targets = route.may_answer if caller.role == SERVICE else [target] if target else []
    return [target.release for target in targets]


def find_version(route: Route, version: str, caller: Caller) -> Target:
    """The release that a path names, in full (`credit-default@7`) or by its number (`7`).

    Raises:
        UnknownError: the release is not in this route (404).
        RefusedError: it is, but this caller may not name it (403).
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
    """Check that the named release is the one that answers each of these customers.

    Args:
        keys: the customer's key of each row.
        is_on_trial: whether a key is assigned to the challenger.

    Raises:
        RefusedError: some row is answered by another release (403).
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
    """The table with `target` answering every customer of its model, for verification by services.

    Raises:
        UnavailableError: the release's bundle is not in this replica's memory (503).
    """
    if not is_resident:
        raise UnavailableError(f"no verified bundle of {target.release} is in memory", field="version")
    champion = None if target == default_target(route) and route.champion is None else target
    alone = replace(route, champion=champion, challenger=None, share=0.0, salt="")
    return replace(table, routes={**table.routes, route.model: alone})
