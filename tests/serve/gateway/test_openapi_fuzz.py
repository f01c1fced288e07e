"""Fuzzing the gateway: it answers as its OpenAPI document says, and refused requests are not recorded.

Requests are made up from the document, fitting and not fitting it, and from real names and bodies of which a few
values are changed. Each is sent over HTTP to uvicorn and to HAProxy before it, as everybody, while the route is in
different states. `GATEWAY_FUZZ_EXAMPLES` of each sort are made (4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jsonschema
import orjson
import pytest
import schemathesis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lineage.settings import Settings
from serve.gateway.openapi import document, openapi
from serve.routes import Route, RouteTable, Target
from tests.support import bad_http_cases as bad
from tests.support.gateway_servers import (
    CLIENT,
    FEATURES,
    GOOD,
    KNOWN,
    SERVICE,
    ServedLoans,
    balanced,
    raw_request,
    send,
    served,
)
from tests.support.generated_requests import for_each

Json = dict[str, Any]
Operation = APIOperation[Any, Any, Any, Any]
EXAMPLES = int(os.environ.get("GATEWAY_FUZZ_EXAMPLES", "3"))
CHECKS = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
SENDERS = {"anonymous": None, "stranger": "token-of-nobody", "client": CLIENT, "service": SERVICE}
MODELS = ["loan", "loan", "loan", "lone"]
VERSIONS = ["loan@2", "2", "loan@1", "1", "loan@3", "3", "loan@9", "lone@2", "02"]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SECONDS = 20.0
_SMALL = st.integers(-(2**60), 2**60) | st.integers(0, 5) | st.floats(-1e15, 1e15)
_JSON = st.recursive(
    st.none() | st.booleans() | _SMALL | st.text(max_size=20) | st.sampled_from("ABC"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


class Gateway:
    """The router behind its servers, and what its document says."""

    def __init__(self, loans: ServedLoans, ports: list[int]) -> None:
        self.loans, self.port, self.urls = loans, ports[0], [f"http://127.0.0.1:{port}" for port in ports]
        bundle = loans.store.get(loans.champion)
        assert bundle is not None
        self.document = openapi([bundle.spec])
        self.schema = schemathesis.openapi.from_dict(self.document)
        self.answered: dict[int, set[str]] = {}
        self.sent, self.among = 0, len(ports)

    def bring(self, state: str) -> None:
        """Put the loans in this state. HAProxy tries half a second before it passes on that nothing can answer."""
        STATES[state](self.loans)
        self.among = 1 if state in ("nothing verified", "no table") else len(self.urls)

    def operations(self) -> dict[str, Operation]:
        return {f"{each.method} {each.path}": each for each in (one.ok() for one in self.schema.get_all_operations())}

    def send(self, case: Case) -> None:
        """Send it as everybody, to one server and the other, and check what is answered and what is on record."""
        for who, token in SENDERS.items():
            self.loans.lines.clear()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self.sent += 1
            url = self.urls[self.sent % self.among]
            answer = case.call(base_url=url, headers=headers, timeout=_SECONDS)
            case.validate_response(answer, checks=CHECKS)
            status, lines = answer.status_code, len(self.loans.lines)
            told = (
                f"{case.method} {case.formatted_path} as {who}: {status} {answer.content[:300]!r}; {case.body!r:.500}"
            )
            self.answered.setdefault(status, set()).add(case.operation.path)
            if status < 400:
                assert lines == self._recorded(case, answer), told
                continue
            assert lines == 0, told
            if not (case.operation.path.startswith("/v2/health") and status == 503):
                _is_in_the_one_form(answer)

    def _recorded(self, case: Case, answer: Any) -> int:
        """How many lines an answer that was given has to have left."""
        if case.method != "POST" or "idempotent-replayed" in answer.headers:
            return 0
        if not case.operation.path.endswith("/infer"):
            return 1
        length = answer.headers.get("inference-header-content-length", [None])[0]
        rows: int = orjson.loads(answer.content[: length and int(length)])["outputs"][0]["shape"][0]
        return rows


def _is_in_the_one_form(answer: Any) -> None:
    body = answer.json()
    assert body["error"]
    assert len(body["error"]) < 2_000
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert ("allow" in answer.headers) == (answer.status_code == 405)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    loans = ServedLoans(Settings(home=folder))
    with ExitStack() as stack:
        port = stack.enter_context(served(loans.app))
        yield Gateway(loans, [port, stack.enter_context(balanced(port, folder))])


STATES: dict[str, Callable[[ServedLoans], None]] = {
    "in charge": lambda loans: loans.route(),
    "on trial": lambda loans: loans.route(0.5),
    "baseline": lambda loans: loans.route(champion=False),
    "nothing verified": lambda loans: _route_to(loans, Target("loan@2", "sha256:" + "0" * 64)),
    "no table": lambda loans: setattr(loans.router, "table", None),
}


def _route_to(loans: ServedLoans, target: Target) -> None:
    loans.router.table = RouteTable(1, 8, {"loan": Route("loan", target, None, target, None, 0.0, "")}, KNOWN)


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """The same with one value replaced or left out, here or further in."""
    if not isinstance(whole, dict | list) or not whole:
        return draw(_JSON)
    if isinstance(whole, list):
        place = draw(st.integers(0, len(whole) - 1))
        return [*whole[:place], draw(changed(whole[place])), *whole[place + 1 :]]
    name = draw(st.sampled_from(sorted(whole)))
    if draw(st.booleans()):
        return whole | {name: draw(changed(whole[name]))}
    return {other: value for other, value in whole.items() if other != name} | draw(st.sampled_from([{}, {"x": 1}]))


@st.composite
def nearly_right(draw: st.DrawFn, operation: Operation) -> Case:
    """A request about what there is, of which at most two values are wrong."""
    case = draw(operation.as_strategy())
    names = {"model": st.sampled_from(MODELS), "version": st.sampled_from(VERSIONS)}
    for name in case.path_parameters or {}:
        case.path_parameters[name] = draw(names[name])
    case.headers.clear()
    if operation.body:
        content = draw(st.sampled_from(_right(operation.path)))
        for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
            content = draw(changed(content))
        case.body, case.media_type = content, "application/json"
        key = draw(st.sampled_from([None, "one", "two"]))
        if key:
            case.headers["Idempotency-Key"] = key
    return case


def _right(path: str) -> list[Json]:
    if path.endswith("/infer"):
        asked = bad.tensors(3) | {"id": "17", "outputs": [{"name": "score"}], "parameters": {"keys": ["a", "b", "c"]}}
        return [bad.tensors(1), asked, bad.tensors(2) | {"parameters": {"binary_data_output": True}}]
    if path.startswith("/outcome"):
        return [{"decision_id": "0" * 32, "outcome": 1}]
    return [GOOD, GOOD | {"purpose": "verification"}, {"features": FEATURES}]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_whatever_is_sent_is_answered_as_the_document_says(gateway: Gateway, state: str, mode: GenerationMode) -> None:
    gateway.bring(state)
    for operation in gateway.operations().values():
        if mode is GenerationMode.POSITIVE or operation.body or operation.path_parameters:
            for_each(operation.as_strategy(generation_mode=mode), EXAMPLES, gateway.send)


@pytest.mark.parametrize("state", STATES)
def test_what_is_nearly_right_is_answered_as_the_document_says(gateway: Gateway, state: str) -> None:
    gateway.bring(state)
    for operation in gateway.operations().values():
        varies = bool(operation.body or operation.path_parameters)
        for_each(nearly_right(operation), 3 * EXAMPLES if varies else 1, gateway.send)
    if state == "in charge":
        assert {200, 202, 401, 403, 404, 409, 422} <= gateway.answered.keys()


@pytest.mark.parametrize("path", ["/decide/loan", "/v2/models/loan/explain"])
def test_what_the_models_own_schema_takes_is_decided_and_nothing_else(gateway: Gateway, path: str) -> None:
    gateway.bring("in charge")
    whole = {**gateway.document, **gateway.document["components"]["schemas"]["Decide.loan"]}
    takes = jsonschema.Draft202012Validator(whole)
    met: set[bool] = set()

    @hypothesis_settings(max_examples=50 * EXAMPLES)
    @given(st.sampled_from(_right(path)).flatmap(lambda right: st.just(right) | changed(right)))
    def each(content: Json) -> None:
        answer = send(gateway.port, raw_request(json.dumps(content).encode(), path, token=SERVICE))
        may = takes.is_valid(content) and str(content.get("key", "")).isprintable()
        assert answer.status == 200 if may else 400 <= answer.status < 500, (content, answer.body)
        met.add(may)

    each()
    assert met == {True, False}


@pytest.mark.parametrize(
    "case", [one for one in bad.CASES if one.expected[bad.UVICORN][1] == bad.ROUTER], ids=lambda c: c.name
)
def test_every_refusal_of_the_list_of_bad_input_is_in_the_document(gateway: Gateway, case: bad.Case) -> None:
    gateway.bring("in charge")
    answer = send(gateway.port, case.content, case.method)
    assert str(answer.status) in gateway.document["components"]["responses"]
    problem = gateway.document["components"]["schemas"]["Problem"]
    jsonschema.Draft202012Validator(problem).validate(answer.content)
    path = case.content.split(b" ")[1].decode("latin-1").partition("?")[0]
    place = {"loan": "{model}", **dict.fromkeys([*VERSIONS, "9"], "{version}")}
    known = gateway.document["paths"].get("/".join(place.get(part, part) for part in path.split("/")))
    if known and case.method.lower() in known:
        assert str(answer.status) in known[case.method.lower()]["responses"]


def test_every_other_method_is_refused_and_the_right_one_named(gateway: Gateway) -> None:
    gateway.bring("in charge")
    for path, item in gateway.document["paths"].items():
        place = path.replace("{model}", "loan").replace("{version}", "loan@2")
        right = {name.upper() for name in item} | ({"HEAD"} if "get" in item else set())
        for method in METHODS:
            answer = send(gateway.port, raw_request(b"", place, method), method)
            assert (answer.status == 405) == (method not in right), (method, place)
            if method not in right:
                assert set(answer.headers["allow"].split(", ")) == right


def test_without_models_the_document_names_none_and_with_them_it_gives_their_features(gateway: Gateway) -> None:
    assert b"loan" not in document()
    assert orjson.loads(document()) == openapi()
    features = gateway.document["components"]["schemas"]["Features.loan"]
    assert features["required"] == list(FEATURES)
    late, grade = features["properties"]["late"], features["properties"]["grade"]
    assert (late["type"], late["minimum"], late["maximum"]) == ("integer", 0, 100)
    assert grade["enum"] == ["A", "B", "C"]


def test_the_document_is_lawful_openapi(gateway: Gateway) -> None:
    assert [one for one in gateway.schema.get_all_operations() if not hasattr(one, "ok")] == []
    gateway.schema.validate()
    names = [operation["operationId"] for item in gateway.document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for part in gateway.document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(part)
