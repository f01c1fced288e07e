"""News from the ledger to every open tab: one follower of the log for all, one persistent callback per tab.

Invariants:
- the follower uses the token of somebody whose tab is open, and does not run when nobody's is;
- what travels is only *that* something changed; each page then reads again with its own person's token;
- a tab whose session has ended hears so within seconds and gets no more news;
- when the ledger stops answering, every beat says for how long: old news is never shown as fresh.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from dash import callback, ctx, hooks, set_props

from console.ledger_client import Door
from console.session import WHO, Person
from plimsoll.errors import Error, Refused

POLL_SECONDS = 5.0
BEAT_SECONDS = 2.0
CHECK_SECONDS = 4.0
#: Several facts often come together; one refresh shows them all.
GATHER_SECONDS = 0.15
log = structlog.get_logger("plimsoll.console")


class Feed:
    """The head of the log as last heard, what has moved lately, and since when the ledger is silent."""

    def __init__(self, door: Door, build: str) -> None:
        self.door = door
        self.build = build
        self.head = 0
        self._moved: list[tuple[int, str]] = []
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

    def moved(self, after: int) -> list[str]:
        """Models and kinds named by records behind `after`."""
        return sorted({what for seq, what in self._moved if seq > after})

    async def wait(self, seconds: float) -> None:
        """Return at the next news, or after `seconds`."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    async def alive(self, person: Person) -> bool:
        """The ledger still takes this person's token. While it cannot be asked, the answer is yes: nothing is shown."""
        if person.expired():
            return False
        try:
            await self.door.get(person.token, "/v1/whoami")
        except Refused as refusal:
            return refusal.status != 401
        except Error:
            return True
        return True

    def hear(self, page: dict[str, Any]) -> None:
        """Take in an answer of `GET /v1/records`."""
        self._silent_since = None
        for record in page["records"]:
            self._moved += [(record["seq"], record["kind"]), (record["seq"], record["model"] or "platform")]
            self.head = record["seq"]
        del self._moved[:-2_000]
        if page["records"]:
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self) -> None:
        while self._people:
            # Turn and turn about, so that one dead session does not silence the others.
            person = self._people[0]
            self._people.append(self._people.pop(0))
            try:
                if self.head == 0:
                    self.head = (await self.door.newest(person.token, 1))["head"]
                    self._tell()
                page = await self.door.get(person.token, "/v1/records", after=self.head, wait=POLL_SECONDS, limit=1_000)
                self.hear(page)
            except Refused:
                await asyncio.sleep(0.2)  # the tab of that session finds out by itself, see `alive`
            except Error as error:
                if self._silent_since is None:
                    self._silent_since = time.monotonic()
                    log.warning("the ledger does not answer", message=error.message)
                    self._tell()
                await asyncio.sleep(1.0)


def beat(feed: Feed, seen: int) -> dict[str, Any]:
    """What a tab hears every two seconds. `seen` is the head it was told before."""
    return {"head": feed.head, "silent": round(feed.silent, 1), "build": feed.build, "at": time.time(), "seen": seen}


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
        seen, checked = 0, time.monotonic()
        async with feed.follow(person):
            while not socket.is_shutdown:
                if time.monotonic() - checked > CHECK_SECONDS:
                    checked = time.monotonic()
                    if not await feed.alive(person):
                        set_props("beat", {"data": {"signed_out": True, "at": time.time()}})
                        return
                set_props("beat", {"data": beat(feed, seen)})
                if feed.head > seen:
                    set_props("news", {"data": {"head": feed.head, "moved": feed.moved(seen) if seen else []}})
                    seen = feed.head
                    await asyncio.sleep(GATHER_SECONDS)
                if feed.head == seen:
                    await feed.wait(BEAT_SECONDS)

    @hooks.websocket_message()
    async def guard_message(websocket: Any, _message: dict[str, Any]) -> bool:
        # Middleware does not run per message: the identity is the handshake's, so its end is looked up here.
        person = websocket.scope.get("person")
        return person is not None and not person.expired()
