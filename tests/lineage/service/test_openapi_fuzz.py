"""Fuzzing the ledger service: every answer has its one form, and no role changes what it may not.

Requests are made up from the service's own OpenAPI schema, fitting and not fitting it, and from real names and facts of
which one thing is changed. What is nearly right is sent as everybody, what is made up as one who may change nothing and
as two others. `LEDGER_FUZZ_EXAMPLES` of each sort are made (8; `make fuzz`: 25).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
from starlette.testclient import TestClient

from lineage.accounts.credentials import Credentials
from lineage.facts.registry import FACTS, subject_of
from lineage.lifecycle import State, after
from lineage.rules.draft import Draft
from lineage.service import sign_ins
from lineage.service.app import create_app
from lineage.service.context import Context
from lineage.service.writes import FACT_BYTES
from lineage.settings import Settings
from lineage.state.fold import LedgerState
from lineage.store.duckdb_store import QUERIES
from lineage.verify import verify_ledger
from tests.support.accounts import in_era
from tests.support.generated_requests import for_each
from tests.support.sample_facts import MODEL, OPERATOR, SAMPLES, VALIDATOR, FactWriter, ManualClock

Json = dict[str, Any]
Operation = APIOperation[Any, Any, Any, Any]
EXAMPLES = int(os.environ.get("LEDGER_FUZZ_EXAMPLES", "8"))
FACT_EXAMPLES = 24 * EXAMPLES
RECORDS_AT_LEAST = 50
_SECONDS, _WAIT_SECONDS = 60.0, 0.001
PEOPLE = ("scientist", "validator", "operator", "auditor")
SUBJECT_FACTS = {"HoldPlaced", "HoldReleased", "SubjectErased"}
SWITCH_FACTS = {"KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"}
#: What may come to be on record when somebody calls. Who is not here leaves no trace.
MAY_RECORD = {
    "client": {"ActionRefused"},
    "auditor": {"ActionRefused", "HoldPlaced", "HoldReleased", "PersonalDataRead"},
    "scientist": {"ActionRefused", "RetrainRequested", "PersonalDataRead"},
    "validator": {"ActionRefused", "PersonalDataRead", "CanaryAborted", "ReviewDecided", *SWITCH_FACTS},
    "operator": {
        *SWITCH_FACTS,
        "ShadowStarted",
        "ShadowStopped",
        "ActionRefused",
        "CanaryStarted",
        "CanaryAborted",
        "RolloutStepped",
        "RollbackOrdered",
        "RetrainRequested",
        "HoldPlaced",
        "SubjectErased",
        "PersonalDataRead",
    },
    "controller": FACTS.keys() - SUBJECT_FACTS - {"PersonalDataRead"} - {"ReviewDecided"} - SWITCH_FACTS,
}
EVERYBODY = ("anonymous", "client", "scientist", "validator", "auditor", "operator", "controller")
#: Who may change nothing but the list of refusals, and so no file either.
WEAK = ("anonymous", "client")
STATUSES = {400, 401, 403, 404, 405, 409, 412, 413, 422, 428, 429}
CHECKS = [not_a_server_error, content_type_conformance, response_headers_conformance, response_schema_conformance]
READY = (
    State.TRAINED,
    State.VALIDATED,
    State.REGISTERED,
    State.CANARY,
    State.REVIEW,
    State.APPROVED,
    State.ROLLOUT,
    State.CHAMPION,
    State.ROLLING_BACK,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from([None, None, "one", "two", "three"])
_SEEN = st.sampled_from(["now", "now", "before", None, "nonsense"])
_SOME = st.tuples(st.sampled_from(WEAK), st.permutations(EVERYBODY[2:])).map(lambda who: (who[0], *who[1][:2]))


@dataclass(frozen=True)
class Request:
    """A case of the schema, as whom it is sent, and which ETag its If-Match has once it is sent (`seen`)."""

    case: Case
    senders: tuple[str, ...] = EVERYBODY
    seen: str | None = None


class Service:
    """The application in this process with somebody of every role, and releases in every state."""

    def __init__(self, home: Path) -> None:
        self.settings, clock = Settings(home=home), ManualClock()
        self.passwords = Credentials(self.settings, clock=clock).first_start()
        self.app = create_app(self.settings, clock=clock)
        self.context: Context = self.app.state.context
        self.ledger = self.context.ledger
        config = schemathesis.Config()
        config.projects.default.max_stream_events = 1
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", self.app, config=config)
        self.tokens = {name: self.settings.token(name) for name in ("client", "controller")}
        for name in PEOPLE:
            self.sign_in(name)
        self.models: list[str] = []

    def sign_in(self, name: str) -> None:
        asked = {"name": name, "password": self.passwords[name]}
        self.tokens[name] = TestClient(self.app).post("/v1/session", json=asked).json()["token"]

    def operations(self) -> list[Operation]:
        """All of them, stating facts first: the others then meet what was made up."""
        found = [each.ok() for each in self.schema.get_all_operations()]
        return sorted(found, key=lambda operation: bool(operation.path != "/v1/facts"))

    def make_ready(self) -> None:
        """A new model for each state in which something can be decided."""
        self._let_go()
        made = len(self.models)
        for number, state in enumerate(READY):
            model = f"{MODEL}-{made + number}"
            FactWriter(self.ledger, model).bring(state)
            self.models.append(model)

    def _let_go(self) -> None:
        """Have two people release what was pulled of all models: nothing could be promoted."""
        kill = self.ledger.state.kill
        if kill is None:
            return
        numbers = {"pulled": kill.seq}
        if kill.asked_seq is None:
            operator = in_era(self.ledger.state, "KillReleaseRequested", OPERATOR)
            asked = self.ledger.append(Draft("KillReleaseRequested", operator, dict(numbers), reason="go on"))
            kill = replace(kill, asked_by="operator", asked_seq=asked["seq"])
        second = VALIDATOR if kill.asked_by == OPERATOR.name else OPERATOR
        numbers["requested"] = kill.asked_seq
        second = in_era(self.ledger.state, "KillSwitchReleased", second)
        self.ledger.append(Draft("KillSwitchReleased", second, numbers, reason="go on"))

    def send_as_each(self, request: Request) -> None:
        for who in request.senders:
            self.send(request, who)

    def send(self, request: Request, who: str) -> None:
        """Send it as somebody and check the answer and what came of it."""
        case, before = request.case, len(self.ledger.records)
        files = self._files() if who in WEAK else {}
        headers = {} if who == "anonymous" else {"Authorization": f"Bearer {self.tokens[who]}"}
        if request.seen is not None:
            headers["If-Match"] = self._etag(request)
        answer = case.call(headers=headers, timeout=_SECONDS)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            _is_in_the_one_form(answer)
        news = self.ledger.records[before:]
        told = (
            f"{case.method} {case.formatted_path} as {who}: {answer.status_code}, recorded {news}; {case.body!r:.500}"
        )
        assert {record["kind"] for record in news} <= MAY_RECORD.get(who, set()), told
        personal = case.formatted_path.startswith(("/v1/query/", "/v1/decisions/"))  # a look leaves a fact
        assert len(news) <= (case.method != "GET" or personal), told
        for record in news:
            ours = record["kind"] in SUBJECT_FACTS
            assert record["actor"]["name"] == ("ledger" if ours else who), told
            assert answer.status_code < 400 or record["kind"] in ("ActionRefused", "PersonalDataRead"), told
        assert who not in WEAK or self._files() == files, told
        if answer.status_code < 400 and case.method == "DELETE":
            self.sign_in(who)

    def _etag(self, request: Request) -> str:
        named = request.case.path_parameters
        about = str(named.get("release", "")).rpartition("@")[0] or named.get("model")
        now = self.ledger.state.etag_of(about) or 0
        return {"now": f'"{now}"', "before": f'"{max(0, now - 1)}"'}.get(str(request.seen), "nonsense")

    def _files(self) -> Json:
        """What lies in the home folder, but for the log and its index, whose records are looked at."""
        found = {}
        for folder, _, names in os.walk(self.settings.root):
            if folder != str(self.settings.log_folder):
                paths = [Path(folder) / name for name in names if not name.startswith("lineage.duckdb")]
                found.update({str(path): path.read_bytes() for path in paths})
        return found


def _is_in_the_one_form(answer: Any) -> None:
    assert answer.status_code in STATUSES, answer.status_code
    assert answer.headers["content-type"] == ["application/json"]
    body = answer.json()
    assert isinstance(body["error"], str)
    assert 0 < len(body["error"]) < 10_000
    assert isinstance(body["code"], str)
    assert body["code"]
    assert isinstance(body.get("field", ""), str)
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Without waiting for disk or for slow hashes, which other tests do."""
    nothing = mock.Mock(return_value=None)
    with (
        mock.patch.object(os, "fdatasync", nothing),
        mock.patch.object(os, "fsync", nothing),
        mock.patch.object(sign_ins, "_REPORT_SECONDS", 3_600.0),  # failures are one fact, in the middle of any request
    ):
        yield Service(tmp_path / "var")


