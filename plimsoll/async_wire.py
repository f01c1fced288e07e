# Written by .ci/async_client.py from plimsoll/wire.py; change that one, then run `make format`.
"""One pooled HTTP connection with a bearer token, whose failures are `plimsoll.errors`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from plimsoll.errors import Invalid, Unavailable, error_from
from plimsoll.wire import _content, _json_of, pause_before_again


class AsyncWire:
    """Sends JSON, returns JSON.

    Raises (every call):
        plimsoll.errors.Error: see `plimsoll.errors` for which status is which.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )

    async def send(
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
        """Send one request; the answer is a success.

        Args:
            again: asking twice does no harm; ask once more when the connection breaks before an answer, as a kept one
                does when the other side is replaced, and when the answer is 503 with a moment to come back.
        """
        for name, value in (headers or {}).items():
            if not (value.isascii() and value.isprintable() and (value == value.strip())):
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
            response = await self._exchange(request, again=again)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{method} {self.url}{path} did not answer in time", code="timeout") from error
        except httpx.RequestError as error:
            raise Unavailable(
                f"cannot reach {self.url}: {error}. Is it running? `plimsoll doctor` tells", code="unreachable"
            ) from error
        if not response.is_success:
            raise error_from(response.status_code, _json_of(response), response.text[:300])
        return response

    async def _exchange(self, request: httpx.Request, *, again: bool) -> httpx.Response:
        try:
            response = await self._http.send(request)
        except (httpx.RemoteProtocolError, httpx.NetworkError):
            if not again:
                raise
            return await self._http.send(request)
        pause = pause_before_again(response.status_code, response.headers.get("Retry-After", ""))
        if not again or pause is None:
            return response
        await asyncio.sleep(pause)
        return await self._http.send(request)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """`send`, and parse the answer; options as for `send`."""
        response = await self.send(method, path, **options)
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(f"{self.url}{path} answered something that is not JSON", code="not_json") from error

    async def get(self, path: str, **params: Any) -> Any:
        """GET and parse JSON."""
        return await self.ask("GET", path, params=params)

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()
