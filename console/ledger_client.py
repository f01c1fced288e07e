"""HTTP client of the ledger service: asynchronous, one connection pool for the whole console.

Callbacks run on the server's event loop, so every read and write is awaited; a blocking client would stop all tabs.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, cast

import httpx
import orjson

from console.answer_cache import Answer, AnswerCache
from plimsoll.errors import Unavailable, error_from

Json = dict[str, Any]
#: Seconds that one read may take. A late answer is shown late: a page that gives up asks again and is later still.
READ_SECONDS = 30.0
SEQ_HEADER = "X-Ledger-Seq"


class LedgerClient:
    """One HTTP pool to the ledger service; the token travels with each call.

    Args:
        transport: how to reach the ledger; HTTP to `url` when absent.

    Raises (every call):
        plimsoll.errors.Error: see there for which status is which; `message` is the ledger's own text.
    """

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # trust_env off: a proxy set for browsing must never see a bank's records.
        limits = httpx.Limits(max_connections=40, max_keepalive_connections=40)
        self._http = httpx.AsyncClient(
            base_url=url, timeout=READ_SECONDS, transport=transport, trust_env=False, limits=limits
        )
        self._cache = AnswerCache()
        self.url = url

    async def send(
        self,
        token: str | None,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Json | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = READ_SECONDS,
    ) -> httpx.Response:
        """Send one request; the answer has a status below 400."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            response = await self._http.request(
                method, path, json=json, params=_given(params), headers=bearer | (headers or {}), timeout=timeout
            )
        except httpx.TimeoutException as error:
            raise Unavailable("The ledger did not answer in time.", code="timeout") from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"The ledger at {self.url} cannot be reached. `plimsoll doctor` says why.", code="unreachable"
            ) from error
        if response.status_code >= 400:
            raise error_from(response.status_code, _json(response), response.text[:300])
        return response

    async def read(self, token: str, path: str, params: Json | None = None) -> tuple[Json, int]:
        """GET a JSON object, and the number of the newest record that it includes (0 where the ledger gives none).

        The last body for this person and question is sent again by the ledger only when it has changed.
        """
        key = (token, path, *sorted(_given(params).items()))
        known = self._cache.get(key)
        headers = {"If-None-Match": known.etag} if known else None
        response = await self.send(token, "GET", path, params=params, headers=headers)
        seq = int(response.headers.get(SEQ_HEADER, "0"))
        if known is not None and response.status_code == httpx.codes.NOT_MODIFIED:
            return cast(Json, orjson.loads(known.body)), seq
        if etag := response.headers.get("ETag"):
            self._cache.put(key, Answer(etag, response.content))
        return cast(Json, orjson.loads(response.content)), seq

    async def act(self, token: str, path: str, body: Json, *, key: str, etag: int | None) -> Json:
        """A mutating call: it carries what the person saw (`etag`) and is safe to repeat (`key`)."""
        headers = {"Idempotency-Key": key} | ({"If-Match": f'"{etag}"'} if etag is not None else {})
        return cast(Json, (await self.send(token, "POST", path, json=body, headers=headers, timeout=20.0)).json())

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


#: The console's client, set by the access middleware for each request and socket.
CLIENT: ContextVar[LedgerClient] = ContextVar("ledger client")


def _given(params: Json | None) -> Json:
    return {name: value for name, value in (params or {}).items() if value not in (None, "")}


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
