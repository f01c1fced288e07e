"""Errors of the client.

Error
├── Invalid      the request is wrong (HTTP 400, 404, 405, 413, 422)
│   └── Unknown  the named resource does not exist (404)
├── Refused      a control refused (401, 403, 409, 412, 428, 429)
└── Unavailable  the service cannot answer now (5xx, no connection, time out)
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """Base: `message` says what happened and what to do; `status`, `code`, `field` and `detail` are for programs."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "error",
        field: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.field = field
        self.detail = detail or {}


class Invalid(Error):
    """The request is wrong; `field` names the member."""


class Unknown(Invalid):
    """The named resource does not exist."""


class Refused(Error):
    """A control refused: access, a rule of release, or a limit."""


class Unavailable(Error):
    """The service cannot answer now, or cannot be reached."""


def error_from(status: int, body: Any, text: str) -> Error:
    """The error for a reply with this status, JSON body and text."""
    body = body if isinstance(body, dict) else {}
    message = str(body.get("error") or text or f"HTTP {status}")
    if status == 404:
        kind: type[Error] = Unknown
    elif status in (401, 403, 409, 412, 428, 429):
        kind = Refused
    elif 400 <= status < 500:
        kind = Invalid
    else:
        kind = Unavailable
    known = ("error", "code", "field")
    return kind(
        message,
        status=status,
        code=str(body.get("code", "error")),
        field=body.get("field"),
        detail={name: value for name, value in body.items() if name not in known},
    )
