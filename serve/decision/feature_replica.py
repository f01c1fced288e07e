"""Feature replica of Ray Serve: reads an entity's features from its online store.

It is a process of its own because Feast takes 150 MiB and more, and so that a store that hangs blocks no gateway.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog

from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError, UnavailableError
from lineage.settings import Settings
from validators.scoring.feature_origin import MATERIALIZED, Mark, Origin, feast_home, mark_of, read_address, read_origin
from validators.scoring.online_store import OnlineStore, check_entity, run_in_utc

log = structlog.get_logger("plimsoll.features")
#: Threads that read. A thread whose store hangs is lost until the store answers.
THREADS = 8
#: Reads that may wait for a thread.
WAITING_MOST = 128
#: A read that takes longer counts as hung; when all threads hang, the process is replaced.
HANGS_SECONDS = 20.0
_WARMING_SECONDS = 20.0
_ORIGINS_MOST = 1000
_OPEN_MOST = 64


class FeatureReader:
    """Reads features by the verified origin of each release; origins and stores are cached. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._origins: OrderedDict[str, tuple[Mark | None, Origin]] = OrderedDict()
        self._stores: OrderedDict[str, tuple[Mark | None, OnlineStore]] = OrderedDict()
        self._warmed: dict[str, Mark | None] = {}

    def read(self, model: str, digest: str, entity: dict[str, Any]) -> dict[str, Any]:
        """`{"service", "views": [fields of serve.decision.freshness.ViewReading]}`, plain values.

        Raises:
            InvalidError: the release has no feature service, or the entity is not what its views are keyed by.
            UnavailableError: the store cannot be opened or does not answer.
            TamperedError: the release's origin is not what was signed.
        """
        origin = self._origin(model, digest)
        entity = check_entity(origin, entity)
        store = self._store(model)
        views = []
        for view in origin.views:
            row = store.read(view, [entity])[0]
            at = None if row.at is None else row.at.timestamp()
            views.append({"view": view.name, "ttl_seconds": view.ttl_seconds, "at": at, "values": dict(row.values)})
        return {"service": origin.service, "views": views}

    def is_open(self, model: str, digest: str) -> bool:
        """Whether the release's origin is verified and the model's store is open.

        Raises:
            InvalidError: `digest` is not a digest.
        """
        origin, store = self._origins.get(digest), self._stores.get(model)
        if origin is None or store is None or origin[1].model != model:
            return False
        return origin[0] == mark_of(self._settings, model, digest) and store[0] == mark_of(self._settings, model)

    def open(self, model: str, digest: str) -> None:
        """Verify the origin and open the store; the first time this imports Feast, which takes seconds.

        Raises:
            InvalidError: the release has no feature service.
            UnavailableError: the store cannot be opened.
            TamperedError: the release's origin is not what was signed.
        """
        self._origin(model, digest)
        self._store(model)

    def warm(self) -> None:
        """Open the stores that were materialised since the last call, so that no request waits for Feast's import."""
        for path in sorted(self._settings.root.glob(f"feast/*/{MATERIALIZED}")):
            model = path.parent.name
            mark = mark_of(self._settings, model)
            if self._warmed.get(model, ()) == mark:
                continue
            self._warmed[model] = mark
            try:
                self._store(model)
            except PlimsollError as error:
                log.error("online store not opened", model=model, message=error.message)

    def _origin(self, model: str, digest: str) -> Origin:
        mark = mark_of(self._settings, model, digest)
        known = self._origins.get(digest)
        if known is None or known[0] != mark or known[1].model != model:
            known = self._origins[digest] = (mark, read_origin(self._settings, model, digest))
            while len(self._origins) > _ORIGINS_MOST:
                self._origins.popitem(last=False)
        return known[1]

    def _store(self, model: str) -> OnlineStore:
        """The store at its current address."""
        mark = mark_of(self._settings, model)
        known = self._stores.get(model)
        if known is None or known[0] != mark:
            store = OnlineStore(read_address(self._settings, model), feast_home(self._settings, model))
            known = self._stores[model] = (mark, store)
            while len(self._stores) > _OPEN_MOST:
                self._stores.popitem(last=False)
        return known[1]


