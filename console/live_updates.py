"""News from the ledger to every open tab: one follower of the log for all, one persistent callback per tab.

Invariants:
- the follower uses the token of a person whose tab is open, and does not run while no tab is open;
- news are only kinds and models that moved; each page then reads again with its own person's token;
- a tab whose session has ended gets a sign-out within seconds and no more news;
- while the ledger does not answer the follower, every beat says for how long: old news is never shown as fresh.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from dash import callback, ctx, hooks, set_props

from console.ledger_client import LedgerClient
from console.session import WHO, Person
from plimsoll.errors import Error, Refused

POLL_SECONDS = 5.0
#: How much longer than asked an answer may take: a busy ledger is slow, not silent.
PATIENCE_SECONDS = 10.0
BEAT_SECONDS = 2.0
CHECK_SECONDS = 4.0
#: Several facts often come together; one refresh shows them all.
GATHER_SECONDS = 0.15
_KEPT = 2_000
log = structlog.get_logger("plimsoll.console")


class Feed:
    """The newest record heard of, what has moved lately, and since when the ledger is silent."""

    def __init__(self, client: LedgerClient, build: str) -> None:
        self.client = client
        self.build = build
        self.head = 0
        self._moved: deque[tuple[int, str, str]] = deque(maxlen=_KEPT)
        self._silent_since: float | None = None
        self._people: list[Person] = []
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @asynccontextmanager
    async def follow(self, person: Person) -> AsyncIterator[None]:
        """While the block runs, this person's tab is served; the first starts the follower, the last stops it."""
        self._people.append(person)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._people.remove(person)
            if not self._people:
                await self.close()

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def silent(self) -> float:
        """Seconds since the ledger last answered; 0 while it does."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def moved(self, after: int) -> list[list[str]] | None:
        """Kind and model of the records behind `after`, each pair once; None where not all of them are kept."""
        if not self._moved or self._moved[0][0] > after + 1:
            return None
        return [list(pair) for pair in sorted({(kind, model) for seq, kind, model in self._moved if seq > after})]

    async def wait(self, seconds: float) -> None:
        """Return at the next news, or after `seconds`."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    @asynccontextmanager
    async def session(self, person: Person) -> AsyncIterator[asyncio.Task[None]]:
        """A task that ends when the person's session does; beats do not wait for a slow ledger's answer to it."""
        task = asyncio.create_task(self._until_ended(person))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _until_ended(self, person: Person) -> None:
        while await self.alive(person):
            await asyncio.sleep(CHECK_SECONDS)

    async def alive(self, person: Person) -> bool:
        """Whether the ledger still takes this person's token; also yes while it cannot be asked: nothing is shown."""
        if person.expired():
            return False
        try:
            await self.client.read(person.token, "/v1/whoami")
        except Refused as refusal:
            return refusal.status != 401
        except Error:
            return True
        return True

    def take_in(self, page: dict[str, Any]) -> None:
        """Add an answer of `GET /v1/records`."""
        self._silent_since = None
        for record in page["records"]:
            self._moved.append((record["seq"], record["kind"], record["model"] or ""))
            self.head = record["seq"]
        if page["records"]:
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self) -> None:
        while self._people:
            # In turn, so that one dead session does not silence the others.
            person = self._people[0]
            self._people.append(self._people.pop(0))
            try:
                if self.head == 0:
                    newest, _ = await self.client.read(person.token, "/v1/records", {"order": "newest", "limit": 1})
                    self.head = newest["head"]
                    self._wake()
                self.take_in(await self._next_page(person))
            except Refused:
                await asyncio.sleep(0.2)  # the tab of that session is signed out by its own callback, see `alive`
            except Error as error:
                if self._silent_since is None:
                    self._silent_since = time.monotonic()
                    log.warning("the ledger does not answer", message=error.message)
                    self._wake()
                await asyncio.sleep(1.0)

    async def _next_page(self, person: Person) -> dict[str, Any]:
        asked = {"after": self.head, "wait": POLL_SECONDS, "limit": 1_000}
        answer = await self.client.send(
            person.token, "GET", "/v1/records", params=asked, timeout=POLL_SECONDS + PATIENCE_SECONDS
        )
        page: dict[str, Any] = answer.json()
        return page


def beat(feed: Feed, seen: int) -> dict[str, Any]:
    """What a tab gets every two seconds. `seen` is the newest record that it got news of."""
    return {"head": feed.head, "silent": round(feed.silent, 1), "build": feed.build, "at": time.time(), "seen": seen}


def news(feed: Feed, seen: int) -> dict[str, Any]:
    """What moved behind `seen`; to a tab that has seen nothing anything may have moved."""
    return {"head": feed.head, "moved": feed.moved(seen) if seen else None}


def register(feed: Feed) -> None:
    """Put the persistent callback and the guard of its socket in place.

    The callback's id comes from this file and line; after an upgrade old tabs see a new build in the beat and reload.
    """

    @callback(persistent=True, websocket=True)
    async def live() -> None:
        person = WHO.get()
        socket = ctx.websocket
        if person is None or socket is None:
            return
        seen = 0
        async with feed.follow(person), feed.session(person) as session:
            while not socket.is_shutdown:
                if session.done():
                    set_props("beat", {"data": {"signed_out": True, "at": time.time()}})
                    return
                set_props("beat", {"data": beat(feed, seen)})
                if feed.head > seen:
                    set_props("news", {"data": news(feed, seen)})
                    seen = feed.head
                    await asyncio.sleep(GATHER_SECONDS)
                if feed.head == seen:
                    await feed.wait(BEAT_SECONDS)

    @hooks.websocket_message()
    async def guard_message(websocket: Any, _message: dict[str, Any]) -> bool:
        # Middleware does not run per message: the identity is the handshake's, so its end is looked up here.
        person = websocket.scope.get("person")
        return person is not None and not person.expired()
