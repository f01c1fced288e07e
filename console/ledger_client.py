"""The ledger as one signed-in person sees it: asynchronous, with their own token and nothing else.

Callbacks run on the server's event loop, so every read and write is awaited; a blocking client would stop
all tabs.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import httpx

from console.session import Person, signed_in
from plimsoll.errors import Unavailable, error_from

Json = dict[str, Any]


class Door:
    """One HTTP pool to the ledger service; the token travels with each call.

    Raises (every call):
        plimsoll.errors.Error: see there for which status is which; `message` is the ledger's own text.
    """

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # trust_env off: a proxy set for browsing must never see a bank's records.
        self._http = httpx.AsyncClient(base_url=url, timeout=8.0, transport=transport, trust_env=False)
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
        timeout: float = 8.0,
    ) -> httpx.Response:
        """Send one request; the answer has a status below 400."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        given = {name: value for name, value in (params or {}).items() if value not in (None, "")}
        try:
            response = await self._http.request(
                method, path, json=json, params=given, headers=bearer | (headers or {}), timeout=timeout
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

    async def get(self, token: str, path: str, **params: Any) -> Json:
        """GET and parse a JSON object."""
        return cast(Json, (await self.send(token, "GET", path, params=params)).json())

    async def state(self, token: str) -> Json:
        """The fold: `{"seq", "models", "releases"}`."""
        return await self.get(token, "/v1/state")

    async def newest(self, token: str, limit: int, offset: int = 0, **filters: Any) -> Json:
        """Records newest first: `{"records", "head", "total"}`; filters are kind, model, release, actor."""
        return await self.get(token, "/v1/records", order="newest", limit=limit, offset=offset, **filters)

    async def act(self, token: str, path: str, body: Json, *, key: str, etag: str | None) -> Json:
        """A mutating call: it carries what the person saw (`etag`) and is safe to repeat (`key`)."""
        headers = {"Idempotency-Key": key} | ({"If-Match": f'"{etag}"'} if etag is not None else {})
        return cast(Json, (await self.send(token, "POST", path, json=body, headers=headers, timeout=20.0)).json())

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


#: The console's one door, set by the gate for each request and socket.
DOOR: ContextVar[Door] = ContextVar("door")


@dataclass(frozen=True)
class Desk:
    """The door with one person's token in hand: what pages and callbacks work with."""

    door: Door
    person: Person

    async def get(self, path: str, **params: Any) -> Json:
        """GET and parse a JSON object."""
        return await self.door.get(self.person.token, path, **params)

    async def state(self) -> Json:
        """The fold: `{"seq", "models", "releases"}`."""
        return await self.door.state(self.person.token)

    async def newest(self, limit: int, offset: int = 0, **filters: Any) -> Json:
        """Records newest first: `{"records", "head", "total"}`; filters are kind, model, release, actor."""
        return await self.door.newest(self.person.token, limit, offset, **filters)

    async def act(self, path: str, body: Json, *, key: str, etag: str | None) -> Json:
        """A mutating call; the record it left."""
        return await self.door.act(self.person.token, path, body, key=key, etag=etag)


def desk() -> Desk:
    """The desk of this request's person.

    Raises:
        LookupError: nobody is signed in.
    """
    return Desk(DOOR.get(), signed_in())


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
