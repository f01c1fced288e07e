"""The gateway's router behind a real HTTP stack in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path_

from lineage.errors import PlimsollError, UnknownError
from serve.decision.freshness import EntityFeatures
from serve.gateway.messages import error_reply
from tests.support.decider_bench import Bench
from tests.support.gateway_parts import router_of

CLIENT = "token-of-client"
TOKENS = {CLIENT: ("client", "client"), "token-of-controller": ("controller", "service")}


class RouterOverHttp:
    """A router behind a real HTTP stack in memory."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.known = dict[str, EntityFeatures]()
        self.router = router_of(bench.decider, bench.store, bench.lines.append, features=self)
        self.route()

        async def answer(request: Request) -> Response:
            try:
                return await self.router.answer(request)
            except PlimsollError as error:
                return error_reply(error)

        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        self.app = Starlette(routes=[Path_("/{path:path}", answer, methods=methods)])

    def route(self, **changes: Any) -> None:
        """Put a route table on the router."""
        known = {sha256(token.encode()).hexdigest(): who for token, who in TOKENS.items()}
        self.router.table = replace(self.bench.table(**changes), tokens=known)

    async def fetch(self, model: str, digest: str, entity: Any) -> EntityFeatures:
        """The feature store: the entities in `known`."""
        assert digest == self.bench.first.digest
        found = self.known.get(str(entity["ID"]))
        if found is None:
            raise UnknownError("no features are known of the entity", field="entity")
        return found

    def send(self, method: str, path: str, token: str | None = CLIENT, **how: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            headers = {"Content-Type": "application/json"} if "content" in how else {}
            headers |= {"Authorization": f"Bearer {token}"} if token else {}
            headers |= how.pop("headers", {})
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, headers=headers, **how)

        return asyncio.run(ask())
