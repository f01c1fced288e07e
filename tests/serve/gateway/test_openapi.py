"""The OpenAPI document and the router agree: paths, methods, headers, bodies and refusals, at no cost for decisions."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import jsonschema
import pytest

from lineage.errors import RefusedError
from lineage.settings import Settings
from serve.gateway import openapi
from serve.gateway.endpoints import ENDPOINTS
from serve.gateway.messages import REFUSALS, error_reply
from serve.gateway.open_inference import OUTPUTS
from serve.gateway.schemas import DATATYPES, REPLIES, REQUESTS, OutputName
from serve.gateway.tensors import BYTES, NUMBERS
from tests.support.decider_bench import RISKY, Bench
from tests.support.router_over_http import CLIENT, RouterOverHttp

SERVICE = "token-of-controller"
DECIDE = {"features": RISKY, "key": "customer-17"}
TENSORS = {
    "inputs": [{"name": name, "datatype": "FP64", "shape": [2], "data": [value] * 2} for name, value in RISKY.items()]
}
BODIES: dict[str, dict[str, Any]] = {
    "decide": DECIDE,
    "explain": DECIDE,
    "outcome": {"decision_id": "0" * 32, "outcome": 1},
    "infer": TENSORS,
    "infer_version": TENSORS,
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> RouterOverHttp:
    return RouterOverHttp(Bench(Settings(home=tmp_path_factory.mktemp("home"))))


def test_what_the_router_serves_is_what_is_documented(gateway: RouterOverHttp) -> None:
    served = {*gateway.router.handlers, *gateway.router.open_handlers} - {"v2/"}  # the same as "v2"
    assert served == set(ENDPOINTS)
    assert {"/" + pattern for pattern in served} == set(openapi.openapi()["paths"])
    for pattern, endpoint in ENDPOINTS.items():
        assert (pattern in gateway.router.open_handlers) == (endpoint.authentication != "required")
        assert endpoint.request in REQUESTS or not endpoint.content_types
        assert endpoint.reply in REPLIES
        assert set(endpoint.refusals) <= set(REFUSALS)


@pytest.mark.parametrize("pattern", ENDPOINTS)
def test_a_reply_has_the_documented_body_and_headers(gateway: RouterOverHttp, pattern: str) -> None:
    reply = _send(gateway, pattern)
    document = openapi.openapi()
    operation = document["paths"][f"/{pattern}"][ENDPOINTS[pattern].method.lower()]
    documented = operation["responses"][str(reply.status_code)]
    schema = {**document, **documented["content"][reply.headers["content-type"]]["schema"]}
    jsonschema.Draft202012Validator(schema).validate(reply.json())
    given = {name for name in reply.headers if name.startswith(("x-", "cache-", "idempotent-"))}
    headers = {name.lower(): header.get("required", False) for name, header in documented["headers"].items()}
    assert {name for name, required in headers.items() if required} <= given <= set(headers)


@pytest.mark.parametrize("pattern", [pattern for pattern, one in ENDPOINTS.items() if one.content_types])
def test_an_unknown_member_of_a_body_is_refused_as_documented(gateway: RouterOverHttp, pattern: str) -> None:
    endpoint = ENDPOINTS[pattern]
    document = openapi.openapi()
    body = BODIES[endpoint.operation] | {"no_such_member": 1}
    request = {**document, **document["components"]["schemas"][endpoint.request]}
    assert not jsonschema.Draft202012Validator(request).is_valid(body)
    reply = _send(gateway, pattern, body)
    assert (reply.status_code, reply.json()["field"]) == (422, "no_such_member")
    problem = {**document, **document["components"]["schemas"]["Problem"]}
    jsonschema.Draft202012Validator(problem).validate(reply.json())


@pytest.mark.parametrize("status", REFUSALS)
def test_an_error_has_the_header_that_its_status_is_documented_with(status: int) -> None:
    reply = error_reply(RefusedError("no", status=status, allowed="GET"))
    document = openapi.openapi()["components"]["responses"][str(status)]
    given = {name for name in reply.headers if name in ("www-authenticate", "allow", "accept-encoding", "retry-after")}
    assert given == {name.lower() for name in document["headers"]}


def test_types_of_the_document_are_those_that_the_parsers_know() -> None:
    assert set(DATATYPES) == {*NUMBERS, BYTES}
    assert get_args(OutputName) == tuple(OUTPUTS)


def test_the_document_is_generated_when_it_is_asked_for_and_not_by_decisions(gateway: RouterOverHttp) -> None:
    openapi.document.cache_clear()
    openapi._general.cache_clear()
    assert _send(gateway, "decide/{model}").status_code == 200
    assert openapi._general.cache_info().currsize == 0
    assert gateway.send("GET", "/openapi.json", None).status_code == 200
    assert openapi._general.cache_info().currsize == 1


def _send(gateway: RouterOverHttp, pattern: str, body: dict[str, Any] | None = None) -> httpx.Response:
    endpoint = ENDPOINTS[pattern]
    path = "/" + pattern.replace("{model}", "loan").replace("{version}", "loan@1")
    token = {"none": None}.get(endpoint.authentication, SERVICE if pattern == "route" else CLIENT)
    if not endpoint.content_types:
        return gateway.send(endpoint.method, path, token)
    return gateway.send(endpoint.method, path, token, content=json.dumps(body or BODIES[endpoint.operation]).encode())
