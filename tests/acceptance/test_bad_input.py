"""Bad input gets a clear error that names the field, the value and what was expected; the next good request works."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.demo_platform import ROOT, Platform
from training.holdout import holdout_rows

ROW = holdout_rows(ROOT / "examples" / "credit_default")[0]
MODEL = "credit-default"


def _features(**changes: Any) -> dict[str, Any]:
    return ROW["features"] | changes


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW["features"].items() if key != name}


DECIDE: list[tuple[str, str, Any, int, list[str]]] = [
    ("unknown model", "credit-defalt", {"features": _features(), "key": "a"}, 404, ["credit-defalt"]),
    ("missing feature", MODEL, {"features": _without("PAY_0"), "key": "a"}, 422, ["PAY_0"]),
    ("extra feature", MODEL, {"features": _features(PAY_1=0), "key": "a"}, 422, ["PAY_1"]),
    ("text for a number", MODEL, {"features": _features(LIMIT_BAL="12.5"), "key": "a"}, 422, ["LIMIT_BAL", "12.5"]),
    ("true for a number", MODEL, {"features": _features(LIMIT_BAL=True), "key": "a"}, 422, ["LIMIT_BAL"]),
    ("null", MODEL, {"features": _features(LIMIT_BAL=None), "key": "a"}, 422, ["LIMIT_BAL"]),
    ("a list for a number", MODEL, {"features": _features(LIMIT_BAL=[1]), "key": "a"}, 422, ["LIMIT_BAL"]),
    ("a fraction for an integer", MODEL, {"features": _features(PAY_0=0.5), "key": "a"}, 422, ["PAY_0", "0.5"]),
    ("out of range", MODEL, {"features": _features(PAY_0=99), "key": "a"}, 422, ["PAY_0", "99"]),
    ("unknown category", MODEL, {"features": _features(EDUCATION=17), "key": "a"}, 422, ["EDUCATION", "17"]),
    ("no features", MODEL, {"key": "a"}, 422, ["features"]),
    ("features no object", MODEL, {"features": [1, 2], "key": "a"}, 422, ["features"]),
    ("unknown field", MODEL, {"features": _features(), "key": "a", "arm": "challenger"}, 422, ["arm"]),
    ("a client asks for verification", MODEL, {"features": _features(), "purpose": "verification"}, 403, ["client"]),
    ("protected attribute", MODEL, {"features": _features(SEX=1), "key": "a"}, 422, ["SEX"]),
]


def _post(platform: Platform, path: str, **request: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {platform.settings.token('client')}"} | request.pop("headers", {})
    url = platform.settings.gateway_url + path
    return httpx.post(url, headers=headers, timeout=10.0, trust_env=False, **request)


def _still_works(platform: Platform) -> None:
    assert _post(platform, f"/decide/{MODEL}", json={"features": ROW["features"], "key": "k"}).status_code == 200


@pytest.mark.parametrize(("model", "body", "status", "named"), [c[1:] for c in DECIDE], ids=[c[0] for c in DECIDE])
def test_decide(platform: Platform, model: str, body: Any, status: int, named: list[str]) -> None:
    response = _post(platform, f"/decide/{model}", json=body)
    assert response.status_code == status, response.text
    for word in named:
        assert word in response.json()["error"]
    _still_works(platform)


RAW: list[tuple[str, bytes, int]] = [
    ("empty body", b"", 400),
    ("not JSON", b"features", 400),
    ("truncated", b'{"features": {"LIMIT', 400),
    ("trailing garbage", b'{"features": {}} x', 400),
    ("NaN", b'{"features": {"LIMIT_BAL": NaN}}', 400),
    ("invalid UTF-8", b'{"key": "\xff"}', 400),
    ("an array", b"[]", 400),
    ("a huge body", b'{"key": "' + b"x" * 1_100_000 + b'"}', 413),
]


@pytest.mark.parametrize(("body", "status"), [case[1:] for case in RAW], ids=[case[0] for case in RAW])
def test_bodies(platform: Platform, body: bytes, status: int) -> None:
    response = _post(platform, f"/decide/{MODEL}", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert response.json()["error"]
    _still_works(platform)


TENSOR = {"name": "features", "shape": [1, 20], "datatype": "FP64", "data": [0.0] * 20}
INFER: list[tuple[str, Any, int, str]] = [
    ("no inputs", {}, 422, "inputs"),
    ("wrong shape", {"inputs": [TENSOR | {"shape": [1, 3]}]}, 422, "shape"),
    ("wrong datatype", {"inputs": [TENSOR | {"datatype": "FP99"}]}, 422, "FP99"),
    ("too little data", {"inputs": [TENSOR | {"data": [0.0] * 3}]}, 422, "data"),
    ("unknown tensor", {"inputs": [TENSOR | {"name": "fetures"}]}, 422, "fetures"),
]


@pytest.mark.parametrize(("body", "status", "named"), [c[1:] for c in INFER], ids=[c[0] for c in INFER])
def test_infer(platform: Platform, body: Any, status: int, named: str) -> None:
    response = _post(platform, f"/v2/models/{MODEL}/infer", json=body)
    assert response.status_code == status, response.text
    assert named in response.json()["error"]
    _still_works(platform)


def test_infer_answers_what_decide_answers(platform: Platform) -> None:
    with platform.machine("client") as client:
        one = client.decide(MODEL, ROW["features"], key="same")
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
            for name, value in ROW["features"].items()
        ]
        outputs = {tensor["name"]: tensor["data"][0] for tensor in client.infer(MODEL, inputs)["outputs"]}
    assert (outputs["score"], outputs["decision"]) == (one.score, one.decision)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Authorization": ""}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Basic eA=="}, 401)],
    ids=["none", "unknown", "another scheme"],
)
def test_no_token_no_answer(platform: Platform, headers: dict[str, str], status: int) -> None:
    response = _post(platform, f"/decide/{MODEL}", json={"features": ROW["features"]}, headers=headers)
    assert response.status_code == status
    assert "token" in response.json()["error"].lower()


def test_wrong_method(platform: Platform) -> None:
    response = httpx.get(f"{platform.settings.gateway_url}/decide/{MODEL}", trust_env=False)
    assert response.status_code in (401, 405)


def test_a_decline_comes_with_reasons(platform: Platform) -> None:
    late = _features(PAY_0=3, PAY_2=3, PAY_3=3, PAY_4=2, PAY_5=2, PAY_6=2, LIMIT_BAL=10_000)
    with platform.machine("client") as client:
        answer = client.decide(MODEL, late, key="declined")
    assert answer.decision == "decline"
    assert 1 <= len(answer.reasons) <= 4
    assert all(reason["text"] and reason["feature"] in late for reason in answer.reasons)
