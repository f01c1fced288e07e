"""Unchanged third-party clients against the gateway over HTTP: Triton's two, and KServe's requests."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from lineage.settings import Settings
from serve.gateway.messages import PACK_LEAST
from tests.support.gateway_servers import CLIENT, FEATURES, GOOD, ServedLoans, served

with warnings.catch_warnings():  # gevent, of which Triton's client is made, warns of what it does itself
    warnings.simplefilter("ignore")
    import tritonclient.http as triton
    import tritonclient.http.aio as triton_aio

AUTH = {"Authorization": f"Bearer {CLIENT}"}
KINDS = {"income": ("FP64", np.float64), "late": ("INT64", np.int64), "grade": ("BYTES", np.object_)}
OUTPUTS = ["score", "decision", "decision_id", "role", "release", "fallback", "reasons"]


@pytest.fixture(scope="module")
def loans(tmp_path_factory: pytest.TempPathFactory) -> ServedLoans:
    return ServedLoans(Settings(home=tmp_path_factory.mktemp("clients")))


@pytest.fixture(scope="module")
def port(loans: ServedLoans) -> Iterator[int]:
    with served(loans.app) as number:
        yield number


@pytest.fixture
def client(port: int, loans: ServedLoans) -> Iterator[triton.InferenceServerClient]:
    loans.lines.clear()
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


def _rows(count: int) -> dict[str, list[Any]]:
    draw = np.random.default_rng(7)
    return {
        "income": draw.gamma(2, 1, count).tolist(),
        "late": draw.integers(0, 5, count).tolist(),
        "grade": [("A", "B", "C")[at] for at in draw.integers(0, 3, count)],
    }


def _inputs(rows: dict[str, list[Any]], *, binary: bool = True) -> list[triton.InferInput]:
    inputs = []
    for name, (datatype, kind) in KINDS.items():
        cells = np.array(rows[name], dtype=kind)
        tensor = triton.InferInput(name, list(cells.shape), datatype)
        inputs.append(tensor.set_data_from_numpy(cells, binary_data=binary))
    return inputs


def _scores(port: int, rows: dict[str, list[Any]]) -> list[float]:
    """What /decide says of the same rows."""
    scores = []
    for cells in zip(*rows.values(), strict=True):
        body = {"features": dict(zip(rows, cells, strict=True))}
        scores.append(httpx.post(f"http://127.0.0.1:{port}/decide/loan", json=body, headers=AUTH).json()["score"])
    return scores


def test_triton_asks_for_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("loan", headers=AUTH)
    assert client.is_model_ready("loan", "loan@2", headers=AUTH)
    assert client.is_model_ready("loan", "2", headers=AUTH)
    assert not client.is_model_ready("lone", headers=AUTH)
    assert not client.is_model_ready("loan", "9", headers=AUTH)
    assert not client.is_model_ready("loan")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for version in ("", "loan@2"):
        metadata = client.get_model_metadata("loan", version, headers=AUTH)
        assert metadata["versions"] == ["loan@2"]
        assert {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]} == {
            name: datatype for name, (datatype, _) in KINDS.items()
        }
        assert [tensor["name"] for tensor in metadata["outputs"]] == OUTPUTS


def test_triton_infers_with_bytes_both_ways(
    client: triton.InferenceServerClient, port: int, loans: ServedLoans
) -> None:
    rows = _rows(5)
    result = client.infer("loan", _inputs(rows), request_id="r-7", headers=dict(AUTH))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("r-7", "loan", "loan@2")
    assert [output["name"] for output in response["outputs"]] == OUTPUTS
    assert all("binary_data_size" in output["parameters"] for output in response["outputs"])
    assert result.as_numpy("score").dtype == np.float64
    assert [line["decision_id"].encode() for line in loans.lines] == result.as_numpy("decision_id").tolist()
    assert [line["features"][0] for line in loans.lines] == rows["income"]
    reasons = [json.loads(text) for text in result.as_numpy("reasons")]
    assert [bool(told) for told in reasons] == [name == b"decline" for name in result.as_numpy("decision")]
    assert result.as_numpy("score").tolist() == _scores(port, rows)


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 200])
def test_triton_gets_the_same_scores_however_they_travel(
    client: triton.InferenceServerClient, port: int, count: int, binary: bool, packed: str | None
) -> None:
    rows = _rows(count)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("score", "decision", "reasons")]
    how = {"request_compression_algorithm": packed, "response_compression_algorithm": packed, "headers": dict(AUTH)}
    result = client.infer("loan", _inputs(rows, binary=binary), "2", outputs, **how)
    plain = client.infer("loan", _inputs(rows), headers=dict(AUTH))
    assert result.as_numpy("score").tolist() == plain.as_numpy("score").tolist()
    assert [output["name"] for output in result.get_response()["outputs"]] == ["score", "decision", "reasons"]
    assert ("data" in result.get_output("score")) is not binary
    assert result.as_numpy("release") is None


def test_triton_names_customers_in_a_tensor_or_a_parameter(
    client: triton.InferenceServerClient, loans: ServedLoans
) -> None:
    keys = np.array(["anna", "zoë"], dtype=np.object_)
    keyed = triton.InferInput("key", [2], "BYTES").set_data_from_numpy(keys)
    rows = {name: [FEATURES[name]] * 2 for name in FEATURES}
    client.infer("loan", [*_inputs(rows), keyed], headers=dict(AUTH))
    assert [line["key"] for line in loans.lines] == ["anna", "zoë"]
    client.infer("loan", _inputs(rows), headers=dict(AUTH), parameters={"keys": ["c", "d"]})
    assert [line["key"] for line in loans.lines[2:]] == ["c", "d"]


def test_triton_is_told_what_is_wrong(client: triton.InferenceServerClient, loans: ServedLoans) -> None:
    with pytest.raises(InferenceServerException, match="row 1: feature 'late' is 101; expected a whole number") as told:
        client.infer("loan", _inputs({"income": [1, 1], "late": [1, 101], "grade": ["A", "A"]}), headers=dict(AUTH))
    assert told.value.status() == "422"
    with pytest.raises(InferenceServerException, match="Authorization"):
        client.infer("loan", _inputs(_rows(1)))
    with pytest.raises(InferenceServerException, match="sequence_end is not known"):
        client.infer("loan", _inputs(_rows(1)), sequence_id=5, headers=dict(AUTH))
    shared = triton.InferInput("income", [1], "FP64")
    shared.set_shared_memory("region", 8)
    with pytest.raises(InferenceServerException, match="shared_memory_byte_size is not known"):
        client.infer("loan", [shared, *_inputs(_rows(1))[1:]], headers=dict(AUTH))
    classes = triton.InferRequestedOutput("score", class_count=2)
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("loan", _inputs(_rows(1)), outputs=[classes], headers=dict(AUTH))
    assert loans.lines == []


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_triton_aio_does_the_same(port: int, packed: str | None) -> None:
    rows = _rows(100)

    async def ask() -> tuple[dict[str, Any], list[float]]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("loan", headers=AUTH)
            assert (await client.get_server_metadata())["name"] == "plimsoll"
            how = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
            result = await client.infer("loan", _inputs(rows), headers=dict(AUTH), **how)
            plain = await client.infer("loan", _inputs(rows, binary=False), headers=dict(AUTH))
            assert result.as_numpy("score").tolist() == plain.as_numpy("score").tolist()
            return await client.get_model_metadata("loan", headers=AUTH), result.as_numpy("score").tolist()

    metadata, scores = asyncio.run(ask())
    assert metadata["versions"] == ["loan@2"]
    assert scores == _scores(port, rows)


def _kserve(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """A request as KServe's SDK writes it: always with an id and the model's name, parameters only where there are."""
    inputs = [
        {"name": name, "shape": [len(rows[name])], "datatype": datatype, "data": rows[name]}
        for name, (datatype, _) in KINDS.items()
    ]
    return {"id": "0b6c2f9e-5d7b-4b0f-9a53-0d6d7c9f2f11", "model_name": "loan", "inputs": inputs}


def test_kserves_json_has_no_content_type_and_is_understood(port: int) -> None:
    rows = _rows(3)
    body = json.dumps(_kserve(rows)).encode()
    reply = httpx.post(f"http://127.0.0.1:{port}/v2/models/loan/infer", content=body, headers=AUTH)
    assert "content-type" not in reply.request.headers
    assert reply.headers["content-type"] == "application/json"
    content = reply.json()
    assert content["id"] == _kserve(rows)["id"]
    assert content["outputs"][0] == {"name": "score", "datatype": "FP64", "shape": [3], "data": _scores(port, rows)}


def test_kserves_bytes_come_as_octets_with_the_length_of_the_json(port: int) -> None:
    rows = _rows(2)
    request = _kserve(rows)
    pieces = []
    for tensor, (_, kind) in zip(request["inputs"], KINDS.values(), strict=True):
        cells = tensor.pop("data")
        if kind is np.object_:
            pieces.append(b"".join(len(cell).to_bytes(4, "little") + cell.encode() for cell in cells))
        else:
            pieces.append(np.array(cells, dtype=kind).tobytes())
        tensor["parameters"] = {"binary_data_size": len(pieces[-1])}
    request["outputs"] = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "decision"}]
    text = json.dumps(request).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v2/models/loan/infer", content=text + b"".join(pieces), headers=AUTH | headers
    )
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers["inference-header-content-length"])
    content = json.loads(reply.content[:length])
    assert content["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(reply.content[length:], "<f8").tolist() == _scores(port, rows)
    assert len(content["outputs"][1]["data"]) == 2


def test_large_answers_are_packed_where_that_is_wanted_and_only_there(port: int) -> None:
    url, body = f"http://127.0.0.1:{port}/v2/models/loan/infer", _kserve(_rows(100))
    for accepted, encoding in (
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, deflate;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
    ):
        reply = httpx.post(url, json=body, headers=AUTH | {"Accept-Encoding": accepted})
        assert reply.headers.get("content-encoding") == encoding
        assert reply.headers["vary"] == "Accept-Encoding"
        assert len(reply.json()["outputs"][0]["data"]) == 100
    small = httpx.post(f"http://127.0.0.1:{port}/decide/loan", json=GOOD, headers=AUTH | {"Accept-Encoding": "gzip"})
    assert len(small.content) < PACK_LEAST
    assert "content-encoding" not in small.headers