def made_up(operation: Operation, mode: GenerationMode) -> st.SearchStrategy[Request]:
    return st.builds(Request, operation.as_strategy(generation_mode=mode).map(_sent_soon), _SOME)


@st.composite
def nearly_right(draw: st.DrawFn, service: Service, operation: Operation) -> Request:
    """A fitting request about what there is."""
    case = _sent_soon(draw(operation.as_strategy()))
    model = service.models[-1 - draw(st.integers(0, len(READY) - 1))]
    names: dict[str, st.SearchStrategy[Any]] = {
        "model": st.just(model),
        "release": st.just(f"{model}@1"),
        "kind": st.sampled_from([*FACTS, "DriftMeasured,AlertRaised"]),
        "actor": st.sampled_from(EVERYBODY),
        "name": st.sampled_from(sorted(QUERIES)),
        "seq": st.integers(1, RECORDS_AT_LEAST),
        "after": st.integers(0, RECORDS_AT_LEAST),
        "to": st.sampled_from(["baseline", f"{MODEL}@1"]),
    }
    for values in (case.path_parameters, case.query, case.body):
        for name in values.keys() & names.keys() if isinstance(values, dict) else ():
            values[name] = draw(names[name])
    if "authorization" in case.headers:
        del case.headers["authorization"]
    key = draw(_KEYS)
    if key is not None and case.method == "POST":
        case.headers["Idempotency-Key"] = f"{key}-{operation.path}"
    return Request(case, seen=draw(_SEEN))


