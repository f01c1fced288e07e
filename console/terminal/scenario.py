"""Scenario of the demo: its steps against the running platform, each with a check of its result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.terminal.narrate import narrate
from console.terminal.replay import Replay, Row
from lineage.clock import instant
from lineage.settings import Settings
from lineage.state.entities import Model, Release
from lineage.state.views import model_view, release_view, releases_view
from plimsoll import Client, Refused

Step = Callable[[], dict[str, Any]]
Report = Callable[[str], None]
_LATE = "PAY_0"  # months by which the newest payment is late


class ScenarioError(Exception):
    """The check of a step failed."""


class Scenario:
    """The steps in order; each returns its results, or raises `ScenarioError`."""

    def __init__(self, settings: Settings, folder: Path, passwords: dict[str, str], report: Report) -> None:
        from training.spec import load_spec

        self._settings, self._folder, self._report = settings, folder.resolve(), report
        self.model = load_spec(self._folder).model.name
        addresses: dict[str, Any] = {"gateway": settings.gateway_url, "ledger": settings.ledger_url}
        self._people = {name: Client.sign_in(name, password, **addresses) for name, password in passwords.items()}
        self._caller = Client(settings.token("client"), **addresses)
        self._head = self._audit().audit(order="newest", limit=1)[0]["seq"]
        self._waiting: deque[dict[str, Any]] = deque()
        self._replay: Replay | None = None
        self._rows: list[Row] = []
        self._latest = ""

    def steps(self) -> Iterator[tuple[str, Step]]:
        """Name and function of each step, in order."""
        yield "train, validate and register the first release", lambda: self._train("first", {"trials": 3})
        yield "replay held-out customers at 50 requests/s", self._start_traffic
        yield "release it through canary, review and rollout", self._release
        yield "train a better release", lambda: self._train("better", {"trials": 6})
        yield "release the better one; its author may not approve it", self._release
        yield "train a bad release on damaged labels", lambda: self._train("bad", BAD)
        yield "the judge aborts the bad release by itself", self._abort
        yield "customers change: drift is measured, alerted, retraining starts", self._drift
        yield "roll back by one command", self._roll_back
        yield "the requested retraining ends", self._retrained

    def stop_traffic(self) -> dict[str, Any]:
        """Stop the replay and return its counts: `{"sent", "failed", …}`."""
        if self._replay is None:
            return {"sent": 0, "failed": 0}
        tally = self._replay.stop()
        self._replay = None
        view = {"sent": tally.sent, "failed": tally.failed, "fallbacks": tally.fallbacks, "late": tally.late}
        return view | {"roles": dict(tally.roles), "failures": tally.failures[:5]}

    def verify(self) -> dict[str, Any]:
        """Result of the ledger's verification of the whole record."""
        return self._audit().verify()

    def release_states(self) -> dict[str, str]:
        """State of every release by its name, the first release first."""
        found = self._audit().releases(self.model)
        page = releases_view({"releases": found, "total": len(found)})
        return {one.release: str(one.state) for one in sorted(page.releases, key=lambda one: one.number)}

    def _train(self, which: str, options: dict[str, Any]) -> dict[str, Any]:
        number = len(self._audit().releases(self.model)) + 1
        asked = self._people["scientist"].retrain(
            self.model, str(self._folder), f"the {which} release of the demo", options=options | {"seed": number}
        )
        self._report(f"scientist asked for training (record {asked['seq']})")
        finished = self._until("JobFinished", seconds=150, where={"request": asked["seq"]})
        if finished["data"]["status"] != "succeeded":
            raise ScenarioError(f"the training job {finished['data']['status']}: {finished['data']['message']}")
        trained = self._audit().audit(after=asked["seq"], kind="ModelTrained")[-1]
        self._latest = trained["release"]
        release = self._release_view(self._latest)
        if release.state != "registered":
            raise ScenarioError(f"{self._latest} is {release.state}, not registered")
        return {"release": self._latest, "metrics": trained["data"]["metrics"], "fingerprint": release.fingerprint}

    def _start_traffic(self) -> dict[str, Any]:
        from training.holdout import holdout_rows

        self._rows = holdout_rows(self._folder)
        self._replay = Replay(self._caller, self.model, self._rows)
        self._replay.start()
        self._report(f"{len(self._rows)} held-out customers, from here to the end")
        return {"rows": len(self._rows)}

    def _release(self) -> dict[str, Any]:
        release = self._latest
        self._people["operator"].canary(release, "evidence of the validators looks sound")
        self._until_state(release, {"review"}, seconds=120)
        refusal = self._author_is_refused(release)
        self._people["validator"].review(release, "approve", "canary and findings support it")
        self._people["operator"].promote(release, "approved, going to all customers")
        self._until_state(release, {"champion"}, seconds=60)
        champion = self._model().champion
        if champion != release:
            raise ScenarioError(f"{champion} is the champion, not {release}")
        return {"release": release, "refused": refusal}

    def _author_is_refused(self, release: str) -> str:
        try:
            self._people["scientist"].review(release, "approve", "my own release, approved")
        except Refused as refusal:
            self._report(f"refused, and on record: {refusal.message}")
            return refusal.message
        raise ScenarioError("the author's own approval was accepted")

    def _abort(self) -> dict[str, Any]:
        release = self._latest
        before = self._model().champion
        self._people["operator"].canary(release, "looks like the others on paper")
        aborted = self._until("CanaryAborted", seconds=120, where={}, release=release)
        view = self._model()
        state = self._release_view(release).state
        if (view.champion, view.share, state) != (before, 0.0, "quarantined"):
            raise ScenarioError(f"{view.champion} answers, {release} is {state} with {view.share:.0%}")
        return {"release": release, "why": aborted["data"]["why"], "by": aborted["actor"]["name"]}

    def _drift(self) -> dict[str, Any]:
        assert self._replay is not None  # noqa: S101  an earlier step started it
        self._catch_up()
        self._waiting.clear()  # only later measurements count
        late = [row for row in self._rows if row["features"][_LATE] >= 1]
        self._replay.switch_to(late)
        self._report(f"the replay switches to {len(late)} customers with late payments")
        began = time.monotonic()
        drift = self._until("DriftMeasured", seconds=120, where={"verdict": "drift"})
        found = time.monotonic() - began
        request = self._until("RetrainRequested", seconds=60, where={})
        self._until("JobStarted", seconds=60, where={"request": request["seq"]})
        worst = max(drift["data"]["features"], key=lambda feature: feature["score"])
        return {"found_after_seconds": round(found, 1), "worst": worst["feature"], "request": request["seq"]}

    def _roll_back(self) -> dict[str, Any]:
        view = self._model()
        sent = datetime.now(UTC)
        ordered = self._people["operator"].rollback(self.model, "the demo rolls back")
        reinstated = self._until("ChampionReinstated", seconds=60, where={})
        applied = self._audit().audit(after=ordered["seq"], kind="ReleaseRolledBack")[0]["data"]
        golden = reinstated["data"]["golden"]
        if reinstated["release"] != view.previous or golden["matched"] != golden["count"] or not golden["count"]:
            raise ScenarioError(
                f"{reinstated['release']} came back with {golden['matched']} of {golden['count']} golden"
            )
        to_record = (instant(ordered["at"]) - sent).total_seconds() * 1000
        rollback_ms = round(to_record + applied["milliseconds"], 1)
        return {"rollback_ms": rollback_ms, "replicas": applied["replicas"], "golden": golden, "to": view.previous}

    def _retrained(self) -> dict[str, Any]:
        requests = self._model().requests
        for request in requests:
            finished = self._until("JobFinished", seconds=120, where={"request": request})
            self._report(f"training of record {request} {finished['data']['status']}")
        return {"requests": len(requests)}

    def _model(self) -> Model:
        return model_view(self._audit().model(self.model))

    def _release_view(self, name: str) -> Release:
        return release_view(self._audit().release(name))

    def _audit(self) -> Client:
        return self._people["auditor"]

    def _until_state(self, release: str, states: set[str], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self._release_view(release).state
            if state in states:
                self._catch_up()
                return
            if state in ("quarantined", "rejected"):
                self._catch_up()
                raise ScenarioError(f"{release} is {state}: {self._release_view(release).steps[-1]}")
            self._catch_up(wait=1.0)
        raise ScenarioError(f"{release} is {state} after {seconds:.0f} s, not {' or '.join(states)}")

    def _until(self, kind: str, *, seconds: float, where: dict[str, Any], release: str | None = None) -> dict[str, Any]:
        """The next record of this kind that matches `where` and `release`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._catch_up(wait=0.0 if self._waiting else 1.0)
            while self._waiting:
                record = self._waiting.popleft()
                same = record["kind"] == kind and release in (None, record["release"])
                if same and all(record["data"].get(name) == value for name, value in where.items()):
                    return record
        raise ScenarioError(f"no {kind} {where or ''} within {seconds:.0f} s")

    def _catch_up(self, wait: float = 0.0) -> None:
        for record in self._audit().audit(after=self._head, wait=wait):
            self._head = record["seq"]
            self._waiting.append(record)
            if line := narrate(record):
                self._report(line)


BAD: dict[str, Any] = {"trials": 1, "fault": "inverted_labels", "shape": "deep"}