class FeatureReadPool:
    """Thread pool of a reader: limits concurrent reads; a read that hangs blocks its thread but no caller.

    Args:
        threads: concurrent reads.
        waiting: reads that may wait for a thread.
        clock: monotonic seconds, to detect reads that hang.
    """

    def __init__(
        self,
        reader: FeatureReader,
        *,
        threads: int = THREADS,
        waiting: int = WAITING_MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._clock = reader, clock
        self._threads, self._most = threads, threads + waiting
        self._pool, self._opener = ThreadPoolExecutor(threads, "features"), ThreadPoolExecutor(1, "opener")
        self._opening: dict[tuple[str, str], Future[None]] = {}
        self._began: dict[object, float] = {}
        self._warming: Future[None] | None = None
        self._reads: set[Future[dict[str, Any]]] = set()

    async def read(self, model: str, digest: str, entity: dict[str, Any]) -> dict[str, Any]:
        """The result of `FeatureReader.read`, or `{"refused": [kind, message, field]}`: errors are plain values."""
        if len(self._reads) >= self._most:
            refusal = UnavailableError("too many entities are being looked up; try again in a moment", field="entity")
            return _refused(refusal)
        try:
            if not self._reader.is_open(model, digest):
                await self._open(model, digest)
            future = self._pool.submit(self._timed, model, digest, entity)
            self._reads.add(future)
            future.add_done_callback(self._reads.discard)
            return await asyncio.wrap_future(future)  # cancelled with its caller while it waits for a thread
        except PlimsollError as error:
            return _refused(error)

    async def _open(self, model: str, digest: str) -> None:
        """Open once for all callers: importing Feast must neither occupy the threads nor count as a hung store."""
        name = (model, digest)
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = self._opener.submit(self._reader.open, model, digest)
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        await asyncio.shield(asyncio.wrap_future(opening))

    def warm(self) -> Future[None]:
        """Open the stores that were materialised since the last call, in a thread, one call at a time.

        Raises the unexpected error of the previous call, if any; a store that cannot be opened is only logged.
        """
        if self._warming is not None and self._warming.done():
            self._warming.result()
            self._warming = None
        if self._warming is None:
            self._warming = self._opener.submit(self._reader.warm)
        return self._warming

    @property
    def hung(self) -> bool:
        """Whether every thread waits for a store that does not answer."""
        now = self._clock()
        began = [*self._began.values()]
        return sum(now - at > HANGS_SECONDS for at in began) >= self._threads

    def close(self) -> None:
        """Stop the threads without waiting for reads in progress."""
        for pool in (self._pool, self._opener):
            pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, model: str, digest: str, entity: dict[str, Any]) -> dict[str, Any]:
        mark = object()
        self._began[mark] = self._clock()
        try:
            return self._reader.read(model, digest, entity)
        finally:
            del self._began[mark]


def _refused(error: PlimsollError) -> dict[str, Any]:
    return {"refused": [type(error).__name__, error.message, error.field]}


class Features:
    """The pool as a deployment. It accepts requests after the stores materialised by then are open."""

    async def __init__(self) -> None:  # type: ignore[misc]
        configure_diagnostic_log()
        run_in_utc()
        self._pool = FeatureReadPool(FeatureReader(Settings()))
        warm = asyncio.wrap_future(self._pool.warm())
        done, _ = await asyncio.wait((warm,), timeout=_WARMING_SECONDS)  # a store that hangs must not prevent the start
        for one in done:
            one.result()

    async def read(self, model: str, digest: str, entity: dict[str, Any]) -> dict[str, Any]:
        """See `FeatureReadPool.read`."""
        return await self._pool.read(model, digest, entity)

    def check_health(self) -> None:
        """Fail where every thread hangs, so that Serve replaces the process; also open newly materialised stores.

        Raises:
            RuntimeError: every thread waits for an online store.
        """
        self._pool.warm()
        if self._pool.hung:
            raise RuntimeError("every thread waits for an online store that does not answer")