@st.composite
def facts(draw: st.DrawFn, service: Service, operation: Operation, kinds: list[str]) -> Request:
    """A fact as it may be, but for at most two of its values."""
    kind = draw(st.sampled_from(kinds))
    models = service.models[-len(READY) :]
    releases = service.ledger.state.releases
    fitting = [model for model in models if after(releases[f"{model}@1"].state, kind)]
    model = (fitting or models)[draw(st.integers(0, 10_000)) % len(fitting or models)]
    data = dict(SAMPLES[kind])
    if "digest" in data and draw(st.booleans()):
        data["digest"] = releases[f"{model}@1"].digest
    for _ in range(draw(st.sampled_from([1, 0, 0, 2]))):
        data = draw(changed(data))
    release = f"{model}@1" if subject_of(kind) == "release" and kind != "ModelTrained" else None
    about: Json = {"model": model, "release": release, "reason": draw(st.none() | st.text(min_size=1))}
    if draw(st.sampled_from([False, False, False, True])):
        about = draw(changed(about))
    case = draw(operation.as_strategy(body={"kind": kind, "data": data, **about}))
    case.headers.clear()
    return Request(case, ("client", "controller"))


@st.composite
def changed(draw: st.DrawFn, whole: Json) -> Json:
    """The same with one value replaced or left out, here or further in."""
    if not whole:
        return whole
    name = draw(st.sampled_from(sorted(whole)))
    inner = whole[name]
    if isinstance(inner, dict) and inner and draw(st.booleans()):
        return whole | {name: draw(changed(inner))}
    rest = {other: value for other, value in whole.items() if other != name}
    return rest if draw(st.booleans()) else rest | {name: draw(_JSON)}


def kinds_of(service: Service, operation: Operation) -> Iterator[tuple[int, st.SearchStrategy[Request]]]:
    """What is sent to an operation, and how often."""
    varies = bool(operation.body or operation.query or operation.path_parameters)
    often = EXAMPLES if varies else EXAMPLES // 8 + 1
    yield often, made_up(operation, GenerationMode.POSITIVE)
    yield often, nearly_right(service, operation)
    if operation.body or operation.query:
        yield often, made_up(operation, GenerationMode.NEGATIVE)
    if operation.path == "/v1/facts":
        kinds = sorted(FACTS.keys() - {"DecisionsSealed"})  # what reads decisions needs the bytes, and rightly says so
        yield FACT_EXAMPLES, facts(service, operation, kinds)


def _sent_soon(case: Case) -> Case:
    """Nobody waits long for news that does not come."""
    for name, most in {"wait": _WAIT_SECONDS, "after": RECORDS_AT_LEAST}.items():
        if isinstance((case.query or {}).get(name), int | float):
            case.query[name] = min(case.query[name], most)
    return case


def test_whatever_is_sent_is_answered_in_form_and_changes_what_its_sender_may_change(service: Service) -> None:
    operations = service.operations()
    assert len(operations) > 30
    for operation in operations:
        service.make_ready()
        for examples, requests in kinds_of(service, operation):
            for_each(requests, examples, service.send_as_each)
    for_each(facts(service, operations[0], ["DecisionsSealed"]), EXAMPLES, partial(service.send, who="controller"))
    _holds_together(service)


def _holds_together(service: Service) -> None:
    """The log verifies, but for bytes that made-up facts name and nobody has, and adds up to the fold."""
    records = service.ledger.records
    result = verify_ledger(service.settings)
    assert result.records == len(records)
    assert result.root == service.ledger.root(len(records)).hex()
    named = {"DecisionsSealed", "ReleaseRegistered"}
    assert [one for one in result.problems if records[one["record"] - 1]["kind"] not in named] == []
    fold = LedgerState()
    for record in records:
        fold.apply(record)
    assert fold.to_dict() == service.ledger.state.to_dict()


def test_what_would_make_a_record_too_large_is_refused_and_leaves_none(service: Service) -> None:
    before = len(service.ledger.records)
    http = TestClient(service.app)
    large = "x" * FACT_BYTES
    statement = {"kind": "AlertRaised", "model": MODEL, "data": SAMPLES["AlertRaised"] | {"summary": large}}
    wish = {"reason": "drift", "folder": "examples/credit_default", "options": {"text": large}}
    for path, body, who in (
        ("/v1/facts", statement, "controller"),
        (f"/v1/models/{MODEL}/retrain", wish, "scientist"),
    ):
        answer = http.post(path, json=body, headers={"Authorization": f"Bearer {service.tokens[who]}"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert len(service.ledger.records) == before
