"""The three families of errors: the caller's bug, the world failed, refused by a control.

    PlimsollError
    ├── InvalidError      caller's bug: a value is wrong (HTTP 422; 400 for a malformed request)
    │   └── UnknownError  caller's bug: the thing named does not exist (HTTP 404)
    ├── UnavailableError  the world failed: disk, network, another process (HTTP 503)
    │   └── TamperedError stored bytes are not what was recorded (HTTP 500)
    └── RefusedError      a control said no (HTTP 403, 409, 412 or 428)

Every message says what happened, which field or value, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any


class PlimsollError(Exception):
    """Base of every error this project raises on purpose."""

    status = 500
    code = "error"

    def __init__(self, message: str, *, field: str | None = None, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.detail = detail

    def body(self) -> dict[str, Any]:
        """The error as the JSON body every entrance answers with."""
        body: dict[str, Any] = {"error": self.message, "code": self.code}
        if self.field is not None:
            body["field"] = self.field
        return body | self.detail


class InvalidError(PlimsollError):
    """A value the caller gave is not what was expected."""

    status = 422
    code = "invalid"


class UnknownError(InvalidError):
    """The model, release, account or check named does not exist."""

    status = 404
    code = "unknown"


class UnavailableError(PlimsollError):
    """Something outside this process failed; trying again later may work."""

    status = 503
    code = "unavailable"


class TamperedError(UnavailableError):
    """Stored bytes are not what was recorded."""

    status = 500
    code = "tampered"


class RefusedError(PlimsollError):
    """A control refused the action. The message says what would make it acceptable."""

    status = 409
    code = "refused"

    def __init__(
        self, message: str, *, code: str = "refused", status: int = 409, field: str | None = None, **detail: Any
    ) -> None:
        super().__init__(message, field=field, **detail)
        self.code = code
        self.status = status
