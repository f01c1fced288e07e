"""A ledger service in this process, with all people signed in and a release in any state on request."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from starlette.testclient import TestClient

from lineage.accounts.credentials import Credentials
from lineage.digest import digest_bytes
from lineage.lifecycle import IN_FLIGHT, State
from lineage.rules.roles import PLATFORM_MACHINES
from lineage.service.app import create_app
from lineage.service.context import Context
from lineage.settings import Settings
from tests.support.sample_facts import MODEL, FactWriter, ManualClock, sample

Json = dict[str, Any]
PATHS = {
    "canary": "/v1/releases/{release}/canary",
    "review": "/v1/releases/{release}/review",
    "promote": "/v1/releases/{release}/promote",
    "abort": "/v1/releases/{release}/abort",
    "rollback": "/v1/models/{model}/rollback",
    "retrain": "/v1/models/{model}/retrain",
}
MORE: dict[str, Json] = {
    "review": {"decision": "approve"},
    "rollback": {"to": "baseline"},
    "retrain": {"folder": "examples/credit_default"},
}


class LedgerService:
    """`http` is the service; `news` returns the records since its last call."""

    def __init__(self, settings: Settings, clock: ManualClock) -> None:
        self.settings, self.clock = settings, clock
        self.passwords = Credentials(settings, clock=clock).first_start()
        self.tokens = {name: settings.token(name) for name in PLATFORM_MACHINES}
        self.last: Json = {}
        self._made = 0
        self._open()
        for name, password in self.passwords.items():
            answer = self.http.post("/v1/session", json={"name": name, "password": password})
            self.tokens[name] = answer.json()["token"]
        self._open_writer()

    def _open(self) -> None:
        app = create_app(self.settings, clock=self.clock)
        self.context: Context = app.state.context
        self.http = TestClient(app, raise_server_exceptions=False)
        self.http.__enter__()
        self.seen = 0

    def _open_writer(self) -> None:
        self.writer = FactWriter(self.context.ledger)
        self.writer.made = self._made
        self.news()

    def reopen(self) -> None:
        self.seen = len(self.context.ledger.records)
        seen, self._made = self.seen, self.writer.made
        self.close()
        self._open()
        self.writer = FactWriter(self.context.ledger)
        self.seen = seen

    def close(self) -> None:
        self.http.__exit__(None, None, None)

    def news(self) -> list[Json]:
        records = self.context.ledger.records
        new, self.seen = records[self.seen :], len(records)
        self.last = records[-1]
        return new

    def headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    def get(self, path: str, who: str = "auditor") -> Any:
        return self.http.get(f"/v1/{path}", headers=self.headers(who))

    def etag(self, release: str) -> str:
        return str(self.get(f"releases/{release}").headers["etag"]).strip('"')

    def act(
        self,
        verb: str,
        release: str,
        who: str,
        *,
        seen: bool = False,
        etag: str | bytes | None = None,
        key: str | None = None,
        **body: Any,
    ) -> Any:
        """A verb as a person sends it; `seen` sends the present ETag."""
        headers: dict[str, Any] = self.headers(who)
        if seen:
            etag = f'"{self.etag(release)}"' if verb != "retrain" else None
        if etag is not None:
            headers["If-Match"] = etag
        if key is not None:
            headers["Idempotency-Key"] = key
        sent = MORE.get(verb, {}) | {"reason": "the evidence is sound"} | body
        path = PATHS[verb].format(release=release, model=MODEL)
        return self.http.post(path, json=sent, headers=headers)

    def release_in(
        self, state: str, *, author: str = "scientist", keep: bool = False, report: bytes | None = None
    ) -> str:
        """A release in this state: an existing one, else a new one, for which releases in flight are aborted."""
        fold = self.context.ledger.state
        if State(state) is State.REGISTERED and not keep:
            self._abort_flights()
        for release in fold.releases.values():
            fits = release.model == MODEL and release.state == state and release.author == author
            champion = fold.models[MODEL].champion
            if fits and report is None and (state != "champion" or (release.release == champion)):
                return release.release
        if keep and fold.releases:
            return next(iter(fold.releases))
        if State(state) in {*IN_FLIGHT, State.CHAMPION}:
            self._abort_flights()
        by_author = partial(self.writer.train, author=author)
        with mock.patch.object(self.writer, "train", by_author):
            made = self._with_report(report) if report is not None else self.writer.bring(State(state))
        self.news()
        return made

    def _abort_flights(self) -> None:
        for release in list(self.context.ledger.state.releases.values()):
            if release.model == MODEL and release.state in IN_FLIGHT:
                self.writer.record("CanaryAborted", release.release)
        self.news()

    def _with_report(self, report: bytes) -> str:
        release = self.writer.train()
        self.writer.check(release)
        data = sample("CandidateValidated", report_digest=digest_bytes(report))
        self.writer.record("CandidateValidated", release, **data)
        return release

    @contextmanager
    def meanwhile(self, act: Callable[[], object]) -> Iterator[None]:
        """Call `act` in another thread as soon as a request waits in the service."""
        context, waiting = self.context, threading.Event()
        real = context.wait

        async def wait(after: int, seconds: float) -> None:
            waiting.set()
            await real(after, seconds)

        def work() -> None:
            waiting.wait(20)
            act()

        thread = threading.Thread(target=work)
        thread.start()
        with mock.patch.object(context, "wait", wait):
            yield
        thread.join()


@contextmanager
def open_service(settings: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    """A service without disk flushes, which other tests cover."""
    nothing = mock.Mock(return_value=None)
    with (
        mock.patch.object(os, "fdatasync", nothing),
        mock.patch.object(os, "fsync", nothing),
    ):
        service = LedgerService(settings, clock)
        yield service
        service.close()
