"""The gateway over HTTP, without Ray: who may ask what, and how every wrong request is answered."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lineage.settings import Settings
from serve.decision.freshness import EntityFeatures
from tests.support.bundles import features
from tests.support.decider_bench import RISKY, Bench
from tests.support.router_over_http import RouterOverHttp


@pytest.fixture
def gateway(tmp_path: Path) -> RouterOverHttp:
    return RouterOverHttp(Bench(Settings(home=tmp_path)))


def test_a_decision_and_its_headers(gateway: RouterOverHttp) -> None:
    reply = gateway.send("POST", "/decide/loan", json={"features": RISKY, "key": "customer-17"})
    assert reply.status_code == 200
    body = reply.json()
    assert body["decision"] == "decline"
    assert body["reasons"][0]["text"].startswith("Because of")
    assert reply.headers["X-Decision-Id"] == body["decision_id"]
    assert reply.headers["X-Model-Release"] == "loan@1"
    assert reply.headers["X-Model-Role"] == "champion"
    assert reply.headers["X-Replica"] == "r1"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"[1]", 400, "body"),
        (b'{"features": NaN}', 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b'{"features": 3}', 422, "features"),
        (b'{"feature": {}}', 422, "feature"),
        (b'{"features": {"income": 1, "debt": 1}}', 422, "late"),
        (b'{"features": {"income": 1, "debt": 1, "late": 1.5}}', 422, "late"),
        (b'{"features": {"income": true, "debt": 1, "late": 1}}', 422, "income"),
        (b'{"features": {"income": "1", "debt": 1, "late": 1}}', 422, "income"),
        (b'{"features": {"income": 1e999, "debt": 1, "late": 1}}', 422, "income"),
        (b'{"features": {"income": 9007199254740993, "debt": 1, "late": 1}}', 422, "income"),
        (b'{"features": {"income": 1, "debt": 1, "late": 1, "late": 2}}', 400, "late"),
        (b'{"features": {"income": 1, "debt": 1, "late": 1}, "arm": "challenger"}', 422, "arm"),
        (b'{"features": {"incme": 1, "debt": 1, "late": 1}}', 422, "incme"),
        (b'{"features": {}, "key": 17}', 422, "key"),
        (b'{"features": {}, "key": ""}', 422, "key"),
        (b'{"features": {}, "key": "a\\nb"}', 422, "key"),
        (b'{"features": {}, "purpose": "fun"}', 422, "purpose"),
    ],
)
def test_bad_input_is_json_that_names_the_field(gateway: RouterOverHttp, body: bytes, status: int, field: str) -> None:
    reply = gateway.send("POST", "/decide/loan", content=body)
    assert (reply.status_code, reply.json()["field"]) == (status, field)
    assert reply.json()["error"]
    assert gateway.bench.lines == []


def test_one_byte_too_many_is_413_and_so_is_a_bomb(gateway: RouterOverHttp) -> None:
    assert gateway.send("POST", "/decide/loan", content=b" " * (1024 * 1024 + 1)).status_code == 413
    bomb = gzip.compress(b" " * 3_000_000)
    assert gateway.send("POST", "/decide/loan", content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413


def test_gzip_is_understood_and_other_encodings_are_refused(gateway: RouterOverHttp) -> None:
    body = json.dumps({"features": RISKY}).encode()
    packed = gateway.send("POST", "/decide/loan", content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 200
    refused = gateway.send("POST", "/decide/loan", content=body, headers={"Content-Encoding": "br"})
    assert (refused.status_code, refused.headers["Accept-Encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize(("method", "path"), [("GET", "/decide/loan"), ("DELETE", "/v2"), ("PUT", "/outcome/loan")])
def test_a_wrong_method_is_405_and_says_which_is_right(gateway: RouterOverHttp, method: str, path: str) -> None:
    reply = gateway.send(method, path)
    assert reply.status_code == 405
    assert reply.headers["Allow"] in ("GET, HEAD", "POST")


def test_where_one_may_get_one_may_ask_for_the_head(gateway: RouterOverHttp) -> None:
    assert gateway.send("HEAD", "/v2/health/ready", None).status_code == 200
    assert gateway.send("HEAD", "/v2/models/loan/ready").status_code == 200
    assert gateway.send("HEAD", "/decide/loan").status_code == 405


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_says_what_it_is_and_what_it_does_beyond_the_protocol(gateway: RouterOverHttp, path: str) -> None:
    reply = gateway.send("GET", path, None).json()
    assert reply["name"] == "plimsoll"
    assert reply["extensions"] == ["binary_tensor_data", "explain"]


def test_unknown_models_and_paths_are_404(gateway: RouterOverHttp) -> None:
    assert gateway.send("POST", "/decide/lone", json={"features": RISKY}).json()["field"] == "model"
    assert gateway.send("GET", "/nowhere").status_code == 404


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_without_a_known_token_nothing_is_told(gateway: RouterOverHttp, token: str | None) -> None:
    reply = gateway.send("POST", "/decide/loan", token, json={"features": RISKY})
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_routes_and_verification_are_for_services(gateway: RouterOverHttp) -> None:
    assert gateway.send("GET", "/route").status_code == 403
    body = {"features": RISKY, "purpose": "verification"}
    assert gateway.send("POST", "/decide/loan", json=body).status_code == 403
    table = gateway.send("GET", "/route", "token-of-controller").json()
    assert table["routes"]["loan"]["champion"]["release"] == "loan@1"
    assert "tokens" not in table
    assert gateway.send("POST", "/decide/loan", "token-of-controller", json=body).status_code == 200


def test_an_outcome_is_recorded(gateway: RouterOverHttp) -> None:
    assert gateway.send("POST", "/outcome/loan", json={"decision_id": "d1", "outcome": 1}).status_code == 202
    assert gateway.bench.lines[-1]["type"] == "outcome"
    for wrong in (2, True, "1", None):
        reply = gateway.send("POST", "/outcome/loan", json={"decision_id": "d1", "outcome": wrong})
        assert reply.json()["field"] == "outcome"
    for odd in (7, "", "x" * 65, "a\nb"):
        reply = gateway.send("POST", "/outcome/loan", json={"decision_id": odd, "outcome": 1})
        assert reply.json()["field"] == "decision_id"
    assert gateway.send("POST", "/outcome/loan", json={"decision": "d1", "outcome": 1}).json()["field"] == "decision"
    assert len(gateway.bench.lines) == 1


def test_health_needs_no_token_and_is_not_ready_before_the_first_table(gateway: RouterOverHttp) -> None:
    assert gateway.send("GET", "/v2/health/ready", None).json() == {"ready": True}
    gateway.router.table = None
    assert gateway.send("GET", "/v2/health/ready", None).status_code == 503
    assert gateway.send("GET", "/v2/health/live", None).status_code == 200
    assert gateway.send("POST", "/decide/loan", json={"features": RISKY}).status_code == 503


def _tensors() -> list[dict[str, Any]]:
    rows = [features(0.1, 4.0, 4), features(9.0, 0.0, 0)]
    kinds = {"income": "FP64", "debt": "FP32", "late": "INT64"}
    return [
        {"name": name, "datatype": kind, "shape": [2], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]


def test_inference_by_columns_and_by_matrix_agree_with_decide(gateway: RouterOverHttp) -> None:
    parameters = {"keys": ["a", "b"]}
    columns = gateway.send(
        "POST", "/v2/models/loan/infer", json={"id": "7", "inputs": _tensors(), "parameters": parameters}
    )
    matrix = {"name": "features", "datatype": "FP64", "shape": [2, 3], "data": [0.1, 4.0, 4, 9.0, 0.0, 0]}
    block = gateway.send("POST", "/v2/models/loan/infer", json={"inputs": [matrix]})
    assert columns.status_code == block.status_code == 200
    scores = [reply.json()["outputs"][0]["data"] for reply in (columns, block)]
    assert scores[0] == scores[1]
    assert scores[0][0] == gateway.send("POST", "/decide/loan", json={"features": RISKY}).json()["score"]
    assert columns.json()["id"] == "7"
    assert [line["key"] for line in gateway.bench.lines[:2]] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"shape": [3]}, "income"),
        ({"datatype": "FP65"}, "income"),
        ({"data": None}, "income"),
        ({"shape": "2"}, "income"),
        ({"name": ""}, "inputs[0].name"),
        ({"name": "debt"}, "debt"),
        ({"name": "incme"}, "incme"),
    ],
)
def test_a_wrong_tensor_is_named(gateway: RouterOverHttp, changes: dict[str, Any], field: str) -> None:
    inputs = _tensors()
    inputs[0] |= changes
    reply = gateway.send("POST", "/v2/models/loan/infer", json={"inputs": inputs})
    assert (reply.status_code, reply.json()["field"]) == (422, field)


def test_metadata_readiness_and_explanation(gateway: RouterOverHttp) -> None:
    metadata = gateway.send("GET", "/v2/models/loan").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["income", "debt", "late"]
    assert metadata["versions"] == ["loan@1"]
    assert gateway.send("GET", "/v2/models/loan/ready").json()["ready"]
    reply = gateway.send("POST", "/v2/models/loan/explain", json={"features": RISKY}).json()
    assert reply["reasons"]


def test_reasons_memory_and_fallback_are_told_in_headers(gateway: RouterOverHttp) -> None:
    body = {"features": RISKY, "key": "customer-17"}
    first, second = (gateway.send("POST", "/decide/loan", json=body) for _ in range(2))
    assert (first.headers["cache-status"], second.headers["cache-status"]) == ("plimsoll; fwd=miss", "plimsoll; hit")
    code, feature = first.json()["reasons"][0]["code"], first.json()["reasons"][0]["feature"]
    assert first.headers["x-explanation"].startswith(f'"{code}";feature="{feature}";contribution=')
    assert "cached" not in first.json()
    assert "x-model-fallback" not in first.headers
    gateway.route(killed="baseline")
    assert gateway.send("POST", "/decide/loan", json=body).headers["x-model-fallback"] == "killed"


def test_a_pulled_switch_that_leaves_nothing_is_503_and_not_to_be_asked_again(gateway: RouterOverHttp) -> None:
    gateway.route(killed="nothing")
    reply = gateway.send("POST", "/decide/loan", json={"features": RISKY})
    assert (reply.status_code, reply.json()["code"]) == (503, "killed")
    assert "retry-after" not in reply.headers


def test_features_are_looked_up_by_the_entity_and_what_is_stale_is_not_used(gateway: RouterOverHttp) -> None:
    gateway.known = {
        "1": EntityFeatures({"income": 0.1, "debt": 4.0, "late": 4}, ages={"loans": 3.0}, service="loans_v1")
    }
    gateway.known["2"] = EntityFeatures(
        {"income": 0.1, "debt": 4.0}, stale=("late",), ages={"loans": 99.0}, service="loans_v1"
    )
    fresh = gateway.send("POST", "/decide/loan", json={"entity": {"ID": 1}, "key": "c1"}).json()
    named = gateway.send("POST", "/decide/loan", json={"features": RISKY, "key": "c1"}).json()
    assert (fresh["score"], fresh["reasons"], fresh["role"]) == (named["score"], named["reasons"], "champion")
    stale = gateway.send("POST", "/decide/loan", json={"entity": {"ID": 2}, "key": "c2"}).json()
    assert (stale["role"], stale["fallback"]) == ("baseline", "stale_features")
    lines = gateway.bench.lines
    assert [line["feature_service"] for line in lines] == ["loans_v1", None, "loans_v1"]
    assert [line["unusable"] for line in lines] == [[], None, ["late"]]
    unknown = gateway.send("POST", "/decide/loan", json={"entity": {"ID": 3}})
    assert (unknown.status_code, unknown.json()["field"]) == (404, "entity")


@pytest.mark.parametrize(
    "body", [{"entity": {}}, {"entity": 7}, {"entity": [1]}, {"entity": {"ID": 1}, "features": RISKY}, {}]
)
def test_a_wrong_entity_is_named(gateway: RouterOverHttp, body: dict[str, Any]) -> None:
    reply = gateway.send("POST", "/decide/loan", json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, "entity" if body else "features")


def test_a_full_replica_refuses_customers_and_answers_services(gateway: RouterOverHttp) -> None:
    while gateway.router.admission.inside < 256:
        gateway.router.admission.enter(service=False)
    full = gateway.send("POST", "/decide/loan", json={"features": RISKY})
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "overloaded", "1")
    body = {"features": RISKY, "purpose": "verification"}
    assert gateway.send("POST", "/decide/loan", "token-of-controller", json=body).status_code == 200


def test_the_document_names_models_only_to_those_who_hold_a_token(gateway: RouterOverHttp) -> None:
    anonymous, client = gateway.send("GET", "/openapi.json", None), gateway.send("GET", "/openapi.json")
    assert anonymous.json()["openapi"] == client.json()["openapi"]
    assert "/decide/loan" not in anonymous.text
    assert "/decide/loan" in client.json()["paths"]
    assert gateway.send("GET", "/openapi.json", "no-such-token").status_code == 401
