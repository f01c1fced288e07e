"""The three families of errors: invalid input, failure outside the process, refusal by a control.

    PlimsollError
    ├── InvalidError      a value of the caller is wrong (HTTP 422; 400 for a malformed request)
    │   └── UnknownError  the thing named does not exist (HTTP 404)
    ├── UnavailableError  something outside failed: disk, network, another process (HTTP 503)
    │   └── TamperedError stored bytes are not what was recorded (HTTP 500)
    └── RefusedError      a control refused the action (HTTP 403, 409, 412 or 428)

Every message states what happened, which field or value, what was expected and what to do.
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
        """The error as JSON body of an HTTP answer."""
        body: dict[str, Any] = {"error": self.message, "code": self.code}
        if self.field is not None:
            body["field"] = self.field
        return body | self.detail


class InvalidError(PlimsollError):
    """A value of the caller is not what was expected."""

    status = 422
    code = "invalid"


class UnknownError(InvalidError):
    """The model, release, account or check named does not exist."""

    status = 404
    code = "unknown"


class UnavailableError(PlimsollError):
    """Something outside this process failed; a later retry may work."""

    status = 503
    code = "unavailable"


class TamperedError(UnavailableError):
    """Stored bytes are not what was recorded."""

    status = 500
    code = "tampered"


class RefusedError(PlimsollError):
    """A control refused the action. The message states what would make it acceptable."""

    status = 409
    code = "refused"

    def __init__(
        self, message: str, *, code: str = "refused", status: int = 409, field: str | None = None, **detail: Any
    ) -> None:
        super().__init__(message, field=field, **detail)
        self.code = code
        self.status = status
