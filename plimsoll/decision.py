"""A decision as the gateway returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from plimsoll.errors import Unavailable

Json = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """One answered request.

    Attributes:
        decision_id: identifies it for outcomes and in the record.
        digest: of the bundle of `release`.
        role: `champion`, `challenger` or `baseline`.
        fallback: why another release than the one chosen answered; None otherwise.
        replica: id of the gateway replica.
    """

    decision: str
    score: float
    threshold: float
    decision_id: str
    release: str
    digest: str
    role: str
    fallback: str | None
    reasons: list[Json]
    replica: str | None = None


def decision_of(response: httpx.Response) -> Decision:
    """The decision in a reply of the gateway.

    Raises:
        Unavailable: the reply is something else.
    """
    known = Decision.__dataclass_fields__.keys()
    try:
        answer = {name: value for name, value in response.json().items() if name in known}
        return Decision(**answer | {"replica": response.headers.get("X-Replica")})
    except (AttributeError, TypeError, ValueError) as error:
        raise Unavailable(f"{response.url} answered something that is not a decision", code="not_json") from error
