"""One pooled HTTP connection with a bearer token, whose failures are `plimsoll.errors`."""

from __future__ import annotations

import json as json_module
import random
import time
from typing import Any
from urllib.parse import quote

import httpx

from plimsoll.errors import Invalid, Unavailable, error_from


def part(name: str) -> str:
    """A name escaped as one segment of a URL path; it cannot lead to another path."""
    return quote(name, safe="@", errors="replace").replace(".", "%2E")


def reason_header(reason: str | None) -> dict[str, str]:
    """The header in which a read of personal data says why; percent-encoded, since headers hold ASCII only."""
    return {} if reason is None else {"X-Reason": quote(reason, safe=" ,;:()/'", errors="replace").strip()}


def pause_before_again(status: int, retry_after: str, most: int = 2) -> float | None:
    """Seconds after which to retry once, or None where a retry is useless (RFC 9110, 10.2.3, in seconds only).

    Up to half as long again at random, so that clients that were refused together do not return together.
    """
    if status != 503 or not retry_after.isdigit() or int(retry_after[:9]) > most:
        return None
    return int(retry_after) * random.uniform(1.0, 1.5)  # noqa: S311  nothing secret


class Wire:
    """HTTP connection that sends and returns JSON.

    Raises (every call):
        plimsoll.errors.Error: by status, see `plimsoll.errors`.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout: float = 10.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # trust_env off: a proxy configured for browsing must not receive decisions.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        again: bool = False,
    ) -> httpx.Response:
        """Send one request and return its successful response.

        Args:
            again: the request is idempotent: retry it once when the connection breaks before a reply, as a kept one
                does when the server is replaced, and when the reply is 503 with a short Retry-After.
        """
        for name, value in (headers or {}).items():
            if not (value.isascii() and value.isprintable() and value == value.strip()):
                raise Invalid(f"{name} is {value[:60]!r}; expected plain ASCII text without spaces around", field=name)
        given = {name: value for name, value in (params or {}).items() if value is not None}
        content = None if json is None else _content(json)
        types = {"Content-Type": "application/json"} if content is not None else {}
        request = self._http.build_request(
            method,
            path,
            content=content,
            params=given or None,
            headers=types | (headers or {}),
            timeout=timeout if timeout is not None else httpx.USE_CLIENT_DEFAULT,
        )
        try:
            response = self._exchange(request, again=again)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{method} {self.url}{path} did not answer in time", code="timeout") from error
        except httpx.RequestError as error:
            raise Unavailable(
                f"cannot reach {self.url}: {error}. Is it running? See `plimsoll doctor`", code="unreachable"
            ) from error
        if not response.is_success:
            raise error_from(response.status_code, _json_of(response), response.text[:300])
        return response

    def _exchange(self, request: httpx.Request, *, again: bool) -> httpx.Response:
        try:
            response = self._http.send(request)
        except (httpx.RemoteProtocolError, httpx.NetworkError):
            if not again:
                raise
            return self._http.send(request)
        pause = pause_before_again(response.status_code, response.headers.get("Retry-After", ""))
        if not again or pause is None:
            return response
        time.sleep(pause)
        return self._http.send(request)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """`send`, and parse the JSON of the response; options as for `send`."""
        response = self.send(method, path, **options)
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(f"{self.url}{path} answered something that is not JSON", code="not_json") from error

    def get(self, path: str, **params: Any) -> Any:
        """GET and parse JSON."""
        return self.ask("GET", path, params=params)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _content(value: Any) -> bytes:
    try:
        return json_module.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Invalid(f"cannot be sent as JSON: {error}; expected text, finite numbers, lists and objects") from error


def _json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
